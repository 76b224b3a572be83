"""Figure 6: rounds of pruning against a loop of plain training, and by hand."""

import contextlib
import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.cells import experiment
from experiments.cells import sweeps
from experiments.cells import tickets
from experiments.gyro import analysed
from experiments.gyro.tickets import pruning
from experiments.gyro.tickets import rounds
from experiments.report import figures
from experiments.run import setup as setup_lib
from experiments.run import snapshots
from kdropout_jax.training import loop
from kdropout_jax.training import state as state_lib
from tests import tolerance

STEPS = (3, 12, 24)


def first_cells(scale):
  """The gyro cells of the tiny row, looked at during their training, too."""
  return [
    dataclasses.replace(cell, snapshot_steps=STEPS)
    for cell in analysed.cells(scale, "tiny", "gyro")
  ]


def train(cells, folder):
  is_ticket = isinstance(cells[0], tickets.TicketConfig)
  make = functools.partial(tickets.make, folder=folder) if is_ticket else None
  options = dict(max_members=len(cells), make=make, progress=False)
  return sweeps.run(cells, folder, **options)


def params_at(cells, folder, step, setup):
  like = setup.init().params  # for its structure
  return [sweeps.params(cell, folder, step, like) for cell in cells]


def largest(kernel, fraction):
  """Returns where the largest magnitudes are, in numpy."""
  sizes = np.abs(kernel)
  count = int(fraction * sizes.size + 0.5)
  return sizes >= np.sort(sizes, axis=None)[-count]


def zeroed(leaf, mask):
  return np.where(mask, np.asarray(leaf), np.float32(0))


def by_a_plain_loop(setup, start, masks):
  """Trains with the plain optimizer, zeroing pruned weights after each step."""
  state = setup.init()
  put = setup.program.devices.replicate
  state = dataclasses.replace(state, params=put(start))
  for step in range(setup.num_steps):
    state, _ = setup.program.run(state, setup.members, setup.arrays(), step, 1)
    params = jax.tree.map(zeroed, state.params, masks)
    state = dataclasses.replace(state, params=put(params))
  return state.params


def test_rounds_are_those_of_a_plain_loop_and_compile_once(tiny, store):
  """Two rounds, two seeds at once; pruned weights stay zero all the time."""
  folder, cells = store.folder, first_cells(tiny)
  train(cells, folder)
  plain = setup_lib.make(cells)
  initial = jax.tree.map(np.asarray, plain.init().params)
  stack = lambda trees: jax.tree.map(lambda *x: np.stack(x), *trees)  # noqa: E731
  trained = stack(params_at(cells, folder, 24, plain))
  for fractions in ((0.45,), (0.45, 0.2)):
    masks = jax.tree.map(
      lambda x, f=fractions[-1]: np.stack([largest(own, f) for own in x]),
      trained,
    )
    wanted = by_a_plain_loop(plain, jax.tree.map(zeroed, initial, masks), masks)
    found = [tickets.ticket(cell, fractions) for cell in cells]
    assert train(found, folder) == 2
    for step in STEPS:
      now = stack(params_at(found, folder, step, plain))
      for mask, leaf in zip(jax.tree.leaves(masks), jax.tree.leaves(now)):
        assert not leaf[~mask].any()
        assert np.count_nonzero(leaf) == mask.sum()
    trained = now
    # RMSProp with an epsilon of 1: no step is larger than its gradient.
    length = 2 * (64 + 16 + 16 + 10) + 32
    tolerance.assert_trained_close(trained, wanted, length, steps=24)
    assert train(found, folder) == 0  # Finished ones are skipped.
  units = [tickets.ticket(cell, (0.5,), kind="units") for cell in cells]
  train(units, folder)
  program = tickets.make(units, folder=folder).program
  assert program.num_traces() == {"run": 1, "step": 0, "evaluate": 1}


def test_a_stopped_round_continues_to_the_same_bits(
  tiny, store, tmp_path, monkeypatch
):
  cells = first_cells(tiny)
  found = [tickets.ticket(cell, (0.3,)) for cell in cells]
  for folder in (store.folder, tmp_path):
    train(cells, folder)

  @contextlib.contextmanager
  def at_once():
    yield lambda: True

  with monkeypatch.context() as patch:
    patch.setattr(loop, "stop_on_signals", at_once)
    with pytest.raises(loop.Stopped) as stopped:
      train(found, tmp_path)
  assert 0 < stopped.value.step < 24
  train(found, tmp_path)
  train(found, store.folder)
  digests = [
    [sweeps.result(cell, folder)["params_sha256"] for cell in found]
    for folder in (store.folder, tmp_path)
  ]
  assert digests[0] == digests[1]


