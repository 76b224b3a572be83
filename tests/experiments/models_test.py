"""Sizes of the networks, what they are built from, and what they refuse."""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kdropout_jax as kd
from experiments import models
from experiments.models import autoencoder
from experiments.models import resnet
from kdropout_jax.training import task as task_lib
from tests import tolerance

_DROPOUT = functools.partial(kd.linen.Dropout, 0.5)


def build(name, num_classes=10, **options):
  return models.build(name, models.Options(num_classes, _DROPOUT, **options))


def shapes(name, num_classes, shape, **options):
  if name == "bert":
    x = {
      key: jnp.zeros(shape, jnp.int32)
      for key in ("input_ids", "token_type_ids", "attention_mask")
    }
  else:
    x = jnp.zeros(shape)
  model = build(name, num_classes, **options)
  init = functools.partial(model.init, x=x, train=False)
  return jax.eval_shape(init, jax.random.key(0))["params"]


def count(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def layers(*sizes, bias):
  return sum(a * b + bias * b for a, b in zip(sizes, sizes[1:]))


_RESNET_AT_1000 = 11_689_512  # torchvision's, with one dense layer
_BERT_BASE = 109_482_240  # Hugging Face's BertModel, with its pooler
_POOLER = 768 * 768 + 768

_CASES = [
  ("mlp1", 10, (1, 32, 32, 3), layers(3072, 1024, 1024, 10, bias=0)),
  ("mlp2", 10, (1, 32, 32, 3), layers(3072, 1024, 1024, 1024, 10, bias=0)),
  ("mlp3", 2, (1, 122), layers(122, 1024, 1024, 1024, 2, bias=0)),
  ("table9_mlp", 10, (1, 28, 28, 1), layers(784, 1024, 1024, 2048, 10, bias=1)),
  (
    "kdropout_mlp",
    10,
    (1, 32, 32, 3),
    layers(3072, 2000, 2000, 2000, 10, bias=1),
  ),
  ("autoencoder", 10, (1, 28, 28, 1), layers(784, 256, 784, bias=1)),
  (
    "lenet",  # A 24x24 crop, pooled once.
    10,
    (1, 24, 24, 3),
    25 * (3 * 96 + 96 * 256) + layers(12 * 12 * 256, 1024, 1024, 10, bias=0),
  ),
  (
    "cnn_wan",  # Pooled twice.
    10,
    (1, 28, 28, 1),
    25 * (32 + 32 * 64) + layers(7 * 7 * 64, 150, 10, bias=0),
  ),
  (
    "cnn_wan_cifar",
    10,
    (1, 32, 32, 3),
    25 * (3 * 32 + 32 * 32 + 32 * 64) + layers(4 * 4 * 64, 64, 10, bias=0),
  ),
  (
    "alexnet",  # Pooled twice.
    100,
    (1, 24, 24, 3),
    25 * (3 * 96 + 96 * 256 + 256 * 384)
    + layers(6 * 6 * 384, 1024, 1024, 100, bias=0),
  ),
  ("resnet18", 1000, (1, 224, 224, 3), _RESNET_AT_1000 + 512 * 512 + 512),
  (
    "resnet18",  # A stem of 3x3.
    1000,
    (1, 32, 32, 3),
    _RESNET_AT_1000 + 512 * 512 + 512 - (49 - 9) * 3 * 64,
  ),
  ("bert", 2, (1, 16), _BERT_BASE + 768 * 2 + 2),
  ("bert", 0, (1, 16), _BERT_BASE - _POOLER + 768 * 2 + 2),
]


@pytest.mark.parametrize(("name", "num_classes", "shape", "expected"), _CASES)
def test_parameters_are_as_many_as_published(
  name, num_classes, shape, expected
):
  assert count(shapes(name, num_classes, shape)) == expected


def test_one_factor_scales_all_widths():
  params = shapes("alexnet", 10, (1, 24, 24, 3), width_scale=0.25)
  widths = [params[f"conv_{i}"]["kernel"].shape[-1] for i in range(3)]
  assert widths == [24, 64, 96]
  assert params["hidden_1"]["kernel"].shape == (256, 256)
  params = shapes("resnet18", 10, (1, 32, 32, 3), width_scale=0.25)
  assert params["hidden_0"]["kernel"].shape == (128, 128)
  assert params["stem"]["kernel"].shape == (3, 3, 3, 16)
  params = shapes("mlp2", 10, (1, 5), width_scale=0.001)
  assert params["hidden_2"]["kernel"].shape == (1, 1)
  params = shapes(
    "lenet", 10, (1, 24, 24, 3), channels=(16, 32), hidden=8, width_scale=9.0
  )
  assert params["conv_1"]["kernel"].shape == (5, 5, 16, 32)
  assert params["hidden_0"]["kernel"].shape == (12 * 12 * 32, 8)


@pytest.mark.parametrize(
  ("name", "options", "message"),
  [
    ("lenett", {}, "model must be one of .*'lenett'; did you mean lenet"),
    ("mlp", dict(hidden=0), "must be >= 1, got 0, None and None"),
    ("lenet", dict(channels=(3, 0)), r"must be >= 1, got .* \(3, 0\)"),
    ("mlp", dict(width_scale=0.0), "width_scale must be > 0, got 0.0"),
    ("mlp", dict(width_scale=float("nan")), "width_scale must be > 0, got nan"),
    ("lenet", dict(channels=(3,)), r"must hold 2 numbers .* got \(3,\)"),
    ("mlp1", dict(channels=(3,)), r"channels=\(3,\) has no effect .* 'mlp1'"),
    ("resnet18", dict(num_hidden=2), "num_hidden=2 has no effect on model"),
    ("bert", dict(connections=print), "drops must be 'units' for model 'bert'"),
    ("bert", dict(init="glorot"), "init=glorot has no effect on model 'bert'"),
    ("mlp", dict(vocabulary=9), "model 'mlp' reads no text"),
    ("autoencoder", dict(num_hidden=3), "num_hidden=3 has no effect"),
    ("lenet", dict(input_rate=0.2), "input_rate=0.2 has no effect on model"),
  ],
)
def test_options_that_make_no_sense_are_refused(name, options, message):
  with pytest.raises(ValueError, match=message):
    build(name, **options)


@pytest.mark.parametrize("name", ["lenet", "alexnet", "resnet18"])
def test_inputs_that_are_no_images_are_refused(name):
  with pytest.raises(ValueError, match=r"must have shape \[B, H, W, C\], got"):
    shapes(name, 10, (2, 28, 28))


def test_an_unknown_stem_is_refused():
  model = resnet.ResNet(3, _DROPOUT, channels=(2,), stem="tiny")
  with pytest.raises(ValueError, match="stem must be one of .* got 'tiny'"):
    jax.eval_shape(
      lambda: model.init(
        jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False
      )
    )


def test_statistics_are_those_of_all_devices(key):
  """Two devices with half a batch each, and one with all of it."""
  x = (
    jax.random.normal(key, (8, 6, 6, 3)) + jnp.arange(8.0)[:, None, None, None]
  )
  whole = resnet.ResNet(3, _DROPOUT, channels=(2,), hidden=4)
  split = resnet.ResNet(
    3, _DROPOUT, channels=(2,), hidden=4, axis_name="devices"
  )
  variables = jax.jit(lambda: whole.init(key, x, train=False))()
  run = functools.partial(
    whole.apply, train=True, mutable=["batch_stats"], rngs={"dropout": key}
  )
  _, expected = jax.jit(run)(variables, x)
  run = functools.partial(
    split.apply, train=True, mutable=["batch_stats"], rngs={"dropout": key}
  )
  _, got = jax.pmap(run, axis_name="devices", in_axes=(None, 0))(
    variables, x.reshape(2, 4, 6, 6, 3)
  )
  for device in range(2):
    own = jax.tree.map(operator.itemgetter(device), got)
    # Means over rows and places, of sums over patches, in 17 layers.
    tolerance.assert_sums_close(own, expected, 17 * (8 * 36 + 9 * 2))
  moved = jax.tree.leaves(
    jax.tree.map(
      lambda a, b: bool((a != b).all()),
      variables["batch_stats"],
      expected["batch_stats"],
    )
  )
  assert moved and all(moved)


def test_a_subnet_is_evaluated_by_the_running_statistics(key):
  """Each row's logits are then its own, whatever else is in the batch."""
  model = resnet.ResNet(3, _DROPOUT, channels=(2,), hidden=4)
  x = jax.random.normal(key, (4, 6, 6, 3))
  variables = jax.jit(lambda: model.init(key, x, train=False))()

  @jax.jit
  def run(x):
    ids = jnp.array([3], jnp.uint32)
    return model.apply(
      variables, x, train=True, subnets=ids, rngs={"subnets": key}
    )

  tolerance.assert_sums_close(run(x)[:1], run(x[:1]), 17 * 9 * 2)


def test_score_of_spans_means_losses_and_wants_both_ends():
  logits = np.zeros((2, 2, 4), np.float32)
  logits[0, 0, 1] = logits[0, 1, 3] = logits[1, 0, 2] = 50.0
  labels = jnp.array([[1, 3], [2, 1]], jnp.int32)
  losses, hits = task_lib.losses_and_hits(jnp.asarray(logits), labels)
  # Row 1's end is uniform over four tokens: log(4), halved by the mean.
  tolerance.assert_sums_close(losses, [0.0, np.log(4) / 2], 4 + 2)
  assert hits.tolist() == [1.0, 0.0]


def test_score_of_an_autoencoder_is_the_error_of_its_input():
  model = autoencoder.Autoencoder(_DROPOUT)
  inputs = jnp.array([[[0.0, 1.0], [0.5, 0.0]]])
  outputs = jnp.array([[0.05, 0.5, 0.5, 0.0]])
  losses, hits = model.losses_and_hits(outputs, None, inputs)
  tolerance.assert_sums_close(losses, [(0.05**2 + 0.5**2) / 4], 4)
  assert hits.tolist() == [0.75]
