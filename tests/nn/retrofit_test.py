"""nnx models of others that follow a schedule."""

import warnings

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import nnx

import kdropout_jax as kd
from kdropout_jax.nn import _nnx_forgotten
from tests import shapes

KEY = jax.random.key(7)
SCHEDULE = kd.Sequential(k=4, m=2)
FEATURES = 16


class Mlp(nnx.Module):
  """Two dropouts on ones, so that the masks can be read off."""

  def __init__(self, rngs, rate=0.5):
    self.first = nnx.Dropout(rate, rngs=rngs)
    self.rest = nnx.List([nnx.Linear(4, 4, rngs=rngs)])
    self.rest.append(nnx.Dropout(rate, rngs=rngs))

  def __call__(self, x):
    return self.first(x), self.rest[1](x)


class Block(nnx.Module):
  def __init__(self, rngs):
    self.drop = nnx.Dropout(0.5, rngs=rngs)

  def __call__(self, x):
    return self.drop(x)


class Attentive(nnx.Module):
  def __init__(self, rngs):
    self.drop = nnx.Dropout(0.5, rngs=rngs)
    self.attention = nnx.MultiHeadAttention(
      2,
      FEATURES,
      dropout_rate=0.5,
      deterministic=False,
      decode=False,
      rngs=rngs,
    )

  def __call__(self, x):
    return self.drop(x), self.attention(x)


def ones(rows=8):
  return jnp.ones((rows, FEATURES))


def retrofit(model=None, schedule=SCHEDULE, key=KEY, **settings):
  model = Mlp(nnx.Rngs(0)) if model is None else model
  return kd.nnx.retrofit(model, schedule=schedule, key=key, **settings)


def at(model, step, x=None):
  kd.nnx.set_step(model, step)
  return model(ones() if x is None else x)


@pytest.mark.parametrize("per_layer", [False, True])
def test_masks_are_those_of_the_core_with_the_layers_own_keys(per_layer):
  schedule = kd.Pooled(5, m=4, per_layer=per_layer)
  model = retrofit(schedule=schedule)
  keys = kd.nnx.layer_keys(model)
  assert list(keys) == ["first", "rest/1"]
  for y, key in zip(at(model, 9), keys.values()):
    layer = jax.random.key_data(key)[-1] if per_layer else None
    ids = kd.subnet_ids(9, KEY, schedule, 8, layer=layer)
    masks = kd.subnet_masks(key, ids, FEATURES, kd.Bernoulli(0.5))
    np.testing.assert_array_equal(y, kd.dropout(ones(), masks, rate=0.5))


def test_linen_and_nnx_agree_given_the_same_layer_key():
  """Their layer keys differ by nature; all that follows is one behaviour."""
  model = retrofit()
  key = kd.nnx.layer_keys(model)["first"]
  ids = kd.subnet_ids(6, KEY, SCHEDULE, 8)
  linen = kd.linen.Dropout(0.5, deterministic=False)
  expected = linen.apply({}, ones(), subnets=ids, rng=key)
  np.testing.assert_array_equal(at(model, 6)[0], expected)
  x = jnp.ones((8, 3, FEATURES))
  expected = linen.apply({}, x, subnets=ids, rng=key)
  np.testing.assert_array_equal(at(model, 6, x)[0], expected)


def test_set_step_inside_jit_holds_masks_without_a_retrace():
  model = retrofit()
  traces = []

  @nnx.jit
  def call(model, x, step):
    traces.append(step)
    kd.nnx.set_step(model, step)
    return model(x)

  outs = [np.stack(call(model, ones(), step)) for step in range(9)]
  assert len(traces) == 1
  for step in range(1, 9):
    same = (outs[step] == outs[step - 1]).all()
    assert same == (step % 4 != 0)
  np.testing.assert_array_equal(outs[6], np.stack(at(retrofit(), 6)))
  assert (outs[0][0] != outs[0][1]).any()
  np.testing.assert_array_equal(outs[0][0, :4], outs[0][0, [0, 0, 0, 0]])
  assert (outs[0][0, 3] != outs[0][0, 4]).any()


