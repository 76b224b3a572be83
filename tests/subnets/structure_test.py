"""Layouts that are read off programs are those that numbers find."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import kdropout_jax as kd
from experiments import models as networks
from kdropout_jax.subnets import discovery
from kdropout_jax.subnets.probing import layouts as probing
from kdropout_jax.subnets.structure import reading
from tests.subnets import models

EXACT = functools.partial(kd.linen.Dropout, 0.5, pattern=kd.ExactCount)
# Attention, recurrence, normalisation over a batch, and dropouts that are not
# called by the layer before them.
_OTHERS = ("bert", "resnet18", "char_", "cnn_channels", "cnn_units", "mlp_norm")
HAS_LAYOUT = [n for n in sorted(networks.names()) if not n.startswith(_OTHERS)]


def called_of(model, x, **kwargs):
  """A model and its call; of its variables there are shapes alone."""
  variables = None
  if isinstance(model, nn.Module):
    rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    variables = jax.eval_shape(lambda: model.init(rngs, x, **kwargs))
  return discovery._called(model, variables, (x,), kwargs)


def read(called):
  return reading.read(called.run, called.params)


def experiments_model(name, dtype=jnp.float32):
  channels = {"lenet": (3, 4), "alexnet": (3, 4, 5)}.get(name)
  options = networks.Options(
    num_classes=3, dropout=EXACT, hidden=8, channels=channels, dtype=dtype
  )
  return networks.build(name, options), jnp.ones((2, 6, 6, 2))


class Classifier(nn.Module):
  """Classes of what a network of ours reads back."""

  network: nn.Module

  @nn.compact
  def __call__(self, x, **kwargs):
    return nn.Dense(3)(self.network(x, **kwargs))


def by_name(params):
  """The layout of our dense layers, hidden_0 to logits, by their names."""
  depth = sum(f"hidden_{i}" in params for i in range(len(params)))
  axes = {}
  for i in range(depth):
    axes[f"hidden_{i}/kernel"] = {1: f"dropout_{i}"}
    axes[f"hidden_{i}/kernel"] |= {0: f"dropout_{i - 1}"} if i else {}
    if "bias" in params[f"hidden_{i}"]:
      axes[f"hidden_{i}/bias"] = {0: f"dropout_{i}"}
  axes["logits/kernel"] = {0: f"dropout_{depth - 1}"}
  return kd.subnets.Layout(axes)


@pytest.mark.parametrize("name", HAS_LAYOUT)
def test_every_model_of_the_experiments_is_read_without_a_number(name):
  model, x = experiments_model(name)
  called = called_of(model, x, train=True)
  assert read(called)[0] == by_name(called.params)


class Mlp(nnx.Module):
  def __init__(self, dtype=jnp.float32):
    rngs = nnx.Rngs(0)
    self.a = nnx.Linear(5, 8, dtype=dtype, rngs=rngs)
    self.drop = kd.nnx.Dropout(0.5, pattern=kd.ExactCount, rngs=rngs)
    self.b = nnx.Linear(8, 3, dtype=dtype, rngs=rngs)

  def __call__(self, x, **kwargs):
    return self.b(self.drop(nnx.relu(self.a(x)), **kwargs))


MODELS = {
  "mlp": lambda: (models.Mlp(), jnp.ones((4, 12)), {"train": True}),
  "cnn": lambda: (models.Cnn(), jnp.ones((2, 6, 6, 3)), {"train": True}),
  "nnx": lambda: (Mlp(), jnp.ones((4, 5)), {}),
  "lenet": lambda: (*experiments_model("lenet"), {"train": True}),
  "alexnet": lambda: (*experiments_model("alexnet"), {"train": True}),
}


@pytest.mark.parametrize(
  "name",
  [
    "mlp",
    "nnx",
    *(pytest.param(n, marks=pytest.mark.slow) for n in ("cnn", "lenet")),
    pytest.param("alexnet", marks=pytest.mark.slow),
  ],
)
def test_numbers_find_what_is_read(name):
  model, x, kwargs = MODELS[name]()
  called = called_of(model, x, **kwargs)
  found, widths = read(called)
  assert found is not None and found.axes
  assert probing.find(called, widths) == found


@jax.custom_jvp
def mixes_in_its_derivative(x):
  return x + 0.0


@mixes_in_its_derivative.defjvp
def _mixed_tangent(primals, tangents):
  (x,), (dx,) = primals, tangents
  return x, dx - dx.max(-1, keepdims=True)


class Net(nn.Module):
  """Dense, something, dropout, something, Dense."""

  after: object = staticmethod(lambda x, drop: drop(x))
  width: int = 8

  @nn.compact
  def __call__(self, x):
    drop = kd.linen.Dropout(0.5, deterministic=False, name="d")
    x = nn.relu(nn.Dense(self.width)(x))
    return nn.Dense(3)(self.after(x, drop))


DOUBTS = {
  "not zero where dropped": lambda x, drop: nn.sigmoid(drop(x)),
  "a way around": lambda x, drop: x + drop(x),
  "a normalisation": lambda x, drop: nn.standardize(drop(x)),
  "a derivative that mixes": lambda x, drop: mixes_in_its_derivative(drop(x)),
  "an operation without a rule": lambda x, drop: jnp.sort(drop(x)),
  "the width in a number": lambda x, drop: drop(x) / x.shape[-1],
  "the width in an operation": lambda x, drop: drop(x) * jnp.arange(8.0)[None],
  "a mean over units": lambda x, drop: drop(x) * drop(x).mean(),
  "units beside others": lambda x, drop: jnp.concatenate([drop(x), x], -1),
  "units folded": lambda x, drop: drop(x).reshape(-1, 2, 4).sum(1),
  "two dropouts": lambda x, drop: nn.Dropout(0.5, deterministic=False)(drop(x)),
}


@pytest.mark.parametrize("name", DOUBTS)
def test_what_a_program_leaves_open_is_not_read(name):
  try:
    found, _ = read(called_of(Net(DOUBTS[name]), jnp.ones((4, 5))))
  except kd.UnsupportedError:  # a dropout that is called twice
    return
  assert found is None


READ = {
  "zero where dropped": lambda x, drop: jnp.tanh(drop(x)) * nn.sigmoid(drop(x)),
  "gelu": lambda x, drop: nn.gelu(drop(x)),
  "a whole sum before": lambda x, drop: drop(nn.softmax(x)),
  "positions": lambda x, drop: drop(x)[:, None].repeat(3, 1).sum(1),
}


@pytest.mark.parametrize("name", ["gelu", "a whole sum before", "positions"])
def test_what_a_program_says_is_read(name):
  found, _ = read(called_of(Net(READ[name]), jnp.ones((4, 5))))
  makes = {"Dense_0/kernel": {1: "d"}, "Dense_0/bias": {0: "d"}}
  reads = {"Dense_1/kernel": {0: "d"}}
  expected = reads if name == "a whole sum before" else makes | reads
  assert found == kd.subnets.Layout(expected)


class Flat(nn.Module):
  """Pixels and channels flattened, then dropped one by one."""

  @nn.compact
  def __call__(self, x):
    x = nn.relu(nn.Conv(4, (3, 3))(x)).reshape(x.shape[0], -1)
    return nn.Dense(3)(kd.linen.Dropout(0.5, deterministic=False, name="d")(x))


def test_units_that_are_pixels_leave_the_convolution_whole():
  found, widths = read(called_of(Flat(), jnp.ones((2, 3, 3, 2))))
  assert found == kd.subnets.Layout({"Dense_0/kernel": {0: "d"}})
  assert widths == {"d": 36}


HALF = {
  "mlp": lambda dtype: (*experiments_model("mlp", dtype), {"train": True}),
  "lenet": lambda dtype: (*experiments_model("lenet", dtype), {"train": True}),
  "nnx": lambda dtype: (Mlp(dtype), jnp.ones((4, 5)), {}),
}


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("name", HALF)
def test_a_model_in_16_bits_has_the_layout_that_it_has_in_32(name, dtype):
  model, x, kwargs = HALF[name](dtype)
  full, _, _ = HALF[name](jnp.float32)
  found, _ = read(called_of(model, x, **kwargs))
  assert found is not None
  assert found == read(called_of(full, x, **kwargs))[0]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("name", HALF)
def test_numbers_do_not_rest_on_the_rounding_of_16_bits(name, dtype):
  model, x, kwargs = HALF[name](dtype)
  called = called_of(model, x, **kwargs)
  found, widths = read(called)
  with jax.enable_x64(True):
    probe = probing._Probe(called, widths)
    for seed in range(200):
      random = np.random.default_rng(seed)
      probe._draws = [
        jax.tree.map(
          lambda w, r=random: probing._random_weights(r, w), called.params
        )
        for _ in probe._draws
      ]
      assert kd.subnets.Layout(probe.axes()) == found
    probe.check(found)


def test_casts_that_follow_no_field_are_not_probed():
  class Cast(nn.Module):
    @nn.compact
    def __call__(self, x):
      x = nn.Dense(8)(x).astype(jnp.bfloat16)
      x = kd.linen.Dropout(0.5, deterministic=False)(x)
      return nn.Dense(3)(jnp.sort(x.astype(jnp.float32)))

  called = called_of(Cast(), jnp.ones((4, 5)))
  found, widths = read(called)
  assert found is None
  with pytest.raises(kd.UnsupportedError, match="computes in 16 bits whatever"):
    probing.find(called, widths)
