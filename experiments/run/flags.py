"""Flags: one for each field of `RunConfig`, and those of the machine.

Importing this module defines them; only binaries under `experiments` do.
"""

import contextlib
import dataclasses
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from absl import flags
from absl import logging

from experiments.run import config as config_lib
from experiments.run import fields
from experiments.run import footprint
from experiments.run import methods
from experiments.run import presets
from experiments.run import processes
from experiments.run import start
from experiments.run import stopping
from kdropout_jax import UnsupportedError
from kdropout_jax.training import loop

FLAGS = flags.FLAGS


def define_run() -> None:
  """Defines the flags of a run; a name that is there already stays."""
  define_config()
  if "data_workers" not in FLAGS:
    _define_processes()
  define_machine()


def define_config() -> None:
  """Defines the flags that decide what is computed."""
  define_seeds()
  for field in dataclasses.fields(config_lib.RunConfig):
    if field.name not in FLAGS:
      _define(field)
  if "preset" not in FLAGS:
    flags.DEFINE_string(
      "preset", None, "a paper's settings, which flags that are given override"
    )
  if "legacy" not in FLAGS:
    _define_choice(
      "legacy",
      "none",
      methods.LEGACY,
      "gyro: authors is their code, --replacement --per_layer"
      " --rescale=realised",
    )


def define_seeds() -> None:
  """Defines ``--seeds``, which is a count in every binary."""
  if "seeds" not in FLAGS:
    flags.DEFINE_integer(
      "seeds",
      None,
      "how many seeds each setting trains with, side by side in one program;"
      " default 1, or as many as --scale has",
    )


def define_machine() -> None:
  """Defines the flags that never change what is computed."""
  if "workdir" in FLAGS:
    return
  flags.DEFINE_string(
    "workdir", None, "folder of the run; default runs/ and a digest of flags"
  )
  flags.DEFINE_string(
    "data_dir",
    None,
    "prepared datasets; default $KDROPOUT_DATA_DIR or ~/.cache/kdropout_jax."
    " Or the FILE.npz of prepare_data --export",
  )
  flags.DEFINE_alias("arrays", "data_dir")
  flags.DEFINE_bool("progress", True, "show a progress bar")


def run_config(**overrides: Any) -> config_lib.RunConfig:
  """Returns the configuration that the flags say.

  Args:
    **overrides: fields that do not come from a flag.

  Raises:
    ValueError: wrong values, or flags that contradict each other.
  """
  return config_lib.RunConfig(**run_values(**overrides))


def run_values(**overrides: Any) -> dict[str, Any]:
  """Returns the fields that the flags say, not checked against each other.

  Args:
    **overrides: fields that do not come from a flag.

  Raises:
    ValueError: a preset, or a legacy, that does not fit.
  """
  values = {
    field.name: FLAGS[field.name].value
    for field in dataclasses.fields(config_lib.RunConfig)
    if field.name not in overrides
  }
  if values.get("seeds", 1) is None:
    values["seeds"] = 1
  name = FLAGS["preset"].value
  if name is not None:
    found = _from_preset(name, {**values, **overrides})
    values |= {k: v for k, v in found.items() if k in values}
  values |= _from_legacy(str(FLAGS["legacy"].value), {**values, **overrides})
  return {**values, **overrides}


def read(name: str, word: str) -> Any:
  """Returns the value of a field that `word` stands for.

  A list has its integers joined by +; "none" is what a field without a value
  has.

  Raises:
    ValueError: it stands for none.
  """
  if word == "none" and config_lib.DEFAULTS[name] is None:
    return None
  if isinstance(config_lib.DEFAULTS[name], tuple):
    return fields.integers(name, word.split("+"))
  try:
    return FLAGS[name].parser.parse(word)
  except (TypeError, ValueError) as error:
    raise ValueError(f"{name}={word}: {error}") from None


def given() -> list[str]:
  """Returns the flags of a run that are not left at their defaults."""
  names = ("preset", "legacy", *config_lib.DEFAULTS)
  return [n for n in names if not FLAGS[n].using_default_value]


