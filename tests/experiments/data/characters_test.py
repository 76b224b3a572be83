"""A text that ships with Python, cut into windows of characters."""

import numpy as np

from experiments import data
from experiments.data import registry
from experiments.data.builders import topics


def test_windows_are_the_text_and_labels_what_follows(tmp_path):
  found = data.load("pydoc_topics", tmp_path, progress=False)
  rows, length = registry.get("pydoc_topics").rows, topics.LENGTH
  assert found.train_x.shape == (rows[0], length)
  assert found.test_labels.shape == (rows[1], length)
  whole = topics.text()
  for inputs, labels, first in (
    (found.train_x, found.train_labels, 0),
    (found.test_x, found.test_labels, rows[0]),
  ):
    start = first * length
    for values, at in ((inputs, start), (labels, start + 1)):
      part = whole[at : at + values.size]
      codes = [ord(c) if ord(c) < 128 else 0 for c in part]
      np.testing.assert_array_equal(values.ravel(), codes)
  assert found.train_labels.dtype == np.int32 and found.info.num_classes == 128
  chosen = data.subset(found, 10, seed=1)
  assert chosen.train_labels.shape == (10, length)


def test_no_paragraph_comes_twice():
  parts = topics.text().split("\n\n")
  assert len(parts) == len(set(parts)) > 1000


def test_another_text_than_that_of_our_results_is_told(tmp_path, monkeypatch):
  whole = topics.text()
  ours = topics.sha256(whole) == registry.get("pydoc_topics").digest
  found = data.load("pydoc_topics", tmp_path / "a", progress=False)
  assert ("which is not that of our results" in found.info.note) != ours
  monkeypatch.setattr(topics, "text", lambda: f"Another. {whole}")
  found = data.load("pydoc_topics", tmp_path / "b", progress=False)
  assert "which is not that of our results (sha256:" in found.info.note
  assert "partial" not in found.info.note
