"""How a method is shown: its windows in curves, its numbers in tables."""

from collections.abc import Sequence

from experiments.run import methods

_MAX_WINDOWS = 60  # More lines would make a figure grey.


def window_starts(config: methods.Fields, num_steps: int) -> Sequence[int]:
  """Returns the steps at which a run's subnets are replaced.

  None where its subnets change at each step, and where there are so many
  windows that a figure would show a grey area.
  """
  starts: Sequence[int] = ()
  if config.method == "sequential":
    starts = range(config.k, num_steps, config.k)
  elif config.method == "gyro" and config.scheduling == "consecutive":
    count = -(-config.total // config.concurrent)
    steps, longer = divmod(num_steps, count)
    if count <= _MAX_WINDOWS:
      starts = [w * steps + min(w, longer) for w in range(1, count)]
  is_seen = len(starts) <= _MAX_WINDOWS and num_steps >= 2 * len(starts)
  return tuple(starts) if is_seen else ()


def describe(config: methods.Fields) -> str:
  """Returns the method's hyperparameters, as a table prints them."""
  method = methods.METHODS[config.method]
  names = method.shown
  if method.drops:
    names += ("rate",)
    names += ("input_rate",) if config.input_rate else ()
    names += ("pattern",) if config.pattern != "bernoulli" else ()
    names += ("drops",) if config.drops != "units" else ()
    names += ("block_size",) if config.pattern == "blocks" else ()
  values = {name: getattr(config, name) for name in names}
  return " ".join(f"{k}={v}" for k, v in values.items() if v is not None)