@pytest.mark.parametrize(
  "per_layer,least,most", [(False, 16, 16), (True, 150, 255)]
)
def test_joint_subnets_over_all_layers_stay_within_the_pool(
  per_layer, least, most
):
  model = retrofit(schedule=kd.Pooled(16, m=4, per_layer=per_layer))
  graph, state = nnx.split(model)

  @jax.jit
  def masks(state, step):
    model = nnx.merge(graph, state)
    return jnp.concatenate(at(model, step), axis=1) > 0

  kept = np.concatenate([masks(state, step) for step in range(300)])
  assert least <= len(np.unique(kept, axis=0)) <= most


def test_masks_survive_split_merge_and_checkpoints(tmp_path):
  model = retrofit()
  expected = at(model, 6)
  graph, state = nnx.split(model)
  for y, z in zip(nnx.merge(graph, state)(ones()), expected):
    np.testing.assert_array_equal(y, z)
  saved = nnx.to_pure_dict(nnx.state(model, nnx.Not(nnx.RngState)))
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(tmp_path / "model", saved)
    checkpointer.wait_until_finished()
    restored = checkpointer.restore(tmp_path / "model", saved)
  other = retrofit(key=jax.random.key(1))
  assert any((y != z).any() for y, z in zip(at(other, 6), expected))
  kd.nnx.set_step(other, 0)
  state = nnx.state(other, nnx.Not(nnx.RngState))
  nnx.replace_by_pure_dict(state, restored)
  nnx.update(other, state)
  for y, z in zip(other(ones()), expected):
    np.testing.assert_array_equal(y, z)


def test_layers_of_a_stack_have_masks_of_their_own_under_scan():
  @nnx.split_rngs(splits=3)
  @nnx.vmap
  def create(rngs):
    return Block(rngs)

  model = retrofit(create(nnx.Rngs(0)))

  @nnx.scan(in_axes=(0, nnx.Carry), out_axes=(nnx.Carry, 0))
  def forward(model, x):
    return x, model(x)

  outs = []
  for step in (0, 3, 4):
    kd.nnx.set_step(model, step)
    outs.append(np.asarray(forward(model, ones())[1]))
  np.testing.assert_array_equal(outs[0], outs[1])
  assert (outs[1] != outs[2]).any()
  assert len({layer.tobytes() for layer in outs[0]}) == 3
  keys = kd.nnx.layer_keys(model)["drop"]
  ids = kd.subnet_ids(4, KEY, SCHEDULE, 8)
  for y, key in zip(outs[2], keys):
    masks = kd.subnet_masks(key, ids, FEATURES, kd.Bernoulli(0.5))
    np.testing.assert_array_equal(y, kd.dropout(ones(), masks, rate=0.5))


@pytest.mark.parametrize("layers", [2, 5])
def test_a_stack_of_layers_without_rngs_is_seen_by_what_stands_beside(layers):
  """A key has two words, which two layers would take one each of."""

  class Bare(nnx.Module):
    def __init__(self, rngs):
      self.linear = nnx.Linear(FEATURES, FEATURES, rngs=rngs)
      self.drop = nnx.Dropout(0.5)

    def __call__(self, x):
      return self.drop(jnp.ones_like(self.linear(x)))

  @nnx.split_rngs(splits=layers)
  @nnx.vmap
  def create(rngs):
    return Bare(rngs)

  model = nnx.Dict(stack=create(nnx.Rngs(0)), last=nnx.Dropout(0.5))
  retrofit(model)
  scan = nnx.scan(
    lambda x, block: (x, block(x)),
    in_axes=(nnx.Carry, 0),
    out_axes=(nnx.Carry, 0),
  )
  outs = scan(ones(), model.stack)[1]
  assert len({layer.tobytes() for layer in np.asarray(outs)}) == layers
  keys = kd.nnx.layer_keys(model)
  assert keys["stack/drop"].shape == (layers,) and keys["last"].shape == ()
  ids = kd.subnet_ids(0, KEY, SCHEDULE, 8)
  for y, key in zip(outs, keys["stack/drop"]):
    masks = kd.subnet_masks(key, ids, FEATURES, kd.Bernoulli(0.5))
    np.testing.assert_array_equal(y, kd.dropout(ones(), masks, rate=0.5))
  vmap = nnx.vmap(lambda block, x: block(x), in_axes=(0, None))
  np.testing.assert_array_equal(vmap(model.stack, ones()), outs)
  with pytest.raises(kd.UnsupportedError, match="stands in a stack of layers"):
    model.stack.drop(ones())


