"""BERT against NumPy on a checkpoint in the Hugging Face layout."""

import functools
import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

import kdropout_jax as kd
from experiments import models
from experiments.models import bert
from experiments.models import bert_weights
from experiments.models import encoder
from experiments.run import config
from experiments.run import setup
from kdropout_jax.training import state as state_lib
from tests import tolerance

_SIZES = encoder.Sizes(
  vocabulary=11,
  hidden=8,
  num_layers=2,
  num_heads=2,
  feed_forward=12,
  max_length=7,
)
_DROPOUT = functools.partial(kd.linen.Dropout, 0.1)
_BATCH, _LENGTH = 3, 5


def hf_tensors(random, head):
  """A checkpoint of `_SIZES`; names and [out, in] kernels as PyTorch has."""
  s = _SIZES
  tensors = {}

  def dense(name, size_in, size_out):
    tensors[f"{name}.weight"] = random.normal(size=(size_out, size_in))
    tensors[f"{name}.bias"] = random.normal(size=size_out)

  def norm(name):
    tensors[f"{name}.weight"] = 1 + 0.1 * random.normal(size=s.hidden)
    tensors[f"{name}.bias"] = random.normal(size=s.hidden)

  for name, rows in (
    ("word", s.vocabulary),
    ("token_type", 2),
    ("position", s.max_length),
  ):
    tensors[f"bert.embeddings.{name}_embeddings.weight"] = random.normal(
      size=(rows, s.hidden)
    )
  norm("bert.embeddings.LayerNorm")
  for i in range(s.num_layers):
    layer = f"bert.encoder.layer.{i}"
    for part in ("query", "key", "value"):
      dense(f"{layer}.attention.self.{part}", s.hidden, s.hidden)
    dense(f"{layer}.attention.output.dense", s.hidden, s.hidden)
    norm(f"{layer}.attention.output.LayerNorm")
    dense(f"{layer}.intermediate.dense", s.hidden, s.feed_forward)
    dense(f"{layer}.output.dense", s.feed_forward, s.hidden)
    norm(f"{layer}.output.LayerNorm")
  if head == "classifier":
    dense("bert.pooler.dense", s.hidden, s.hidden)
    dense("classifier", s.hidden, 3)
  else:
    dense("qa_outputs", s.hidden, 2)
  return {k: v.astype(np.float32) for k, v in tensors.items()}


def numpy_bert(t, x, head):
  """The network in float64, written from the paper."""

  def dense(y, name):
    return y @ np.float64(t[f"{name}.weight"]).T + t[f"{name}.bias"]

  def norm(y, name):
    centred = y - y.mean(-1, keepdims=True)
    sd = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
    return centred / sd * t[f"{name}.weight"] + t[f"{name}.bias"]

  erf = np.vectorize(math.erf)
  e = "bert.embeddings"
  y = np.float64(t[f"{e}.word_embeddings.weight"])[x["input_ids"]]
  y = y + t[f"{e}.token_type_embeddings.weight"][x["token_type_ids"]]
  y = y + t[f"{e}.position_embeddings.weight"][:_LENGTH][None]
  y = norm(y, f"{e}.LayerNorm")
  for i in range(_SIZES.num_layers):
    layer = f"bert.encoder.layer.{i}"
    q, k, v = (
      dense(y, f"{layer}.attention.self.{n}").reshape(_BATCH, _LENGTH, 2, 4)
      for n in ("query", "key", "value")
    )
    scores = np.einsum("bqhd,bkhd->bhqk", q, k) / 2.0
    hidden = x["attention_mask"][:, None, None, :] == 0
    scores = np.where(hidden, -np.inf, scores)
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    z = np.einsum("bhqk,bkhd->bqhd", shares, v).reshape(y.shape)
    z = dense(z, f"{layer}.attention.output.dense")
    y = norm(y + z, f"{layer}.attention.output.LayerNorm")
    z = dense(y, f"{layer}.intermediate.dense")
    z = z * 0.5 * (1 + erf(z / np.sqrt(2)))
    z = dense(z, f"{layer}.output.dense")
    y = norm(y + z, f"{layer}.output.LayerNorm")
  if head == "qa_outputs":
    return dense(y, "qa_outputs").transpose(0, 2, 1)
  return dense(np.tanh(dense(y[:, 0], "bert.pooler.dense")), "classifier")


