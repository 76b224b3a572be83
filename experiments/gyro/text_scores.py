"""Scores of MRPC and SQuAD, each beside a baseline that reads nothing."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from experiments.data import dataset as dataset_lib
from experiments.data import spans as spans_lib
from experiments.data import squad_metric

FIRST_WORDS = 3
"""Words of the trivial answer; those of SQuAD have about three."""


def of_test(
  dataset: dataset_lib.Dataset, logits: Float[np.ndarray, "N ..."]
) -> dict[str, dict[str, float]]:
  """Returns {"model" | "baseline": {metric: %}} on the test set.

  Args:
    dataset: of the task "pairs" or "spans".
    logits: of its test inputs, [N, 2]; for spans [N, 2, L].

  Raises:
    ValueError: a dataset of another task.
  """
  if dataset.info.task == "pairs":
    return _of_pairs(dataset, logits)
  if dataset.info.task == "spans":
    return _of_spans(dataset.extra, logits)
  raise ValueError(
    "dataset must be one of pairs or spans, such as glue/mrpc or squad, got"
    f" {dataset.info.name!r}"
  )


def accuracy_and_f1(
  predicted: Int[np.ndarray, "N"], labels: Int[np.ndarray, "N"]
) -> dict[str, float]:
  """Returns the accuracy and the F1 of class 1, in percent.

  >>> accuracy_and_f1(np.array([1, 1, 0, 1]), np.array([1, 0, 0, 1]))
  {'accuracy': 75.0, 'f1': 80.0}
  """
  right = int(np.sum((predicted == 1) & (labels == 1)))
  claimed, true = int(np.sum(predicted == 1)), int(np.sum(labels == 1))
  f1 = 2 * right / (claimed + true) if right else 0.0
  return {
    "accuracy": 100 * float(np.mean(predicted == labels)),
    "f1": 100 * f1,
  }


def first_words(spans: spans_lib.Spans) -> dict[str, str]:
  """Returns {question id: the first words of its context}."""
  return {
    question: " ".join(context.split()[:FIRST_WORDS])
    for question, context in zip(spans.ids, spans.contexts)
  }


def _of_pairs(dataset, logits: Any) -> dict[str, dict[str, float]]:
  labels = dataset.test_labels
  # The majority is the training set's: the test set is not looked at.
  majority = np.bincount(dataset.train_labels).argmax()
  return {
    "model": accuracy_and_f1(logits.argmax(-1), labels),
    "baseline": accuracy_and_f1(np.full_like(labels, majority), labels),
  }


def _of_spans(spans, logits: Any) -> dict[str, dict[str, float]]:
  found = spans_lib.best_answers(spans, logits[:, 0], logits[:, 1])
  true = spans_lib.answers(spans)
  return {
    "model": squad_metric.evaluate(found, true),
    "baseline": squad_metric.evaluate(first_words(spans), true),
  }