def test_layers_that_are_retrofitted_one_by_one_inside_vmap_differ():
  @nnx.vmap
  def create(key):
    return retrofit(Block(nnx.Rngs(key)))

  keys = jax.random.split(jax.random.key(1), 3)
  words = create(keys).drop.layer_key[...]
  assert len(np.unique(words, axis=0)) == 3
  np.testing.assert_array_equal(
    jax.jit(lambda k: create(k).drop.layer_key[...])(keys), words
  )
  alone = retrofit(Block(nnx.Rngs(keys[0]))).drop.layer_key[...]
  jitted = nnx.jit(lambda key: retrofit(Block(nnx.Rngs(key))))(keys[0])
  np.testing.assert_array_equal(jitted.drop.layer_key[...], alone)

  @nnx.vmap
  def bare(key):
    linear = nnx.Linear(2, 2, rngs=nnx.Rngs(key))
    return retrofit(nnx.Dict(linear=linear, drop=nnx.Dropout(0.5)))

  with pytest.raises(kd.UnsupportedError, match="a vmap over 3 layers cannot"):
    bare(keys)


@pytest.mark.parametrize("jit", [jax.jit, nnx.jit])
def test_a_step_that_is_set_outside_the_compiled_function_is_an_error(jit):
  model = retrofit()
  kd.nnx.set_step(model, 1)
  with pytest.raises(ValueError, match="step must be traced.*set_step inside"):
    jit(lambda x: model(x))(ones())
  # What is not compiled in is served.
  expected = model(ones())[0]
  y = jax.vmap(lambda x: model(x)[0])(ones()[None])[0]
  np.testing.assert_array_equal(y, expected)
  g = jax.grad(lambda x: model(x)[0].sum())(ones())
  np.testing.assert_array_equal(g, expected)
  model.eval()
  np.testing.assert_array_equal(jit(lambda x: model(x)[0])(ones()), ones())


def test_parts_that_are_retrofitted_apart_must_differ():
  def parts(**second):
    model = nnx.Dict(a=Block(nnx.Rngs(0)), b=Block(nnx.Rngs(1)))
    retrofit(model.a)
    retrofit(model.b, **second)
    return model

  with pytest.raises(ValueError, match="two dropouts of the model have one"):
    kd.nnx.set_step(parts(), 0)
  model = parts(name="b")
  kd.nnx.set_step(model, 0)
  assert (model.a(ones()) != model.b(ones())).any()
  assert "drop" in kd.nnx.layer_keys(model.b)


def test_micro_batches_train_the_subnets_of_their_own_rows():
  full = at(retrofit(), 6)[0]
  model = retrofit(batch_size=8, first_row=0)

  @nnx.jit
  def call(model, step, first_row):
    kd.nnx.set_step(model, step, first_row)
    return model(ones(2))[0]

  parts = [call(model, 6, row) for row in (0, 2, 4, 6)]
  np.testing.assert_array_equal(np.concatenate(parts), full)
  with pytest.raises(ValueError, match="needs a model that was retrofitted"):
    kd.nnx.set_step(retrofit(), 6, first_row=2)
  with pytest.raises(ValueError, match="of its 2 subnets.*Say which rows"):
    at(retrofit(batch_size=8), 6, ones(2))


def test_a_bare_dropout_is_replaced_and_a_second_retrofit_refused():
  drop = nnx.Dropout(0.5)
  y = retrofit(drop)(ones())
  np.testing.assert_array_equal(y[0], y[3])
  with pytest.raises(ValueError, match="retrofitted already, got Mlp"):
    retrofit(retrofit())


def test_a_pattern_may_depend_on_the_path():
  def pattern(rate, path):
    return kd.ExactCount(rate) if path == "first" else kd.Bernoulli(0.0)

  first, last = at(retrofit(pattern=pattern), 1)
  assert (np.count_nonzero(first, axis=1) == 8).all()
  np.testing.assert_array_equal(last, ones())


def test_gradients_go_through_jit_and_remat():
  model = retrofit()
  kd.nnx.set_step(model, 2)

  @nnx.jit
  def gradient(model, x):
    call = nnx.remat(lambda model, x: model(x)[0].sum())
    return nnx.grad(call, argnums=1)(model, x)

  np.testing.assert_array_equal(gradient(model, ones()), model(ones())[0])


def test_attention_dropout_changes_while_masks_hold():
  model = retrofit(Attentive(nnx.Rngs(0)))
  x = jnp.ones((4, 6, FEATURES))
  (dropped, weights), (again, other) = at(model, 0, x), at(model, 1, x)
  np.testing.assert_array_equal(dropped, again)
  assert (weights != other).any()


