"""Models of others that follow a schedule: the three traps, and bad calls."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kdropout_jax as kd

KEY = jax.random.key(7)
FEATURES = 16


class Mlp(nn.Module):
  """Two dropouts; identity layers, so that the masks can be read off."""

  rate: float = 0.5
  streams: tuple[str, str] = ("dropout", "dropout")

  @nn.compact
  def __call__(self, x, train=True):
    first = nn.Dropout(self.rate, rng_collection=self.streams[0])
    second = nn.Dropout(self.rate, rng_collection=self.streams[1])
    a = first(x, deterministic=not train)
    b = second(x, deterministic=not train)
    return a, b


class MlpBySetup(nn.Module):
  stream: str = "dropout"

  def setup(self):
    self.drops = [
      nn.Dropout(0.5, deterministic=False, rng_collection=self.stream)
      for _ in range(2)
    ]

  def __call__(self, x):
    return tuple(drop(x) for drop in self.drops)


class Block(nn.Module):
  stream: str = "dropout"

  @nn.compact
  def __call__(self, x, _=None):
    kept = nn.Dropout(
      0.5, deterministic=False, name="drop", rng_collection=self.stream
    )(jnp.ones_like(x))
    return x, kept


class Scanned(nn.Module):
  stream: str = "dropout"
  remat: bool = False

  @nn.compact
  def __call__(self, x):
    block = nn.remat(Block) if self.remat else Block
    scan = nn.scan(
      block,
      variable_axes={"params": 0},
      split_rngs={"params": True, self.stream: True},
      length=3,
    )
    return scan(self.stream, name="scan")(x, None)[1]


class Transformed(nn.Module):
  """One block by itself, one under `transform`; both named."""

  transform: object

  @nn.compact
  def __call__(self, x):
    return (
      Block(name="plain")(x)[1],
      self.transform(Block)(name="lifted")(x)[1],
    )


class Vmapped(nn.Module):
  @nn.compact
  def __call__(self, x):
    block = nn.vmap(
      Block,
      variable_axes={"params": 0},
      split_rngs={"params": True, "dropout": True},
      in_axes=None,
      axis_size=3,
    )
    return block(name="members")(x)[1]


class Attentive(nn.Module):
  @nn.compact
  def __call__(self, x, dropout_rng=None):
    x = nn.Dropout(0.5, deterministic=False)(x)
    return x, nn.MultiHeadDotProductAttention(
      num_heads=2, dropout_rate=0.5, deterministic=False
    )(jnp.ones_like(x), dropout_rng=dropout_rng)


class Noisy(nn.Module):
  @nn.compact
  def __call__(self, x):
    x = nn.Dropout(0.5, deterministic=False)(x)
    return x + Noise(name="noise")(x)


class Noise(nn.Module):
  @nn.compact
  def __call__(self, x):
    return jax.random.normal(self.make_rng("dropout"), x.shape)


def ones(rows=8, *shape):
  return jnp.ones((rows, *shape, FEATURES))


def run(
  model, step=0, x=None, variables=None, schedule=kd.Sequential(4, 2), **kw
):
  x = ones() if x is None else x
  return kd.linen.apply(
    model, variables or {}, x, schedule=schedule, step=step, key=KEY, **kw
  )


MODELS = {
  "compact": Mlp(),
  "setup": MlpBySetup(),
  "other_stream": Mlp(streams=("dropout", "noise")),
  "setup_other_stream": MlpBySetup("noise"),
  "scan": Scanned(),
  "scan_other_stream": Scanned("noise"),
  "scan_of_remat": Scanned(remat=True),
  "remat": Transformed(nn.remat),
  "jit": Transformed(nn.jit),
  "vmap": Vmapped(),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("way", ["apply", "intercept"])
def test_masks_hold_within_a_window_and_differ_between_layers(name, way):
  model = MODELS[name]
  schedule = kd.Sequential(k=3, m=2)

  def masks(step):
    if way == "apply":
      out = run(model, step, schedule=schedule)
    else:
      with kd.linen.intercept(schedule=schedule, step=step, key=KEY):
        out = model.apply({}, ones())
    layers = out if isinstance(out, tuple) else list(out)
    return jnp.stack(layers)

  jitted = jax.jit(masks)
  eager = [np.asarray(masks(step)) for step in (2, 3)]
  outs = [np.asarray(jitted(step)) for step in range(6)]
  np.testing.assert_array_equal(eager[0], outs[2])
  np.testing.assert_array_equal(eager[1], outs[3])
  np.testing.assert_array_equal(outs[0], outs[2])
  np.testing.assert_array_equal(outs[3], outs[5])
  assert (outs[2] != outs[3]).any()
  layers = {out.tobytes() for out in outs[0]}
  assert len(layers) == len(outs[0]) > 1
  rows = outs[0][0]
  np.testing.assert_array_equal(rows[:4], np.broadcast_to(rows[:1], (4, 16)))
  assert (rows[3] != rows[4]).any()
  assert set(np.unique(rows)) == {0.0, 2.0}
  assert jitted._cache_size() == 1
