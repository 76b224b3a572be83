"""Every experiment of the older sources runs, from flags to files."""

import importlib
import json

import pytest

from experiments.foundations import page
from experiments.report import page as report_page

# Each compiles a program an arm: together they take minutes.
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", list(page.EXPERIMENTS))
def test_an_experiment_leaves_table_figure_and_numbers(name, call, workdir):
  binary = page.EXPERIMENTS[name][0].split()[0]
  module = importlib.import_module(f"experiments.foundations.{binary}")
  call(module.main)
  found = json.loads((workdir / f"{name}.json").read_text())
  rows = found["numbers"]["rows"]
  assert found["scale"] == "smoke" and {r["seed"] for r in rows} == {0, 1}
  assert (workdir / f"{name}.png").read_bytes()[1:4] == b"PNG"
  assert "| " in (workdir / f"{name}.md").read_text()
  said = report_page.text(page.PAPER, workdir)
  (line,) = [x for x in said.splitlines() if f"[{name}.md]" in x]
  assert "smoke" in line
