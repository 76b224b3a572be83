"""Prepares datasets, from the network or from local files.

    python -m experiments.prepare_data --dataset=cifar10 --local_files=DIR

Several names are given as ``--dataset=cifar10,mnist``, all of ours as
``--dataset=all``. On two CPU cores the digits take a second, CIFAR 5 s,
KDDCup99 9 s, SQuAD 12 s once their files are local; imagenet2012 takes hours
and needs ``pip install 'kdropout-jax[prepare]'``. Ctrl-C stops: what has
arrived and what is written is kept, and the same command continues. A dataset
that is there already is not touched.
"""

import pathlib
import shutil
import sys
import time
from collections.abc import Sequence

from absl import flags

from experiments.data import exported
from experiments.data import loading
from experiments.data import preparation
from experiments.data import prepared
from experiments.data import registry
from experiments.run import flags as run_flags


def prepare_all(names: Sequence[str], data_dir, local_files) -> list[str]:
  """Prepares datasets one after another; returns the errors.

  A dataset that cannot be prepared does not keep the others from it.
  """
  root = preparation.data_folder(data_dir)
  specs = [preparation.resolve(name, root) for name in names]
  errors = []
  for name, spec in zip(names, specs):
    start = time.monotonic()
    try:
      _announce(spec, root)
      folder = preparation.prepare(name, data_dir, local_files)
    except ValueError as error:
      errors.append(f"{name}: {error}")
      print(f"{name}: failed: {error}", flush=True)
      continue
    seconds = time.monotonic() - start
    print(f"{_summary(spec, folder)}; {seconds:.1f} s", flush=True)
  return errors


def _announce(spec: registry.Spec, root: pathlib.Path) -> None:
  """Says the size first; raises a ValueError if the disk has no room."""
  if preparation.find(spec, root):
    print(f"{spec.name}: already in {root}", flush=True)
    return
  existing = next(p for p in (root, *root.parents) if p.exists())
  free = shutil.disk_usage(existing).free // 2**20
  print(
    f"{spec.name}: about {spec.megabytes:,} MB in {root} ({free:,} MB free)",
    flush=True,
  )
  if free < spec.megabytes:
    raise ValueError(
      f"data_dir {str(root)!r} must have {spec.megabytes:,} MB free for"
      f" {spec.name}, has {free:,} MB; give another --data_dir"
    )


def _summary(spec: registry.Spec, folder) -> str:
  counts = prepared.split_sizes(folder)
  sizes = ", ".join(f"{split} {rows:,}" for split, rows in counts.items())
  return f"{spec.name}: {sizes} ({prepared.note(spec, folder)}) in {folder}"


def define_flags() -> None:
  """Defines the flags; not at import, where binaries would collide."""
  flags.DEFINE_list(
    "dataset", None, "Names of datasets, or 'all'.", required=True
  )
  flags.DEFINE_string(
    "data_dir",
    None,
    "Where prepared datasets live. Default: $KDROPOUT_DATA_DIR, or"
    " ~/.cache/kdropout_jax/data.",
  )
  flags.DEFINE_string(
    "local_files",
    None,
    "A folder with the datasets' files; without it they are downloaded.",
  )

  flags.DEFINE_string(
    "export",
    None,
    "FILE.npz: write the one dataset as plain arrays, in parts of at most 60"
    " MiB, for --arrays=FILE.npz on a host without TFDS.",
  )


def main(argv: Sequence[str]) -> None:
  del argv
  names = list(flags.FLAGS.dataset)
  if flags.FLAGS.export is not None:
    if len(names) != 1 or names == ["all"]:
      raise ValueError(f"export must be of one dataset, got {names}")
    exported.check_path(flags.FLAGS.export)
  if names == ["all"]:
    names = [n for n in registry.names() if registry.get(n).builder]
  errors = prepare_all(names, flags.FLAGS.data_dir, flags.FLAGS.local_files)
  if errors:
    sys.exit(f"{len(errors)} of {len(names)} datasets are not prepared")
  if flags.FLAGS.export is not None:
    whole = loading.load(names[0], flags.FLAGS.data_dir)
    for file in exported.write(whole, flags.FLAGS.export):
      print(f"{file}: {file.stat().st_size / 2**20:.1f} MiB", flush=True)


if __name__ == "__main__":
  define_flags()
  run_flags.launch(main)
