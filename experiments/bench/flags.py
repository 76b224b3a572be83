"""Flags that the benchmarks share: where their results go."""

import pathlib
import shutil
from collections.abc import Iterable
from typing import Any

from absl import flags

from experiments.report import tables
from kdropout_jax.training import files


def of_results(folder: str) -> flags.FlagValues:
  """Returns flags of a binary's own: --workdir (or --out), and --publish.

  Its own, so that one process (of tests) can import several binaries.

  Args:
    folder: where results go by default.
  """
  own = flags.FlagValues()
  flags.DEFINE_string("out", folder, "Folder of the results.", flag_values=own)
  flags.DEFINE_alias("workdir", "out", flag_values=own)
  flags.DEFINE_string(
    "publish", None, "A second folder for the same files.", flag_values=own
  )
  return own


def write(
  own: flags.FlagValues, name: str, text: str, values: dict[str, Any]
) -> None:
  """Writes a page and its numbers, NAME.{md,json}, publishes and prints it.

  Args:
    own: the binary's flags.
    name: of the two files.
    text: the page.
    values: the numbers, as JSON takes them.
  """
  out = pathlib.Path(own.out)
  out.mkdir(parents=True, exist_ok=True)
  files.write_atomically(out / f"{name}.md", text)
  tables.write_json(out / f"{name}.json", values)
  publish(own, (f"{name}.md", f"{name}.json"))
  print(text)


def publish(own: flags.FlagValues, names: Iterable[str]) -> None:
  """Copies the files called `names` to --publish, if it is given."""
  if own.publish is None:
    return
  target = pathlib.Path(own.publish)
  target.mkdir(parents=True, exist_ok=True)
  for name in names:
    source = pathlib.Path(own.out) / name
    if source.exists():
      with files.replacing(target / name) as whole:
        shutil.copyfile(source, whole)
