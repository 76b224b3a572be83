"""An encoder and a decoder as T5X writes them: scanned, rematerialised, cached.

Readers of the stream stand at every depth: broadcast dropouts, and attention
that drops its weights by a key of its own drawing, under every policy.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kdropout_jax as kd

KEY = jax.random.key(7)
SCHEDULE = kd.Sequential(k=4, m=2)
FEATURES, LENGTH, LAYERS = 8, 5, 2
POLICIES = {
  "minimal": jax.checkpoint_policies.checkpoint_dots_with_no_batch_dims,
  "full": None,
}


class Attention(nn.Module):
  """Drops weights by `make_rng`; with `decode` it fills a cache."""

  @nn.compact
  def __call__(self, x, memory, decode, deterministic):
    query, key, value = (
      nn.Dense(FEATURES, use_bias=False, name=name)(inputs)
      for name, inputs in (("query", x), ("key", memory), ("value", memory))
    )
    bias = jnp.zeros(LENGTH)
    if decode:
      has_cache = self.has_variable("cache", "cached_key")
      keys = self.variable("cache", "cached_key", jnp.zeros, key.shape)
      values = self.variable("cache", "cached_value", jnp.zeros, value.shape)
      index = self.variable("cache", "index", jnp.zeros, (), jnp.int32)
      if has_cache:  # One position a call.
        hot = jax.nn.one_hot(index.value, LENGTH)[None, :, None]
        key = keys.value = keys.value + key * hot
        value = values.value = values.value + value * hot
        bias = jnp.where(jnp.arange(LENGTH) <= index.value, 0.0, -1e9)
        index.value += 1
    scores = jnp.einsum("bqd,bkd->bqk", query, key) + bias[None, None]
    weights = jax.nn.softmax(scores)
    if not deterministic:
      rng = self.make_rng("dropout")
      shape = (*weights.shape[:1], 1, weights.shape[2])  # Broadcast, too.
      keep = jax.random.bernoulli(rng, 0.5, shape)
      self.sow("intermediates", "noise", keep)
      weights = weights * keep * 2.0
    return nn.Dense(FEATURES, name="out")(weights @ value)


class Layer(nn.Module):
  """One layer of either side; what is dropped leaves by `sow`."""

  decoder: bool
  scanned: bool

  @nn.compact
  def __call__(self, x, memory, decode=False, deterministic=False):
    y = nn.LayerNorm(name="pre_attention")(x)
    x = x + Attention(name="attention")(y, y, decode, deterministic)
    if self.decoder:
      y = nn.LayerNorm(name="pre_cross")(x)
      x = x + Attention(name="cross")(y, memory, False, deterministic)
    drop = nn.Dropout(0.5, broadcast_dims=(-2,), name="drop")
    kept = drop(jnp.ones_like(x), deterministic=deterministic)
    self.sow("intermediates", "kept", kept)
    x = x * kept
    return (x, None) if self.scanned else x


class T5(nn.Module):
  """Encoder, decoder with cross attention, under one policy of remat."""

  remat: str
  scan_layers: bool

  def stack(self, side, x, memory, decode, deterministic):
    layer = Layer
    if self.remat != "none":
      layer = nn.remat(
        layer,
        prevent_cse=not self.scan_layers,
        policy=POLICIES[self.remat],
        static_argnums=(3, 4),
      )
    if not self.scan_layers:
      for i in range(LAYERS):
        own = layer(side == "decoder", False, name=f"{side}_{i}")
        x = own(x, memory, decode, deterministic)
      return x
    scan = nn.scan(
      layer,
      variable_axes={"params": 0, "cache": 0, "intermediates": 0},
      split_rngs={"params": True, "dropout": not deterministic},
      in_axes=(nn.broadcast,) * 3,
      length=LAYERS,
    )
    own = scan(side == "decoder", True, name=side)
    return own(x, memory, decode, deterministic)[0]

  @nn.compact
  def __call__(self, inputs, targets, decode=False, deterministic=False):
    embed = nn.Embed(7, FEATURES, name="embed")
    drop = nn.Dropout(0.25, broadcast_dims=(-2,), name="inputs")
    x = drop(embed(inputs), deterministic=deterministic)
    memory = self.stack("encoder", x, x, False, deterministic)
    y = self.stack("decoder", embed(targets), memory, decode, deterministic)
    return embed.attend(y)


TOKENS = jnp.ones((8, LENGTH), jnp.int32)
TELLING = [("minimal", True), ("full", False)]
ALL = [(r, s) for r in ("none", "minimal", "full") for s in (True, False)]
VARIANTS = [
  pytest.param(*v, marks=() if v in TELLING else pytest.mark.slow) for v in ALL
]


def variables_of(model, **kwargs):
  keys = {"params": KEY, "dropout": KEY}
  return dict(model.init(keys, TOKENS, TOKENS, **kwargs))


def train(model, params, step, way):
  """The loss, and what was drawn: {"kept": masks, "noise": weights'}."""
  settings = dict(schedule=SCHEDULE, step=step, key=KEY)
  call = dict(mutable=["intermediates"])
  if way == "apply":
    y, state = kd.linen.apply(
      model, {"params": params}, TOKENS, TOKENS, **settings, **call
    )
  else:
    with kd.linen.intercept(**settings):  # A user's own, per-step key.
      y, state = model.apply(
        {"params": params}, TOKENS, TOKENS, rngs={"dropout": KEY}, **call
      )
  drawn = {"kept": [], "noise": []}  # [layers, rows, positions, ...]
  for path, leaf in jax.tree_util.tree_leaves_with_path(state):
    names = [n for n in drawn if any(n in str(part) for part in path)]
    drawn[names[0]].append(leaf.reshape(-1, 8, *leaf.shape[-2:]))
  return jnp.sum(y**2), {n: jnp.concatenate(v) for n, v in drawn.items()}


@pytest.mark.parametrize("way", ["apply", "intercept"])
@pytest.mark.parametrize(("remat", "scan_layers"), VARIANTS)
def test_every_policy_holds_masks_and_draws_noise_anew(remat, scan_layers, way):
  model = T5(remat, scan_layers)
  params = variables_of(model, deterministic=True)["params"]

  @jax.jit
  def step(params, number):
    return jax.value_and_grad(train, 1, has_aux=True)(
      model, params, number, way
    )

  (_, first), grads = step(params, 0)
  (_, second), _ = step(params, 3)
  (_, third), _ = step(params, 4)
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
  assert any((g != 0).any() for g in jax.tree.leaves(grads))
  kept = np.asarray(first["kept"])  # Positions of a row share their mask.
  np.testing.assert_array_equal(
    kept, np.broadcast_to(kept[..., :1, :], kept.shape)
  )
  assert len({layer.tobytes() for layer in kept}) == len(kept) == 2 * LAYERS
  np.testing.assert_array_equal(first["kept"], second["kept"])
  assert (second["kept"] != third["kept"]).any()
  noises = [np.asarray(drawn["noise"]) for drawn in (first, second, third)]
  assert len(noises[0]) == 3 * LAYERS
  for layer in range(3 * LAYERS):
    assert len({noise[layer].tobytes() for noise in noises}) == 3
  assert len({noise.tobytes() for noise in noises[0]}) == 3 * LAYERS
  assert step._cache_size() == 1


@pytest.mark.parametrize(
  "scan_layers", [True, pytest.param(False, marks=pytest.mark.slow)]
)
def test_a_policy_changes_no_mask(scan_layers):
  """Its layers are named, so rematerialising them is all that it does."""
  drawn = []
  for remat in ("none", "minimal"):
    model = T5(remat, scan_layers)
    params = variables_of(model, deterministic=True)["params"]
    drawn.append(train(model, params, 2, "apply")[1])
  for name in ("kept", "noise"):
    np.testing.assert_array_equal(drawn[0][name], drawn[1][name])


@pytest.mark.parametrize(("remat", "scan_layers"), VARIANTS)
def test_decoding_with_a_cache_is_the_models_own(remat, scan_layers):
  model = T5(remat, scan_layers)
  variables = variables_of(model, decode=True, deterministic=True)
  settings = dict(schedule=SCHEDULE, step=1, key=KEY)

  def decode(apply, **kwargs):
    cache, found = variables["cache"], []
    for position in range(2):
      y, state = apply(
        {"params": variables["params"], "cache": cache},
        TOKENS,
        TOKENS[:, position : position + 1],
        decode=True,
        mutable=["cache"],
        **kwargs,
      )
      cache = state["cache"]
      found.append(y)
    return [*found, *jax.tree.leaves(cache)]

  def ours(*args, **kwargs):
    return kd.linen.apply(model, *args, **settings, **kwargs)

  own = decode(model.apply, deterministic=True)
  for a, b in zip(own, decode(ours, deterministic=True)):
    np.testing.assert_array_equal(a, b)
  active = decode(ours, deterministic=False)
  assert any((a != b).any() for a, b in zip(own[:2], active[:2]))
