"""Tables 4 and 5: rows by the paper's numbers, differences by hand."""

import dataclasses
import json

import grain  # noqa: F401  # It defines flags, which flagsaver would remove.
import numpy as np
import pytest
from absl import flags as absl_flags
from absl.testing import flagsaver

import kdropout_jax as kd
from experiments.cells import sweeps
from experiments.data import registry
from experiments.gyro import claims
from experiments.gyro import paper
from experiments.gyro.accuracy import accuracy_table
from experiments.gyro.accuracy import measured as measured_lib
from experiments.gyro.accuracy import notes as accuracy_notes
from experiments.gyro.accuracy import report as accuracy_report
from experiments.gyro.accuracy import settings
from experiments.report import study
from experiments.run import methods
from experiments.run import presets

_SCALES = ("paper", "cpu", "smoke")
_RUN = [
  pytest.param(scale, row, id=f"{scale}-{row.label}")
  for scale in _SCALES
  for row in settings.rows(scale)
  if not row.not_run
]


def by_label(scale):
  return {row.label: row for row in settings.rows(scale)}


def num_steps(cell):
  """Steps of a cell, its dataset not read; TFDS knows Tiny ImageNet's size."""
  sizes = {
    **{name: registry.get(name).rows[0] for name in registry.names()},
    # The own splits have fewer rows than the official ones.
    "kddcup99": 101_911,
    "unsw_nb15": 39_087,
  }
  return cell.steps(cell.num_train or sizes[cell.dataset])


@pytest.mark.parametrize("scale", _SCALES)
def test_cells_differ_and_have_one_seed(scale):
  cells = [
    cell
    for row in settings.rows(scale)
    for same in row.all_cells().values()
    for cell in same
  ]
  assert len({cell.digest() for cell in cells}) == len(cells) > 0
  assert {cell.seeds for cell in cells} == {1}


@pytest.mark.parametrize(("scale", "row"), _RUN)
def test_arms_differ_in_the_method_alone(scale, row):
  del scale
  arms = {method: cells[0] for method, cells in row.all_cells().items()}
  assert tuple(arms) == row.methods
  others = set(methods.USED_IF) | {"method"}
  common = [
    {k: v for k, v in cell.identity().items() if k not in others}
    for cell in arms.values()
  ]
  assert all(fields == common[0] for fields in common)
  assert arms["conventional"].method == "standard"
  if "blockwise" in arms:
    gyro = dataclasses.replace(
      arms["blockwise"],
      pattern="bernoulli",
      block_size=32,
      rows_per_subnet=None,
    )
    assert gyro == arms["gyro"]


@pytest.mark.parametrize(("scale", "row"), _RUN)
def test_all_subnets_train_in_rows_that_are_run(scale, row):
  """Each window has a full rotation: Sigma is fixed and nothing is left out."""
  del scale
  for method in set(row.methods) & {"gyro", "blockwise"}:
    cell = row.cells(method)[0]
    schedule = cell.schedule(num_steps(cell))
    assert isinstance(schedule, kd.Gyro)
    shortest, _ = schedule.window_steps
    slots = schedule.num_concurrent(cell.batch_size)
    assert shortest * slots >= cell.concurrent
    trained = schedule.num_subnets(num_steps(cell), cell.batch_size)
    assert trained == cell.total


@pytest.mark.parametrize("scale", ["paper", "cpu"])
def test_sigma_tau_and_blocks_are_the_presets_at_every_scale(scale):
  for row in settings.rows(scale):
    preset = presets.get(row.preset)
    for method in set(row.methods) & {"gyro", "blockwise"}:
      cell = row.cells(method)[0]
      assert (cell.total, cell.concurrent) == (preset.total, preset.concurrent)
      if method == "blockwise":  # 128 rows by 32 of 1024 units.
        assert cell.rows_per_subnet == 128
        assert cell.block_size * 1024 == 32 * (cell.hidden or 1024)


