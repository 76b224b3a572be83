"""How every binary starts, and asks for help."""

import sys
from collections.abc import Callable
from typing import Any

from absl import app
from absl import flags

_HELP = {"help", "helpshort", "helpfull", "helpxml", "?"}


def run(main: Callable[[list[str]], Any]) -> None:
  """Parses the flags and calls `main`.

  Help ends with exit code 0, not 1; a wrong flag with 2 and one line.
  """
  app.run(main, flags_parser=_parse)


def _parse(argv: list[str]) -> list[str]:
  try:
    return flags.FLAGS(argv)
  except flags.Error as error:
    words = " ".join(str(error).split())
    print(f"{type(error).__name__}: {words} (see --help)", file=sys.stderr)
    sys.exit(2)
  except SystemExit:
    # absl has said it, because it was asked to.
    if {arg.lstrip("-") for arg in argv[1:]} & _HELP:
      sys.exit(0)
    raise
