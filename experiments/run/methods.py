"""Methods: which subnets train at a step, and what their masks look like.

A method is one entry of `METHODS`, and its flags are fields of `Fields`. From
these follow the flags' help and checks, the schedule, the text and the columns
of tables, and which runs share a program.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, get_args

import kdropout_jax as kd
from experiments.run import fields
from kdropout_jax import config as kd_config
from kdropout_jax import functional
from kdropout_jax import patterns

_SERVED: dict[str, Callable[[Any], bool]] = {
  "small": lambda c: c.method in ("standard", "sequential", "pooled", "gyro"),
  "extract": lambda c: c.method == "sequential" and (c.m == 1 or c.partition),
  "permuted": lambda c: (
    c.method == "sequential" and (c.partition or c.balanced == c.m)
  ),
}
SUBNET_TRAININGS = ("masked", "small", "extract", "permuted")
DROPPED_WEIGHTS = ("caught_up", "frozen")
SHARED_PARAMETERS = ("each_step", "window_end")
ASSIGNMENTS = ("rows", "label")
DROPS = ("units", "weights")
LEGACY = ("none", "authors")
_field = fields.field

_EXACT = (lambda c: c.pattern in ("exact", "blocks"), "pattern=exact or blocks")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fields:
  """What a run says about its dropout; each field is a flag."""

  method: str = _field(
    "standard", "which subnets train", choices=lambda: METHODS
  )
  k: int = _field(97, "steps that a subnet trains", rule=fields.AT_LEAST_1)
  m: int = _field(8, "subnets of one step", rule=fields.AT_LEAST_1)
  pool_size: int = _field(50, "subnets in the pool", rule=fields.AT_LEAST_1)
  total: int = _field(
    1024, "subnets of the whole run (Sigma)", rule=fields.AT_LEAST_1
  )
  concurrent: int = _field(
    8, "subnets of one window (tau)", rule=fields.AT_LEAST_1
  )
  temperature: float = _field(
    0.1,
    "difference of losses that makes a subnet e times as likely",
    rule=fields.ABOVE_0,
  )
  explore: float = _field(
    0.25, "share of the steps drawn uniformly", rule=fields.NOT_ZERO
  )
  scheduling: str = _field(
    "consecutive",
    "order of a run's subnets",
    choices=get_args(kd_config.Scheduling),
  )
  rows_per_subnet: int | None = _field(
    None,
    "rows that a subnet takes of a batch (block-wise: 128)",
    int,
    rule=fields.AT_LEAST_1,
  )
  replacement: bool | None = _field(
    None, "draw with replacement; default yes for pooled, no for gyro", bool
  )
  per_layer: bool = _field(False, "each layer draws its own subnets")
  assignment: str = _field(
    "rows", "what gives an example its subnet", choices=ASSIGNMENTS
  )
  rate: float = _field(0.5, "probability of DROPPING a unit", rule=fields.SHARE)
  input_rate: float = _field(
    0.0,
    "MLPs, autoencoder: probability of DROPPING an input",
    rule=fields.SHARE,
  )
  pattern: str = _field(
    "bernoulli", "what a mask keeps", choices=lambda: PATTERNS
  )
  block_size: int = _field(
    32,
    "blocks: units of a block",
    rule=fields.AT_LEAST_1,
    used=(lambda c: c.pattern == "blocks", "pattern=blocks"),
  )
  drops: str = _field(
    "units",
    "what is dropped; weights: DropConnect in the hidden dense layers",
    choices=DROPS,
  )
  partition: bool = _field(
    False,
    "exact, blocks: P consecutive subnets share no unit, rate 1 - 1/P",
    used=_EXACT,
  )
  balanced: int | None = _field(
    None,
    "exact, blocks: so many consecutive subnets keep each unit equally often",
    int,
    rule=fields.AT_LEAST_1,
    used=_EXACT,
  )
  rescale: str = _field(
    "expected", "by which share", choices=get_args(functional.Rescale)
  )
  row_layout: str = _field(
    "contiguous",
    "which rows a subnet takes",
    choices=get_args(functional.RowLayout),
  )
  subnet_training: str = _field(
    "masked",
    "small: train the subnets of each step as small networks, with full-size"
    " gradients; extract: train each window of one subnet (or of m that share"
    " no unit, by --partition) as small networks, optimizer included"
    " (method=sequential); permuted: at full size, the units of each window in"
    " order (method=sequential with --partition or --balanced=m); masked: at"
    " full size",
    choices=SUBNET_TRAININGS,
    used=(
      lambda c: _SERVED.get(c.subnet_training, lambda _: True)(c),
      "extract: method=sequential with m=1 or partition; permuted:"
      " method=sequential with partition or balanced=m; small:"
      " method=standard, sequential, pooled or gyro",
    ),
  )
  dropped_weights: str = _field(
    "caught_up",
    "extract: caught_up, which is masked training, or frozen, which is not",
    choices=DROPPED_WEIGHTS,
    used=(
      lambda c: c.subnet_training == "extract",
      "subnet_training=extract",
    ),
  )
  shared_parameters: str = _field(
    "each_step",
    "extract, m > 1: what no mask cuts is reduced at each_step, which is masked"
    " training, or averaged at the window_end, which is not",
    choices=SHARED_PARAMETERS,
    used=(
      lambda c: c.subnet_training == "extract" and c.m > 1,
      "subnet_training=extract with m > 1",
    ),
  )


_OF_DROPOUT = (
  *("rate", "input_rate", "pattern", "drops", "rescale", "row_layout"),
)
"""Fields of every method that drops units."""


@dataclasses.dataclass(frozen=True)
class Method:
  """A way to choose subnets.

  Attributes:
    schedule: (fields, steps of the run) -> its schedule; None: drops nothing.
    shown: the fields of its schedule that descriptions print.
    others: the further fields of its schedule.
    assigns: whether an example may choose among the subnets of a step.
    columns: (fields, steps of the run) -> what a table's row says of it.
    authors: fields that ``--legacy=authors`` stands for.
    fixed: fields of every method that this one decides itself.
  """

  schedule: Callable[[Any, int], kd_config.BuiltIn | kd.Guided] | None
  shown: tuple[str, ...] = ()
  others: tuple[str, ...] = ()
  assigns: bool = False
  columns: Callable[[Any, int], dict[str, Any]] = lambda c, num_steps: {}
  authors: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def drops(self) -> bool:
    """Whether it drops units at all."""
    return self.schedule is not None

  @property
  def fields(self) -> tuple[str, ...]:
    """Its own fields, which are of no use to all methods."""
    assignment = ("assignment",) if self.assigns else ()
    return (*self.shown, *self.others, *assignment)


METHODS = {
  "none": Method(None),
  "standard": Method(lambda c, _: kd.Standard()),
  "sequential": Method(
    lambda c, _: kd.Sequential(k=c.k, m=c.m),
    shown=("k", "m"),
    assigns=True,
    columns=lambda c, num_steps: {
      "partition": c.partition,
      "m": c.m,
      "k": c.k,
      "k_over_T": c.k / num_steps,
      "epochs_per_window": c.k * c.epochs / num_steps,
    },
  ),
  "pooled": Method(
    lambda c, _: kd.Pooled(
      pool_size=c.pool_size,
      m=c.m,
      replacement=c.replacement is not False,
      per_layer=c.per_layer,
    ),
    shown=("pool_size", "m"),
    others=("replacement", "per_layer"),
    assigns=True,
    columns=lambda c, num_steps: {
      "m": c.m,
      "pool_size": c.pool_size,
      # P = T m / k, so that a pool's subnets train k steps each.
      "k": num_steps * c.m / c.pool_size,
    },
  ),
  "gyro": Method(
    lambda c, num_steps: kd.Gyro(
      total=c.total,
      concurrent=c.concurrent,
      num_steps=num_steps,
      scheduling=c.scheduling,
      rows_per_subnet=c.rows_per_subnet,
      replacement=bool(c.replacement),
      per_layer=c.per_layer,
    ),
    shown=("total", "concurrent", "rows_per_subnet"),
    others=("scheduling", "replacement", "per_layer"),
    assigns=True,
    columns=lambda c, _: {
      "total": c.total,
      "concurrent": c.concurrent,
      "scheduling": c.scheduling,
      "rows_per_subnet": c.rows_per_subnet,
      "block_size": c.block_size if c.pattern == "blocks" else None,
    },
    # Their code draws a window's tau subnets with replacement, in each layer
    # for itself, and scales by the share that the masks really keep.
    authors={"replacement": True, "per_layer": True, "rescale": "realised"},
  ),
  "guided": Method(
    lambda c, _: kd.Guided(
      total=c.total,
      concurrent=c.concurrent,
      temperature=c.temperature,
      explore=c.explore,
    ),
    shown=("total", "concurrent", "temperature", "explore"),
  ),
  "gaussian": Method(lambda c, _: kd.Standard(), fixed={"pattern": "gaussian"}),
  "drop_connect": Method(
    lambda c, _: kd.Standard(), fixed={"drops": "weights"}
  ),
}

PATTERNS: dict[str, Callable[[Any], Callable[..., patterns.Pattern]]] = {
  "bernoulli": lambda c: kd.Bernoulli,
  "exact": lambda c: functools.partial(
    kd.ExactCount, partition=c.partition, balanced=c.balanced
  ),
  "gaussian": lambda c: kd.Gaussian,
  "blocks": lambda c: functools.partial(
    kd.Blocks,
    block_size=c.block_size,
    partition=c.partition,
    balanced=c.balanced,
  ),
}
"""{name: fields -> from rate to pattern}."""


OF_SCHEDULE = frozenset(
  name for method in METHODS.values() for name in method.shown + method.others
)
"""Fields that a schedule holds."""


def users(name: str) -> tuple[str, ...]:
  """Returns the methods that have a field of their own called `name`."""
  return tuple(m for m, method in METHODS.items() if name in method.fields)


def _used_if() -> dict[str, fields.Rule]:
  found = {
    one.name: one.metadata["used"]
    for one in dataclasses.fields(Fields)
    if one.metadata["used"]
  }
  for one in dataclasses.fields(Fields):
    if one.name in _OF_DROPOUT:
      found[one.name] = (
        lambda c, name=one.name: (
          METHODS[c.method].drops and name not in METHODS[c.method].fixed
        ),
        _any_method_but(one.name),
      )
    elif names := users(one.name):
      found[one.name] = (
        lambda c, name=one.name: name in METHODS[c.method].fields,
        f"method={' or '.join(names)}",
      )
  return found


def _any_method_but(name: str) -> str:
  own = [m for m, method in METHODS.items() if name in method.fixed]
  return f"any method but {' and '.join(['none', *own])}"


USED_IF = _used_if()
"""{field: whether a configuration uses it, and who does}."""


def check(config: Fields) -> None:
  """Raises a ValueError where the method's values do not fit each other."""
  if METHODS[config.method].drops:
    schedule(config, num_steps=getattr(config, "num_steps", None) or 1)
    _check_pattern(config)
    site(config)(name="check")
    PATTERNS[config.pattern](config)(config.rate)


