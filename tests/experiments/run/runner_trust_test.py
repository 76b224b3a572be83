"""What a run says and keeps beside its numbers: locks, places, stages."""

import json
import os
import signal

import pytest
from absl import flags as absl_flags
from absl.testing import flagsaver

from experiments.run import config as config_lib
from experiments.run import flags as flags_lib
from experiments.run import footprint
from experiments.run import place
from experiments.run import progress
from experiments.run import runner
from experiments.run import start
from experiments.run import workdirs
from kdropout_jax.training import loop
from kdropout_jax.training import metrics

_FIELDS = dict(
  method="none",
  num_train=64,
  hidden=8,
  batch_size=16,
  num_steps=6,
  eval_every=2,
  checkpoint_every=2,
  num_devices=1,
)


class Interrupted(Exception):
  """What a kill would be, as seen from inside."""


def interrupted(folder, **fields):
  """Leaves a run in `folder` that was cut off after step 4."""

  def stop(done, state, window):
    raise Interrupted

  with pytest.raises(Interrupted):
    runner.run(
      config_lib.RunConfig(**_FIELDS, **fields),
      folder,
      progress=False,
      hooks=lambda run: [loop.Hook(stop, steps=frozenset([5]))],
    )


def again(folder):
  (result,) = runner.run(
    config_lib.RunConfig(**_FIELDS), folder, progress=False
  )
  return result


def test_a_run_whose_folder_is_held_is_refused(tmp_path):
  with workdirs.locked(tmp_path / "run"):
    with pytest.raises(ValueError, match="is in use by another process"):
      again(tmp_path / "run")
  assert again(tmp_path / "run")["steps"] == 6
  with workdirs.locked(tmp_path / "run"):  # What is finished, all may read.
    assert again(tmp_path / "run")["steps"] == 6


def test_a_run_that_moved_says_so_once(tmp_path, monkeypatch, capsys):
  interrupted(tmp_path)
  kept = json.loads((tmp_path / "machine.json").read_text())
  assert kept == place.here() and kept["threads"] == footprint.threads()
  monkeypatch.setattr(footprint, "threads", lambda: 99)
  capsys.readouterr()
  interrupted(tmp_path)
  said = capsys.readouterr().out
  assert f"threads: {kept['threads']} there, 99 here" in said
  assert "the bits may differ" in said
  again(tmp_path)
  assert "elsewhere" not in capsys.readouterr().out


def test_lost_records_are_said_and_the_others_stay(tmp_path, capsys):
  interrupted(tmp_path)
  path = tmp_path / runner.METRICS
  first, second = path.read_text().splitlines()
  path.write_text(f"{first.replace('0.', '1.', 1)}\n{second}\n")
  again(tmp_path)
  said = capsys.readouterr().out
  assert "1 of 2 records are lost (step 2 first), the others are kept" in said
  assert [r["step"] for r in metrics.read_jsonl(path)] == [4, 6]


def test_a_log_that_became_a_folder_is_set_aside(tmp_path):
  interrupted(tmp_path)
  path = tmp_path / runner.METRICS
  path.unlink()
  path.mkdir()
  again(tmp_path)
  assert (tmp_path / "metrics.jsonl.damaged").is_dir()
  assert [r["step"] for r in metrics.read_jsonl(path)] == [6]


def test_a_number_that_changed_in_a_result_is_seen(tmp_path, capsys):
  result = again(tmp_path)
  path = tmp_path / "result.json"
  whole = json.loads(path.read_text())
  for change in (
    {"test_accuracy": [0.99]},
    {"digest": None},
    {"digest_of": "md5"},
    {"more": 1},
  ):
    path.write_text(json.dumps({**whole, **change}))
    assert workdirs.result(tmp_path) is None
    assert "was set aside" in capsys.readouterr().out
  again(tmp_path)
  found = workdirs.result(tmp_path)
  assert found is not None
  assert found["params_sha256"] == result["params_sha256"]
  # Results of before there were digests are read.
  path.write_text(json.dumps(result))
  assert workdirs.result(tmp_path) == result


@pytest.mark.parametrize("placement", ["device", "stream"])
def test_loading_and_compiling_are_said_with_their_seconds(
  placement, tmp_path, capsys
):
  fields = {**_FIELDS, "hidden": 11, "data_placement": placement}
  config = config_lib.RunConfig(**fields)
  runner.run(config, tmp_path, description="x")
  lines = capsys.readouterr().err.splitlines()
  words = [line.split(" ... ")[0] for line in lines[:3]]
  assert words == [
    "loading digits",
    "compiling the training of mlp",
    "compiling the evaluation of mlp",
  ]
  assert all(line.endswith(" s") for line in lines[:3])


def test_the_seconds_count_in_a_terminal(monkeypatch, capsys):
  import sys
  import time

  monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
  with progress.stage("waiting"):
    time.sleep(1.2)
  said = capsys.readouterr().err
  assert said.startswith("waiting ... \rwaiting ... 1.0 s\rwaiting ... 1.")
  assert said.endswith(" s\n")


@pytest.fixture
def launched(monkeypatch, capsys):
  """Returns what launching a `main` ends with: exit code and words."""
  flags_lib.define_run()
  monkeypatch.setattr(start, "run", lambda main: main(["prog"]))

  def run(main):
    before = signal.getsignal(signal.SIGTERM)
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as stopped:
      absl_flags.FLAGS.mark_as_parsed()
      flags_lib.launch(main)
    assert signal.getsignal(signal.SIGTERM) == before
    return stopped.value.code, capsys.readouterr().err

  return run


def raising(error):
  def main(argv):
    raise error

  return main


def test_whatever_stops_a_binary_is_one_line(launched):
  stopped = "stopped; the same command continues\n"
  assert launched(raising(KeyboardInterrupt())) == (130, stopped)
  ended = lambda argv: os.kill(os.getpid(), signal.SIGTERM)  # noqa: E731
  assert launched(ended) == (130, stopped)
  full = MemoryError("Unable to allocate 9 GiB\nmore")
  assert launched(raising(full)) == (
    2,
    "out of memory: Unable to allocate 9 GiB\n",
  )
  wrong = ValueError("m must be >= 1, got 0")
  assert launched(raising(wrong)) == (2, f"ValueError: {wrong}\n")


def test_a_small_address_space_is_refused_before_anything(
  launched, monkeypatch
):
  monkeypatch.setattr(footprint, "address_space", lambda: 2**30)
  code, said = launched(raising(AssertionError("not reached")))
  assert code == 2
  assert "at least 2.8 GiB, and there are 1.0 GiB" in said or (
    "under the limit of `ulimit -v`" in said
  )


def test_a_wrong_flag_is_a_line(monkeypatch, capsys):
  flags_lib.define_run()
  with flagsaver.flagsaver(), pytest.raises(SystemExit) as stopped:
    start._parse(["prog", "--hidden=x"])
  assert stopped.value.code == 2
  said = capsys.readouterr().err
  assert said.count("\n") == 1 and "hidden" in said and "--help" in said
