"""The page over all results: what was not run says so."""

import json

from experiments.k_dropout import page as page_lib
from experiments.report import page as report_page


def page_of(folder):
  return report_page.text(page_lib.PAPER, folder)


def write(folder, name, rows):
  numbers = {"scale": "cpu", "seeds": [0], "minutes": 3.5, "device": "cpu"}
  rows = [{"seed": 0, "rate": 0.5} | row for row in rows]
  numbers |= {"numbers": {"rows": rows}, "verdicts": []}
  (folder / f"{name}.json").write_text(json.dumps(numbers))


def lines_with(page, words):
  return [line for line in page.splitlines() if words in line]


def test_an_empty_folder_was_not_run(tmp_path):
  page = page_of(tmp_path)
  ours = lines_with(page, "`experiments.")
  assert len(ours) == len(page_lib.EXPERIMENTS)
  assert all("not run" in line for line in ours)
  (pool,) = lines_with(page, "pool of 50,")
  # 58.2, 58.6, 59.2, 58.6, 58.8 less 59.6.
  assert "| -0.9 " in pool and "not run" in pool


def test_numbers_stand_beside_the_papers(tmp_path):
  own = {"shuffle": "every_epoch", "rate": 0.5}
  write(
    tmp_path,
    "pooled",
    [
      own | {"method": "standard", "accuracy": 41.0},
      own | {"method": "pooled", "pool_size": 50, "m": 1, "accuracy": 40.0},
      own | {"method": "pooled", "pool_size": 50, "m": 8, "accuracy": 41.0},
    ],
  )
  page = page_of(tmp_path)
  (line,) = lines_with(page, "`experiments.sweep --grid=pooled`")
  assert "not run" not in line and "3.5" in line
  (pool,) = lines_with(page, "pool of 50,")
  assert pool.split("|")[3].strip() == "-0.5"
  (pool,) = lines_with(page, "pool of 200,")
  assert pool.split("|")[3].strip() == "not run"


def test_the_u_is_judged_an_arm_at_a_time(tmp_path):
  # Recency alone: six subnets of 200 steps, the last four points better.
  noise = [0.0, 0.01, -0.01, 0.02, -0.02]
  trained = [[0.3 + n, *[0.3] * 4, 0.34 + n] for n in noise]
  write(tmp_path, "subnet_dynamics", [])
  file = tmp_path / "subnet_dynamics.json"
  numbers = json.loads(file.read_text())
  numbers["seeds"] = list(range(5))
  one = {"k": 200, "steps": [600, 1200], "trained": trained}
  numbers["numbers"]["followed"] = {"adam": [one]}
  pooled = {"claim": {"name": "u_shape", "text": "pooled", "source": "here"}}
  numbers["verdicts"] = [pooled | {"outcome": "holds", "reason": "so"}]
  was = {"until": "2026-01-02", "claim": "u_shape", "text": "the ends"}
  numbers["revised"] = [was | {"outcome": "holds", "why": "one number"}]
  file.write_text(json.dumps(numbers))
  page = page_of(tmp_path)
  (last,) = lines_with(page, "| subnets trained last end better")
  (first,) = lines_with(page, "| subnets trained first end better")
  assert "**holds**" in last and "**cannot be told**" in first
  assert not lines_with(page, "pooled (here)")
  # sd .0158 over sqrt(5), times 2.776: 1.96 points.
  (arms,) = lines_with(page, "| adam")
  cells = [cell.strip() for cell in arms.split("|")[4:6]]
  assert cells == ["+0.00 [-1.96, +1.96]", "+4.00 [+2.04, +5.96]"]
  (old,) = lines_with(page, "primacy: cannot be told; recency: holds")
  assert "| holds " in old and "| 2026-01-02" in old and "one number" in old


def test_verdicts_are_counted_and_say_their_scale(tmp_path):
  write(tmp_path, "deep", [])  # It has claims of its own no more than rows.
  file = tmp_path / "deep.json"
  judged = [
    {
      "claim": {"name": name, "text": "x", "source": "here"},
      "outcome": "cannot be told",
      "reason": "then",
      "findings": {"all": {"differences": [d] * 5, "bootstrap": None}},
    }
    for name, d in (
      ("pool_50_is_close", 0.0),
      ("pool_200_is_equal", 9.0),
      ("every_pool_helps", 9.0),
    )
  ]
  numbers = json.loads(file.read_text()) | {"verdicts": judged}
  file.write_text(json.dumps(numbers))
  page = page_of(tmp_path)
  # By the rules of today, whatever the file says.
  assert "- cpu: 2 holds, 1 does not hold" in page
  (first,) = lines_with(page, "pools of 50 and more")
  cells = [cell.strip() for cell in first.split("|")[1:-1]]
  assert cells[1:4] == ["**holds**", "cpu", "deep"]
  # Restarts are cells of the sweeps: judged there, once.
  file.rename(tmp_path / "restarts.json")
  assert not lines_with(page_of(tmp_path), "pools of 50 and more")


def test_the_papers_scale_stands_in_a_column_of_its_own(tmp_path):
  own = {"shuffle": "every_epoch"}
  rows = [
    own | {"method": "standard", "accuracy": 59.0},
    own | {"method": "pooled", "pool_size": 50, "m": 8, "accuracy": 58.5},
  ]
  write(tmp_path, "paper_scale", rows)
  file = tmp_path / "paper_scale.json"
  numbers = json.loads(file.read_text()) | {"title": "its own scale"}
  numbers["numbers"]["summary"] = ["A sentence of the runs."]
  file.write_text(json.dumps(numbers))
  page = page_of(tmp_path)
  assert "A sentence of the runs." in page
  (pool,) = lines_with(page, "pool of 50,")
  assert [c.strip() for c in pool.split("|")[3:5]] == ["not run", "-0.5"]


def test_the_speed_of_a_sweep_stands_there_once_timed(tmp_path):
  assert "## Speed" not in page_of(tmp_path)
  found = {
    "scale": "cpu",
    "cells_an_hour_sweep": 1234.4,
    "cells_an_hour_alone": 600,
    "ratio": 2.0573,
    "cells_sweep": 20,
    "cells_alone": 4,
    "command": "python -m x",
  }
  (tmp_path / "bench_sweep_cpu.json").write_text(json.dumps(found))
  (line,) = lines_with(page_of(tmp_path), "`python -m x`")
  cells = [cell.strip() for cell in line.split("|")[1:-1]]
  assert cells == ["cpu", "1,234", "600", "2.1", "20", "4", "`python -m x`"]
