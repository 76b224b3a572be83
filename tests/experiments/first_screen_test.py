"""The first screen: its lines are what the committed numbers say."""

import pathlib

import numpy as np
import pytest

from experiments.k_dropout import first_screen

ROOT = pathlib.Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"


@pytest.mark.parametrize("page", ["README.md", "docs/results/README.md"])
def test_the_pages_say_what_the_numbers_do(page):
  text = " ".join((ROOT / page).read_text().split())
  for line in first_screen.lines(RESULTS):
    assert line in text, line


def test_points_by_hand():
  found = {point.words: point for point in first_screen.points(RESULTS)}
  # Means of five seeds in paper_scale.md: 58.7 against 59.6.
  assert -1.0 < found["pool of 50"].cost.estimate < -0.7
  cpu = found["60 in turn"].speed[first_screen.CPU]
  assert cpu[1] <= cpu[0] <= cpu[2] and cpu[0] > 2
  assert found["60 in turn"].speed[first_screen.GPU][0] < 1
  assert first_screen.CPU not in found["512 for the whole run"].speed


def test_the_fastest_way_is_taken_and_blocks_are_not():
  timed = {
    "x": [1.0, 0.9, 1.1],
    "block-wise x": [9.0] * 3,
    "y caught_up": [2.0] * 3,
  }
  assert first_screen._best(timed, "x", "caught_up") == [2.0] * 3
  assert np.isclose(first_screen._best(timed, "x")[0], 1.0)


def test_it_draws(tmp_path):
  first_screen.draw(tmp_path / "x.png", RESULTS)
  assert (tmp_path / "x.png").read_bytes()[1:4] == b"PNG"
