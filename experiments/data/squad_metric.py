"""Exact match and F1 of SQuAD v1.1, by the official definition.

Rajpurkar et al., SQuAD: 100,000+ Questions for Machine Comprehension of Text,
EMNLP 2016, section 6: answers are compared in lower case without punctuation
and articles; a prediction scores its best over all answers of a question.
"""

import collections
import re
import string
from collections.abc import Mapping, Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(answer: str) -> str:
  """Returns the answer as it is compared.

  >>> normalise("The  Denver-Broncos, an NFL team!")
  'denverbroncos nfl team'
  """
  bare = answer.lower().translate(_PUNCTUATION)
  return " ".join(_ARTICLES.sub(" ", bare).split())


def exact_match(prediction: str, answer: str) -> float:
  """Returns 1. if both are equal once normalised, else 0."""
  return float(normalise(prediction) == normalise(answer))


def f1(prediction: str, answer: str) -> float:
  """Returns the harmonic mean of precision and recall over words.

  >>> f1("the Broncos of Denver", "Denver Broncos")  # 2 of 3, 2 of 2
  0.8
  """
  predicted, true = normalise(prediction).split(), normalise(answer).split()
  common = collections.Counter(predicted) & collections.Counter(true)
  same = sum(common.values())
  if not same:
    return 0.0
  return 2 * same / (len(predicted) + len(true))


def evaluate(
  predictions: Mapping[str, str], answers: Mapping[str, Sequence[str]]
) -> dict[str, float]:
  """Returns ``{"exact_match": %, "f1": %}`` over all questions.

  Args:
    predictions: {question id: text}; a question without one scores 0.
    answers: {question id: the texts of its annotators}.

  Raises:
    ValueError: there are no questions, or one has no answer.
  """
  if not answers or not all(answers.values()):
    raise ValueError(
      "answers must hold at least one answer for at least one question, got"
      f" {len(answers)} questions"
    )
  totals = {"exact_match": 0.0, "f1": 0.0}
  for question, texts in answers.items():
    if question not in predictions:
      continue
    guess = predictions[question]
    totals["exact_match"] += max(exact_match(guess, text) for text in texts)
    totals["f1"] += max(f1(guess, text) for text in texts)
  return {name: 100 * total / len(answers) for name, total in totals.items()}
