"""What devices tell each other in k steps, read off the compiled programs.

Counts the collectives of a program by the loops that they stand in, and turns
them into the bytes that a device sends (rings: an all-reduce sends its operand
nearly twice, an all-gather its result nearly once).
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence

_BYTES = {
  **dict.fromkeys(("pred", "s8", "u8"), 1),
  **dict.fromkeys(("bf16", "f16", "s16", "u16"), 2),
  **dict.fromkeys(("f32", "s32", "u32"), 4),
  **dict.fromkeys(("f64", "s64", "u64"), 8),
}
_KINDS = (
  "all-reduce",
  "all-gather",
  "reduce-scatter",
  "all-to-all",
  "collective-permute",
  "collective-broadcast",
)
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_OP = re.compile(rf" = (.+?) ({'|'.join(_KINDS)})(?:-start)?\(")
_CALL = re.compile(
  r"(?:to_apply|calls|body|condition|true_computation|false_computation)="
  r"%?([\w.\-]+)|(?:branch_computations|called_computations)=\{([^}]*)\}"
)
_SHAPE = re.compile(r"(\w+)\[([\d,]*)\]")


@dataclasses.dataclass(frozen=True)
class Collective:
  """One collective of a compiled program.

  Attributes:
    kind: "all-reduce", "all-gather", ...
    num_bytes: of its result.
    loops: loops that it stands in: 0 is once a call of the program.
  """

  kind: str
  num_bytes: int
  loops: int

  def sent(self, num_devices: int) -> float:
    """Returns the bytes that a device of a ring sends for it."""
    share = (num_devices - 1) / num_devices
    return self.num_bytes * share * (2 if self.kind == "all-reduce" else 1)


def collectives(text: str) -> list[Collective]:
  """Returns the collectives of a program, from its HLO text.

  Args:
    text: of `compiled.as_text()`.

  >>> collectives("ENTRY main (p: f32[2]) -> f32[2] {\\n"
  ...   "  %r = f32[2]{0} all-reduce(%p), to_apply=%add\\n}")
  [Collective(kind='all-reduce', num_bytes=8, loops=0)]
  """
  bodies, entry = _computations(text)
  return list(_walk(bodies, entry, 0))


def of_window(
  found: Sequence[Collective], steps: int, num_devices: int, depth: int
) -> dict[str, float]:
  """Returns how often and how much a device sends in a window of k steps.

  Args:
    found: the collectives of a program.
    steps: k.
    num_devices: devices D.
    depth: loops around a step; what stands in one loop less is done once a
      window.

  Returns:
    {"messages", "bytes"}, what a dispatch does once left out.
  """
  messages = num_bytes = 0.0
  for one in found:
    times = steps if one.loops >= depth else int(one.loops == depth - 1)
    times = times if one.loops else 0
    messages += times
    num_bytes += times * one.sent(num_devices)
  return {"messages": messages, "bytes": num_bytes}


def seconds(num_bytes: float, megabits: float) -> float:
  """Returns the seconds that a link takes, at a rate in Mbit/s."""
  return num_bytes * 8 / (megabits * 1e6)


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
  bodies, entry, current = {}, "", None
  for line in text.splitlines():
    head = _HEAD.match(line)
    if head:
      current = bodies.setdefault(head[2], [])
      entry = head[2] if head[1] else entry
    elif current is not None:
      current.append(line)
  return bodies, entry


def _walk(bodies, name: str, loops: int) -> Iterator[Collective]:
  for line in bodies.get(name, ()):
    if op := _OP.search(line):
      yield Collective(op[2], _num_bytes(op[1]), loops)
      continue
    inner = loops + (" while(" in line)
    for one, many in _CALL.findall(line):
      for called in [one] if one else re.findall(r"[\w.\-]+", many):
        yield from _walk(bodies, called, inner)


def _num_bytes(shape: str) -> int:
  return sum(
    _BYTES[kind] * math.prod(int(d) for d in dims.split(",") if d)
    for kind, dims in _SHAPE.findall(shape)
    if kind in _BYTES
  )
