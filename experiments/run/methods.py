"""From the flags of a method to a schedule, a pattern and a dropout site."""

import functools
from typing import Any

import kdropout_jax as kd

METHODS = ("none", "standard", "sequential", "pooled", "gyro", "guided")
PATTERNS = ("bernoulli", "exact", "blocks")
ASSIGNMENTS = ("rows", "label")

SUBNET_TRAININGS = ("masked", "small", "extract")
DROPPED_WEIGHTS = ("caught_up", "frozen")

LEGACY = {
  "none": {},
  "authors": {"replacement": True, "per_layer": True, "rescale": "realised"},
}
"""{--legacy: flags it stands for, of method gyro}.

The gyro dropout authors' code draws a window's tau subnets with replacement,
in each layer for itself, and scales by the share that the masks really keep.
"""

_DROPS = (lambda c: c.method != "none", "any method but none")


def _only(*methods: str):
  return (lambda c: c.method in methods, f"method={' or '.join(methods)}")


USED_IF = {
  "k": _only("sequential"),
  "m": _only("sequential", "pooled"),
  "pool_size": _only("pooled"),
  "total": _only("gyro", "guided"),
  "concurrent": _only("gyro", "guided"),
  "temperature": _only("guided"),
  "explore": _only("guided"),
  "scheduling": _only("gyro"),
  "rows_per_subnet": _only("gyro"),
  "replacement": _only("pooled", "gyro"),
  "per_layer": _only("pooled", "gyro"),
  "rate": _DROPS,
  "pattern": _DROPS,
  "block_size": (lambda c: c.pattern == "blocks", "pattern=blocks"),
  "rescale": _DROPS,
  "row_layout": _DROPS,
  "assignment": _only("sequential", "pooled", "gyro"),
  "subnet_training": (
    lambda c: (
      c.method in ("standard", "sequential", "pooled", "gyro")
      if c.subnet_training == "small"
      else c.method == "sequential" and c.m == 1
    ),
    "extract: method=sequential with m=1; small: method=standard, sequential,"
    " pooled or gyro",
  ),
  "dropped_weights": (
    lambda c: c.subnet_training == "extract",
    "subnet_training=extract",
  ),
}
"""{flag: (whether a configuration uses it, who does)}."""


def check(config: Any) -> None:
  """Raises a ValueError where the method's values do not fit each other."""
  if config.method != "none":
    schedule(config, num_steps=config.num_steps or 1)
    site(config)(name="check")


def schedule(
  config: Any, num_steps: int
) -> kd.config.Schedule | kd.Guided | None:
  """Returns the schedule that `config` asks for, None for method none.

  Args:
    config: a `RunConfig`.
    num_steps: steps of the run, which gyro's windows share out.
  """
  match config.method:
    case "none":
      return None
    case "standard":
      return kd.Standard()
    case "sequential":
      return kd.Sequential(k=config.k, m=config.m)
    case "pooled":
      return kd.Pooled(
        pool_size=config.pool_size,
        m=config.m,
        replacement=config.replacement is not False,
        per_layer=config.per_layer,
      )
    case "gyro":
      return kd.Gyro(
        total=config.total,
        concurrent=config.concurrent,
        num_steps=num_steps,
        scheduling=config.scheduling,
        rows_per_subnet=config.rows_per_subnet,
        replacement=bool(config.replacement),
        per_layer=config.per_layer,
      )
    case "guided":
      return kd.Guided(
        total=config.total,
        concurrent=config.concurrent,
        temperature=config.temperature,
        explore=config.explore,
      )
  raise AssertionError(config.method)


def site(config: Any) -> functools.partial:
  """Returns what makes a dropout site: call it with the site's name."""
  patterns = {
    "bernoulli": kd.Bernoulli,
    "exact": kd.ExactCount,
    "blocks": functools.partial(kd.Blocks, block_size=config.block_size),
  }
  return functools.partial(
    kd.linen.Dropout,
    config.rate if config.method != "none" else 0.0,
    pattern=patterns[config.pattern],
    rescale=config.rescale,
    row_layout=config.row_layout,
  )


def assign(config: Any, num_classes: int) -> Any:
  """Returns what gives each example of a batch its slot, or None for rows.

  By label, each of the T subnets of a step gets equally many classes, to
  within one: class c trains in slot ``c * T // num_classes``.
  """
  if config.assignment == "rows":
    return None
  chosen: Any = schedule(config, num_steps=1)
  count = chosen.num_concurrent(config.batch_size)
  return lambda inputs, labels: labels * count // num_classes


def describe(config: Any) -> str:
  """Returns the method's hyperparameters, as a table prints them."""
  names = {
    "none": (),
    "standard": (),
    "sequential": ("k", "m"),
    "pooled": ("pool_size", "m"),
    "gyro": ("total", "concurrent", "rows_per_subnet"),
    "guided": ("total", "concurrent", "temperature", "explore"),
  }[config.method]
  values = {name: getattr(config, name) for name in names}
  if config.method != "none":
    values["rate"] = config.rate
    if config.pattern != "bernoulli":
      values["pattern"] = config.pattern
    if config.pattern == "blocks":
      values["block_size"] = config.block_size
  return " ".join(f"{k}={v}" for k, v in values.items() if v is not None)
