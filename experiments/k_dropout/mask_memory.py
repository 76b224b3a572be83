"""Bytes of masks that a pipeline keeps alive between forward and backward.

The k-dropout paper's introduction: in pipeline parallel training a stage holds
the masks of every microbatch in flight, and reused masks cost less. Counted by
hand, in what automatic differentiation saves, and in the compiled program.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

import kdropout_jax as kd

_RATE = 0.5


@dataclasses.dataclass(frozen=True)
class Stage:
  """One stage of a pipeline, as a stack of Dense, ReLU and dropout.

  Attributes:
    width: units of each layer.
    depth: layers of the stage.
    rows: rows of a microbatch.
    in_flight: microbatches between their forward and backward pass.
    m: subnets of a microbatch, shared by all in flight (one window);
      None is standard dropout, 0 is no dropout.
    saves_masks: let the backward pass expand the T masks to rows again
      (`jax.checkpoint` around dropout), instead of saving them row by row.
  """

  width: int
  depth: int
  rows: int
  in_flight: int
  m: int | None
  saves_masks: bool = False


def alive(
  stage: int,
  num_stages: int,
  *,
  rows: int,
  width: int,
  depth: int,
  m: int | None = None,
  k: int = 1,
) -> int:
  """Returns the bytes of masks alive at a stage, one byte a flag.

  Under the schedule of one forward, one backward (Harlap et al. 2018), stage
  s of S has S - s microbatches in flight. Standard dropout (m of None) has a
  mask for each of their rows; k-dropout m masks for each window that they
  touch, at most ``ceil((S - s - 1) / k) + 1``.

  Args:
    stage: s, from 0.
    num_stages: S.
    rows: rows of a microbatch.
    width: units of a layer.
    depth: layers of the stage.
    m: subnets of a microbatch.
    k: microbatches that a window lasts.

  Raises:
    ValueError: a stage that is not there, or m or k below 1.
  """
  if not 0 <= stage < num_stages:
    raise ValueError(f"stage must be in [0, {num_stages}), got {stage}")
  in_flight = num_stages - stage
  if m is None:
    return in_flight * rows * width * depth
  if m < 1 or k < 1:
    raise ValueError(f"m and k must be >= 1, got {m} and {k}")
  windows = math.ceil((in_flight - 1) / k) + 1
  return windows * min(m, rows) * width * depth


def saved_bytes(stage: Stage) -> int:
  """Returns what differentiation saves of masks, over all in flight.

  The bytes of all arrays that the backward passes hold, less those of the same
  stage without dropout: what passes compiled one by one hand to each other.
  Each has its own copy of shared masks.
  """
  return _saved(stage) - _saved(_without_dropout(stage))


def compiled_bytes(stage: Stage) -> dict[str, int]:
  """Returns the temporaries of the compiled step, and what dropout adds.

  The step runs all microbatches forward before the first goes backward, so
  that all of them are in flight at once. What sampling takes is among it, and
  XLA packs buffers differently in different programs: a few rows' worth of
  bytes, of either sign, mean nothing.
  """
  total = _compiled(stage)
  return {
    "temporaries": total,
    "added": total - _compiled(_without_dropout(stage)),
  }


def measure(stage: Stage) -> dict[str, Any]:
  """Returns all figures of a stage, as a row of a table."""
  row = dataclasses.asdict(stage)
  row["by_hand"] = alive(
    0,
    stage.in_flight,
    rows=stage.rows,
    width=stage.width,
    depth=stage.depth,
    m=stage.m,
    k=stage.in_flight,
  )
  row["saved"] = saved_bytes(stage)
  return row | compiled_bytes(stage)


def _without_dropout(stage: Stage) -> Stage:
  return dataclasses.replace(stage, m=0, saves_masks=False)


@functools.cache
def _saved(stage: Stage) -> int:
  params, xs, key = _inputs(stage)
  masks = jax.jit(lambda key: _masks(stage, key))(key)
  backwards = [
    jax.vjp(lambda p, x, o=own: _apply(stage, p, x, o), params, x)[1]
    for x, own in zip(xs, masks)
  ]
  # All are alive here, so that no buffer is another's, freed and used again.
  return sum(
    {
      leaf.unsafe_buffer_pointer(): leaf.nbytes
      for leaf in jax.tree.leaves(backwards)
      if isinstance(leaf, jax.Array)
    }.values()
  )


@functools.cache
def _compiled(stage: Stage) -> int:
  def step(params, xs, key):
    masks = _masks(stage, key)
    outs, backwards = [], []
    for x, own in zip(xs, masks):
      out, backward = jax.vjp(
        lambda p, x, o=own: _apply(stage, p, x, o), params, x
      )
      outs.append(out)
      backwards.append(backward)
    # Behind the barrier: no backward pass begins before the last forward.
    cotangents = jax.lax.optimization_barrier(tuple(outs))
    grads = [back(c) for back, c in zip(backwards, cotangents)]
    return jax.tree.map(lambda *g: sum(g[1:], g[0]), *[g[0] for g in grads])

  compiled = jax.jit(step).lower(*_inputs(stage)).compile()
  analysis = compiled.memory_analysis()
  if analysis is None:
    raise kd.UnsupportedError(
      f"the backend {jax.default_backend()!r} does not analyse the memory of"
      " compiled programs"
    )
  return analysis.temp_size_in_bytes


def _apply(stage: Stage, params: list[Array], x: Array, masks: list[Any]):
  dropout = lambda h, mask: kd.dropout(h, mask, rate=_RATE)  # noqa: E731
  if stage.saves_masks:
    dropout = jax.checkpoint(dropout)
  for w, mask in zip(params, masks):
    x = jax.nn.relu(x @ w)
    x = x if stage.m == 0 else dropout(x, mask)
  return x


def _masks(stage: Stage, key: Array) -> list[list[Any]]:
  """Returns the masks of each microbatch in flight, layer by layer."""
  keys = jax.random.split(key, stage.depth)

  def sample(first, count):
    ids = first + jnp.arange(count, dtype=jnp.uint32)
    return [
      kd.subnet_masks(k, ids, stage.width, kd.Bernoulli(_RATE)) for k in keys
    ]

  if stage.m == 0:
    return [[None] * stage.depth] * stage.in_flight
  if stage.m is None:
    starts = range(0, stage.in_flight * stage.rows, stage.rows)
    return [sample(first, stage.rows) for first in starts]
  return [sample(0, stage.m)] * stage.in_flight


def _inputs(stage: Stage):
  params_key, x_key, key = jax.random.split(jax.random.key(0), 3)
  shape = (stage.in_flight, stage.rows, stage.width)
  params = jax.random.normal(
    params_key, (stage.depth, stage.width, stage.width)
  )
  xs = jax.random.normal(x_key, shape)
  return list(params / stage.width**0.5), list(xs), key
