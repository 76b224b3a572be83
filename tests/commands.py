"""Commands that are printed, and what runs of them here: at smoke scale.

A page shows what made its numbers: hours of two cores, data from the network.
Here each takes its smallest scale, and those that then are equal run once.
"""

import ast
import re
import shlex
from collections.abc import Iterable

from tests.experiments import binaries

ROOT = binaries.ROOT
Command = tuple[str, ...]
"""(module, flag, ...)."""

_SMOKE: Command = ("--scale=smoke",)
_HAVE_SCALES = (  # and are printed without one
  *("accuracy_table", "bench_sweep", "compare", "diversity", "guided"),
  *("input_dependent", "memory", "subnet_counts", "sweep"),
)
_OWN: dict[str, Command] = {
  **{f"experiments.{name}": _SMOKE for name in _HAVE_SCALES},
  "experiments.bench_data": (
    *("--dataset=digits", "--steps=4", "--out=runs/data.md"),
  ),
  "experiments.bench_masks": (
    *("--rounds=1", "--steps=2", "--batch_size=16", "--width=32"),
    "--inputs=32",
  ),
  "experiments.fault_suite": ("--smoke",),
  "experiments.prepare_data": ("--data_dir=runs/data",),
  "experiments.gpu_suite": ("--smoke", "--notests", "--rounds=1"),
  "experiments.throughput": ("--smoke", "--rounds=1", "--steps=2"),
  "experiments.train": ("--num_steps=4", "--num_train=128"),
  "tests.experiments.bare": ("--notests", "--rounds=1"),
}
"""{module: flags that make it small}; they take the place of their namesakes."""

_CUSTOM = ("--num_steps=4", "--num_train=128")  # in place of a scale
_WORDS = {"DIR": "runs/given", "NAME": "k-dropout"}

DRAWN = {"mnist": (28, 28, 1), "cifar10": (32, 32, 3), "cifar100": (32, 32, 3)}
"""{dataset: shape of an image}: drawn at random, and given as arrays."""


def printed() -> dict[Command, str]:
  """Returns {command: the first place where it stands}."""
  found: dict[Command, str] = {}
  for page in binaries.pages():
    for command in binaries.commands(page.read_text()):
      found.setdefault(tuple(command), str(page.relative_to(ROOT)))
  for name in binaries.names():
    for command in binaries.documented(name):
      found.setdefault(tuple(command), name)
  for path in sorted((ROOT / "tests").rglob("*.py")):
    text = path.read_text()
    if '\nif __name__ == "__main__":' in text:
      own = ast.get_docstring(ast.parse(text)) or ""
      for command in binaries.commands(own):
        found.setdefault(tuple(command), str(path.relative_to(ROOT)))
  return found


def small(command: Command) -> Command:
  """Returns a command as it runs here.

  >>> small(("experiments.effects", "--scale=cpu", "--noprogress"))
  ('experiments.effects', '--scale=smoke')
  >>> small(("experiments.train", "--help"))
  ('experiments.train', '--help')
  """
  module, *rest = command
  if "--help" in rest:
    return command
  given = dict(_split(rest))
  own = _CUSTOM if "--grid=custom" in rest else _OWN.get(module, ())
  if "--scale" in given and not own:
    own = _SMOKE
  leave = {"--noprogress", *(flag.partition("=")[0] for flag in own)}
  if module == "experiments.prepare_data":
    rest = [flag.replace("NAME", "digits") for flag in rest]
  if given.get("--dataset") in DRAWN and module == "experiments.train":
    leave.add("--data_dir")
    own = (*own, f"--arrays={arrays_of(given['--dataset'])}")
  if any(flag.startswith("--num_steps=") for flag in own):
    leave.add("--epochs")
  flags = [
    flag for flag in _joined(rest) if flag.partition("=")[0] not in leave
  ]
  return module, *map(_filled, flags), *own


def once(commands: Iterable[Command]) -> list[Command]:
  """Returns the commands as they run here, each once.

  One that publishes is run in place of the same that does not.
  """
  found: dict[Command, Command] = {}
  for command in map(small, commands):
    bare = tuple(f for f in command if not f.startswith("--publish="))
    if bare not in found or found[bare] == bare:
      found[bare] = command
  return list(found.values())


def arrays_of(dataset: str) -> str:
  """Returns the file of a drawn dataset."""
  return f"runs/given/{dataset}.npz"


def _joined(flags: Iterable[str]) -> list[str]:
  """Returns flags whose values stand behind an equals sign."""
  found: list[str] = []
  for flag in flags:
    is_value = not flag.startswith("-") and found and "=" not in found[-1]
    if is_value and found[-1].startswith("--"):
      found[-1] += f"={flag}"
    else:
      found.append(flag)
  return found


def _split(flags):
  for flag in _joined(flags):
    name, _, value = flag.partition("=")
    yield name, value


def _filled(flag: str) -> str:
  """Returns a flag whose capital words are names of what is there."""
  return re.sub(r"(?<==)(DIR|NAME)$", lambda m: _WORDS[m[1]], flag)


def text(command: Command) -> str:
  """Returns a command as it is typed behind ``python -m``."""
  return shlex.join(command)
