"""Subnets one by one: dynamics, ensembles, interference, connectivity."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kdropout_jax as kd
from experiments.cells import ensembles as ensembles_of
from experiments.cells import finished
from experiments.cells import networks
from experiments.k_dropout import claims
from experiments.k_dropout import connectivity
from experiments.k_dropout import dynamics
from experiments.k_dropout import ensembles
from experiments.k_dropout import gradients
from experiments.k_dropout import interference
from experiments.k_dropout import lines as lines_lib
from experiments.k_dropout import lines_words
from experiments.k_dropout import sizes
from experiments.k_dropout import subnet_dynamics
from kdropout_jax.analysis import ensembles as ensembles_lib
from tests import tolerance


@pytest.fixture
def followed(tiny, store):
  """Sequential runs, m = 1, with parameters at every window's end."""
  steps = tiny.points
  return finished.train(
    store, tiny, steps=steps, method="sequential", m=1, k=30, num_hidden=2
  )


def test_the_layout_by_name_is_the_one_that_probing_finds(followed):
  nets = followed.nets
  inputs = nets.task.preprocess(nets.split("train", 4)[0])
  keys = {"subnets": jax.random.key(0), "dropout": jax.random.key(0)}
  params = followed.params(followed.cells[0])
  found = kd.subnets.layout(
    nets.task.model, {"params": params}, inputs, train=True, rngs=keys
  )
  assert found.as_dict() == nets.layout.as_dict()


def test_a_subnet_is_the_masked_network_with_one_mask_a_layer(followed):
  nets, cell = followed.nets, followed.cells[1]
  params = followed.params(cell)
  inputs, _ = nets.split("test", 7)
  keys = {"subnets": networks.run_key(cell.seed)}
  for i in (0, 3, networks.RANDOM_IDS):
    wanted = nets.task.model.apply(
      {"params": params},
      nets.task.preprocess(inputs),
      train=True,
      subnets=jnp.array([i], jnp.uint32),
      rngs=keys,
    )
    (found,) = nets.subnet_logits(params, cell.seed, np.array([i]), inputs)
    tolerance.assert_sums_close(found, wanted, 64 + 2 * 32)


def test_subnets_outside_their_window_have_zero_gradient(followed):
  """Weights that only other subnets keep see none from those that train."""
  nets, cell = followed.nets, followed.cells[0]
  params = followed.params(cell)
  inputs, labels = nets.split("train", 16)
  step = 45  # the second window of 30 steps
  (active,) = gradients.subnets_at(nets, cell, step)
  assert active == 1
  loss = gradients.Cosines(nets, cell).loss
  key = jax.random.key_data(networks.run_key(cell.seed))
  grads = jax.grad(loss)(params, (key, jnp.uint32(active), inputs, labels))
  masks = nets.masks(cell.seed, np.arange(4))
  keep = np.asarray(masks["dropout_0"].dense())
  own, others = keep[1], keep[[0, 2, 3]].any(0)
  bias = np.asarray(grads["hidden_0"]["bias"])
  assert (others & ~own).any()
  assert not bias[others & ~own].any()
  assert bias[own].any()


def test_what_happened_to_a_subnet_by_hand(followed):
  """Two seeds, four subnets; the curves are made up."""
  curves = np.zeros((2, 4, 3))
  curves[:, :, 0] = 0.5  # after step 30, 60, 120 of windows of 30
  curves[:, :, 1], curves[:, :, 2] = 0.6, 0.3
  one = dynamics.Followed(
    cell=followed.cells[0],
    seeds=[0, 1],
    num_steps=120,
    watched="held-out",
    steps=(30, 60, 90, 120),
    curves=np.concatenate([curves, curves[:, :, -1:]], axis=2),
    boxes=dynamics.Boxes(
      np.zeros(2), np.tile([0.9, 0.5, 0.3, 0.7], (2, 1)), np.zeros((2, 1))
    ),
  )
  np.testing.assert_allclose(one.retention(1), [-20.0] * 2)
  # Subnet 1 ends its window at .6, subnet 2 at .3; both end at .3.
  np.testing.assert_allclose(one.loss_of_later(), [15.0] * 2)
  np.testing.assert_allclose(one.u_shape(), [40.0] * 2)
  rows = dynamics.rows([one])
  kept = {r["seed"]: r for r in rows if "retention_of_first" in r}
  assert kept[1]["retention_of_first"] == pytest.approx(-20.0)
  assert kept[1]["k_over_T"] == 0.25


