"""The examples start, do what they say, and show outputs that are theirs."""

import importlib.util
import json
import re

import numpy as np
import pytest

import kdropout_jax as kd
from tests import documents

_WHY = "the dependency group docs is not installed"
nbformat = pytest.importorskip("nbformat", reason=_WHY)
nbclient = pytest.importorskip("nbclient", reason=_WHY)

_FOLDER = documents.ROOT / "examples"
_NOTEBOOKS = sorted(_FOLDER.glob("*.ipynb"))
_SHORT = {
  "flax_training_loop": dict(num_steps=2, num_seeds=1),
  "mc_dropout": dict(num_steps=2, num_samples=2),
  "retrofit_transformer": dict(num_steps=2),
  "window_ensemble": dict(k=2, num_windows=3),
}


def load(name):
  """Imports an example, which is in no package."""
  path = _FOLDER / f"{name}.py"
  spec = importlib.util.spec_from_file_location(f"examples.{name}", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_each_script_is_tried():
  assert {path.stem for path in _FOLDER.glob("*.py")} == set(_SHORT)


@pytest.mark.parametrize("name", _SHORT)
def test_each_script_imports_and_says_its_command_and_what_to_expect(name):
  said = load(name).__doc__
  assert f"\n  python examples/{name}.py\n" in said
  assert "two cores" in said and "Expected:" in said


def numbers(name, capsys, **sizes):
  """Runs a script; returns the numbers that it prints, line by line."""
  load(name).main(**sizes)
  lines = capsys.readouterr().out.splitlines()
  found = [re.findall(r"\d+\.\d+", line) for line in lines]
  assert sum(map(len, found)) >= 6 and len(lines) <= 12
  assert "nan" not in "".join(lines)
  return {
    line[:27].strip(): list(map(float, n)) for line, n in zip(lines, found)
  }


@pytest.mark.slow
@pytest.mark.parametrize("name", _SHORT)
def test_each_script_starts(name, capsys):
  numbers(name, capsys, **_SHORT[name])


@pytest.mark.slow
def test_a_pool_is_worth_what_the_first_script_says(capsys):
  """Of 9 points; 1.6 is the standard error of a difference of two networks."""
  got = numbers("flax_training_loop", capsys, num_steps=400, num_seeds=1)
  none, standard = got["no dropout"][0], got["standard dropout"][0]
  assert standard > none + 0.03
  assert got["pooled, 8 of 500"][0] > none + 0.03


@pytest.mark.slow
def test_the_two_ways_of_training_windows_are_one(capsys):
  load("window_ensemble").main(k=10, num_windows=4)
  said = capsys.readouterr().out
  agreement = re.search(r"agree on ([\d.]+) % of the test images", said)
  assert float(agreement[1]) >= 99.0  # rounding may turn a tie


@pytest.mark.parametrize("path", _NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_small_and_their_outputs_are_there(path):
  notebook = nbformat.read(path, as_version=4)
  nbformat.validate(notebook)
  assert path.stat().st_size < 200_000
  cells = [c for c in notebook.cells if c.cell_type == "code"]
  assert [c.execution_count for c in cells] == list(range(1, len(cells) + 1))
  assert all(o.output_type != "error" for c in cells for o in c.outputs)
  assert sum(bool(c.outputs) for c in cells) >= 4


def test_there_are_two_notebooks():
  assert [path.stem for path in _NOTEBOOKS] == ["k_and_m", "ten_minutes"]


def printed(path):
  """Returns what a notebook's cells print, as it is committed."""
  cells = json.loads(path.read_text())["cells"]
  return [
    "".join("".join(o.get("text", [])) for o in c.get("outputs", []))
    for c in cells
    if c["cell_type"] == "code"
  ]


def test_the_first_cells_of_the_tutorial_print_what_is_committed(capsys):
  """The rest trains: it runs in the slow suite."""
  path = _FOLDER / "ten_minutes.ipynb"
  cells = [
    c.source
    for c in nbformat.read(path, as_version=4).cells
    if c.cell_type == "code"
  ]
  names = {}
  for source, expected in list(zip(cells, printed(path)))[:4]:
    exec(compile(source, path.name, "exec"), names)
    assert capsys.readouterr().out == expected
  assert isinstance(names["masks"], kd.Masks)


@pytest.mark.slow
@pytest.mark.parametrize("path", _NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path, monkeypatch):
  monkeypatch.setenv("PYTHONPATH", str(documents.ROOT))
  notebook = nbformat.read(path, as_version=4)
  nbclient.NotebookClient(
    notebook, timeout=300, kernel_name="python3"
  ).execute()
  new = [
    "".join(o.get("text", "") for o in c.outputs)
    for c in notebook.cells
    if c.cell_type == "code"
  ]
  # Masks and ids are the same bits; times and trained weights may differ.
  exact = [
    i for i, text in enumerate(printed(path)) if not re.search(r"\d\.\d", text)
  ]
  assert len(exact) >= 3
  for i in exact:
    assert new[i] == printed(path)[i]
  accuracies = re.findall(r"accuracy (\.?\d+\.\d+)", "".join(new))
  assert all(np.array(accuracies, float) > 0.8)
