"""A wrong command line, folder or file ends in one line, before it compiles."""

import json
import pathlib

import pytest
from absl import flags
from absl.testing import flagsaver

from experiments.cells import flags as cell_flags
from experiments.run import config as config_lib
from experiments.run import flags as flags_lib
from experiments.run import footprint
from experiments.run import runner
from experiments.run import setup as setup_lib
from experiments.run import workdirs

_HUGE = 10**20
_SEQUENTIAL = "--method=sequential"
_BOUNDS = [
  ([f"--{name}={value}", *others], f"{name} must be < 2\\*\\*31, got {value}")
  for value in (2**31, 2**63, _HUGE)
  for name, others in (
    ("pad", []),
    ("crop", []),
    ("hidden", []),
    ("block_size", ["--pattern=blocks"]),
    ("warmup_steps", []),
    ("m", [_SEQUENTIAL]),
    ("k", [_SEQUENTIAL]),
    ("total", ["--method=gyro"]),
    ("seeds", []),
    ("batch_size", []),
    ("epochs", []),
    ("num_train", []),
  )
]
_WRONG = [
  *_BOUNDS,
  ([f"--num_hidden={_HUGE}"], r"num_hidden must be in \[1, 1000\]"),
  (["--lr_drops=1,99999999999", "--lr_schedule=drops"], "lr_drops must be < 2"),
  (["--lr_drops=1,x", "--lr_schedule=drops"], "lr_drops must hold integers"),
  (["--channels=0"], r"channels must be >= 1, got \(0,\)"),
  (["--data_seed=-1"], "data_seed must be >= 0, got -1"),
  (["--weight_decay=1e39"], r"weight_decay must be < 2\*\*128, as a float32"),
  (["--learning_rate=1e999"], "learning_rate must be > 0, got inf"),
  (["--epochs=2147483647"], r"a run must have < 2\*\*31 steps, got 21,4"),
  # What these need follows from shapes: nothing is allocated.
  (["--seeds=5000000"], "at least .* GiB, and there are .*: 5,000,000 members"),
  (["--hidden=2000000000"], "at least .* GiB .parameters, optimizer"),
  (["--m=2000000000", _SEQUENTIAL], "GiB .subnets of a step"),
  (["--block_size=2000000000", "--pattern=blocks"], "GiB .subnets of a step"),
  (["--pad=100000"], "GiB .padded images"),
  (["--num_devices=1000"], "num_devices"),
  (["--preset=gyro-lenet"], "preset must be one of .*did you mean"),
]


@pytest.fixture(autouse=True)
def four_gibibytes(monkeypatch):
  """The memory of every machine here."""
  monkeypatch.setattr(footprint, "device_bytes", lambda: 4 * 2**30)
  monkeypatch.setattr(footprint, "host_bytes", lambda: 4 * 2**30)


@pytest.fixture
def parse():
  flags_lib.define_run()

  def run(argv):
    with flagsaver.flagsaver():  # What is given once is not given again.
      flags.FLAGS(["prog", *argv])
      return flags_lib.run_config()

  return run


@pytest.mark.parametrize(("argv", "message"), _WRONG, ids=lambda v: str(v)[:40])
def test_what_cannot_be_is_refused_before_it_compiles(parse, argv, message):
  with pytest.raises(ValueError, match=message):
    setup_lib.make([parse(argv)])


def test_large_is_not_too_large(parse):
  argv = ["--warmup_steps=2147483647", "--lr_drops=2147483647"]
  argv += ["--lr_schedule=drops", "--method=pooled", "--pool_size=2147483647"]
  assert setup_lib.make([parse(argv)]).num_steps == 300


def test_the_footprint_is_that_of_the_parameters(monkeypatch):
  """64 x 100 x 10, by hand, in float32."""
  config = config_lib.RunConfig(hidden=100, num_hidden=1, method="none")
  count = 64 * 100 + 100 + 100 * 10 + 10
  setup = setup_lib.make([config])
  example = setup.arrays().inputs[:1]
  # Parameters, their gradients, Adam's two moments, and two counts of steps.
  needed = 4 * 4 * count + 8
  for there, members in ((needed, 1), (3 * needed, 3)):
    monkeypatch.setattr(footprint, "device_bytes", lambda: there)  # noqa: B023
    footprint.check(config, setup.task, example, members)
    with pytest.raises(ValueError, match=f"there are {there:,} bytes"):
      footprint.check(config, setup.task, example, members + 1)