def test_dynamics_end_with_their_report(call, workdir):
  call(subnet_dynamics.main, controls=False)
  found = json.loads((workdir / "subnet_dynamics.json").read_text())
  (one, _) = found["numbers"]["followed"]["adam"]
  curves = np.array(one["curves"])
  assert curves.shape == (2, 6, 12) and one["watched"] == "held-out"
  # After its window a subnet is better than before it, on average.
  later = range(1, 6)
  gains = [curves[:, i, 2 * i + 1] - curves[:, i, 2 * i - 1] for i in later]
  assert np.mean(gains) > 0
  assert {v["claim"]["name"] for v in found["verdicts"]} == {
    *claims.TOLD["subnet_dynamics"]
  }
  assert (workdir / "subnet_dynamics.png").exists()


def test_a_line_ends_at_the_two_models(followed):
  nets, cell = followed.nets, followed.cells[0]
  lines = lines_lib.Lines(nets, rows=60, num_alphas=3)
  start, end = followed.params(cell, 30), followed.params(cell)
  line = lines.between(cell.seed, 0, start, end)
  inputs, labels = nets.split("valid", 60)
  for place, params in ((0, start), (-1, end)):
    (own,) = nets.subnet_accuracies(
      params, cell.seed, np.array([0]), inputs, labels
    )
    tolerance.assert_sums_close(
      np.float32(line["error"][place]), 1 - own, 1, magnitude=1.0
    )


def test_a_subnet_that_did_not_move_has_no_barrier(followed):
  cell = followed.cells[0]
  lines = lines_lib.Lines(followed.nets, rows=60, num_alphas=3)
  params = followed.params(cell)
  found = lines.compare(cell.seed, 0, params, params)
  assert found["weights_moved"] == found["activations_moved"] == 0
  barrier = np.float32(found["loss_barrier"])  # Of losses below log(10).
  tolerance.assert_sums_close(barrier, 0.0, 3, magnitude=np.log(10))


def test_connectivity_ends_with_its_report(call, workdir, monkeypatch):
  monkeypatch.setattr(connectivity, "windows", lambda scale: (20,))
  monkeypatch.setattr(connectivity, "_SUBNETS", 1)
  monkeypatch.setattr(connectivity, "_LATER", 2)
  call(connectivity.main)
  found = json.loads((workdir / "connectivity.json").read_text())
  rows = found["numbers"]["rows"]
  assert [(r["seed"], r["from_step"], r["step"]) for r in rows] == [
    *((0, 20, 30), (0, 20, 120)),
    *((1, 20, 30), (1, 20, 120)),
  ]
  assert all(r["weights_moved"] > 0 for r in rows)
  by_measure = {v["claim"]["measure"]: v for v in found["verdicts"]}
  (finding,) = by_measure["error_barrier_of_first"]["findings"].values()
  assert finding["num_seeds"] == 2
  first = [100 * r["error_barrier"] for r in rows if r["step"] == 120]
  # Shares in float32, in points.
  rounding = 100 * float(np.finfo(np.float32).eps)
  np.testing.assert_allclose(
    finding["differences"], np.negative(first), rtol=0, atol=rounding
  )


def test_an_ensemble_of_one_is_its_member():
  logits = np.random.default_rng(0).normal(size=(3, 50, 4)).astype(np.float32)
  labels = np.arange(50) % 4
  group = ensembles_of.measure(logits, labels)
  assert group.curve["accuracy"][0] == group.accuracies[0]
  assert group.curve["vote_accuracy"][0] == group.accuracies[0]
  whole = ensembles_lib.average(logits)
  right = (np.argmax(np.asarray(whole), -1) == labels).mean()
  assert group.curve["accuracy"][-1] == pytest.approx(right)
  assert 0 < group.disagreement < 1