def test_the_cpu_scale_is_the_one_that_was_fixed():
  rows = by_label("cpu")
  packets, cnn = rows["NSL-KDD/MLP3"], rows["CIFAR100/AlexNet"]
  cell = packets.cells("none")[0]
  assert (cell.hidden, cell.epochs, cell.lr_drops) == (256, 10, (4, 8))
  assert (cell.batch_size, packets.seeds) == (256, 10)
  assert (cell.packet_scaling, cell.multi_class) == ("minmax", False)
  cell = cnn.cells("none")[0]
  assert (cell.channels, cell.hidden) == ((16, 32, 48), 256)
  assert (cell.num_train, cell.crop, cell.flip) == (5000, 24, True)
  assert (cell.epochs, cell.lr_drops, cnn.seeds) == (20, (8, 16), 5)


def test_all_rows_of_the_papers_table_are_there():
  for scale in ("paper", "cpu"):
    assert set(by_label(scale)) == set(paper.TABLE_4)
  assert set(paper.TABLE_5) == set(paper.TABLE_4) - {"ImageNet/ResNet-18"}
  for row in settings.rows("paper"):
    own = [name for name in row.methods if name != "fresh_blocks"]
    assert len(own) == len(paper.TABLE_4[row.label])


def test_rows_are_chosen_by_group_or_label():
  rows = settings.rows("cpu")
  chosen = settings.choose(rows, ["packets", "CIFAR10/LeNet"])
  assert [row.label for row in chosen] == [
    *("CIFAR10/LeNet", "KDDCup99/MLP3", "NSL-KDD/MLP3", "UNSW-NB15/MLP3")
  ]
  assert settings.choose(rows, None) == list(rows)
  with pytest.raises(ValueError, match="rows must be one of .*did you mean"):
    settings.choose(rows, ["packet"])


def planted(label="CIFAR10/LeNet", trained=256):
  """Six seeds of a row: gyro .3 above conventional, its gap 1 smaller."""
  row = by_label("cpu")[label]
  noise = np.array([0.02, -0.02, 0.01, -0.01, 0.0, 0.03])

  def measured(method, plus, seeds):
    return [
      {
        **row.names,
        "method": method,
        "seed": seed,
        "accuracy": 40.0 + seed + plus + noise[seed] * plus,
        "best_accuracy": 41.0 + seed,
        "train_accuracy": 50.0 + seed,
        "generalization_gap": 10.0 - 4 * plus + noise[seed] * plus,
        "train_mode_error": 55.0,
        "train_mode_gap": 5.0 - seed,
        "num_evaluations": 5,
        "num_subnets": trained if method == "gyro" else 999,
        "total": 256 if method == "gyro" else None,
        "dataset_note": "official split",
      }
      for seed in seeds
    ]

  rows = {
    "conventional": measured("conventional", 0.0, range(6)),
    # One seed more is not there: only those that both have are paired.
    "gyro": measured("gyro", 0.3, range(1, 6)),
  }
  cells = [row.cells("gyro")[0]] * 11
  return measured_lib.Found(row, rows, cells)


def test_differences_are_paired_by_seed():
  found = planted()
  differences = found.differences("gyro", "accuracy")
  # Unpaired, the mean would be .5 higher: seed 0 is the worst one.
  np.testing.assert_allclose(
    differences, 0.3 + 0.3 * np.array([-0.02, 0.01, -0.01, 0.0, 0.03])
  )
  _, (_, conventional, gyro, *_) = accuracy_report.table([found])
  assert gyro[4].startswith("43.30 +- 1.5")
  assert gyro[5] == "+0.30 [+0.29, +0.31]"
  assert gyro[6:8] == ["44.00 +- 1.58 (of 5)", "+0.00 [+0.00, +0.00]"]
  assert conventional[8] == "84.27 +- 0.22" and gyro[8] == "84.43 +- 0.10"


def test_planted_rows_are_judged():
  rows, _ = accuracy_report.judged([planted()])
  verdicts = study.judge(
    claims.named(*accuracy_report.CLAIMS), rows, scale="cpu"
  )
  outcome = {v.claim.name: v.outcome for v in verdicts}
  assert outcome["gyro_beats_conventional"] == "holds"
  assert outcome["gap_is_smaller"] == "holds"
  assert outcome["blockwise_is_not_worse"] == "cannot be told"


def test_rows_where_not_all_subnets_trained_enter_no_claim():
  found = planted(trained=255)
  rows, cells = accuracy_report.judged([found])
  assert {row["method"] for row in rows} == {"conventional"}
  assert len(cells) == len(rows) == 6
  _, lines = accuracy_report.table([found])
  assert lines[2][2] == "not all Sigma trained (255 of 256)"
  assert any("enter no claim" in s for s in accuracy_notes.notes([found], "x"))


