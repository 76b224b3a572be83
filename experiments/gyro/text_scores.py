"""Scores of MRPC and SQuAD, each beside a baseline that reads nothing."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from experiments import data as data_lib
from experiments.data import spans as spans_lib
from experiments.data import squad_metric
from experiments.run import predictions
from experiments.run import runner

FIRST_WORDS = 3
"""Words of the trivial answer; those of SQuAD have about three."""

_ROWS = 32


def measure(
  run: runner.Run, state: Any, *, fixed_rows: int = 256
) -> dict[str, Any]:
  """Returns what `runner.run` adds to the result of one network on text.

  Args:
    run: of one member.
    state: its end.
    fixed_rows: the first training rows, whose loss without dropout is taken
      before the first step and after the last.

  Returns:
    {"scores": those of `of_test`, "fixed_loss": [before, after], ...}.
  """
  setup = run.setup
  data, spans = setup.arrays(), setup.splits
  first, stop = spans["train"]
  fixed = min(fixed_rows, stop - first)
  labels = {
    name: np.asarray(data.labels[slice(*spans[name])])
    for name in ("train", "test")
  }

  def loss(state) -> float:
    found = setup.program.evaluate(
      state, data, first, first + fixed, members=setup.members
    )
    return float(found["loss"][0])

  (logits,) = predictions.on_test(
    run, state, lambda logits, _: logits.astype(jnp.float32), rows=_ROWS
  )
  return {
    "scores": of_test(setup.info, labels, logits, setup.extra),
    "fixed_loss": [loss(setup.init()), loss(state)],
    "fixed_rows": fixed,
    "train_rows": len(labels["train"]),
    "test_rows": len(labels["test"]),
    "counts": dict(setup.info.counts),
  }


def of_test(
  info: data_lib.Info,
  labels: Mapping[str, np.ndarray],
  logits: Float[np.ndarray, "N ..."],
  spans: spans_lib.Spans | None = None,
) -> dict[str, dict[str, float]]:
  """Returns {"model" | "baseline": {metric: %}} on the test set.

  Args:
    info: of a dataset of the task "pairs" or "spans".
    labels: of "train" and of "test".
    logits: of the test inputs, [N, 2]; for spans [N, 2, L].
    spans: the test set's, for the task "spans".

  Raises:
    ValueError: a dataset of another task.
  """
  check_task(info.name, info.task)
  if spans is None:
    return _of_pairs(labels, logits)
  return _of_spans(spans, logits)


def check_task(name: str, task: str) -> None:
  """Raises a ValueError for a dataset that is not one of text."""
  if task not in ("pairs", "spans"):
    raise ValueError(
      f"dataset must be one of pairs or spans (glue/mrpc, squad), got {name!r}"
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


def _of_pairs(labels: Any, logits: Any) -> dict[str, dict[str, float]]:
  test = labels["test"]
  # The majority is the training set's: the test set is not looked at.
  majority = np.bincount(labels["train"]).argmax()
  return {
    "model": accuracy_and_f1(logits.argmax(-1), test),
    "baseline": accuracy_and_f1(np.full_like(test, majority), test),
  }


def _of_spans(spans, logits: Any) -> dict[str, dict[str, float]]:
  found = spans_lib.best_answers(spans, logits[:, 0], logits[:, 1])
  true = spans_lib.answers(spans)
  return {
    "model": squad_metric.evaluate(found, true),
    "baseline": squad_metric.evaluate(first_words(spans), true),
  }
