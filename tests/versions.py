"""Runs the core's tests on the oldest jax that is promised and on the newest.

  python -m tests.versions
  python -m tests.versions --jax=0.11.0 --folder=/tmp/versions tests/ops

Needs uv and a package index: each jax gets an environment of its own, with
the core's dependencies and pytest, nothing else. What is there already is
used again. Ends with a line for each, and exit code 1 if one failed.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tomllib

_ROOT = pathlib.Path(__file__).resolve().parents[1]
# One or two files of each package: golden bits, README, linen and nnx, dense
# and compact products, small networks, the loop. Minutes on one core.
_CORE = (
  "tests/masks/sampling_bits_test.py",
  "tests/readme_test.py::test_each_block_runs_and_gives_logits",
  *("tests/training/loop_test.py", "tests/subnets/extraction_test.py"),
  *("tests/ops/dense_test.py", "tests/ops/compact_test.py"),
  "tests/nn/dropout_test.py",
)
_TOOLS = ("chex>=0.1.91", "hypothesis>=6.120", "pytest>=8.3")
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")
_SAY = (
  "import sys, importlib.metadata as m;"
  f"print(sys.version.split()[0], *(n + ' ' + m.version(n) for n in {_PACKAGES}),"
  " sep=', ')"
)


def core() -> list[str]:
  """Returns what the library itself asks for, as pyproject.toml says."""
  project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
  return project["dependencies"]


def oldest() -> str:
  """Returns the oldest jax that the core promises, as "0.10"."""
  (line,) = (d for d in core() if d.startswith("jax>="))
  return line.removeprefix("jax>=")


def environment(folder: pathlib.Path, jax: str) -> pathlib.Path:
  """Returns the Python of an environment with one jax, made where needed.

  Args:
    folder: where environments are.
    jax: "newest", or the beginning of a version.
  """
  python = folder / f"jax-{jax}" / "bin" / "python"
  if not python.exists():
    subprocess.run(["uv", "venv", "-q", str(python.parents[1])], check=True)
  asked = "jax" if jax == "newest" else f"jax=={jax}.*"
  if jax.count(".") > 1:
    asked = f"jax=={jax}"
  more = ["--upgrade-package=jax"] if jax == "newest" else []
  command = ["uv", "pip", "install", "-q", f"--python={python}", *more]
  # The constraint in pyproject.toml is of the checkout's own environment.
  subprocess.run([*command, "--no-config", asked, *core(), *_TOOLS], check=True)
  return python


def run(python: pathlib.Path, tests: list[str]) -> bool:
  """Runs tests in an environment, and says with which versions."""
  said = subprocess.run([python, "-c", _SAY], capture_output=True, text=True)
  print("Python", said.stdout.strip(), flush=True)
  settings = ["-q", "-o", "addopts=--import-mode=importlib --strict-markers"]
  marks = ["-m", "not slow and not gpu", "-p", "no:cacheprovider"]
  variables = {**os.environ, "PYTHONPATH": str(_ROOT)}
  command = [python, "-m", "pytest", *settings, *marks, *tests]
  return not subprocess.run(command, cwd=_ROOT, env=variables).returncode


def main() -> int:
  """Returns 0 if all tests passed with each jax."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--jax", nargs="+", default=[oldest(), "newest"])
  parser.add_argument("--folder", default="runs/versions", type=pathlib.Path)
  parser.add_argument("tests", nargs="*", default=list(_CORE))
  asked = parser.parse_args()
  passed = {
    jax: run(environment(asked.folder.absolute(), jax), asked.tests)
    for jax in asked.jax
  }
  for jax, good in passed.items():
    print(f"jax {jax}: {'passed' if good else 'FAILED'}")
  return 0 if all(passed.values()) else 1


if __name__ == "__main__":
  sys.exit(main())