def make(head):
  num_classes = 3 if head == "classifier" else 0
  return bert.Bert(num_classes, _DROPOUT, sizes=_SIZES)


def example(random):
  shape = (_BATCH, _LENGTH)
  mask = np.ones(shape, np.int32)
  mask[1, 3:] = 0
  return {
    "input_ids": random.integers(0, 11, shape).astype(np.int32),
    "token_type_ids": random.integers(0, 2, shape).astype(np.int32),
    "attention_mask": mask,
  }


def shapes(model, x):
  init = functools.partial(model.init, x=x, train=False)
  variables = jax.eval_shape(init, jax.random.key(0))
  return jax.tree.map(lambda p: jnp.full(p.shape, 7.0), variables["params"])


@pytest.fixture
def checkpoint(tmp_path):
  def write(tensors):
    path = tmp_path / "model.safetensors"
    safetensors_numpy.save_file(tensors, path)
    return path

  return write


@pytest.mark.parametrize("head", ["classifier", "qa_outputs"])
def test_a_checkpoint_gives_the_network_it_holds(head, checkpoint):
  random = np.random.default_rng(1)
  tensors, x = hf_tensors(random, head), example(random)
  model = make(head)
  loaded = bert_weights.load(checkpoint(tensors), shapes(model, x))
  assert loaded.initial == () and loaded.unused == ()
  run = jax.jit(functools.partial(model.apply, train=False))
  logits = run({"params": loaded.params}, x)
  # Float32 over two layers; the tanh form of GELU is off by 3e-4.
  s = _SIZES
  length = s.num_layers * (7 * s.hidden + s.feed_forward + _LENGTH)
  tolerance.assert_sums_close(logits, numpy_bert(tensors, x, head), length)


def test_round_trip_by_names(checkpoint):
  """What is written under the mapped names is read back, bit for bit."""
  random = np.random.default_rng(2)
  params = jax.tree.map(
    lambda p: random.normal(size=p.shape).astype(np.float32),
    shapes(make("classifier"), example(random)),
  )
  flat = {
    "/".join(k.key for k in path): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(params)
  }
  tensors = {
    bert_weights.hf_name(name): np.ascontiguousarray(
      leaf.T if name.endswith("kernel") else leaf
    )
    for name, leaf in flat.items()
  }
  assert len(tensors) == len(flat)
  loaded = bert_weights.load(checkpoint(tensors), params)
  jax.tree.map(np.testing.assert_array_equal, loaded.params, params)


def test_old_names_and_longer_tables_of_positions_load(checkpoint):
  random = np.random.default_rng(3)
  tensors, x = hf_tensors(random, "classifier"), example(random)
  old = {
    k.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
      "LayerNorm.bias", "LayerNorm.beta"
    ): v
    for k, v in tensors.items()
  }
  name = "bert.embeddings.position_embeddings.weight"
  old[name] = np.concatenate([old[name], old[name]])
  old["cls.predictions.bias"] = np.zeros(11, np.float32)
  loaded = bert_weights.load(checkpoint(old), shapes(make("classifier"), x))
  assert loaded.unused == ("cls.predictions.bias",)
  np.testing.assert_array_equal(
    loaded.params["positions"]["embedding"], tensors[name]
  )
  np.testing.assert_array_equal(
    loaded.params["layer_1"]["attention_norm"]["scale"],
    tensors["bert.encoder.layer.1.attention.output.LayerNorm.weight"],
  )


def test_a_head_that_is_not_there_keeps_its_initial_values(checkpoint):
  random = np.random.default_rng(4)
  tensors, x = hf_tensors(random, "qa_outputs"), example(random)
  loaded = bert_weights.load(checkpoint(tensors), shapes(make("classifier"), x))
  assert set(loaded.initial) == {
    f"{head}/{leaf}"
    for head in ("pooler", "classifier")
    for leaf in ("kernel", "bias")
  }
  assert (loaded.params["classifier"]["kernel"] == 7.0).all()
  assert set(loaded.unused) == {"qa_outputs.weight", "qa_outputs.bias"}


def drop(tensors):
  del tensors["bert.encoder.layer.1.output.dense.bias"]


