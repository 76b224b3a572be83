"""The frame of an experiment: minutes, verdicts, files, shares."""

import json
import types

import grain  # noqa: F401  # It defines flags, which flagsaver would remove.
import pytest
from absl import flags as absl_flags
from absl.testing import flagsaver

from experiments.cells import experiment
from experiments.cells import flags
from experiments.cells import sizes
from experiments.judge import contrasts
from experiments.report import study

flags.define()
flags.define_sharing()

CLAIM = contrasts.Claim(
  name="better",
  paper="none",
  source="here",
  text="a is over 0",
  measure="gain",
  a={},
)
GAINS = (1.0, 1.1, 0.9, 1.2, 0.8)


def planted(**own):
  fields = dict(
    name="planted",
    title="Planted",
    setting="Nothing was trained.",
    table=(("seeds",), [("5",)]),
    rows=[{"seed": seed, "accuracy": 40.0} for seed in range(4, -1, -1)],
  )
  return study.Report(**{**fields, **own})


@pytest.fixture
def given():
  """Sets flags for a test."""
  if not absl_flags.FLAGS.is_parsed():
    absl_flags.FLAGS(["tests"])
  with flagsaver.flagsaver(scale="cpu"):
    yield absl_flags.FLAGS


@pytest.fixture
def clock(monkeypatch):
  """Each look at the clock is a minute after the one before."""
  seconds = iter(range(0, 6000, 60))
  now = types.SimpleNamespace(perf_counter=lambda: next(seconds))
  monkeypatch.setattr(experiment, "time", now)


def numbers_of(folder):
  return json.loads((folder / "planted.json").read_text())


def test_a_report_has_the_minutes_of_all_calls(given, clock, tmp_path):
  for minutes in (1, 2):
    experiment.report(tmp_path, planted)
    assert numbers_of(tmp_path)["minutes"] == minutes
  assert "- minutes: 2.0\n" in (tmp_path / "planted.md").read_text()


def test_claims_read_the_rows_that_are_judged(given, tmp_path):
  judged = [{"seed": seed, "gain": gain} for seed, gain in enumerate(GAINS)]
  for own, outcome in (
    ({"judged": judged}, "holds"),
    ({"rows": judged}, "holds"),
    ({}, "cannot be told"),  # its rows have no such measure
  ):
    experiment.report(tmp_path, lambda own=own: planted(claims=[CLAIM], **own))
    (verdict,) = numbers_of(tmp_path)["verdicts"]
    assert verdict["outcome"] == outcome
    assert outcome in (tmp_path / "planted.md").read_text()


def test_numbers_are_the_rows_and_what_stands_beside(given, tmp_path):
  experiment.report(tmp_path, lambda: planted(numbers={"order": "once"}))
  found = numbers_of(tmp_path)
  assert found["numbers"].keys() == {"rows", "order"}
  assert found["seeds"] == [0, 1, 2, 3, 4] and found["scale"] == "cpu"
  experiment.report(
    tmp_path, lambda: planted(rows=None, seeds=[7], numbers={"order": "once"})
  )
  found = numbers_of(tmp_path)
  assert found["numbers"] == {"order": "once"} and found["seeds"] == [7]


def test_files_are_published_and_a_figure_is_named(given, tmp_path):
  given.publish = str(tmp_path / "published")
  drawn = planted(draw=lambda path: path.write_bytes(b"png"))
  experiment.report(tmp_path, lambda: drawn)
  page = (tmp_path / "planted.md").read_text()
  assert "![Planted](planted.png)" in page
  for suffix in ("md", "json", "png"):
    name = f"planted.{suffix}"
    published = (tmp_path / "published" / name).read_bytes()
    assert published == (tmp_path / name).read_bytes()


def share(folder):
  """Returns what was called of a shared experiment."""
  called = []

  def call(name, value):
    return lambda: (called.append(name), value)[1]

  experiment.share(
    folder,
    "planted",
    plan=call("plan", "what there is to do"),
    train=call("train", None),
    done=call("done", "; 3 cells are left"),
    report=call("report", planted()),
  )
  return called


@pytest.mark.parametrize(
  ("own", "calls", "said"),
  [
    ({"dry_run": True}, ["plan"], "what there is to do"),
    ({"shard": "1/2"}, ["train", "done"], "1/2 is done; 3 cells are left"),
    ({}, ["train", "report"], "# Planted"),
  ],
)
def test_a_shared_list(given, tmp_path, capsys, own, calls, said):
  for name, value in own.items():
    given[name].value = value
  assert share(tmp_path) == calls
  assert said in capsys.readouterr().out
  assert (tmp_path / "planted.md").exists() == ("report" in calls)
  assert (tmp_path / "minutes.json").exists() == ("train" in calls)


def test_a_page_without_cells_lies_in_a_folder_of_its_name(
  given, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  draw = lambda path: path.write_bytes(b"png")  # noqa: E731

  def page(numbers):
    return f"| {numbers['n']} | {numbers['scale']} |\n"

  experiment.leave("counts", page, {"n": 1}, draw)
  folder = tmp_path / "runs" / "counts"
  assert {path.suffix for path in folder.glob("[!.]*")} == {
    ".md",
    ".json",
    ".png",
  }
  assert (folder / "counts.md").read_text() == "| 1 | cpu |\n"
  numbers = json.loads((folder / "counts.json").read_text())
  assert numbers["n"] == 1
  assert {"scale", "device", "versions"} < set(numbers)


def test_a_main_defines_its_flags_and_gives_scale_and_store(
  given, tmp_path, monkeypatch
):
  size = sizes.Size(name="cpu", seeds=2, max_members=3)
  given["workdir"].value = str(tmp_path)
  seen = []

  def measure(scale, store):
    seen.append((scale, store.folder, store.max_members))
    return planted()

  defined = []
  monkeypatch.setattr(flags, "define", lambda: defined.append(True))
  main = experiment.main(measure, {"cpu": size})
  assert defined == [True]
  main([])
  assert seen == [(size, tmp_path, 3)]
  assert (tmp_path / "planted.md").exists()
