"""What is trained, and what makes one member of a program differ.

A *member* is one run among those that train side by side in one program: its
seed, its learning rate, and the data leaves of its schedule. All arrays here
have a leading axis S over members, which `vmap` takes away.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt

from kdropout_jax import config
from kdropout_jax._types import Key
from kdropout_jax.masks import guided

__all__ = (
  "Members",
  "TrainState",
  "all_finite",
  "stack_members",
)


@dataclasses.dataclass(frozen=True)
class TrainState:
  """Everything that a step changes.

  Attributes:
    params: the parameters.
    collections: the model's other variables, {} where it has none.
    opt_state: the optimizer's state.
    schedule: what the schedule remembers, () where that is nothing.
  """

  params: Any
  collections: Any
  opt_state: Any
  schedule: Any = ()

  def variables(self) -> dict[str, Any]:
    """Returns the variables in the form that `model.apply` takes."""
    return {"params": self.params, **self.collections}


@dataclasses.dataclass(frozen=True)
class Members:
  """S runs that train in one program, or, under `vmap`, one of them.

  Attributes:
    key_data: uint32 [S, 2], the keys of the runs.
    learning_rate: float32 [S].
    schedule: a schedule whose data leaves are int32 or float32 [S]; None: no
      dropout.
  """

  key_data: UInt[Array, "S 2"]
  learning_rate: Float[Array, "S"]
  schedule: config.Schedule | guided.Guided | None

  @property
  def key(self) -> Key:
    """The member's key; call it under `vmap`."""
    return jax.random.wrap_key_data(self.key_data, impl="threefry2x32")

  @property
  def num_members(self) -> int:
    """Number S of runs."""
    return self.learning_rate.shape[0]


for _cls in (TrainState, Members):
  jax.tree_util.register_dataclass(
    _cls, [f.name for f in dataclasses.fields(_cls)], []
  )


def stack_members(
  seeds: Sequence[int],
  learning_rates: Sequence[float],
  schedules: Sequence[config.Schedule | guided.Guided | None],
) -> Members:
  """Returns the members with these seeds, learning rates and schedules.

  Args:
    seeds: one seed a member, each in [0, 2**32).
    learning_rates: one a member.
    schedules: one a member, equal but for their data (`k`, `pool_size`,
      `temperature`, `explore`, leaves of a schedule of one's own).

  Raises:
    ValueError: lists of different lengths, what is no schedule, or schedules
      that differ in more than their data: their programs differ.

  >>> from kdropout_jax import config
  >>> ks = [config.Sequential(k=2), config.Sequential(k=9)]
  >>> stack_members([0, 0], [0.1, 0.1], ks).schedule.k.tolist()
  [2, 9]
  """
  sizes = {len(seeds), len(learning_rates), len(schedules)}
  if len(sizes) != 1 or not seeds:
    raise ValueError(
      "seeds, learning_rates and schedules must have one entry a member, got"
      f" {len(seeds)}, {len(learning_rates)} and {len(schedules)}"
    )
  for schedule in schedules:
    if schedule is not None and not isinstance(schedule, guided.Guided):
      config.check_schedule(schedule)
  for seed in seeds:
    if not 0 <= seed < 2**32:
      raise ValueError(f"seeds must lie in [0, 2**32), got {seed}")
  structures = {jax.tree.structure(schedule) for schedule in schedules}
  if len(structures) != 1:
    raise ValueError(
      "schedules of one program may differ in their data alone (k, pool_size,"
      f" temperature, explore), got {sorted(map(str, set(schedules)))}"
    )
  keys = [jax.random.key(seed, impl="threefry2x32") for seed in seeds]
  return Members(
    key_data=np.stack([np.asarray(jax.random.key_data(k)) for k in keys]),  # pyright: ignore[reportArgumentType]
    learning_rate=np.asarray(learning_rates, np.float32),  # pyright: ignore[reportArgumentType]
    schedule=jax.tree.map(_stack_leaf, *schedules),
  )


def _stack_leaf(*leaves: Any) -> np.ndarray:
  values = np.asarray(leaves)
  is_integer = np.issubdtype(values.dtype, np.integer)
  return values.astype(np.int32 if is_integer else np.float32)


def all_finite(tree: Any) -> bool:
  """Returns whether every floating-point leaf is finite everywhere.

  Args:
    tree: arrays with values; integers are finite.

  >>> all_finite({"w": np.ones(2)}), all_finite({"w": np.array([np.nan])})
  (True, False)
  """
  return all(
    bool(np.all(np.isfinite(np.asarray(leaf, np.float32))))
    for leaf in jax.tree.leaves(tree)
    if jnp.issubdtype(leaf.dtype, jnp.floating)
  )