def widen(tensors):
  name = "bert.embeddings.word_embeddings.weight"
  tensors[name] = np.zeros((12, 8), np.float32)


@pytest.mark.parametrize(
  ("damage", "message"),
  [
    (
      drop,
      r"expected a tensor 'encoder.layer.1.output.dense.bias' for layer_1",
    ),
    (widen, r"word_embeddings.weight' has shape \(12, 8\), expected \(11, 8\)"),
  ],
)
def test_a_checkpoint_of_another_model_is_refused(damage, message, checkpoint):
  random = np.random.default_rng(5)
  tensors = hf_tensors(random, "classifier")
  damage(tensors)
  path = checkpoint(tensors)
  with pytest.raises(ValueError, match=message):
    bert_weights.load(path, shapes(make("classifier"), example(random)))


def test_a_missing_or_truncated_file_is_refused(checkpoint, tmp_path):
  random = np.random.default_rng(6)
  params = shapes(make("classifier"), example(random))
  with pytest.raises(ValueError, match="got .*nowhere.*, which is not there"):
    bert_weights.load(tmp_path / "nowhere", params)
  path = checkpoint(hf_tensors(random, "classifier"))
  path.write_bytes(path.read_bytes()[:-100])
  with pytest.raises(ValueError, match="expected a whole safetensors file"):
    bert_weights.load(path, params)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda x: x["input_ids"], r"must be a dict of input_ids, .*got ndarray"),
    (lambda x: {"input_ids": x["input_ids"]}, r"got \['input_ids'\]"),
    (
      lambda x: x | {"attention_mask": x["attention_mask"][:, :2]},
      r"attention_mask must be \[B, L\].* got \(3, 2\)",
    ),
    (
      lambda x: {k: np.concatenate([v, v], 1) for k, v in x.items()},
      r"at most 7 tokens, .* got 10",
    ),
  ],
)
def test_inputs_that_are_no_text_are_refused(change, message):
  x = change(example(np.random.default_rng(7)))
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(
      lambda: make("classifier").init(jax.random.key(0), x, train=False)
    )


@pytest.mark.parametrize(
  ("sizes", "message"),
  [
    (dict(num_layers=0), "num_layers must be >= 1, got 0"),
    (dict(hidden=10, num_heads=3), "a multiple of num_heads=3, got 10"),
  ],
)
def test_wrong_sizes_are_refused(sizes, message):
  with pytest.raises(ValueError, match=message):
    encoder.Sizes(**sizes)


@pytest.mark.parametrize(
  ("options", "hidden", "heads", "layers"),
  [
    ({}, 768, 12, 12),
    (dict(width_scale=0.5), 384, 6, 12),
    (dict(width_scale=0.01, num_hidden=3), 64, 1, 3),
    (dict(hidden=128), 128, 2, 12),
  ],
)
def test_widths_are_whole_heads(options, hidden, heads, layers):
  sizes = models.build("bert", models.Options(2, _DROPOUT, **options)).sizes
  assert (sizes.hidden, sizes.num_heads, sizes.num_layers) == (
    hidden,
    heads,
    layers,
  )
  assert sizes.feed_forward == 4 * hidden


def test_a_run_starts_from_a_checkpoint_and_each_seeds_own_head(checkpoint):
  random = np.random.default_rng(8)
  tensors, x = hf_tensors(random, "qa_outputs"), example(random)
  one = shapes(make("classifier"), x)
  params = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf + 1]), one)
  state = state_lib.TrainState(params, {}, ())
  run = setup.Setup(
    program=types.SimpleNamespace(
      init=lambda members, example: state,
      devices=types.SimpleNamespace(replicate=lambda tree: tree),
    ),
    members=None,
    schedules=(),
    data=types.SimpleNamespace(inputs=x),
    splits={},
    num_steps=1,
    info=None,
    pretrained=str(checkpoint(tensors)),
  )
  started = run.init().params
  words = tensors["bert.embeddings.word_embeddings.weight"]
  np.testing.assert_array_equal(
    started["words"]["embedding"], np.stack([words, words])
  )
  assert started["classifier"]["bias"][:, 0].tolist() == [7.0, 8.0]


def test_a_checkpoint_is_for_bert_alone():
  with pytest.raises(ValueError, match="pretrained='x' has no effect.*bert"):
    config.RunConfig(pretrained="x")
