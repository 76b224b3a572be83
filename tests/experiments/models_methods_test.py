"""Every model trains with every method, and its sites follow the schedule."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import kdropout_jax as kd
from experiments import models
from kdropout_jax.training import task as task_lib

_BATCH = 4
_TOKENS = ("input_ids", "token_type_ids", "attention_mask")

_IMAGES = (
  *("lenet", "alexnet", "resnet18", "cnn_wan", "cnn_wan_cifar"),
  *("cnn_channels", "cnn_units"),
)
_CHARACTERS = tuple(
  f"char_{kind}{how}"
  for kind in ("lstm", "transformer")
  for how in ("", "_variational")
)
_TINY = {
  "mlp": dict(hidden=8),
  "kdropout_mlp": dict(hidden=8),
  "mlp1": dict(hidden=8),
  "mlp2": dict(hidden=8),
  "mlp3": dict(hidden=8),
  "table9_mlp": dict(hidden=8),
  "mlp_norm_after": dict(hidden=8),
  "mlp_norm_before": dict(hidden=8),
  "mlp_norm_last": dict(hidden=8),
  "autoencoder": dict(hidden=8),
  "lenet": dict(hidden=8, channels=(3, 4)),
  "cnn_wan": dict(hidden=8, channels=(3, 4)),
  "cnn_wan_cifar": dict(hidden=8, channels=(3, 4, 5)),
  "alexnet": dict(hidden=8, channels=(3, 4, 5)),
  "resnet18": dict(hidden=8, channels=(2, 2, 3, 3)),
  "bert": dict(hidden=16, num_hidden=1, vocabulary=20),
  "cnn_channels": dict(channels=(3, 4)),
  "cnn_units": dict(channels=(3, 4)),
  **{name: dict(hidden=8, num_hidden=1, vocabulary=20) for name in _CHARACTERS},
}

_SCHEDULES = {
  "standard": kd.Standard(),
  "sequential": kd.Sequential(k=2, m=4),
  "pooled": kd.Pooled(pool_size=6, m=4),
  "gyro": kd.Gyro(total=8, concurrent=4, num_steps=8),
  "blockwise": kd.Gyro(total=8, concurrent=4, num_steps=8, rows_per_subnet=2),
}


def build(name, num_classes=3, rate=0.5, pattern=kd.Bernoulli, **options):
  dropout = functools.partial(kd.linen.Dropout, rate, pattern=pattern)
  options = {**_TINY[name], **options}
  return models.build(name, models.Options(num_classes, dropout, **options))


def inputs(name, key, batch=_BATCH):
  if name == "bert":
    ids = jax.random.randint(key, (batch, 8), 0, 20)
    return {"input_ids": ids} | {k: ids % 2 for k in _TOKENS[1:]}
  if name in _CHARACTERS:
    return jax.random.randint(key, (batch, 6), 0, 20)
  shape = (6, 6, 3) if name in _IMAGES else (4, 3)
  return jax.random.normal(key, (batch, *shape))


def random_variables(model, x):
  """Variables without compiling an initialisation."""
  random = np.random.default_rng(0)

  def draw(path, leaf):
    if "'var'" in jax.tree_util.keystr(path):
      return np.ones(leaf.shape, leaf.dtype)
    scale = np.sqrt(leaf.shape[-1] / max(leaf.size, 1))
    return (random.normal(size=leaf.shape) * scale).astype(leaf.dtype)

  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), x, train=False))
  return jax.tree_util.tree_map_with_path(draw, shapes)


@functools.lru_cache
def compiled(name, rate, pattern, has_subnets):
  """One program a model and pattern; methods of equal T share it."""
  model = build(name, rate=rate, pattern=pattern)
  score = getattr(model, "losses_and_hits", task_lib.losses_and_hits)
  optimizer = optax.sgd(0.1)

  # Small programs: what counts here is the time to compile them.
  @functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0}
  )
  def train(variables, x, labels, rngs, ids):
    rest = {k: v for k, v in variables.items() if k != "params"}

    def loss_fn(params):
      logits, updated = model.apply(
        {"params": params, **rest},
        x,
        train=True,
        subnets=ids if has_subnets else None,
        rngs=rngs,
        mutable=list(rest),
      )
      return jnp.mean(score(logits, labels, x)[0]), updated

    (loss, updated), grads = jax.value_and_grad(loss_fn, has_aux=True)(
      variables["params"]
    )
    updates, _ = optimizer.update(grads, optimizer.init(variables["params"]))
    params = optax.apply_updates(variables["params"], updates)
    return {"params": params, **updated}, loss, grads

  return model, train


def train_two_steps(name, method, key):
  schedule = _SCHEDULES.get(method)
  rate, pattern = (0.0 if method == "none" else 0.5), kd.Bernoulli
  if method == "blockwise":
    pattern = functools.partial(kd.Blocks, block_size=2)
  model, train = compiled(name, rate, pattern, schedule is not None)
  x, labels = inputs(name, key), jnp.array([0, 1, 2, 1])
  if name in _CHARACTERS:  # One a position.
    labels = jnp.broadcast_to(labels[:, None], x.shape)
  variables = random_variables(model, x)
  start, rngs, losses = variables, {"subnets": key, "dropout": key}, []
  for step in range(2):
    ids = jnp.zeros((4,), jnp.uint32)
    if schedule is not None:
      ids = kd.subnet_ids(step, key, schedule, _BATCH)
    variables, loss, grads = train(variables, x, labels, rngs, ids)
    losses.append(float(loss))
  return start, variables, losses, grads


def each_model_and_method():
  """Every pair; slow are the models whose layers others have as well."""
  often = ("kdropout_mlp", "lenet", "bert")
  for name in _TINY:
    for method in ("none", *_SCHEDULES):
      often_run = name in often or method == "blockwise"
      marks = () if often_run else pytest.mark.slow
      yield pytest.param(name, method, marks=marks)


@pytest.mark.parametrize(("name", "method"), each_model_and_method())
def test_every_model_trains_with_every_method(name, method, key):
  start, end, losses, _ = train_two_steps(name, method, key)
  assert np.isfinite(losses).all()
  moved = jax.tree_util.tree_map_with_path(
    lambda path, a, b: (jax.tree_util.keystr(path), bool((a != b).any())),
    start["params"],
    end["params"],
  )
  moved = dict(
    jax.tree.leaves(moved, is_leaf=lambda leaf: isinstance(leaf, tuple))
  )
  # A softmax ignores what is added to all its inputs, so up to rounding the
  # bias of the keys has no gradient.
  still = [p for p, is_moved in moved.items() if not is_moved]
  assert [p for p in still if "['key']['bias']" not in p] == []


@pytest.mark.parametrize("name", list(_TINY))
def test_every_model_is_here(name):
  assert set(models.names()) == set(_TINY)
  assert name in models.names()


@pytest.mark.parametrize("name", list(_TINY))
def test_models_with_convolutions_are_named(name, key):
  model = build(name)
  shapes = jax.eval_shape(
    lambda: model.init(key, inputs(name, key), train=False)["params"]
  )
  found = any(leaf.ndim == 4 for leaf in jax.tree.leaves(shapes))
  assert found == (name in models.CONVOLUTIONAL)


@pytest.mark.parametrize("name", list(_TINY))
@pytest.mark.parametrize("pattern", [kd.Bernoulli, kd.ExactCount])
def test_sites_are_as_many_as_the_model_says(name, pattern, key):
  """Each is dropped once a pass, and with ids of its own where layers draw."""
  model = build(name, pattern=pattern)
  x = inputs(name, key)
  variables = jax.eval_shape(lambda: model.init(key, x, train=False))
  seen = []

  def record(next_fun, args, kwargs, context):
    if isinstance(context.module, kd.linen.Dropout):
      if kwargs.get("subnets") is not None:
        seen.append((context.module.path, kwargs["subnets"].shape))
      elif context.method_name == "masks":
        seen.append((context.module.path, args[1].shape))
    return next_fun(*args, **kwargs)

  ids = jnp.arange(2 * model.num_sites, dtype=jnp.uint32)
  ids = ids.reshape(model.num_sites, 2)

  def forward(variables):
    with nn.intercept_methods(record):
      return model.apply(
        variables,
        x,
        train=True,
        subnets=ids,
        rngs={"subnets": key},
        mutable=["batch_stats"],
      )

  jax.eval_shape(forward, variables)
  assert len(seen) == model.num_sites
  assert len({path for path, _ in seen}) == model.num_sites
  assert {shape for _, shape in seen} == {(2,)}


@pytest.mark.parametrize("name", list(_TINY))
def test_evaluation_drops_nothing_and_needs_no_keys(name, key):
  """Its program is that of the same network without dropout."""
  x = inputs(name, key)
  model, none = build(name), build(name, rate=0.0)
  shapes = jax.eval_shape(lambda: model.init(key, x, train=False))

  def program(network):
    return jax.make_jaxpr(lambda v: network.apply(v, x, train=False))(shapes)

  assert str(program(model)) == str(program(none))
  (logits,) = program(model).out_avals
  positions = (6,) * (name in _CHARACTERS)
  outputs = 12 if name == "autoencoder" else 3
  assert logits.shape == (_BATCH, *positions, outputs)


@pytest.mark.parametrize("name", list(_TINY))
def test_half_precision_computes_in_it_and_keeps_parameters(name, key):
  model = build(name, dtype=jnp.bfloat16)
  x = inputs(name, key)
  variables, logits = jax.eval_shape(
    lambda: (
      model.init(key, x, train=False),
      model.apply(model.init(key, x, train=False), x, train=False),
    )
  )
  assert logits.dtype == jnp.bfloat16
  assert {p.dtype for p in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
