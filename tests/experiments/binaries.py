"""Starts binaries for binaries_test.py: a fresh process each, but for imports.

  python -m tests.experiments.binaries < names_of_modules

Packages of others are imported once, before the fork; what a binary imports of
`experiments` is new in every process, as from a shell. Prints a line of JSON
a binary.
"""

import ast
import contextlib
import io
import json
import os
import pathlib
import re
import runpy
import shlex
import sys
import traceback

ROOT = pathlib.Path(__file__).resolve().parents[2]
_PAGES = ("README.md", "PACKAGE.md", "CONTRIBUTING.md", "BUILD_NOTES.md")
_STARTS = 'if __name__ == "__main__":'


def names() -> list[str]:
  """Returns the modules under experiments/ that are run as ``__main__``.

  One that another forwards to is started by that one.
  """
  found = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text()
    for path in (ROOT / "experiments").rglob("*.py")
  }
  starts = {n for n, text in found.items() if _STARTS in text}
  return sorted(starts - {target(found[name]) for name in starts})


def target(text: str) -> str | None:
  """Returns the module that a forwarding one runs."""
  found = re.search(r'run_module\(\s*"([\w.]+)"', text)
  return found and found[1]


def documented(module: str) -> list[list[str]]:
  """Returns the commands of a binary's docstring, and of its target's."""
  text = _path(module).read_text()
  own = commands(ast.get_docstring(ast.parse(text)) or "")
  other = target(text)
  return own + documented(other) if other else own


def pages() -> list[pathlib.Path]:
  """Returns the pages on which commands are printed."""
  docs = sorted((ROOT / "docs").rglob("*.md"))
  return [
    *(ROOT / name for name in _PAGES),
    *(page for page in docs if page.parent.name != "copied"),
  ]


def on_pages(module: str) -> list[list[str]]:
  """Returns the commands of a binary that pages print."""
  found = [c for page in pages() for c in commands(page.read_text())]
  return [command for command in found if command[0] == module]


def _path(module):
  return ROOT / (module.replace(".", "/") + ".py")


_OURS = r"(?:experiments|tests|kdropout_jax)\."


def commands(text: str, of: str = _OURS) -> list[list[str]]:
  """Returns (module, flag, ...) of each command, continued lines joined.

  Args:
    text: a docstring or a page.
    of: pattern of what modules' names begin with.

  >>> commands("Trains.\\n\\n  A=1 python -m b.c --d=e\\n      --f=$G/8", "b")
  [['b.c', '--d=e', '--f=0/8']]
  """
  joined = re.sub(r"\s*\\?\n\s+(?=--)", " ", text)
  lines = re.findall(rf"python3? -m ({of}[^`\n]*)", joined)
  bare = (re.sub(r"\$\w+", "0", line).partition(" < ")[0] for line in lines)
  return [shlex.split(line, comments=True) for line in bare]


def start(module: str) -> dict:
  """Runs ``python -m module --help``, then parses its docstring's commands."""
  path = _path(module)
  found = {"code": None, "commands": documented(module)}
  printed = found["commands"] + on_pages(module)
  out = io.StringIO()
  sys.argv = [str(path), "--help"]
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
    try:
      runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as stopped:
      found["code"] = stopped.code or 0
    except BaseException:
      traceback.print_exc()
  found["out"] = out.getvalue()
  found["errors"] = [e for c in printed if (e := parse(path, c))]
  return found


def parse(path: pathlib.Path, command: list[str]) -> str | None:
  """Returns what is wrong with a command's flags."""
  from absl import flags

  flags.FLAGS.unparse_flags()
  given = [flag for flag in command[1:] if flag not in ("--help", "...")]
  given = [re.sub("^(--paper=)NAME$", r"\1gyro", flag) for flag in given]
  try:
    rest = flags.FLAGS([str(path), *given])[1:]
  except flags.Error as error:
    return f"{shlex.join(command)}: {error}"
  return f"{shlex.join(command)}: no flags are {rest}" if rest else None


def in_a_fork(module: str) -> str:
  """Returns `start`'s result as JSON, from a process of its own."""
  reader, writer = os.pipe()
  child = os.fork()
  if not child:
    with os.fdopen(writer, "w") as pipe:
      json.dump(start(module), pipe)
    os._exit(0)
  os.close(writer)
  with os.fdopen(reader) as pipe:
    result = pipe.read()
  os.waitpid(child, 0)
  return result or json.dumps({"code": "died"})


def main() -> None:
  """Serves the names on standard input."""
  import grain  # noqa: F401
  import matplotlib.pyplot  # noqa: F401
  import orbax.checkpoint  # noqa: F401
  import scipy.stats  # noqa: F401

  # The first thing that a module of ours imports, by way of its parents.
  import kdropout_jax  # noqa: F401

  for line in sys.stdin:
    print(in_a_fork(line.strip()), flush=True)


if __name__ == "__main__":
  main()
