"""Units in the order of their parts: windows train what masks train."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import kdropout_jax as kd
from kdropout_jax.masks import grouped

K, STEPS, ROWS = 3, 7, 8
OPTIMIZER = optax.chain(
  optax.clip_by_global_norm(0.5), optax.adamw(1e-2, weight_decay=0.1)
)
FLOAT64 = 1e-9


class Net(nn.Module):
  """A convolution whose channels drop, flattened; a normalised dense layer."""

  pattern: object = functools.partial(kd.ExactCount, balanced=4)
  dropped_inputs: bool = False
  groups: int | None = None

  @nn.compact
  def __call__(self, x, subnets):
    drop = functools.partial(
      kd.linen.Dropout, 0.5, deterministic=False, pattern=self.pattern
    )
    if self.dropped_inputs:
      x = drop(name="in")(x, subnets=subnets)
    x = nn.relu(nn.Conv(8, (2, 2), name="conv")(x))
    if self.groups is not None:
      x = nn.GroupNorm(self.groups, name="norm")(x)
    x = drop(name="maps")(x, subnets=subnets)
    x = nn.Dense(12, name="dense")(x.reshape(x.shape[0], -1))
    x = drop(name="units")(nn.relu(x), subnets=subnets)
    return nn.Dense(3, name="out")(x)


LAYOUT = kd.subnets.Layout(
  {
    "conv/kernel": {3: "maps"},
    "conv/bias": {0: "maps"},
    "dense/kernel": {0: "maps", 1: "units"},
    "dense/bias": {0: "units"},
    "out/kernel": {0: "units"},
  }
)


def task_of(net, dtype=jnp.float32, m=4, layout=LAYOUT, optimizer=OPTIMIZER):
  keys = jax.random.split(jax.random.key(1), 4)
  x = jax.random.normal(keys[0], (STEPS, ROWS, 3, 3, 4), dtype)
  y = jax.random.randint(keys[1], (STEPS, ROWS), 0, 3)
  ids = jnp.arange(m, dtype=jnp.uint32)
  streams = {"subnets": keys[3]}
  params = net.init({"params": keys[2], **streams}, x[0], ids)["params"]
  params = jax.tree.map(lambda leaf: leaf.astype(dtype), params)

  def loss(params, step, x, y):
    ids = kd.subnet_ids(step, keys[3], kd.Sequential(k=K, m=m), ROWS)
    logits = net.apply({"params": params}, x, ids, rngs=streams)
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

  trainer = kd.subnets.PermutedTrainer(loss, optimizer, layout)
  return trainer, params, (jnp.arange(STEPS), x, y)


def masked(trainer, params, args):
  @jax.jit
  def step(carry, args):
    params, state = carry
    grads = jax.grad(trainer.loss_fn)(params, *args)
    updates, state = trainer.optimizer.update(grads, state, params)
    return (optax.apply_updates(params, updates), state), None

  carry = params, trainer.optimizer.init(params)
  return jax.lax.scan(step, carry, args)[0]


def windows(trainer, params, args):
  @jax.jit
  def window(params, state, args):
    masks = trainer.sample_masks(params, *jax.tree.map(lambda x: x[0], args))
    begun = trainer.begin(params, state, masks)
    begun, _ = jax.lax.scan(lambda w, a: trainer.step(w, *a), begun, args)
    return trainer.end(begun)

  state = trainer.optimizer.init(params)
  for first in range(0, STEPS, K):
    own = jax.tree.map(lambda x, i=first: x[i : i + K], args)
    params, state = window(params, state, own)
  return params, state


def test_windows_are_masked_training_with_clipping_and_decay():
  """Each element of weights and moments, in float64, channels and units."""
  with jax.enable_x64(True):
    trainer, params, args = task_of(Net(), jnp.float64)
    first = jax.tree.map(lambda x: x[0], args)
    trainer.check(params, trainer.sample_masks(params, *first), *first)
    expected = masked(trainer, params, args)
    got = windows(trainer, params, args)
  for a, b in zip(jax.tree.leaves(expected[0]), jax.tree.leaves(params)):
    assert np.abs(np.asarray(a) - np.asarray(b)).max() > 1e-3
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected)):
    np.testing.assert_allclose(a, b, rtol=0, atol=FLOAT64)


def test_moving_changes_no_bit():
  trainer, params, args = task_of(Net())
  masks = trainer.sample_masks(params, *jax.tree.map(lambda x: x[0], args))
  state = trainer.optimizer.init(params)
  begun = trainer.begin(params, state, masks)
  for layer, mask in masks.items():
    order = begun.orders[layer]
    np.testing.assert_array_equal(
      mask.dense()[:, order], begun.masks[layer].dense()
    )
  kernel = begun.params["out"]["kernel"]
  assert not (kernel == params["out"]["kernel"]).all()
  back = trainer.end(begun)
  jax.tree.map(np.testing.assert_array_equal, back, (params, state))


def test_an_order_has_whole_parts_of_whole_blocks():
  pattern = kd.Blocks(0.75, 3, partition=True)
  ids = jnp.arange(4, dtype=jnp.uint32)
  masks = kd.subnet_masks(jax.random.key(2), ids, 24, pattern)
  order = np.asarray(grouped.order_of(masks))
  assert sorted(order) == list(range(24))
  # Blocks stay whole, and their units in order.
  np.testing.assert_array_equal(order.reshape(-1, 3) % 3, [[0, 1, 2]] * 8)
  ordered = grouped.in_order(masks.design, 24, 3)
  np.testing.assert_array_equal(masks.dense()[:, order], ordered.dense())


def test_what_asks_which_unit_is_which_is_refused():
  def refused(net, match, layout=LAYOUT, optimizer=OPTIMIZER):
    trainer, params, args = task_of(net, layout=layout, optimizer=optimizer)
    first = jax.tree.map(lambda x: x[0], args)
    masks = trainer.sample_masks(params, *first)
    with pytest.raises(kd.UnsupportedError, match=match):
      trainer.check(params, masks, *first)

  refused(Net(dropped_inputs=True), "inputs are dropped", in_layout())
  refused(Net(groups=2), "some layer mixes units")
  first_half = optax.stateless(
    lambda grads, params: jax.tree.map(
      lambda g: g.at[..., g.shape[-1] // 2 :].set(0), grads
    )
  )
  refused(
    Net(), "where its units stand", optimizer=optax.chain(first_half, OPTIMIZER)
  )


def in_layout():
  axes = {path: dict(entries) for path, entries in LAYOUT.axes}
  axes["conv/kernel"][2] = "in"
  return kd.subnets.Layout(axes)


def test_masks_of_no_whole_group_are_refused():
  trainer, params, args = task_of(Net())
  first = jax.tree.map(lambda x: x[0], args)
  masks = trainer.sample_masks(params, *first)
  part = {n: kd.Masks(m.keep[:2], m.width, 1, m.num_kept, m.design)
          for n, m in masks.items()}  # fmt: skip
  plain = {n: kd.Masks(m.keep, m.width) for n, m in masks.items()}
  ids = jnp.arange(4, dtype=jnp.uint32)
  odd = kd.subnet_masks(
    jax.random.key(0), ids, 10, kd.ExactCount(0.5, balanced=4)
  )
  for wrong, match in (
    (part, "has 4 subnets in 'maps', got 2"),
    (plain, "keep no unions of a few parts"),
    ({**masks, "units": odd}, "10 units of 'units' must be a multiple of 4"),
  ):
    with pytest.raises(kd.UnsupportedError, match=match):
      trainer.begin(params, (), wrong)
  with pytest.raises(ValueError, match="window must be a PermutedWindow"):
    trainer.step(params, *first)


def test_a_dropout_that_takes_no_masks_is_named():
  """One that draws its own would mask units that have moved."""
  trainer, params, args = task_of(Net())
  first = jax.tree.map(lambda x: x[0], args)
  begun = trainer.begin(params, (), trainer.sample_masks(params, *first))
  silent = kd.subnets.PermutedTrainer(
    lambda params, *args: params["out"]["kernel"].sum(), OPTIMIZER, LAYOUT
  )
  with pytest.raises(
    kd.UnsupportedError, match="'maps' did not take the masks"
  ):
    silent.step(begun, *first)