def _check_pattern(config: Fields) -> None:
  """Refuses noise where weights are dropped or another scale is asked for."""
  if value(config, "pattern") != "gaussian":
    return
  kd.Gaussian(config.rate)  # Raises at rate 1.
  if value(config, "drops") != "units":
    raise ValueError(
      "pattern must be one of masks where drops=weights, got 'gaussian'"
    )
  if config.rescale != "expected":
    raise ValueError(
      "rescale must be 'expected' with pattern=gaussian, whose noise has mean"
      f" 1, got {config.rescale!r}"
    )


def schedule(
  config: Fields, num_steps: int
) -> kd_config.BuiltIn | kd.Guided | None:
  """Returns the schedule of a run of `num_steps`, None for method none."""
  make = METHODS[config.method].schedule
  return None if make is None else make(config, num_steps)


def value(config: Any, name: str) -> Any:
  """Returns a field of every method, which the method may decide itself."""
  return METHODS[config.method].fixed.get(name, getattr(config, name))


def site(config: Fields) -> functools.partial:
  """Returns what makes a dropout site: call it with the site's name."""
  units = METHODS[config.method].drops and value(config, "drops") == "units"
  return functools.partial(
    kd.linen.Dropout,
    rate=config.rate if units else 0.0,
    **_settings(config),
  )


def connections(config: Fields) -> functools.partial | None:
  """Returns what makes a dense layer that drops weights; None: none does."""
  if value(config, "drops") == "units":
    return None
  return functools.partial(
    kd.linen.DropConnectDense, rate=config.rate, **_settings(config)
  )


def _settings(config: Fields) -> dict[str, Any]:
  return {
    "pattern": PATTERNS[value(config, "pattern")](config),
    "rescale": config.rescale,
    "row_layout": config.row_layout,
  }


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
