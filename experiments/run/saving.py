"""When a run saves a checkpoint, and what ends it instead."""

import dataclasses
import time
from typing import Any

from kdropout_jax.training import checkpoint
from kdropout_jax.training import loop
from kdropout_jax.training import state as state_lib


@dataclasses.dataclass
class Save:
  """Saves a checkpoint; a state that is not finite ends the run instead."""

  checkpoints: checkpoint.Checkpoints
  last: float = dataclasses.field(default_factory=time.monotonic)

  def when_due(
    self, done: int, state: Any, since_log: loop.LogSums, *, seconds: float
  ) -> None:
    """Saves, unless fewer `seconds` are over since the last time."""
    if time.monotonic() - self.last >= seconds:
      self(done, state, since_log)
      self.last = time.monotonic()
    elif not state_lib.all_finite(state):
      raise _not_finite(done)

  def __call__(self, done: int, state: Any, since_log: loop.LogSums) -> None:
    if not self.checkpoints.save(done, state, since_log.to_json()):
      raise _not_finite(done)


def _not_finite(done: int) -> loop.NonFiniteLoss:
  return loop.NonFiniteLoss(
    f"a parameter became NaN or infinite before step {done}; lower the"
    " learning rate, or clip. The last good checkpoint is kept."
  )