def test_a_ticket_may_start_from_a_later_step(tiny, store):
  cells = first_cells(tiny)
  train(cells, store.folder)
  found = [tickets.ticket(cell, (0.3,), rewind_step=3) for cell in cells]
  setup = tickets.make(found, folder=store.folder)
  state = setup.init()
  masks = state.opt_state.masks
  early = params_at(cells, store.folder, 3, setup)
  for member, start in enumerate(early):
    own = jax.tree.map(lambda x, i=member: x[i], (state.params, masks))
    wanted = jax.tree.map(zeroed, start, own[1])
    jax.tree.map(np.testing.assert_array_equal, own[0], wanted)


def params_of(random, members=2):
  shapes = {"hidden_0": (5, 8), "hidden_1": (8, 8), "logits": (8, 3)}
  params = {
    name: {"kernel": random.normal(size=(members, *shape)).astype(np.float32)}
    for name, shape in shapes.items()
  }
  params["hidden_0"]["bias"] = np.zeros((members, 8), np.float32)
  return params


def test_masks_are_each_members_own():
  params = params_of(np.random.default_rng(0))
  names = ("hidden_0", "hidden_1", "logits")
  layers = tickets.find_masks(params, 0.3)
  together = tickets.find_masks(params, 0.3, scope="global")
  for member in range(2):
    kernels = [params[name]["kernel"][member] for name in names]
    flat = np.concatenate([kernel.ravel() for kernel in kernels])
    parts = np.split(largest(flat, 0.3), [40, 40 + 64])
    for name, kernel, part in zip(names, kernels, parts):
      own = layers[name]["kernel"][member]
      np.testing.assert_array_equal(own, largest(kernel, 0.3))
      own = together[name]["kernel"][member]
      np.testing.assert_array_equal(own, part.reshape(kernel.shape))
  assert layers["hidden_0"]["bias"].all()  # Zero, but never pruned.


def test_pruned_weights_stay_pruned_where_too_few_are_left():
  params = params_of(np.random.default_rng(1), members=1)
  kernel = np.zeros((1, 8, 3), np.float32)
  kernel[0, :2] = 1.0  # 6 of 24 are left, 12 are asked for
  params["logits"]["kernel"] = kernel
  masks = tickets.find_masks(params, 0.5)
  np.testing.assert_array_equal(masks["logits"]["kernel"], kernel != 0)


def test_pruned_units_take_their_rows_columns_and_biases():
  params = params_of(np.random.default_rng(2), members=1)
  params["hidden_1"]["kernel"][0, :, [1, 6]] *= 1e-3
  params["logits"]["kernel"][0, [1, 6]] *= 1e-3
  found = tickets.find_masks(params, 0.75, kind="units")
  masks, own = jax.tree.map(lambda x: x[0], (found, params))
  kept = np.array([True, False, True, True, True, True, False, True])
  made = np.asarray(masks["hidden_0"]["bias"])
  assert made.sum() == 6
  expected = {
    "hidden_0": {"kernel": np.tile(made, (5, 1)), "bias": made},
    "hidden_1": {"kernel": made[:, None] & kept},
    "logits": {"kernel": np.tile(kept[:, None], (1, 3))},
  }
  jax.tree.map(np.testing.assert_array_equal, masks, expected)
  left = tickets.share_left(jax.tree.map(zeroed, own, masks))
  assert left == pytest.approx((5 * 6 + 36 + 6 * 3) / (40 + 64 + 24))


def test_a_ticket_knows_where_it_comes_from(tiny):
  cell = first_cells(tiny)[0]
  found = tickets.ticket(cell, (0.45, 0.2), rewind_step=3)
  assert found.first() == cell and type(found.first()) is type(cell)
  assert found.previous() == tickets.ticket(cell, (0.45,), rewind_step=3)
  assert found.previous().previous() == cell
  others = [
    cell,
    found.previous(),
    tickets.ticket(cell, (0.45, 0.2)),
    tickets.ticket(cell, (0.4, 0.2), rewind_step=3),
    tickets.ticket(cell, (0.45, 0.2), rewind_step=3, kind="units"),
    tickets.ticket(cell, (0.45, 0.2), rewind_step=3, scope="global"),
  ]
  assert len({one.digest() for one in (found, *others)}) == 7
  json.dumps(found.identity())


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    (dict(fractions=(0.2, 0.45)), r"fractions must fall.*\[0.2, 0.45\]"),
    (dict(fractions=(0.0,)), r"fractions must be in \(0, 1\], got 0.0"),
    (dict(fractions=()), "fractions must hold one round or more"),
    (dict(kind="unit"), "kind must be one of weights, units.*mean units"),
    (dict(scope="all"), "scope must be one of layer, global"),
    (dict(kind="units", scope="global"), "scope must be layer where units"),
    (dict(rewind_step=5), r"rewind_step must be 0 or one of .*\(3, 12, 24\)"),
  ],
)
def test_wrong_tickets_are_refused(tiny, fields, message):
  given = {"fractions": (0.5,)} | fields
  with pytest.raises(ValueError, match=message):
    tickets.ticket(first_cells(tiny)[0], **given)