def test_a_list_of_cells_has_a_footprint_too():
  cell_flags.define()
  cell_flags.FLAGS.mark_as_parsed()
  with flagsaver.flagsaver(seeds=99_999_999_999):
    with pytest.raises(ValueError, match="GiB: seeds=99,999,999,999"):
      cell_flags.num_seeds()


@pytest.mark.parametrize(
  ("place", "message"),
  [
    (("nonsense", 2, 0), "must be host:port, .*got 'nonsense'"),
    (("host:", 2, 0), "must be host:port"),
    (("host:99999", 2, 0), r"a port in \[1, 65535\]"),
    (("host:http", 2, 0), "must be host:port"),
    (("no.such.host.invalid:80", 2, 0), "name a host that is known here"),
    (("localhost:80", 0, 0), r"num_processes must be in \[1, 2\*\*31\), got 0"),
    (("localhost:80", 2, 2), r"process_id must be in \[0, 2\), got 2"),
    (("localhost:80", 2, -1), r"process_id must be in \[0, 2\), got -1"),
  ],
)
def test_a_place_among_processes_is_checked(place, message):
  with pytest.raises(ValueError, match=message):
    flags_lib.check_processes(*place)


def test_addresses_that_can_be_are_taken():
  flags_lib.check_processes("localhost:1234", 2, 1)
  flags_lib.check_processes("[::1]:1234", 1, 0)


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("file", "must be a folder, or not be there yet, .*Not a directory"),
    ("file/inside", "must be a folder that can be written, .*Not a directory"),
    ("x" * 300, "must be a folder, or not be there yet, .*File name too long"),
    ("/proc/x", "must be a folder that can be written, got /proc/x"),
    ("/sys/x/y", "must be a folder that can be written, got /sys/x/y"),
    ("/dev/null", "must be a folder, or not be there yet, got /dev/null"),
    ("/dev/null/x", "must be a folder that can be written"),
  ],
)
def test_a_workdir_that_cannot_be_is_refused(tmp_path, name, message):
  (tmp_path / "file").write_text("mine")
  with pytest.raises(ValueError, match=message):
    runner.run(config_lib.RunConfig(), tmp_path / name, progress=False)
  assert (tmp_path / "file").read_text() == "mine"


_WHOLE = dict.fromkeys(runner.RESULT_KEYS, 0)
_DAMAGES = {
  "nothing": "",
  "cut": '{"steps"',
  "a list": "[1]",
  "a number": "3",
  "null": "null",
  "no text": b"\xff\xfe\x00",
  "too deep": "[" * 100_000,
  "lacks a key": json.dumps({k: 0 for k in _WHOLE if k != "steps"}),
  "a folder": None,
}


def write(path: pathlib.Path, damage) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  if damage is None:
    path.mkdir()
  else:
    path.write_bytes(damage if isinstance(damage, bytes) else damage.encode())


@pytest.mark.parametrize("damage", _DAMAGES)
def test_a_damaged_result_is_set_aside_and_said(tmp_path, damage, capsys):
  for name in ("result.json.damaged", "result.json.damaged1"):
    write(tmp_path / "result.json", _DAMAGES[damage])
    assert workdirs.result(tmp_path, runner.RESULT_KEYS) is None
    assert (tmp_path / name).exists()
    assert f"was set aside as {name};" in capsys.readouterr().out
  assert workdirs.result(tmp_path, runner.RESULT_KEYS) is None
  assert capsys.readouterr().out == ""  # There is none: nothing to say.


def test_a_whole_result_stays(tmp_path):
  workdirs.write_result(tmp_path, _WHOLE)
  assert workdirs.result(tmp_path, runner.RESULT_KEYS) == _WHOLE
  both = {"runs": [_WHOLE, _WHOLE]}
  workdirs.write_result(tmp_path, both)
  assert workdirs.result(tmp_path, runner.RESULT_KEYS, num_runs=2) == both
  assert workdirs.result(tmp_path, runner.RESULT_KEYS, num_runs=3) is None


@pytest.mark.parametrize("damage", [d for d in _DAMAGES if "key" not in d])
def test_a_folder_without_a_readable_owner_is_refused(tmp_path, damage):
  write(tmp_path / "config.json", _DAMAGES[damage])
  with pytest.raises(ValueError, match="holds files but no readable config"):
    workdirs.check(tmp_path, {})
