"""A run starts, continues, is finished; and never overwrites another."""

import json

import jax
import numpy as np
import pytest

from experiments.run import config as config_lib
from experiments.run import runner
from experiments.run import setup as setup_lib
from experiments.run import snapshots
from kdropout_jax.training import loop
from kdropout_jax.training import metrics
from tests import tolerance

_FIELDS = dict(
  method="pooled",
  pool_size=5,
  m=2,
  num_train=64,
  hidden=8,
  batch_size=16,
  num_steps=9,
  eval_every=3,
  checkpoint_every=2,
  num_devices=1,
  seeds=2,
)


def config_of(**fields):
  return config_lib.RunConfig(**{**_FIELDS, **fields})


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
  """Returns the result and the folder of a run that nothing disturbed."""
  folder = tmp_path_factory.mktemp("unbroken")
  (result,) = runner.run(config_of(), folder, progress=False)
  return result, folder


class Interrupted(Exception):
  """What a kill would be, as seen from inside."""


def interrupt_after(step, error):
  def stop(done, state, window):
    raise error

  return lambda run: [loop.Hook(stop, steps=frozenset([step]))]


def test_the_result_says_everything(unbroken):
  result, _ = unbroken
  assert result["steps"] == 9 and result["num_subnets"] == 5
  assert result["config"]["method"] == "pooled"
  for name in ("train_loss", "train_accuracy", "test_accuracy"):
    assert len(result[name]) == 2 and np.isfinite(result[name]).all()
  assert len(result["params_sha256"]) == 64
  assert result["examples_per_second"] > 0
  assert {"jax", "python", "kdropout_jax"} <= result["versions"].keys()
  assert result["device"].startswith("cpu")


def test_the_folder_holds_everything(unbroken):
  result, folder = unbroken
  written = json.loads((folder / "result.json").read_text())
  assert written == {
    **result,
    **{k: written[k] for k in ("digest", "digest_of")},
  }
  assert (folder / "curves.png").read_bytes()[1:4] == b"PNG"
  assert list((folder / "tensorboard").glob("events.*"))
  records = metrics.read_jsonl(folder / "metrics.jsonl")
  assert [r["step"] for r in records] == [3, 6, 9]
  for name in ("train_loss", "valid_accuracy", "epoch", "examples_per_second"):
    assert name in records[-1]
  assert "test_accuracy" not in records[-1]  # Read once, at the end.
  assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == [
    "8",
    "9",
  ]


def test_a_finished_run_is_not_run_again(unbroken, monkeypatch):
  result, folder = unbroken
  monkeypatch.setattr(setup_lib, "make", None)
  assert runner.run(config_of(), folder, progress=False) == [result]


def test_a_folder_of_another_run_is_refused(unbroken):
  _, folder = unbroken
  with pytest.raises(ValueError, match="other flags .*pool_size: 5 there, 6"):
    runner.run(config_of(pool_size=6), folder, progress=False)


@pytest.mark.parametrize("step", [1, 4, 8])
def test_a_broken_run_ends_with_the_bits_of_an_unbroken_one(
  step, unbroken, tmp_path
):
  """Before the first checkpoint, at one, and between the last two."""
  config = config_of()
  with pytest.raises(Interrupted):
    hooks = interrupt_after(step, Interrupted())
    runner.run(config, tmp_path, progress=False, hooks=hooks)
  (result,) = runner.run(config, tmp_path, progress=False)
  assert result["params_sha256"] == unbroken[0]["params_sha256"]
  assert result["test_loss"] == unbroken[0]["test_loss"]
  logs = [
    metrics.read_jsonl(f / "metrics.jsonl") for f in (tmp_path, unbroken[1])
  ]
  for ours, theirs in zip(*logs, strict=True):
    assert ours["step"] == theirs["step"]
    # The bits are the same; the windows that they are summed over are not.
    tolerance.assert_sums_close(
      np.float32(ours["train_loss"]), theirs["train_loss"], 3
    )


def test_a_damaged_newest_checkpoint_costs_no_bit(unbroken, tmp_path, capsys):
  with pytest.raises(Interrupted):
    hooks = interrupt_after(7, Interrupted())
    runner.run(config_of(), tmp_path, progress=False, hooks=hooks)
  newest = tmp_path / "checkpoints" / "6"
  # All files of arrays: which of them a reader needs is orbax's to choose.
  for path in [p for p in newest.rglob("*") if p.parent.name == "d"]:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
  (result,) = runner.run(config_of(), tmp_path, progress=False)
  assert result["params_sha256"] == unbroken[0]["params_sha256"]
  said = capsys.readouterr().out
  assert "checkpoint of step 6 is damaged" in said
  assert "continuing from step 4" in said


