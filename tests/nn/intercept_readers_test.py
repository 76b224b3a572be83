"""Models written as others write theirs: who reads the dropout stream."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.linen import partitioning

import kdropout_jax as kd

KEY = jax.random.key(7)
SCHEDULE = kd.Sequential(k=4, m=2)
FEATURES = 8
POLICY = jax.checkpoint_policies.checkpoint_dots_with_no_batch_dims


class WordDropout(nn.Module):
  """Replaces tokens by 0, from a key of its own drawing."""

  rate: float = 0.5

  @nn.compact
  def __call__(self, tokens, deterministic):
    if deterministic:
      return tokens
    keep = jax.random.bernoulli(
      self.make_rng("dropout"), 1 - self.rate, tokens.shape
    )
    return jnp.where(keep, tokens, 0)


class SelfAttention(nn.Module):
  """Draws a key for the weights and hands it to a function of Flax."""

  def setup(self):
    self.query = nn.Dense(FEATURES)
    self.value = nn.Dense(FEATURES, kernel_init=nn.initializers.ones)

  def __call__(self, x, deterministic):
    rng = None
    if not deterministic:
      rng = self.make_rng("dropout")
    weights = nn.dot_product_attention_weights(
      self.query(x)[..., None, :],
      self.query(x)[..., None, :],
      dropout_rng=rng,
      dropout_rate=0.5,
      deterministic=deterministic,
    )
    self.sow("intermediates", "weights", weights)
    return self.value(x)


class StochasticDepth(nn.Module):
  """One flag a row, drawn through a split of the key."""

  @nn.compact
  def __call__(self, x, deterministic):
    if deterministic:
      return x
    _, rng = jax.random.split(self.make_rng("dropout"))
    flags = jax.random.bernoulli(rng, 0.5, (x.shape[0],) + (1,) * (x.ndim - 1))
    self.sow("intermediates", "flags", flags)
    return x * flags


class Layer(nn.Module):
  """A layer of a scanned encoder; what it drops leaves by `sow`."""

  scanned: bool

  @nn.compact
  def __call__(self, x, mask=None, deterministic=False):
    x = x + SelfAttention(name="attention")(x, deterministic)
    x = StochasticDepth(name="depth")(x, deterministic)
    drop = nn.Dropout(0.5, broadcast_dims=(-2,), name="drop")
    kept = drop(jnp.ones_like(x), deterministic=deterministic)
    self.sow("intermediates", "kept", kept)
    return (x * kept, None) if self.scanned else x * kept


class Encoder(nn.Module):
  """Layers under a rematerialisation policy, scanned or in a row."""

  remat: str = "partitioning"
  scanned: bool = True

  @nn.compact
  def __call__(self, tokens, deterministic=False):
    tokens = WordDropout(name="words")(tokens, deterministic)
    self.sow("intermediates", "tokens", tokens)
    x = nn.Embed(5, FEATURES, name="embed")(tokens)
    layer = Layer
    settings = {"prevent_cse": not self.scanned, "policy": POLICY}
    if self.remat == "partitioning":  # Counts arguments without the module.
      layer = partitioning.remat(layer, static_argnums=(2,), **settings)
    elif self.remat == "linen":
      layer = nn.remat(layer, static_argnums=(3,), rngs=True, **settings)
    if not self.scanned:
      for i in range(2):
        x = layer(False, name=f"layer_{i}")(x, None, deterministic)
      return x
    axis = 1 if self.is_initializing() else partitioning.ScanIn(1)
    scan = partitioning.scan_with_axes(
      layer,
      variable_axes={"params": axis, "intermediates": 0},
      split_rngs={"params": True, "dropout": True},
      in_axes=(nn.broadcast, nn.broadcast),
      length=2,
      axis_name="layers",
    )
    return scan(True, name="layers")(x, None, deterministic)[0]


TOKENS = jnp.ones((8, 6), jnp.int32)


def variables_of(model):
  variables = model.init({"params": KEY, "dropout": KEY}, TOKENS)
  return {"params": variables["params"]}


def run(model, variables, step, **kwargs):
  settings = dict(schedule=SCHEDULE, key=KEY, mutable=["intermediates"])
  return kd.linen.apply(
    model, variables, TOKENS, step=step, **(settings | kwargs)
  )


def drawn(state):
  """{what was drawn: array}, of all layers."""
  found = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(state):
    name = next(k for k in NAMES if any(k in str(part) for part in path))
    found.setdefault(name, []).append(np.asarray(leaf))
  return found


NAMES = ("kept", "tokens", "weights", "flags")


@pytest.mark.parametrize(
  "model",
  [
    Encoder(),
    Encoder(scanned=False),
    pytest.param(Encoder("linen"), marks=pytest.mark.slow),
    pytest.param(Encoder("none"), marks=pytest.mark.slow),
    pytest.param(Encoder("linen", scanned=False), marks=pytest.mark.slow),
  ],
  ids=lambda model: f"{model.remat}-{model.scanned}",
)
def test_dropouts_hold_while_all_other_readers_draw_anew(model):
  variables = variables_of(model)

  @jax.jit
  def call(step):
    def loss(variables):
      y, state = run(model, variables, step)
      return y.sum(), state["intermediates"]

    return jax.grad(loss, has_aux=True)(variables)

  gradients, states = zip(*(call(step) for step in (0, 1, 4, 1)))
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))
  first, second, third, again = map(drawn, states)
  for name in NAMES:
    for a, b in zip(second[name], again[name]):
      np.testing.assert_array_equal(a, b)  # Nothing but the step decides.
  for a, b, c in zip(first["kept"], second["kept"], third["kept"]):
    np.testing.assert_array_equal(a, b)
    assert (b != c).any()
  for name in NAMES[1:]:
    for a, b, c in zip(first[name], second[name], third[name]):
      assert (a != b).any() and (b != c).any()
  weights = np.concatenate([np.atleast_2d(w) for w in first["weights"]])
  assert len(weights) == 1 or (weights[0] != weights[1]).any()
  assert call._cache_size() == 1


def test_other_readers_can_be_refused_by_name():
  model = Encoder("none", scanned=False)
  with pytest.raises(kd.UnsupportedError, match="WordDropout 'words' reads a"):
    run(model, variables_of(model), 0, other_readers="refuse")


def test_a_call_without_active_dropout_is_the_models_own():
  model = Encoder("none", scanned=False)
  variables = variables_of(model)
  own = model.apply(variables, TOKENS, True)
  kwargs = dict(deterministic=True, mutable=False)
  np.testing.assert_array_equal(run(model, variables, 3, **kwargs), own)
  jitted = jax.jit(lambda step: run(model, variables, step, **kwargs))(3)
  own_jitted = jax.jit(lambda step: model.apply(variables, TOKENS, True))(3)
  np.testing.assert_array_equal(jitted, own_jitted)
  with kd.linen.intercept(schedule=SCHEDULE, step=3, key=KEY):
    np.testing.assert_array_equal(model.apply(variables, TOKENS, True), own)
  # Its own noise, too: no dropout asks for the run-long key here.
  words = WordDropout()
  own = words.apply({}, TOKENS, False, rngs={"dropout": KEY})
  with kd.linen.intercept(schedule=SCHEDULE, step=3, key=jax.random.key(8)):
    y = words.apply({}, TOKENS, False, rngs={"dropout": KEY})
  np.testing.assert_array_equal(y, own)


def test_a_model_of_nnx_inside_linen_is_refused_by_name():
  from flax import nnx

  class Model(nn.Module):
    @nn.compact
    def __call__(self, x):
      x = nn.Dropout(0.5, deterministic=False)(x)
      return nnx.bridge.ToLinen(nnx.Dropout, args=(0.5,), name="old")(x)

  with pytest.raises(kd.UnsupportedError, match="'old' reads.*kd.nnx.retrofit"):
    kd.linen.apply(
      Model(), {}, jnp.ones((4, 8)), schedule=SCHEDULE, step=0, key=KEY
    )


def test_two_models_of_one_context_have_masks_of_their_own():
  first = nn.Dropout(0.5, deterministic=False)
  second = nn.Dropout(0.5, broadcast_dims=(1,), deterministic=False)
  x = jnp.ones((4, 1, 32))
  with kd.linen.intercept(schedule=SCHEDULE, step=3, key=KEY):
    a, b, again = (m.apply({}, x) for m in (first, second, first))
  np.testing.assert_array_equal(a, again)
  assert (a != b).any()
  key = jax.random.fold_in(KEY, 1)
  rebuilt = kd.linen.apply(second, {}, x, schedule=SCHEDULE, step=3, key=key)
  np.testing.assert_array_equal(b, rebuilt)