def _from_preset(name: str, values: dict[str, Any]) -> dict[str, Any]:
  """Returns what a preset says of the flags that are not given."""
  found = presets.flags(name, values["method"], values["pattern"])
  if values["num_steps"] is not None:
    found.pop("epochs", None)
  return {k: v for k, v in found.items() if FLAGS[k].using_default_value}


def _from_legacy(name: str, values: dict[str, Any]) -> dict[str, Any]:
  """Returns what `--legacy` stands for; a run's name has no trace of it.

  Raises:
    ValueError: another method, or a flag that says otherwise.
  """
  if name == "none":
    return {}
  config_lib.check_choice("method", values["method"], methods.METHODS)
  found = methods.METHODS[values["method"]].authors
  if not found:
    those = (m for m, method in methods.METHODS.items() if method.authors)
    raise ValueError(
      f"legacy={name!r} is for method={' or '.join(those)}, got"
      f" method={values['method']!r}"
    )
  for flag, value in found.items():
    if not FLAGS[flag].using_default_value and values[flag] != value:
      raise ValueError(
        f"{flag} must be {value} or left alone with legacy={name!r}, got"
        f" {values[flag]}"
      )
  return dict(found)


def join_processes() -> None:
  """Joins the other processes of the run, where the flags name them.

  Raises:
    ValueError: some of the three flags are missing, wrong, or name nobody.
  """
  names = ("coordinator_address", "num_processes", "process_id")
  values: dict[str, Any] = {name: FLAGS[name].value for name in names}
  missing = [name for name, value in values.items() if value is None]
  if len(missing) == len(names):
    return
  if missing:
    raise ValueError(
      f"several processes need {', '.join(names)}; missing:"
      f" {', '.join(missing)}"
    )
  check_processes(**values)
  try:
    with processes.joining(values["coordinator_address"]):
      jax.distributed.initialize(
        **values, heartbeat_timeout_seconds=processes.HEARTBEAT_SECONDS
      )
  except RuntimeError as error:
    address = values["coordinator_address"]
    raise ValueError(f"could not join {address}: {error}") from error
  stopping.stops.listen(is_first=values["process_id"] == 0)


def check_processes(
  coordinator_address: str, num_processes: int, process_id: int
) -> None:
  """Raises a ValueError for a place among processes that cannot be."""
  if not 1 <= num_processes < 2**31:
    raise ValueError(
      f"num_processes must be in [1, 2**31), got {num_processes}"
    )
  if not 0 <= process_id < num_processes:
    raise ValueError(
      f"process_id must be in [0, {num_processes}), got {process_id}"
    )
  host, _, port = coordinator_address.rpartition(":")
  if not (host and port.isdecimal() and 0 < int(port) < 2**16):
    raise ValueError(
      "coordinator_address must be host:port, with a port in [1, 65535], got"
      f" {coordinator_address!r}"
    )
  try:
    socket.getaddrinfo(host.strip("[]"), int(port))
  except (OSError, UnicodeError) as error:
    raise ValueError(
      "coordinator_address must name a host that is known here, got"
      f" {coordinator_address!r}: {error}"
    ) from error


def launch(
  main: Callable[[list[str]], Any], own: flags.FlagValues | None = None
) -> None:
  """Runs a binary's `main`; a user's mistake ends in a line, not a traceback.

  Exit codes: 2 for wrong arguments, files or folders and where the memory is
  full, 1 for a loss that became NaN or for another process that was lost, 130
  for Ctrl-C.

  Args:
    main: called with the arguments that are no flags.
    own: flags of a binary that keeps its own, beside those of all modules.
  """

  def guarded(argv: list[str]) -> None:
    if len(argv) > 1:
      sys.exit(_fail(f"unknown arguments: {' '.join(argv[1:])}", 2))
    try:
      footprint.check_address_space()
      main(argv)
    except (ValueError, OSError, UnsupportedError) as error:
      processes.end_if_lost(error)
      if FLAGS["debug"].value:
        raise
      sys.exit(_fail(f"{type(error).__name__}: {error}", 2))
    except loop.NonFiniteLoss as error:
      sys.exit(_fail(str(error), 1))
    except loop.Stopped as error:
      step = error.step
      sys.exit(
        _fail(f"stopped after step {step}; the same command continues", 130)
      )
    except KeyboardInterrupt:  # While it loads, compiles or writes.
      sys.exit(_fail("stopped; the same command continues", 130))
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
      if not _is_of_memory(error):
        processes.end_alone(error)
        raise
      if FLAGS["debug"].value:
        raise
      sys.exit(_fail(f"out of memory: {_first_line(error)}", 2))

  if "debug" not in FLAGS:
    flags.DEFINE_bool("debug", False, "show the traceback of any error")
  _show_in_help(own)
  logging.set_verbosity(logging.WARNING)
  logging.use_absl_handler()
  try:
    with _ended_as_interrupted():
      start.run(guarded)
  except KeyboardInterrupt:  # Before the flags are read, or after all.
    sys.exit(_fail("stopped; the same command continues", 130))


