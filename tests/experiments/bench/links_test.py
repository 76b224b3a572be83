"""What P devices send in a window, and its table."""

import pytest

from experiments.bench import links
from experiments.bench import slow_link


@pytest.mark.slow
def test_disjoint_windows_send_a_small_part_of_data_parallelism(monkeypatch):
  """Masked training's steps exchange all gradients, and no window_end step."""
  monkeypatch.setattr(links, "PARTS", (2,))
  monkeypatch.setattr(links, "_INPUTS", 24)
  rows = {row["training"]: row for row in links.rows(hidden=16)}
  parallel, each, end = (rows[way] for way in slow_link.WAYS)
  assert parallel["messages"] >= links.STEPS
  # Kernels and biases, and two numbers beside; a ring of two sends each once.
  num_weights = 24 * 16 + 16 + 16 * 16 + 16 + 16 * 10 + 10
  assert parallel["bytes"] == links.STEPS * 4 * (num_weights + 2)
  assert end["messages"] < links.STEPS < each["messages"]
  # The last bias, at each step.
  assert each["bytes"] - end["bytes"] <= links.STEPS * 4 * 10
  assert end["bytes"] < parallel["bytes"] / 50
  assert "data parallelism" in links.table(list(rows.values()))


def test_speed_is_against_the_same_link():
  rows = [
    {"link": link, "training": way, "ms": ms, "accuracy": 0.5}
    for link, times in (("fast", (10, 5)), ("slow", (600, 6)))
    for way, ms in zip(slow_link.WAYS, times)
  ]
  _, _, *lines = slow_link.table(rows).splitlines()
  assert [line.split("|")[4].strip() for line in lines] == [
    "1.00", "2.00", "1.00", "100.00",
  ]  # fmt: skip