def test_ctrl_c_leaves_a_run_that_continues(unbroken, tmp_path, monkeypatch):
  import contextlib

  @contextlib.contextmanager
  def at_once():
    yield lambda: True

  with monkeypatch.context() as patched:
    patched.setattr(loop, "stop_on_signals", at_once)
    with pytest.raises(loop.Stopped) as stopped:
      runner.run(config_of(), tmp_path, progress=False)
  assert stopped.value.step == 2
  assert (tmp_path / "checkpoints" / "2").is_dir()
  (result,) = runner.run(config_of(), tmp_path, progress=False)
  assert result["params_sha256"] == unbroken[0]["params_sha256"]


def test_a_loss_that_becomes_nan_leaves_the_last_good_checkpoint(tmp_path):
  config = config_of(
    learning_rate=1e30, optimizer="sgd", init="he", checkpoint_every=1
  )
  with pytest.raises(
    loop.NonFiniteLoss, match=r"at step \d+ \(member|before step \d+"
  ) as error:
    runner.run(config, tmp_path, progress=False)
  kept = [int(p.name) for p in (tmp_path / "checkpoints").iterdir()]
  said = int(str(error.value).split("step ")[1].split()[0].rstrip(";"))
  assert all(step <= said for step in kept)
  assert not (tmp_path / "result.json").exists()


def test_runs_of_one_program_equal_runs_alone(tmp_path):
  """Pool sizes and learning rates side by side; one result each."""
  configs = [
    config_of(seeds=1, pool_size=5),
    config_of(seeds=1, seed=1, pool_size=2, learning_rate=1e-3),
  ]
  together = runner.run(configs, tmp_path / "both", progress=False)
  alone = runner.run(configs[1], tmp_path / "one", progress=False)[0]
  assert [r["num_subnets"] for r in together] == [5, 2]
  length = 2 * (64 + 8 + 8 + 10) + 297
  tolerance.assert_sums_close(
    np.float32(together[1]["test_loss"]), alone["test_loss"], length, steps=9
  )
  assert together[1]["config"] == alone["config"]
  with pytest.raises(ValueError, match="may differ in .*pool_size.* alone"):
    runner.run([config_of(), config_of(hidden=9)], tmp_path / "x")


def test_snapshots_keep_the_parameters_of_their_step(tmp_path):
  config = config_of(snapshot_steps=(2, 9), seeds=1, seed=4)
  kept = []

  def hooks(run):
    keep = loop.Hook(
      lambda done, state, window: kept.append(
        jax.tree.map(np.array, state.params)
      ),
      steps=frozenset([2]),
    )
    return [keep]

  runner.run(config, tmp_path, progress=False, hooks=hooks)
  read = snapshots.read(tmp_path, 2, kept[0])
  jax.tree.map(np.testing.assert_array_equal, read, kept[0])
  later = snapshots.read(tmp_path, 9, kept[0])
  assert (later["logits"]["bias"] != read["logits"]["bias"]).any()
  with pytest.raises(ValueError, match="no snapshot of step 3"):
    snapshots.read(tmp_path, 3, kept[0])
  with pytest.raises(ValueError, match="is of another model"):
    snapshots.read(tmp_path, 2, {"w": np.zeros(1)})


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    (dict(dataset="digts"), "digts.*digits"),
    (dict(batch_size=65), "batch_size must be <= 64, the training examples"),
    (dict(num_train=2000), r"num_train must be in \[1, 1350\]"),
    (dict(num_devices=99), "num_devices must be <= 8"),
    (dict(num_devices=4, m=3), "the 3 subnets .*num_devices=4"),
    (dict(num_devices=3), "batch_size must be divisible by num_devices=3"),
  ],
)
def test_what_does_not_fit_the_data_or_the_devices_is_refused(
  fields, message, tmp_path
):
  with pytest.raises(ValueError, match=message):
    runner.run(config_of(**fields), tmp_path, progress=False)


def test_a_run_of_too_many_ids_is_refused(tmp_path):
  fields = {**_FIELDS, "num_steps": 2**30, "method": "standard"}
  for name in ("pool_size", "m"):
    fields.pop(name)
  with pytest.raises(ValueError, match=r"at most 2\*\*32 subnet ids"):
    runner.run(config_lib.RunConfig(**fields), tmp_path, progress=False)


def test_a_refused_run_does_not_own_its_folder(tmp_path):
  folder = tmp_path / "run"
  wrong = config_lib.RunConfig(dataset="cifar11")
  with pytest.raises(ValueError, match="did you mean cifar10"):
    runner.run(wrong, folder, progress=False)
  assert not folder.exists()