@contextlib.contextmanager
def _ended_as_interrupted() -> Iterator[None]:
  """Makes SIGTERM what Ctrl-C is, also where no step is under way."""
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  numbers = (signal.SIGINT, signal.SIGTERM)
  before = [signal.signal(number, stopping.interrupt) for number in numbers]
  try:
    yield
  finally:
    for number, handler in zip(numbers, before):
      signal.signal(number, handler)


def _is_of_memory(error: Exception) -> bool:
  words = str(error)
  return isinstance(error, MemoryError) or any(
    full in words for full in ("RESOURCE_EXHAUSTED", "Out of memory")
  )


def _first_line(error: Exception) -> str:
  lines = str(error).strip().splitlines() or [type(error).__name__]
  return lines[0][:300]


def _show_in_help(own: flags.FlagValues | None) -> None:
  """Makes ``--help`` list our flags, whichever module defines them.

  Those of absl and of libraries stay out of sight.
  """
  by_module = FLAGS.flags_by_module_dict()
  names = ("__main__", "experiments")
  found = [
    flag
    for module, defined in by_module.items()
    if module == sys.argv[0] or module.split(".")[0] in names
    for flag in defined
  ]
  if own is not None:
    FLAGS.append_flag_values(own)
    own.mark_as_parsed()
    found += [own[name] for name in own]
  for flag in found:
    FLAGS.register_key_flag_for_module(sys.argv[0], flag)


def _fail(message: str, code: int) -> int:
  stopping.stops.said()
  print(message, file=sys.stderr)
  return code


def _define(field: dataclasses.Field) -> None:
  name, kind = field.name, field.metadata["kind"]
  default: Any = field.default
  users = methods.users(name)
  help_text, choices = field.metadata["help"], fields.choices_of(field)
  if users:
    help_text = f"{', '.join(users)}: {help_text}"
  if kind is bool:
    flags.DEFINE_bool(name, default, help_text)
  elif kind is int:
    flags.DEFINE_integer(name, default, help_text)
  elif kind is float:
    flags.DEFINE_float(name, default, help_text)
  elif kind is tuple:
    flags.DEFINE_list(name, [str(v) for v in default], help_text)
  elif choices:
    _define_choice(name, default, choices, help_text)
  else:
    flags.DEFINE_string(name, default, help_text)


class _Choices(flags.EnumParser):
  """One of a few words; a wrong one is told which are near."""

  def __init__(self, name: str, choices: Sequence[str]):
    super().__init__(list(choices))
    self._name = name

  def parse(self, argument: str) -> str:
    fields.check_choice(self._name, argument, self.enum_values)
    return argument


def _define_choice(
  name: str, default: str | None, choices: Sequence[str], help_text: str
) -> None:
  """Defines a flag whose choices ``--help`` lists."""
  flag = flags.EnumFlag(name, default, help_text, list(choices))
  flag.parser = _Choices(name, choices)
  flags.DEFINE_flag(flag)


def _define_processes() -> None:
  flags.DEFINE_integer(
    "data_workers",
    0,
    "streamed examples: processes that read them; 0: threads of this one",
    lower_bound=0,
    upper_bound=1024,
  )
  flags.DEFINE_string(
    "coordinator_address", None, "several processes: host:port of the first"
  )
  flags.DEFINE_integer("num_processes", None, "several processes: how many")
  flags.DEFINE_integer("process_id", None, "several processes: which, from 0")
