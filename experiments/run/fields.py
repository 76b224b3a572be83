"""A field of a configuration, which is a flag: what it means and may be.

All that is known of a field stands where it is declared: its flag, its help
and its checks follow from that.
"""

import dataclasses
import difflib
from collections.abc import Callable, Iterable
from typing import Any

Rule = tuple[Callable[[Any], bool], str]
"""Whether a value, or a configuration, is as it must be; the same in words."""

AT_LEAST_0: Rule = (lambda v: v >= 0, ">= 0")
AT_LEAST_1: Rule = (lambda v: v >= 1, ">= 1")
ABOVE_0: Rule = (lambda v: 0 < v < float("inf"), "> 0")
SHARE: Rule = (lambda v: 0 <= v <= 1, "in [0, 1]")
BELOW_1: Rule = (lambda v: 0 <= v < 1, "in [0, 1)")
NOT_ZERO: Rule = (lambda v: 0 < v <= 1, "in (0, 1]")

Choices = Iterable[str] | Callable[[], Iterable[str]]

# Of what a device counts and computes in: int32 and float32.
_BOUNDS: dict[type, Rule] = {
  int: (lambda v: -(2**31) <= v < 2**31, "< 2**31"),
  float: (lambda v: abs(v) < 2.0**128, "< 2**128, as a float32 is"),
}


def field(
  default: Any,
  help_text: str = "",
  kind: type | None = None,
  *,
  rule: Rule | None = None,
  choices: Choices | None = None,
  used: Rule | None = None,
) -> Any:
  """Returns a dataclass field that is a flag of the same name.

  Args:
    default: its value where no flag says another.
    help_text: of the flag, which lists its choices itself.
    kind: its type; default the default's. A tuple holds integers.
    rule: what a value must be; None is always allowed.
    choices: the values of a string, or a function that returns them.
    used: whether a configuration uses it; else it must be left alone.
  """
  metadata = {
    "help": help_text,
    "kind": kind or type(default),
    "rule": rule,
    "choices": choices,
    "used": used,
  }
  return dataclasses.field(default=default, metadata=metadata)


def check(config: Any) -> None:
  """Raises a ValueError for a value of `config` that breaks its own rule."""
  for one in _declared(config):
    value = getattr(config, one.name)
    if value is not None:
      _check_value(one, value)


def check_unused(config: Any, further: dict[str, Rule]) -> None:
  """Raises a ValueError for a field that is set and has no effect.

  Args:
    config: the configuration.
    further: {field: whether a configuration uses it}, where not its own.
  """
  for one in _declared(config):
    value = getattr(config, one.name)
    rule = further.get(one.name, one.metadata["used"])
    if rule is None or value == one.default:
      continue
    is_used, words = rule
    if not is_used(config):
      raise ValueError(
        f"{one.name}={value!r} has no effect here: it is for {words}. Leave it"
        f" at its default, {one.default!r}."
      )


def check_choice(name: str, value: str, choices: Iterable[str]) -> None:
  """Raises a ValueError with the nearest names unless `value` is a choice."""
  choices = tuple(choices)
  if value in choices:
    return
  near = difflib.get_close_matches(str(value), choices, n=3, cutoff=0.4)
  hint = f"; did you mean {' or '.join(near)}?" if near else ""
  raise ValueError(
    f"{name} must be one of {', '.join(choices)}, got {value!r}{hint}"
  )


def integers(name: str, values: Iterable[Any]) -> tuple[int, ...]:
  """Returns what a list of integers holds, as a flag gives them.

  Raises:
    ValueError: something else.
  """
  try:
    return tuple(int(value) for value in values)
  except (TypeError, ValueError):
    raise ValueError(f"{name} must hold integers, got {values!r}") from None


def _declared(config: Any) -> list[dataclasses.Field]:
  return [f for f in dataclasses.fields(config) if f.metadata]


def choices_of(one: dataclasses.Field) -> tuple[str, ...]:
  """Returns what a field may be; nothing where no list says it."""
  choices: Any = one.metadata["choices"] or ()
  found: Any = choices() if callable(choices) else choices
  return tuple(found)


def _check_value(one: dataclasses.Field, value: Any) -> None:
  kind, choices = one.metadata["kind"], choices_of(one)
  if choices:
    check_choice(one.name, value, choices)
  values = value if kind is tuple else (value,)
  bound = _BOUNDS.get(int if kind is tuple else kind)
  for rule in filter(None, (one.metadata["rule"], bound)):
    is_ok, words = rule
    if not all(map(is_ok, values)):
      raise ValueError(f"{one.name} must be {words}, got {value}")
