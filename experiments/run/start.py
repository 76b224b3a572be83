"""How every binary starts, and asks for help."""

import sys
from collections.abc import Callable
from typing import Any

from absl import app

_HELP = {"help", "helpshort", "helpfull", "helpxml", "?"}


def run(main: Callable[[list[str]], Any]) -> None:
  """Parses the flags and calls `main`; help ends with exit code 0, not 1."""
  app.run(main, flags_parser=_parse)


def _parse(argv: list[str]) -> list[str]:
  try:
    return app.parse_flags_with_usage(argv)
  except SystemExit:
    # absl has said why: for a wrong flag, or because it was asked to.
    if {arg.lstrip("-") for arg in argv[1:]} & _HELP:
      sys.exit(0)
    raise