def test_ensembles_end_with_their_report(call, workdir, monkeypatch, tiny):
  small = dataclasses.replace(tiny, num_members=2)
  monkeypatch.setitem(sizes.SCALES, "smoke", small)
  judged = []
  judge = ensembles.study.judge

  def spy(names, rows, *, hits, **options):
    judged.extend((row["accuracy"], hits[i]) for i, row in enumerate(rows))
    return judge(names, rows, hits=hits, **options)

  monkeypatch.setattr(ensembles.study, "judge", spy)
  call(ensembles.main)
  # Each subject's accuracy is the mean of what the bootstrap draws from.
  for accuracy, hits in judged:
    assert hits.ndim == 1 and accuracy == pytest.approx(100 * hits.mean())
  found = json.loads((workdir / "ensembles.json").read_text())
  rows = found["numbers"]["rows"]
  subjects = {row["subject"] for row in rows}
  assert {"mc_dropout", "independent_ensemble", "pooled_subnets"} <= subjects
  table = {(r["subject"], r["seed"]): r["accuracy"] for r in rows}
  group = found["numbers"]["groups"][1]["pooled_subnets"]
  mean = 100 * np.mean(group["accuracies"])
  assert table["pooled_subnets", 1] == pytest.approx(mean)
  assert len(found["verdicts"]) == len(claims.TOLD["ensembles"])
  assert len(judged) == len(rows) > 0


def test_one_subnet_for_all_rows_is_its_own_control(tiny, store):
  steps = tuple(tiny.num_steps * i // 4 for i in (1, 2, 4))
  run = finished.train(
    store, tiny, steps=steps, method="sequential", m=8, k=30, num_hidden=2
  )
  cell = run.cells[0]
  cosines = gradients.Cosines(run.nets, cell)
  ids = gradients.subnets_at(run.nets, cell, 59)
  assert ids.tolist() == list(range(8, 16))  # the second window
  found = cosines.at(run.params(cell, 60), cell, 60, num_batches=1)
  assert -1 <= found["cosine"] < found["control_cosine"] <= 1
  assert 0 < found["alignment"] <= 1


def test_interference_ends_with_its_report(call, workdir, monkeypatch):
  monkeypatch.setattr(interference, "windows", lambda scale: (30,))
  monkeypatch.setattr(interference, "_NUM_BATCHES", 1)
  call(interference.main)
  found = json.loads((workdir / "interference.json").read_text())
  rows = found["numbers"]["rows"]
  assert {(r["m"], r["k"], r["step"]) for r in rows} == {
    *((8, 30, 30), (8, 30, 60), (8, 30, 120))
  }
  assert {v["outcome"] for v in found["verdicts"]} == {"cannot be told"}
  assert (workdir / "interference.png").exists()


def test_independent_runs_are_far_apart_and_a_run_is_not_from_itself(followed):
  lines = lines_lib.Lines(followed.nets, rows=100)
  params = followed.params(followed.cells[0])
  same = lines.between_networks(params, params)
  assert lines_words.over_line(same["error"]) == 0.0
  control = lines_lib.control(followed, lines)
  assert [(c["seed"], c["other_seed"]) for c in control] == [(0, 1), (1, 0)]
  barriers = [lines_words.over_line(c["line"]["error"]) for c in control]
  # Both ends know the digits; half-way between them nothing does.
  assert min(barriers) > 0.1
  rows = lines_words.control_rows(control)
  assert rows[0]["control_barrier_over_2"] == 100 * barriers[0] - 2.0
  assert f"{100 * np.mean(barriers):.1f} points" in lines_words.control_note(
    control
  )


def test_a_barrier_is_above_a_line_or_a_mean():
  falling = [0.6, 0.5, 0.3, 0.2]
  assert lines_words.over_line(falling) == pytest.approx(0.5 - 1.4 / 3)
  assert lines_words.over_mean(falling) == pytest.approx(0.2)
