"""Guided scheduling: weak subnets train for longer.

The gyro dropout paper's suggestion (Lee et al., section 5.1, after Keshari et
al., "Guided Dropout"): of a pool of pre-selected subnets, those with a low
strength are drawn more often. The strength of a subnet is here its training
loss, averaged over the steps that it took part in. What a schedule remembers
is a state that is passed in and out, so that a run is a function of its seed.

For the other way to guide, one task one subnet (k-dropout paper, section 4.3;
Fernando et al., "PathNet"), no state is needed: ``kd.Sequential(k=num_steps,
m=num_tasks)`` trains the same subnets at every step, and the `assignment` of a
dropout site says which of them an example trains.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from kdropout_jax import _checks
from kdropout_jax import _pytrees
from kdropout_jax._types import Ids
from kdropout_jax._types import Key
from kdropout_jax._types import Step
from kdropout_jax.masks import schedules

__all__ = (
  "Guided",
  "State",
  "init",
  "select",
  "update",
  "weakness",
)


@dataclasses.dataclass(frozen=True)
class Guided:
  """Draw `concurrent` of `total` subnets at each step, weak ones more often.

  Subnet i is drawn with weight ``exp(loss_i / temperature)``, one after
  another without replacement. In a share `explore` of the steps all weights
  are equal instead, so that whatever the losses, a subnet trains in a step
  with at least the probability `min_rate`. At ``temperature=inf``, at
  ``explore=1``, and where all losses are equal, this is `kd.Gyro` with
  ``scheduling="random"`` in law.

  Args:
    total: subnets over the whole run (Sigma in the gyro dropout paper).
    concurrent: subnets of one step (tau in the paper).
    temperature: difference of losses, in the loss' own unit, that makes the
      weaker of two subnets e times as likely; > 0, may be traced.
    explore: share of the steps that draw uniformly, in (0, 1]; may be traced.
    decay: of the exponential average of a subnet's losses, in [0, 1).

  >>> Guided(total=64, concurrent=16, explore=0.25).min_rate
  0.0625
  """

  total: int = 256
  concurrent: int = 16
  temperature: Any = 0.1
  explore: Any = 0.25
  decay: float = 0.9

  def __post_init__(self):
    _checks.check_int32("total", self.total)
    _checks.check_positive("concurrent", self.concurrent)
    if self.concurrent > self.total:
      raise ValueError(
        "concurrent must be <= total, got"
        f" concurrent={self.concurrent}, total={self.total}"
      )
    _checks.check_numbers(
      "temperature", self.temperature, lambda v: v > 0, "> 0"
    )
    _checks.check_numbers(
      "explore", self.explore, lambda v: (v > 0) & (v <= 1), "in (0, 1]"
    )
    _checks.check_numbers(
      "decay", self.decay, lambda v: (v >= 0) & (v < 1), "in [0, 1)"
    )

  @property
  def min_rate(self) -> Any:
    """Least probability with which a subnet trains in a step."""
    return self.explore * self.concurrent / self.total

  def num_concurrent(self, batch_size: int) -> int:
    """Returns T, the number of subnets in one step.

    Args:
      batch_size: rows of a full batch.
    """
    _checks.check_positive("batch_size", batch_size)
    return self.concurrent

  def num_subnets(self, num_steps: int, batch_size: int) -> int:
    """Returns the most subnets of the pool that a run can train.

    Args:
      num_steps: steps of the run.
      batch_size: rows of a full batch.
    """
    _checks.check_positive("num_steps", num_steps)
    _checks.check_positive("batch_size", batch_size)
    return min(self.total, num_steps * min(self.concurrent, batch_size))


_pytrees.register(Guided, data_fields=("temperature", "explore"))


@dataclasses.dataclass(frozen=True, eq=False)
class State:
  """What a guided schedule remembers: a pytree, to be saved with a run.

  Attributes:
    loss: float32 [Sigma], average loss of each subnet; high is weak.
    known: bool [Sigma], whether it has had a loss.
    steps: int32 [Sigma], steps that it was drawn for.
  """

  loss: Float[Array, "Sigma"]
  known: Bool[Array, "Sigma"]
  steps: Int[Array, "Sigma"]


_pytrees.register(State, ("loss", "known", "steps"))


def init(config: Guided) -> State:
  """Returns the state before the first step: nothing is known.

  Args:
    config: the schedule.

  Raises:
    ValueError: no `Guided`.

  >>> init(Guided(total=2, concurrent=1)).steps.tolist()
  [0, 0]
  """
  _check_config(config)
  shape = (config.total,)
  return State(
    loss=jnp.zeros(shape, jnp.float32),
    known=jnp.zeros(shape, jnp.bool_),
    steps=jnp.zeros(shape, jnp.int32),
  )


def select(
  state: State, step: Step, key: Key, config: Guided
) -> tuple[Ids, State]:
  """Draws the subnets that train at `step`, and counts it.

  Args:
    state: what is remembered.
    step: number of the training step, from 0; may be traced.
    key: the run-long key, the same at every step.
    config: the schedule.

  Returns:
    uint32 [T], all different, and the state.

  Raises:
    ValueError: a wrong step, or a state of another schedule.

  >>> import jax, kdropout_jax as kd
  >>> config = kd.Guided(total=3, concurrent=3)
  >>> state = kd.guided.init(config)
  >>> ids, state = kd.guided.select(state, 0, jax.random.key(0), config)
  >>> sorted(ids.tolist()), state.steps.tolist()
  ([0, 1, 2], [1, 1, 1])
  """
  _check_config(config)
  _check_state(state, config)
  for name in ("temperature", "explore"):
    _checks.check_scalar(name, getattr(config, name))
  coin_key, noise_key = jax.random.split(schedules.draw_key(key, step))
  explores = jax.random.bernoulli(
    coin_key, jnp.asarray(config.explore, jnp.float32)
  )
  weak = _weakness(state)
  logits = (weak - jnp.max(weak)) / jnp.asarray(config.temperature, jnp.float32)
  logits = jnp.where(explores, jnp.zeros_like(logits), logits)
  # The largest of log-weights plus Gumbel noise are a draw, one after
  # another, by the weights and without replacement.
  noise = jax.random.gumbel(noise_key, (config.total,), jnp.float32)
  _, ids = jax.lax.top_k(logits + noise, config.concurrent)
  steps = state.steps.at[ids].add(1)
  return ids.astype(jnp.uint32), dataclasses.replace(state, steps=steps)


def update(
  state: State, ids: Ids, losses: Float[Array, "T"], config: Guided
) -> State:
  """Remembers the losses of the subnets that just trained.

  Args:
    state: what is remembered.
    ids: uint32 [T], as `select` gave them.
    losses: [T], one a subnet: the mean over the rows that trained it.
    config: the schedule.

  Returns:
    The state, to be given to the next `select`.

  Raises:
    ValueError: losses that do not fit the ids, or a state of another schedule.

  >>> import jax.numpy as jnp
  >>> config = Guided(total=2, concurrent=1, decay=0.5)
  >>> state = init(config)
  >>> for loss in (4.0, 2.0):
  ...   state = update(state, jnp.array([1]), jnp.array([loss]), config)
  >>> state.loss.tolist()
  [0.0, 3.0]
  """
  _check_config(config)
  _check_state(state, config)
  _checks.check_array("ids", ids, "T", "integer")
  _checks.check_array("losses", losses, "T", "number")
  if losses.shape != ids.shape:
    raise ValueError(
      f"losses must have one entry for each of the {ids.shape[0]} ids, got"
      f" {losses.shape[0]}"
    )
  losses = losses.astype(jnp.float32)
  old, decay = state.loss[ids], jnp.float32(config.decay)
  average = decay * old + (1 - decay) * losses
  # The first loss is an average of one.
  average = jnp.where(state.known[ids], average, losses)
  return dataclasses.replace(
    state,
    loss=state.loss.at[ids].set(average),
    known=state.known.at[ids].set(True),
  )


def weakness(state: State) -> Float[Array, "Sigma"]:
  """Returns each subnet's average loss; an unknown one is the weakest's.

  Args:
    state: what is remembered.

  Raises:
    ValueError: no `State`.

  >>> config = Guided(total=2, concurrent=1)
  >>> state = update(
  ...   init(config), jnp.array([1]), jnp.array([4.0]), config)
  >>> weakness(state).tolist()
  [4.0, 4.0]
  """
  _checks.check_type("state", state, State, "a kd.guided.State")
  return _weakness(state)


def _weakness(state: State) -> Float[Array, "Sigma"]:
  known = jnp.where(state.known, state.loss, -jnp.inf)
  worst = jnp.where(jnp.any(state.known), jnp.max(known), jnp.float32(0))
  return jnp.where(state.known, state.loss, worst)


def _check_config(config) -> None:
  _checks.check_type("config", config, Guided, "a kd.Guided")


def _check_state(state, config: Guided) -> None:
  _checks.check_type("state", state, State, "a kd.guided.State")
  if state.loss.shape != (config.total,):
    raise ValueError(
      f"state must be of a schedule with total={config.total}, got"
      f" {list(state.loss.shape)} losses"
    )
