"""Models of others that follow a schedule: the three traps, and bad calls."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import kdropout_jax as kd

KEY = jax.random.key(7)
SCHEDULE = kd.Sequential(k=4, m=2)
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


def run(model, step=0, x=None, schedule=SCHEDULE, variables=None, **kwargs):
  return kd.linen.apply(
    model,
    {} if variables is None else variables,
    ones() if x is None else x,
    schedule=schedule,
    step=step,
    key=KEY,
    **kwargs,
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


@pytest.mark.parametrize(
  "way,name",
  [("apply", name) for name in MODELS]
  + [("intercept", name) for name in ("setup_other_stream", "scan", "jit")],
)
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


def joint_subnets(schedule, num_steps=300):
  """The distinct joint masks of a two-layer model over a run."""

  def masks(step):
    kept = jnp.stack(run(Mlp(), step, schedule=schedule)) > 0
    return kept.swapaxes(0, 1).reshape(8, -1)

  kept = np.asarray(jax.jit(jax.vmap(masks))(jnp.arange(num_steps)))
  return len(np.unique(kept.reshape(-1, kept.shape[-1]), axis=0))


def test_first_trap_joint_subnets_stay_within_the_pool():
  assert joint_subnets(kd.Pooled(16, m=4)) == 16
  # Each layer draws its own: of 16 * 16 pairs, 600 draws miss about 25.
  assert 150 < joint_subnets(kd.Pooled(16, m=4, per_layer=True)) < 256


def test_second_trap_a_per_step_key_of_the_users_cannot_slip_in():
  x = ones()

  def masks(rngs):
    with kd.linen.intercept(schedule=SCHEDULE, step=1, key=KEY):
      return Mlp().apply({}, x, rngs=rngs)[0]

  expected = run(Mlp(), 1)[0]
  for rngs in (None, {"dropout": jax.random.key(1)}, jax.random.key(2)):
    np.testing.assert_array_equal(masks(rngs), expected)
    np.testing.assert_array_equal(run(Mlp(), 1, rngs=rngs)[0], expected)
  rngs = {"dropout": jax.random.key(3), "params": jax.random.key(4)}
  np.testing.assert_array_equal(run(Mlp(), 1, rngs=rngs)[0], expected)
  drop = nn.Dropout(0.5, deterministic=False)
  a, b = (
    kd.linen.apply(drop, {}, x, rng=rng, schedule=SCHEDULE, step=1, key=KEY)
    for rng in jax.random.split(KEY)
  )
  np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["compact", "setup"])
def test_a_bound_model_keeps_its_masks_from_call_to_call(name):
  model = MODELS[name].bind({}, rngs={"dropout": jax.random.key(3)})
  for step in (0, 3, 4):
    with kd.linen.intercept(schedule=SCHEDULE, step=step, key=KEY):
      out = model(ones())
    for y, expected in zip(out, run(MODELS[name], step)):
      np.testing.assert_array_equal(y, expected)


def test_third_trap_attention_weights_change_from_step_to_step():
  x = jnp.ones((4, 6, FEATURES))
  model = Attentive()
  variables = model.init(jax.random.key(0), x)
  call = jax.jit(lambda step: run(model, step, x, variables=variables))
  outs = [call(step) for step in range(3)]
  for dropped, _ in outs[1:]:
    np.testing.assert_array_equal(dropped, outs[0][0])
  assert (outs[0][1] != outs[1][1]).any()
  assert (outs[1][1] != outs[2][1]).any()
  np.testing.assert_array_equal(call(1)[1], outs[1][1])
  rng = jax.random.key(5)
  own = [
    run(model, step, x, variables=variables, dropout_rng=rng)[1]
    for step in (0, 1)
  ]
  np.testing.assert_array_equal(*own)


def test_third_trap_any_other_reader_can_be_refused_by_name():
  with pytest.raises(
    kd.UnsupportedError, match="Noise 'noise' reads a dropout"
  ):
    run(Noisy(), other_readers="refuse")


def test_each_layer_keeps_its_rate_and_its_broadcast_dims():
  class Model(nn.Module):
    @nn.compact
    def __call__(self, x):
      return (
        nn.Dropout(0.0, deterministic=False)(x),
        nn.Dropout(0.25, deterministic=False)(x),
        nn.Dropout(1.0, deterministic=False)(x),
        nn.Dropout(0.5, broadcast_dims=(1,), deterministic=False)(x),
      )

  x = jnp.ones((64, 4, FEATURES))
  schedule = kd.Standard()
  none, quarter, all_, shared = run(Model(), x=x, schedule=schedule)
  np.testing.assert_array_equal(none, x)
  np.testing.assert_array_equal(all_, jnp.zeros_like(x))
  assert set(np.unique(quarter)) == {0.0, np.float32(1) / np.float32(0.75)}
  # 4096 units: five standard deviations are 0.034.
  assert abs((quarter == 0).mean() - 0.25) < 0.034
  assert (quarter[0, 0] != quarter[0, 1]).any()
  np.testing.assert_array_equal(shared, np.broadcast_to(shared[:, :1], x.shape))
  exact = run(Model(), x=x, schedule=schedule, pattern=kd.ExactCount)[1]
  assert (np.count_nonzero(exact, axis=-1) == 12).all()
  np.testing.assert_array_equal(exact, np.broadcast_to(exact[:, :1], x.shape))


def test_masks_are_those_of_the_core_with_the_layers_own_keys():
  x = ones()
  schedule = kd.Pooled(5, m=4, per_layer=True)
  keys = kd.linen.layer_keys(Mlp(), {}, x, key=KEY)
  for y, (name, key) in zip(run(Mlp(), 9, schedule=schedule), keys.items()):
    layer = jax.random.key_data(key)[-1]
    ids = kd.subnet_ids(9, KEY, schedule, 8, layer=layer)
    masks = kd.subnet_masks(key, ids, FEATURES, kd.Bernoulli(0.5))
    np.testing.assert_array_equal(y, kd.dropout(x, masks, rate=0.5), name)


@pytest.mark.parametrize(
  "name", ["compact", "setup_other_stream", "scan_of_remat", "jit", "vmap"]
)
def test_layer_keys_rebuild_the_masks_of_any_model(name):
  model = MODELS[name]
  keys = kd.linen.layer_keys(model, {}, ones(), key=KEY)
  flat = [key for layer in keys.values() for key in jnp.atleast_1d(layer)]
  out = run(model, 6)
  ids = kd.subnet_ids(6, KEY, SCHEDULE, 8)
  built = {
    kd.subnet_masks(key, ids, FEATURES, kd.Bernoulli(0.5)).dense().tobytes()
    for key in flat
  }
  seen = {(np.asarray(layer)[::4] > 0).tobytes() for layer in out}
  assert built == seen
  assert len(built) == len(flat) == len(out)


def test_layer_keys_names_layers_by_their_paths():
  x = ones()
  assert set(kd.linen.layer_keys(Scanned(), {}, x, key=KEY)) == {"scan/drop"}

  class Twice(nn.Module):
    @nn.compact
    def __call__(self, x):
      drop = nn.Dropout(0.5, deterministic=False, name="drop")
      return drop(x), drop(x)

  keys = kd.linen.layer_keys(Twice(), {}, x, key=KEY)
  assert list(keys) == ["drop", "drop#1"]
  first, second = run(Twice())
  assert (first != second).any()


def test_layer_keys_know_this_librarys_modules():
  x, ids = ones(), jnp.array([3, 4], jnp.uint32)

  class Ours(nn.Module):
    @nn.compact
    def __call__(self, x, subnets=None):
      drop = kd.linen.Dropout(0.5, deterministic=False, name="drop")
      masks = kd.linen.Dropout(0.5, name="site").masks(FEATURES, ids)
      return drop(x, subnets=subnets), masks

  keys = kd.linen.layer_keys(Ours(), {}, x, subnets=ids, key=KEY)
  assert set(keys) == {"drop", "site"}
  y, site = Ours().apply({}, x, subnets=ids, rngs={"subnets": KEY})
  masks = kd.subnet_masks(keys["drop"], ids, FEATURES, kd.Bernoulli(0.5))
  np.testing.assert_array_equal(y, kd.dropout(x, masks, rate=0.5))
  masks = kd.subnet_masks(keys["site"], ids, FEATURES, kd.Bernoulli(0.5))
  np.testing.assert_array_equal(site.keep, masks.keep)


def test_layer_keys_of_a_call_without_active_dropout_is_an_error():
  with pytest.raises(ValueError, match="no dropout was active in this call"):
    kd.linen.layer_keys(Mlp(), {}, ones(), train=False, key=KEY)


def test_layer_keys_say_where_no_collection_leaves_a_transform():
  class Model(nn.Module):
    @nn.compact
    def __call__(self, x):
      scan = nn.scan(Block, split_rngs={"dropout": True}, length=2)
      return scan()(x, None)[1]

  with pytest.raises(kd.UnsupportedError, match="carries no collection"):
    kd.linen.layer_keys(Model(), {}, ones(), key=KEY)


def test_this_librarys_modules_follow_with_their_own_settings():
  class Ours(nn.Module):
    @nn.compact
    def __call__(self, x, train=True):
      exact = kd.linen.Dropout(0.25, pattern=kd.ExactCount)
      connect = kd.linen.DropConnectDense(4, rate=0.5)
      y = connect(jnp.ones_like(x), deterministic=not train)
      return exact(x, deterministic=not train), y

  x = ones()
  variables = Ours().init(jax.random.key(0), x, train=False)
  outs = [run(Ours(), step, variables=variables) for step in (0, 3, 4)]
  for before, after, later in zip(*outs):
    np.testing.assert_array_equal(before, after)
    assert (before != later).any()
    np.testing.assert_array_equal(before[0], before[3])
    assert (before[3] != before[4]).any()
  assert (np.count_nonzero(outs[0][0], axis=1) == 12).all()
  off = run(Ours(), variables=variables, train=False)[0]
  np.testing.assert_array_equal(off, x)


def test_a_subclass_of_dropout_keeps_its_code():
  class Shifted(nn.Dropout):
    @nn.compact
    def __call__(self, inputs):
      return super().__call__(inputs) + 1.0

  y = run(Shifted(0.5, deterministic=False))
  assert set(np.unique(y)) == {1.0, 3.0}
  np.testing.assert_array_equal(y[0], y[3])


def test_gradients_go_through_remat_and_scan():
  x = ones()

  def loss(x, step, remat):
    return (run(Scanned(remat=remat), step, x) * x[None]).sum()

  plain, remat = (
    jax.jit(jax.grad(lambda x, step, r=r: loss(x, step, r)))(x, 2)
    for r in (False, True)
  )
  np.testing.assert_array_equal(plain, remat)
  np.testing.assert_array_equal(plain, run(Scanned(), 2).sum(axis=0))


def test_eager_gradients_pass_the_check_of_the_step():
  x = ones()
  gradient = jax.grad(lambda x: run(Mlp(), 2, x)[0].sum())(x)
  np.testing.assert_array_equal(gradient, run(Mlp(), 2)[0])


def test_a_partial_batch_takes_the_first_rows_subnets():
  full = run(Mlp(), 2, batch_size=8)[0]
  part = run(Mlp(), 2, ones(5), batch_size=8)[0]
  np.testing.assert_array_equal(part, full[:5])
  with pytest.raises(ValueError, match="at most batch_size=8 rows, got 9"):
    run(Mlp(), 2, ones(9), batch_size=8)


def test_micro_batches_train_the_subnets_of_their_own_rows():
  full = run(Mlp(), 2, schedule=kd.Sequential(k=4, m=4))[0]
  assert len(np.unique(full, axis=0)) == 4

  @jax.jit
  def parts(step):
    def part(carry, number):
      out = run(
        Mlp(),
        step,
        ones(2),
        schedule=kd.Sequential(k=4, m=4),
        batch_size=8,
        first_row=2 * number,
      )
      return carry, out[0]

    return jax.lax.scan(part, None, jnp.arange(4))[1]

  np.testing.assert_array_equal(parts(2).reshape(full.shape), full)
  with pytest.raises(ValueError, match="of its 4 subnets.*Say which rows"):
    run(Mlp(), 2, ones(2), schedule=kd.Sequential(m=4), batch_size=8)
  with pytest.raises(ValueError, match="of its 8 subnets.*Say which rows"):
    run(Mlp(), 2, ones(2), schedule=kd.Standard(), batch_size=8)
  with pytest.raises(ValueError, match=r"first_row must be in \[0, 6\] for 2"):
    run(Mlp(), 2, ones(2), batch_size=8, first_row=7)


def test_multi_steps_of_optax_trains_as_the_full_batch_does():
  model = nn.Sequential([nn.Dropout(0.5, deterministic=False), nn.Dense(1)])
  x = jax.random.normal(KEY, (8, FEATURES))
  variables = model.init({"params": KEY, "dropout": KEY}, x)
  rows = 2

  def loss(variables, x, step, first_row):
    return run(
      model, step, x, variables=variables, batch_size=8, first_row=first_row
    ).mean()

  plain, every = optax.sgd(0.1), optax.MultiSteps(optax.sgd(0.1), 8 // rows)

  @jax.jit
  def micro_step(variables, state, x):
    first_row = state.mini_step * rows
    grads = jax.grad(loss)(variables, x, state.gradient_step, first_row)
    updates, state = every.update(grads, state, variables)
    return optax.apply_updates(variables, updates), state

  expected, got = variables, variables
  plain_state, state = plain.init(expected), every.init(got)
  for step in range(2):
    grads = jax.grad(loss)(expected, x, 4 * step, None)
    updates, plain_state = plain.update(grads, plain_state)
    expected = optax.apply_updates(expected, updates)
    # An optimizer step of four micro-steps; the schedule's k is 4.
    state = state._replace(gradient_step=jnp.int32(4 * step))
    for first in range(0, 8, rows):
      got, state = micro_step(got, state, x[first : first + rows])
  # Sums of 8 rows in another order: eps * 8 * the largest term, twice.
  atol = np.finfo(np.float32).eps * 8 * 2 * float(jnp.abs(x).max())
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected)):
    np.testing.assert_allclose(a, b, rtol=0, atol=atol)


def test_an_eager_vmap_over_variables_compiles_nothing_in():
  model = nn.Sequential([nn.Dense(8), nn.Dropout(0.5, deterministic=False)])

  def init(key):
    return model.init({"params": key, "dropout": key}, ones())

  def one(variables):
    return run(model, 1, variables=variables)

  variables = jax.vmap(init)(jax.random.split(KEY, 2))
  outs = jax.vmap(one)(variables)
  alone = one(jax.tree.map(lambda leaf: leaf[1], variables))
  # The same products in a batch of two: FEATURES terms of a unit variance.
  atol = np.finfo(np.float32).eps * FEATURES * float(jnp.abs(alone).max())
  np.testing.assert_allclose(outs[1], alone, rtol=0, atol=atol)
  with pytest.raises(ValueError, match="step must be traced where"):
    jax.jit(jax.vmap(one))(variables)
  with pytest.raises(ValueError, match="step must be traced where"):
    jax.jit(lambda: run(Mlp(), 1))()


def test_stochastic_depth_keeps_or_drops_whole_rows_under_any_pattern():
  class Depth(nn.Module):
    @nn.compact
    def __call__(self, x):
      drop = nn.Dropout(0.25, broadcast_dims=(1, 2), deterministic=False)
      return drop(x), nn.Dropout(0.25, deterministic=False)(x)

  x = jnp.ones((1024, 3, FEATURES))
  settings = dict(x=x, schedule=kd.Standard())
  plain = run(Depth(), **settings)[0]
  for pattern in (kd.ExactCount, kd.Blocks(block_size=4)):
    rows, units = run(Depth(), pattern=pattern, **settings)
    np.testing.assert_array_equal(rows, plain)
    assert (np.count_nonzero(units[:, 0], axis=-1) == 12).all()
  assert {row.tobytes() for row in np.asarray(plain)} == {
    np.full((3, FEATURES), value, np.float32).tobytes()
    for value in (0, np.float32(1) / np.float32(0.75))
  }
  # 1024 flags: five standard deviations are 0.068.
  assert abs((plain[:, 0, 0] == 0).mean() - 0.25) < 0.068


def test_a_pattern_may_depend_on_the_path_and_be_a_custom_one():
  def pattern(rate, path):
    if path == "Dropout_0":
      return kd.ExactCount(rate)
    return kd.CustomPattern(_first_half, 0.5)

  first, second = run(Mlp(), pattern=pattern)
  assert (np.count_nonzero(first, axis=1) == 8).all()
  expected = np.tile([2.0] * 8 + [0.0] * 8, (8, 1))
  np.testing.assert_array_equal(second, expected)
  both = run(Mlp(rate=0.1), pattern=kd.CustomPattern(_first_half, 0.5))
  np.testing.assert_array_equal(both[0], expected)


def _first_half(key, width):
  del key
  return jnp.arange(width) < width // 2


def test_a_batch_without_rows_comes_back_without_rows():
  for y in run(Mlp(), 1, ones(0)):
    assert y.shape == (0, FEATURES)


def test_a_key_of_another_implementation_is_converted_at_the_entrance():
  rbg = jax.random.key(7, impl="rbg")
  converted = jax.random.fold_in(
    jax.random.fold_in(
      jax.random.wrap_key_data(
        jax.random.key_data(rbg)[:2], impl="threefry2x32"
      ),
      jax.random.key_data(rbg)[2],
    ),
    jax.random.key_data(rbg)[3],
  )
  a, b = (
    kd.linen.apply(Scanned(), {}, ones(), schedule=SCHEDULE, step=0, key=key)
    for key in (rbg, converted)
  )
  np.testing.assert_array_equal(a, b)


def test_mutable_collections_come_back_as_usual():
  class Model(nn.Module):
    @nn.compact
    def __call__(self, x):
      count = self.variable("stats", "count", jnp.zeros, ())
      count.value += 1.0
      return nn.Dropout(0.5, deterministic=False)(x)

  variables = {"stats": {"count": jnp.zeros(())}}
  y, state = run(Model(), variables=variables, mutable=["stats"])
  assert state == {"stats": {"count": 1.0}}
  np.testing.assert_array_equal(y[0], y[3])
  y, state = run(Model(), variables=variables, mutable=True)
  assert state == {"stats": {"count": 1.0}}
  with kd.linen.intercept(schedule=SCHEDULE, step=0, key=KEY):
    z, state = Model().apply(variables, ones(), mutable=["stats"])
  assert state == {"stats": {"count": 1.0}}
  np.testing.assert_array_equal(z, y)


def test_control_flow_on_values_works_eagerly():
  class Model(nn.Module):
    @nn.compact
    def __call__(self, x):
      if x.sum() > 0:
        return nn.Dropout(0.5, deterministic=False)(x)
      return x

  assert set(np.unique(run(Model()))) == {0.0, 2.0}


def test_init_works_inside_the_context():
  model = nn.Sequential([nn.Dense(4), nn.Dropout(0.5, deterministic=False)])
  with kd.linen.intercept(schedule=SCHEDULE, step=0, key=KEY):
    # Masks decide nothing here, so the step need not be traced.
    variables = jax.jit(model.init)(jax.random.key(0), ones())
  assert variables["params"]["layers_0"]["kernel"].shape == (FEATURES, 4)


def test_opening_it_outside_the_jitted_function_is_an_error():
  x = ones()
  jitted = jax.jit(lambda x: Mlp().apply({}, x)[0])
  with pytest.raises(ValueError, match="step must be traced where the model's"):
    with kd.linen.intercept(schedule=SCHEDULE, step=0, key=KEY):
      jitted(x)
  variables = {"params": {"unused": jnp.ones(())}}
  with pytest.raises(ValueError, match="step must be traced where the model's"):
    jax.jit(lambda v: run(Mlp(), 0, x, variables=v)[0])(variables)


def test_standing_around_a_compiled_function_is_an_error():
  x = ones()
  jitted = jax.jit(lambda x: Mlp().apply({}, x, rngs={"dropout": KEY})[0])
  jitted(x)
  with pytest.raises(ValueError, match="step must be traced where"):
    with kd.linen.intercept(schedule=SCHEDULE, step=0, key=KEY):
      jitted(x)
  compiled = jitted.lower(x).compile()
  with pytest.raises(ValueError, match="no module was called inside"):
    with kd.linen.intercept(schedule=SCHEDULE, step=0, key=KEY):
      compiled(x)


def test_a_part_that_was_jitted_before_follows():
  drop = nn.Dropout(0.5, deterministic=False)
  encode = jax.jit(lambda x: drop.apply({}, x, rngs={"dropout": KEY}))
  encode(ones())

  @jax.jit
  def forward(x, step):
    with kd.linen.intercept(schedule=SCHEDULE, step=step, key=KEY):
      return encode(x)

  for step in (0, 3, 4):
    np.testing.assert_array_equal(forward(ones(), step), run(drop, step))


def test_an_error_inside_the_context_is_not_hidden():
  with pytest.raises(KeyError, match="mine"):
    with kd.linen.intercept(schedule=SCHEDULE, step=0, key=KEY):
      raise KeyError("mine")


@pytest.mark.parametrize(
  "changes,message",
  [
    (dict(schedule=4), "schedule must be Standard, Sequential, Pooled or Gyro"),
    (dict(step=-1), "step must be >= 0, got -1"),
    (dict(step=0.5), "step must be an integer, got 0.5"),
    (dict(key=3), "key must be a jax.random key"),
    (dict(key=jax.random.split(KEY)), r"key must be a single key, got shape"),
    (dict(pattern=0.5), r"pattern must be a pattern, such as kd.ExactCount"),
    (dict(other_readers="no"), "other_readers must be one of"),
    (dict(first_row=-1), "first_row must be >= 0, got -1"),
    (dict(first_row=0.5), "first_row must be an integer, got 0.5"),
    (dict(first_row=0, axis_name="i"), "give first_row or axis_name, not both"),
    (dict(batch_size=0), "batch_size must be >= 1, got 0"),
  ],
)
def test_bad_settings(changes, message):
  settings = dict(schedule=SCHEDULE, step=0, key=KEY) | changes
  with pytest.raises(ValueError, match=message):
    kd.linen.apply(Mlp(), {}, ones(), **settings)


def test_inputs_without_rows_are_refused():
  with pytest.raises(
    ValueError, match="vmap over examples features would pass"
  ):
    jax.jit(jax.vmap(lambda x, step: run(Mlp(), step, x), (0, None)))(ones(), 0)
  with pytest.raises(ValueError, match="batch_size must be given"):
    run(Mlp(), 0, jnp.ones(()))


def test_a_transform_that_does_not_pass_the_stream_on_is_named():
  class Model(nn.Module):
    @nn.compact
    def __call__(self, x):
      scan = nn.scan(Block, variable_axes={"params": 0}, length=2)
      return scan()(x, None)[1]

  with pytest.raises(ValueError, match=r"split_rngs=\{'dropout': True\}"):
    run(Model())


def test_a_transform_around_the_whole_model():
  x = ones()
  model = nn.remat(Mlp)()
  out = run(model)[0]
  np.testing.assert_array_equal(out[0], out[3])
  lifted = nn.vmap(
    Block,
    variable_axes={"params": 0},
    split_rngs={"dropout": True},
    in_axes=None,
    axis_size=2,
  )(name="lifted")
  a, b = run(lifted)[1]
  assert (a != b).any()
  model = nn.jit(Mlp)()
  np.testing.assert_array_equal(run(model, 0)[0], run(model, 3)[0])
  assert (run(model, 0)[0] != run(model, 4)[0]).any()
  with pytest.raises(kd.UnsupportedError, match="use kd.linen.apply"):
    with kd.linen.intercept(schedule=SCHEDULE, step=0, key=KEY):
      model.apply({}, x, rngs={"dropout": KEY})