def test_each_dropout_keeps_its_rate_dims_and_mode():
  rngs = nnx.Rngs(0)
  model = nnx.Dict(
    none=nnx.Dropout(0.0, rngs=rngs),
    quarter=nnx.Dropout(0.25, rngs=rngs),
    all=nnx.Dropout(1.0),
    shared=nnx.Dropout(0.5, broadcast_dims=(1,), rngs=rngs),
    off=nnx.Dropout(0.5, deterministic=True),
  )
  retrofit(model, kd.Standard())
  x = jnp.ones((64, 4, FEATURES))
  y = {name: model[name](x) for name in model}
  np.testing.assert_array_equal(y["none"], x)
  np.testing.assert_array_equal(y["off"], x)
  np.testing.assert_array_equal(y["all"], jnp.zeros_like(x))
  assert set(np.unique(y["quarter"])) == {0, np.float32(1) / np.float32(0.75)}
  # 4096 units: five standard deviations are 0.034.
  assert abs((y["quarter"] == 0).mean() - 0.25) < 0.034
  shared = y["shared"]
  np.testing.assert_array_equal(shared, np.broadcast_to(shared[:, :1], x.shape))
  assert (shared[0, 0] != shared[0, 0, 0]).any()
  model.train()
  assert (model["off"](x) != x).any()
  model.eval()
  np.testing.assert_array_equal(model["quarter"](x), x)


@pytest.mark.parametrize("pattern", [kd.ExactCount, kd.ExactCount(0.9)])
def test_pattern_and_partial_batches(pattern):
  """A pattern takes the rate of the layer."""
  model = retrofit(pattern=pattern, batch_size=8)
  full = at(model, 1)[0]
  assert (np.count_nonzero(full, axis=1) == 8).all()
  np.testing.assert_array_equal(at(model, 1, ones(5))[0], full[:5])
  with pytest.raises(ValueError, match="at most batch_size=8 rows, got 9"):
    at(model, 1, ones(9))


def test_dropouts_in_containers_are_found():
  rngs = nnx.Rngs(0)
  model = nnx.Module()
  model.pair = nnx.data((nnx.Dropout(0.5, rngs=rngs), 3))
  model.table = nnx.data({"a": [nnx.Dropout(0.5, rngs=rngs)]})
  model.chain = nnx.Sequential(jnp.sin, nnx.Dropout(0.5, rngs=rngs))
  retrofit(model)
  names = {"pair/0", "table/a/0", "chain/layers/1"}
  assert set(kd.nnx.layer_keys(model)) == names
  kinds = [type(node) for _, node in nnx.iter_graph(model)]
  assert nnx.Dropout not in kinds and model.pair[1] == 3


def test_optimizers_and_reseeding_pass_the_keys_by():
  model = retrofit()
  expected = at(model, 1)[0]
  assert len(jax.tree.leaves(nnx.state(model, nnx.Param))) == 2
  nnx.reseed(model, dropout=5, default=6)
  np.testing.assert_array_equal(model(ones())[0], expected)


def test_a_key_of_another_implementation_is_converted():
  rbg = jax.random.key(7, impl="rbg")
  words = jax.random.key_data(rbg)
  converted = jax.random.wrap_key_data(words[:2], impl="threefry2x32")
  for word in words[2:]:
    converted = jax.random.fold_in(converted, word)
  a, b = (at(retrofit(key=key), 3)[0] for key in (rbg, converted))
  np.testing.assert_array_equal(a, b)


def test_this_librarys_modules_are_left_to_their_subnets():
  rngs = nnx.Rngs(dropout=0, subnets=1)
  model = nnx.Dict(ours=kd.nnx.Dropout(0.5, rngs=rngs))
  with pytest.raises(ValueError, match="no nnx.Dropout to replace, got Dict"):
    retrofit(model)
  assert list(kd.nnx.layer_keys(model)) == ["ours"]


def test_shared_and_subclassed_dropouts_are_refused_by_path():
  drop = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
  with pytest.raises(kd.UnsupportedError, match="stands at 'a' and at 'b'"):
    retrofit(nnx.Dict(a=drop, b=drop))

  class Mine(nnx.Dropout):
    pass

  with pytest.raises(kd.UnsupportedError, match="'a' is a Mine"):
    retrofit(nnx.Dict(a=Mine(0.5, rngs=nnx.Rngs(0))))


