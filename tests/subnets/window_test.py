"""Windows on small networks are masked training, over several windows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import kdropout_jax as kd
from kdropout_jax.subnets import replay
from tests import tolerance
from tests.subnets import models

K, STEPS = 6, 18
LENGTH = 2 * (12 + 20 + 3) + 8
"""Terms on the way through the network, there and back, and over the rows."""
FLOAT64 = 1e-9
"""A million times what rounding does here, and far below any wrong update."""
RMSPROP_STEP = 7e-3 / (1 - 0.9) ** 0.5 / (1 - 0.9)
"""Of a first update, g / sqrt(.1 g^2), that momentum repeats."""

CLIP = optax.clip_by_global_norm(0.3)  # gradients here have norms around 1
OPTIMIZERS = {
  "sgd": optax.sgd(optax.exponential_decay(0.1, 5, 0.7)),
  "momentum": optax.sgd(optax.cosine_decay_schedule(0.1, 15), momentum=0.9),
  "adam": optax.adam(1e-2),
  "adamw": optax.chain(
    CLIP,
    optax.adamw(
      optax.warmup_cosine_decay_schedule(0.0, 1e-2, 4, 18),
      weight_decay=0.1,
      mask=lambda params: jax.tree.map(lambda x: x.ndim > 1, params),
    ),
  ),
  "rmsprop": optax.chain(CLIP, optax.rmsprop(7e-3, momentum=0.9)),
}


@pytest.fixture(autouse=True)
def quick_compilation(monkeypatch):
  monkeypatch.setattr(replay, "_MAX_UNROLL", 2)


def train_windows(trainer, params, args, save):
  """Trains all windows, each saved and restored in its middle."""

  @jax.jit
  def first_half(params, state, args):
    first = jax.tree.map(lambda x: x[0], args)
    masks = trainer.sample_masks(params, *first)
    window = trainer.begin(params, state, masks)
    return run(window, args)

  def run(window, args):
    return jax.lax.scan(lambda w, a: trainer.step(w, *a), window, args)

  @jax.jit
  def second_half(window, args):
    window, losses = run(window, args)
    return trainer.end(window), losses

  state = trainer.optimizer.init(params)
  losses = []
  for start in range(0, STEPS, K):
    part = lambda a, b, s=start: jax.tree.map(lambda x: x[s + a : s + b], args)  # noqa: E731
    window, early = first_half(params, state, part(0, K // 2))
    (params, state), late = second_half(save(window), part(K // 2, K))
    losses += [early, late]
  return params, state, jnp.concatenate(losses)


def save_and_restore(window):
  """Through numpy, as a checkpoint goes."""
  leaves, treedef = jax.tree.flatten(window)
  return treedef.unflatten([jnp.asarray(np.array(leaf)) for leaf in leaves])


@pytest.mark.parametrize(
  "name",
  [
    pytest.param("sgd", marks=pytest.mark.slow),
    pytest.param("momentum", marks=pytest.mark.slow),
    pytest.param("adam", marks=pytest.mark.slow),
    "adamw",
    pytest.param("rmsprop", marks=pytest.mark.slow),
  ],
)
def test_windows_are_masked_training_in_float64(name):
  with jax.enable_x64(True):
    model = models.Mlp(dtype=jnp.float64, depth=1)
    params, loss, args = models.task(model, k=K, num_steps=STEPS)
    optimizer = OPTIMIZERS[name]
    expected = models.masked_training(optimizer, loss, params, args)
    trainer = kd.subnets.WindowTrainer(loss, optimizer, models.SHALLOW_LAYOUT)
    if name in ("adamw", "rmsprop"):  # saved in the middle of each window
      got = train_windows(trainer, params, args, save_and_restore)
    else:
      got = models.train_windows(trainer, params, args, K)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected)):
      np.testing.assert_allclose(a, b, rtol=0, atol=FLOAT64)
    assert float(jnp.abs(expected[0]["out"]["bias"]).max()) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_windows_are_masked_training_in_float32(name):
  model = models.Mlp(depth=1)
  params, loss, args = models.task(model, k=K, num_steps=STEPS)
  optimizer = OPTIMIZERS[name]
  expected = models.masked_training(optimizer, loss, params, args)
  trainer = kd.subnets.WindowTrainer(loss, optimizer, models.SHALLOW_LAYOUT)
  got = models.train_windows(trainer, params, args, K)
  step_sizes = {"adam": 1e-2, "adamw": 1e-2, "rmsprop": RMSPROP_STEP}
  tolerance.assert_trained_close(
    got[0], expected[0], LENGTH, steps=STEPS, step_size=step_sizes.get(name, 0)
  )


def bernoulli_case():
  model = models.Mlp(kd.Bernoulli, "realised", dtype=jnp.float64, depth=1)
  params, loss, args = models.task(model, k=K, num_steps=STEPS)
  steps = jnp.arange(0, STEPS, K)
  first = jax.tree.map(lambda x: x[0], args)
  counts = [
    kd.subnets.sample_masks(loss, params, step, *first[1:]) for step in steps
  ]
  sizes = [kd.subnets.max_sizes(masks) for masks in counts]
  sizes = {name: max(s[name] for s in sizes) for name in sizes[0]}
  return model, params, loss, args, sizes, sizes


def blocks_case():
  pattern = functools.partial(kd.Blocks, block_size=3)  # 20 = 6 * 3 + 2
  model = models.Mlp(pattern, dtype=jnp.float64, depth=1)
  params, loss, args = models.task(model, k=K, num_steps=STEPS)
  return model, params, loss, args, None, {"in": 9, "drop_0": 12}


@pytest.mark.filterwarnings("ignore:an exact pattern keeps")
@pytest.mark.parametrize(
  "case", [bernoulli_case, pytest.param(blocks_case, marks=pytest.mark.slow)]
)
def test_padded_windows_are_exact(case):
  with jax.enable_x64(True):
    model, params, loss, args, sizes, expected_sizes = case()
    optimizer = OPTIMIZERS["adamw"]
    expected = models.masked_training(optimizer, loss, params, args)
    trainer = kd.subnets.WindowTrainer(
      loss, optimizer, models.SHALLOW_LAYOUT, sizes=sizes
    )
    first = jax.tree.map(lambda x: x[0], args)
    masks = trainer.sample_masks(params, *first)
    window = trainer.begin(params, optimizer.init(params), masks)
    assert {n: t.size for n, t in window.tables.items()} == expected_sizes
    got = models.train_windows(trainer, params, args, K)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected)):
      np.testing.assert_allclose(a, b, rtol=0, atol=FLOAT64)


def test_frozen_is_the_lazy_optimizer_and_not_masked_training():
  with jax.enable_x64(True):
    model = models.Mlp(dtype=jnp.float64, depth=1)
    params, loss, args = models.task(model, k=K, num_steps=STEPS)
    layout = models.SHALLOW_LAYOUT
    optimizer = OPTIMIZERS["momentum"]
    trainer = kd.subnets.WindowTrainer(loss, optimizer, layout, "frozen")
    got = models.train_windows(trainer, params, args, K)
    lazy = kd.optim.kept_only(optimizer, layout)

    def step(carry, args):
      params, state = carry
      value, grads = jax.value_and_grad(loss)(params, *args)
      masks = kd.subnets.sample_masks(loss, params, *args)
      updates, state = lazy.update(grads, state, params, masks=masks)
      return (optax.apply_updates(params, updates), state), value

    run = jax.jit(lambda carry: jax.lax.scan(step, carry, args))
    (small, state), _ = run((params, lazy.init(params)))
    for a, b in zip(jax.tree.leaves(got[:2]), jax.tree.leaves((small, state))):
      np.testing.assert_allclose(a, b, rtol=0, atol=FLOAT64)
    masked = models.masked_training(optimizer, loss, params, args)[0]
    difference = got[0]["dense_0"]["kernel"] - masked["dense_0"]["kernel"]
    assert float(jnp.abs(difference).max()) > 1e-4


def test_frozen_weights_rest_where_they_fill_up_a_small_network():
  """A warm momentum moves them there, and what moved is not put back."""
  layout, optimizer = kd.subnets.Layout({"w": {0: "h"}}), OPTIMIZERS["momentum"]
  drop = kd.linen.Dropout(0.5, deterministic=False, name="h")
  loss = lambda params, x: drop.apply({}, x * params["w"], subnets=0).sum()  # noqa: E731
  trainer = kd.subnets.WindowTrainer(
    loss, optimizer, layout, "frozen", sizes={"h": 6}
  )
  params = {"w": jnp.arange(1.0, 9)}
  warm = optimizer.update(params, optimizer.init(params), params)[1]
  masks = {"h": kd.Masks(jnp.arange(8)[None] % 4 == 1, 8)}
  new, state, _ = trainer.train(params, warm, masks, jnp.ones((3, 1)))
  for old, after in ((params, new), (warm, state)):
    for a, b in zip(jax.tree.leaves(old), jax.tree.leaves(after)):
      if jnp.ndim(a):  # a count of steps is everybody's
        kept = np.asarray(masks["h"].dense()[0])
        np.testing.assert_array_equal(a[~kept], b[~kept])
        assert np.all(a[kept] != b[kept])


def test_whole_windows_train_in_one_call_with_auxiliary_outputs():
  model = models.Mlp(depth=1)
  params, loss, args = models.task(model, k=K, num_steps=K)
  layout = models.SHALLOW_LAYOUT
  halved = lambda grads: jax.tree.map(lambda g: g / 2, grads)  # noqa: E731
  trainer = kd.subnets.WindowTrainer(
    lambda params, step, *batch: (loss(params, step, *batch), step),
    optax.sgd(0.2),
    layout,
    has_aux=True,
    reduce_grads=halved,
  )
  masks = kd.subnets.sample_masks(loss, params, 0, args[1][0], args[2][0])
  state = trainer.optimizer.init(params)
  got, _, (losses, steps) = jax.jit(trainer.train)(params, state, masks, *args)
  expected, _, masked = models.masked_training(
    optax.sgd(0.1), loss, params, args
  )
  tolerance.assert_trained_close(got, expected, LENGTH, steps=K)
  tolerance.assert_sums_close(losses, masked, LENGTH, steps=K)
  assert steps.tolist() == list(range(K))


def test_windows_train_side_by_side_under_vmap():
  model = models.Mlp(depth=1)
  params, loss, args = models.task(model, k=K, num_steps=K)
  layout = models.SHALLOW_LAYOUT
  optimizer = OPTIMIZERS["adam"]
  trainer = kd.subnets.WindowTrainer(loss, optimizer, layout)
  masks = kd.subnets.sample_masks(loss, params, 0, args[1][0], args[2][0])
  seeds = jnp.arange(1.0, 3.0)

  def train(seed):
    own = jax.tree.map(lambda x: x * seed, params)
    return trainer.train(own, optimizer.init(own), masks, *args)[0]

  both = jax.jit(jax.vmap(train))(seeds)
  alone = jax.jit(train)(seeds[1])
  own = jax.tree.map(lambda x: x[1], both)
  tolerance.assert_trained_close(own, alone, LENGTH, steps=K, step_size=1e-2)


@pytest.mark.parametrize(
  ("fields", "match"),
  [
    ({"dropped_weights": "rest"}, "dropped_weights must be one of .*'rest'"),
    ({"optimizer": "adam"}, "optimizer must be an optax transformation"),
    ({"layout": {}}, "layout must be a kd.subnets.Layout, got {}"),
  ],
)
def test_wrong_trainers_are_refused(fields, match):
  good = {
    "loss_fn": lambda params: 0.0,
    "optimizer": optax.sgd(0.1),
    "layout": kd.subnets.Layout({}),
  }
  with pytest.raises(ValueError, match=match):
    kd.subnets.WindowTrainer(**(good | fields))