def test_snapshots_hold_statistics_where_a_model_has_them():
  params, others = {"w": jnp.ones(2)}, {"batch_stats": {"m": jnp.zeros(2)}}
  plain = state_lib.TrainState(params, {}, ())
  assert snapshots.kept(plain) is params
  normed = state_lib.TrainState(params, others, ())
  assert snapshots.kept(normed) == {"params": params, **others}


def test_shards_hold_whole_packs_with_all_their_rounds(tiny):
  whole = rounds.plans(tiny, max_members=1)
  assert [(p.label, p.method) for p in whole] == [
    ("tiny", method) for method in ("conventional", "gyro") for _ in range(2)
  ]
  shards = [rounds.plans(tiny, 1, f"{i}/3") for i in range(3)]
  assert sorted(map(str, sum(shards, []))) == sorted(map(str, whole))
  kinds = [(one[0].kind, one[0].fractions) for one in whole[0].rounds]
  assert kinds == [
    (kind, fractions)
    for kind in ("weights", "units")
    for fractions in ((0.45,), (0.45, 0.2))
  ]


def row(method, seed, accuracy, percent=20, label="a", kind="weights"):
  own = {"row": label, "kind": kind, "percent_left": percent}
  return own | {"method": method, "seed": seed, "accuracy": accuracy}


def test_differences_are_paired_by_seed():
  rows = [row("gyro", 1, 52.0), row("gyro", 0, 50.0), row("gyro", 2, 99.0)]
  rows += [row("conventional", 0, 49.0), row("conventional", 1, 54.0)]
  assert sorted(pruning.differences(rows)) == [-2.0, 1.0]
  assert pruning.differences(rows[:2]).size == 0


def test_the_sign_test_counts_the_papers_cases():
  rows = []
  for percent, gain in ((100, -5), (45, -5), (20, 1), (10, 2), (5, 3)):
    for label in ("a", "b"):
      rows.append(row("gyro", 0, 50.0 + gain, percent, label))
      rows.append(row("conventional", 0, 50.0, percent, label))
  rows += [row("gyro", 0, 1.0, kind="units"), row("conventional", 0, 9.0)][:1]
  # All of 6 coins: 1 / 64.
  assert "higher in 6 of 6 cases (one-sided sign test p = 0.02)" in (
    pruning.sign_test(rows)
  )
  assert pruning.sign_test(rows[:4]).startswith("No round left")


def test_pruning_ends_with_its_report(call, workdir, capsys, tiny):
  call(pruning.main, dry_run=True, shard="1/2")
  assert "20 % of the units" in capsys.readouterr().out
  assert not (workdir / "pruning.json").exists()
  for shard in ("1/2", "0/2"):
    call(pruning.main, shard=shard, seeds=1)
  call(pruning.main, seeds=1)
  found = json.loads((workdir / "pruning.json").read_text())
  rows = found["numbers"]["rows"]
  assert len(rows) == 2 * 2 * 3  # methods, kinds, per cents left
  for one in rows:
    claimed = "ticket_accuracy" in one
    assert claimed == (one["kind"] == "weights")
    if one["kind"] == "weights":
      assert one["weights_left"] == pytest.approx(one["percent_left"], abs=0.1)
    else:
      assert one["weights_left"] <= one["percent_left"] + 1
  (verdict,) = found["verdicts"]
  assert verdict["claim"]["name"] == "winning_tickets_are_better"
  (setting,) = verdict["findings"]
  assert setting == "dataset=digits model=mlp2 percent_left=20"
  by = {(r["method"], r["kind"], r["percent_left"]): r for r in rows}
  gain = [by[m, "weights", 20]["accuracy"] for m in ("gyro", "conventional")]
  (finding,) = verdict["findings"].values()
  assert finding["mean"] == pytest.approx(gain[0] - gain[1])
  assert (workdir / "pruning.png").exists()


def test_bands_are_intervals():
  values = np.array([[1.0, 3.0, 5.0], [2.0, 2.0, 2.0]])
  # t of .975 at 2 degrees of freedom is 4.303; the deviation, 2.
  bands = figures._spread(values)
  np.testing.assert_allclose(bands, [4.303 * 2 / np.sqrt(3), 0], rtol=1e-3)


def test_a_diverged_pack_leaves_the_others(tiny, tmp_path, monkeypatch):
  seen = []

  def fail(cells, folder, **kwargs):
    seen.append(cells[0].method)
    raise loop.NonFiniteLoss("at step 7")

  monkeypatch.setattr(sweeps, "run", fail)
  store = experiment.Store(tmp_path, 2, progress=False)
  with pytest.raises(loop.NonFiniteLoss, match="conventional: at.*gyro: at"):
    rounds.run(rounds.plans(tiny, 2), store)
  assert seen == ["standard", "gyro"]