def test_own_splits_enter_no_claim():
  rows, _ = accuracy_report.judged([planted("KDDCup99/MLP3")])
  verdicts = study.judge(
    claims.named(*accuracy_report.CLAIMS), rows, scale="cpu"
  )
  assert all(not verdict.findings for verdict in verdicts)


def test_power_is_that_of_the_measured_deviation():
  text = accuracy_notes.power_table([planted()])
  cells = [cell.strip() for cell in text.splitlines()[2].split("|")[1:-1]]
  # Five pairs at a deviation of .006 tell the paper's .16 for certain.
  assert cells == [
    *("CIFAR10/LeNet", "5", "0.01", "0.01", "+0.16", "100%", "2")
  ]


def test_what_is_not_run_has_a_reason_and_a_command():
  everything = [measured_lib.Found(row, {}, []) for row in settings.rows("cpu")]
  text = "\n".join(accuracy_notes.notes(everything, "cpu"))
  for words in (
    "SVHN/MLP1: dataset svhn_cropped not at hand, or not asked for.",
    "--scale=cpu --rows=SVHN/MLP1`",
    "CIFAR10/ResNet-18: too large for this scale.",
    "--scale=paper --rows=CIFAR10/ResNet-18`",
    "ImageNet/ResNet-18: its images are streamed. `python -m experiments.train",
    "SQuAD/BERT: no pretrained weights at hand.",
  ):
    assert words in text


@pytest.fixture
def call(tmp_path, monkeypatch):
  """Calls the binary with one method of one row, and one row without data."""
  rows = settings.rows("smoke")
  small = dataclasses.replace(rows[0], methods=("gyro",))
  scale = dataclasses.replace(settings.SCALES["smoke"], rows=(small, rows[-1]))
  monkeypatch.setattr(settings, "SCALES", {"smoke": scale})

  def run(**flags):
    if not absl_flags.FLAGS.is_parsed():
      absl_flags.FLAGS(["tests"])
    given = {"scale": "smoke", "progress": False, "workdir": str(tmp_path)}
    with flagsaver.flagsaver(**(given | flags)):
      accuracy_table.main([])
    return small

  return run


def test_the_binary_trains_and_reports(call, tmp_path, capsys):
  call(dry_run=True)
  assert "2 cells in 1 programs; 2 cells" in capsys.readouterr().out
  assert not list(tmp_path.iterdir())
  row = call(publish=str(tmp_path / "published"))
  page = (tmp_path / "accuracy_table.md").read_text()
  numbers = json.loads((tmp_path / "accuracy_table.json").read_text())
  rows = numbers["numbers"]["rows"]
  cells = [cell for same in row.all_cells().values() for cell in same]
  assert len(rows) == len(cells) == 2
  for measured, cell in zip(rows, cells):
    result = sweeps.result(cell, tmp_path)
    assert result is not None
    assert measured["accuracy"] == 100 * result["test_accuracy"][0]
    gap = result["train_accuracy"][0] - result["test_accuracy"][0]
    assert measured["generalization_gap"] == pytest.approx(100 * gap)
    assert measured["best_accuracy"] >= measured["accuracy"]
    assert measured["num_evaluations"] == 4
  for words in ("## Power", "SVHN/MLP1", "not run", "## Verdicts", "digits"):
    assert words in page
  names = {path.name for path in (tmp_path / "published").iterdir()}
  assert names == {f"accuracy_table.{x}" for x in ("md", "json", "png")}


def test_a_page_of_nothing_says_so(call, tmp_path):
  call(rows=["SVHN/MLP1"])
  page = (tmp_path / "accuracy_table.md").read_text()
  lines = [line for line in page.splitlines() if " | not run " in line]
  assert len([x for x in lines if x.startswith(("| SVHN", "| digits"))]) == 6
  assert "seeds: 0" in page
  assert not (tmp_path / "accuracy_table.png").exists()


def test_wrong_flags_are_refused(call):
  with pytest.raises(ValueError, match="depth must be left alone"):
    call(depth=3)
  with pytest.raises(ValueError, match="scale must be one of"):
    call(scale="large")