@pytest.mark.parametrize(
  "settings,message",
  [
    (dict(schedule=3), "schedule must be Standard, Sequential"),
    (dict(schedule=kd.Sequential(jnp.array(3))), "must hold Python integers"),
    (dict(schedule=kd.Sequential(np.array([3]))), "must hold Python integers"),
    (dict(key=3), "key must be a jax.random key"),
    (dict(key=jax.random.split(KEY)), "key must be a single key"),
    (dict(pattern=0.5), "pattern must be a pattern, such as kd.ExactCount"),
    (dict(batch_size=0), "batch_size must be >= 1"),
    (dict(model=nnx.Dict()), "no nnx.Dropout to replace, got Dict"),
  ],
)
def test_bad_settings(settings, message):
  with pytest.raises(ValueError, match=message):
    retrofit(**settings)


def test_bad_steps_and_inputs():
  model = retrofit()
  for step in (-1, 0.5, jnp.arange(2), True):
    with pytest.raises(ValueError, match="step must be"):
      kd.nnx.set_step(model, step)
  with pytest.raises(ValueError, match="call kd.nnx.retrofit first"):
    kd.nnx.set_step(Mlp(nnx.Rngs(0)), 1)
  with pytest.raises(ValueError, match=r"got shape \(16,\)"):
    at(model, 0, jnp.ones(FEATURES))
  kd.nnx.set_step(model, 2**32 + 5)
  assert model.first.step[...] == 5


def gradients(model, x):
  return nnx.grad(lambda model: sum(y.sum() for y in model(x)))(model)


def test_a_loop_without_set_step_is_told_once():
  model = retrofit()
  with warnings.catch_warnings(record=True) as found:
    warnings.simplefilter("always")
    for _ in range(3):
      kd.nnx.set_step(model, 0)  # On purpose: the same number is set again.
      gradients(model, ones())
    assert not found
    for _ in range(3):
      gradients(model, ones())
  assert len(found) == 2  # The model has two dropouts.
  assert all("a second time. Call kd.nnx.set_step" in str(w.message)
             for w in found)  # fmt: skip
  # In tests a call of the library passes the check of shapes.
  assert {w.filename for w in found} <= {__file__, shapes.__file__}


def test_a_model_that_is_not_trained_is_told_nothing():
  model = retrofit()
  model.eval()
  with warnings.catch_warnings(action="error"):
    model(ones()), model(ones())


def test_a_compiled_loop_without_set_step_is_told(monkeypatch):
  monkeypatch.setattr(_nnx_forgotten, "_ever_set", False)
  with pytest.warns(UserWarning, match="its step was never set"):
    nnx.jit(gradients)(retrofit(), ones())
  monkeypatch.setattr(_nnx_forgotten, "_ever_set", False)

  @nnx.jit
  def step(model, number):
    kd.nnx.set_step(model, number)
    return gradients(model, ones())

  with warnings.catch_warnings(action="error"):
    step(retrofit(), 3)


def test_parts_of_linen_are_told():
  linen = nnx.bridge.ToNNX(nn.Dropout(0.5, deterministic=False))
  with pytest.warns(UserWarning, match="'linen' is a linen module") as found:
    retrofit(nnx.Dict(linen=linen, own=nnx.Dropout(0.5)))
  # In tests a call of the library passes the check of shapes.
  assert {w.filename for w in found} <= {__file__, shapes.__file__}


def test_numbers_of_numpy_are_numbers():
  schedule = kd.Sequential(k=np.int64(4), m=np.int64(2))
  for a, b in zip(at(retrofit(schedule=schedule), 5), at(retrofit(), 5)):
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("jit", [jax.jit, nnx.jit])
def test_masks_that_subnets_sample_are_not_compiled_in_either(jit):
  model = kd.subnets.visitable(retrofit(Block(nnx.Rngs(0))))
  kd.nnx.set_step(model, 1)
  call = lambda p, x: model(x)  # noqa: E731

  def sample(x):
    return kd.subnets.sample_masks(call, {}, x)["drop"].keep

  with pytest.raises(ValueError, match="step must be traced.*set_step inside"):
    jit(sample)(ones())
  before = sample(ones())
  kd.nnx.set_step(model, 4)
  assert (sample(ones()) != before).any()
