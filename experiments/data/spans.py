"""Questions on paragraphs (SQuAD) as windows of token ids."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int32

from experiments.data import dataset as dataset_lib
from experiments.data import prepared
from experiments.data import registry
from experiments.data import tokens

_CHUNK = 2_000


@dataclasses.dataclass(frozen=True)
class Spans:
  """What turns the scores of windows back into answers.

  Attributes:
    question: the question that each window belongs to [N].
    offsets: where each token starts and ends in the context [N, L, 2].
    ids: the id of each question.
    contexts: the context of each question.
    answers: the annotators' answers to each question.
  """

  question: Int32[np.ndarray, "N"]
  offsets: Int32[np.ndarray, "N L 2"]
  ids: Sequence[str]
  contexts: Sequence[str]
  answers: Sequence[Sequence[str]]


def build(
  spec: registry.Spec,
  folder: pathlib.Path,
  *,
  vocabulary: str | os.PathLike[str] | None = None,
  vocabulary_size: int = 16_000,
  max_length: int = 384,
  stride: int = 128,
  lowercase: bool = True,
  num_train: int | None = None,
  num_test: int | None = None,
  seed: int = 0,
) -> dataset_lib.Dataset:
  """Returns a dataset of question and context windows with answer spans.

  A context that does not fit is cut into windows that overlap by `stride`
  tokens. Labels are the first and the last token of the answer; 0, 0 (the
  ``[CLS]`` token) where the window does not hold all of it.

  Args:
    spec: the dataset's.
    folder: where it is prepared.
    vocabulary: a local WordPiece vocabulary; None learns one from the
      training contexts, once, and keeps it beside the dataset.
    vocabulary_size: of the one that is learnt.
    max_length: tokens of a window.
    stride: tokens that neighbouring windows share.
    lowercase: whether text is lowered.
    num_train, num_test: keep so many questions, at random.
    seed: picks them.

  Returns:
    The dataset; `extra` is the `Spans` of the test set.

  Raises:
    ValueError: a number out of range, or a question so long that no window
      with this stride has room for its context.
  """
  tokens.check_length(max_length)
  if not 0 <= stride < max_length:
    raise ValueError(f"stride must be in [0, {max_length}), got {stride}")
  train = _questions(folder, "train", num_train, seed)
  test = _questions(folder, spec.test_split, num_test, seed)
  path = vocabulary or tokens.learnt(
    folder,
    lambda: dict.fromkeys(_questions(folder, "train", None, 0)["context"]),
    vocabulary_size,
    lowercase,
  )
  encoder = tokens.tokenizer(path, lowercase)
  for rows in (train, test):
    _check_room(encoder, rows, max_length, stride)
  encoder.enable_truncation(max_length, stride=stride, strategy="only_second")
  encoder.enable_padding(length=max_length)
  train_x, train_labels, _ = _encode_spans(encoder, train, path, False)
  test_x, test_labels, spans = _encode_spans(encoder, test, path, True)
  return dataset_lib.Dataset(
    info=dataset_lib.Info(
      name=spec.name,
      task=spec.task,
      num_classes=0,
      note=prepared.note(spec, folder),
      counts=(
        ("vocabulary", encoder.get_vocab_size()),
        ("training questions", len(train["id"])),
        ("test questions", len(test["id"])),
      ),
    ),
    train_x=train_x,
    train_labels=train_labels,
    test_x=test_x,
    test_labels=test_labels,
    extra=spans,
  )


def best_answers(
  spans: Spans,
  start_scores: Float[np.ndarray, "N L"],
  end_scores: Float[np.ndarray, "N L"],
  max_answer_tokens: int = 30,
) -> dict[str, str]:
  """Returns {question id: text} of the best span over a question's windows.

  A span is scored by its start's plus its end's score; it lies in the
  context, starts no later than it ends and has at most `max_answer_tokens`.
  """
  length = start_scores.shape[1]
  place = np.arange(length)
  gap = place[None, :] - place[:, None]
  allowed = (gap >= 0) & (gap < max_answer_tokens)
  best: dict[int, tuple[float, str]] = {}
  for n, question in enumerate(spans.question.tolist()):
    inside = spans.offsets[n, :, 1] > 0
    valid = allowed & inside[:, None] & inside[None, :]
    scores = np.where(
      valid, start_scores[n][:, None] + end_scores[n][None, :], -np.inf
    )
    start, end = np.unravel_index(scores.argmax(), scores.shape)
    score = float(scores[start, end])
    if score > best.get(question, (-np.inf, ""))[0]:
      first, last = spans.offsets[n, start, 0], spans.offsets[n, end, 1]
      best[question] = score, str(spans.contexts[question][first:last])
  return {spans.ids[q]: text for q, (_, text) in best.items()}


def answers(spans: Spans) -> dict[str, Sequence[str]]:
  """Returns {question id: the annotators' answers}, for the metric."""
  return dict(zip(spans.ids, spans.answers))


def _questions(folder, split, count, seed) -> Mapping[str, Any]:
  """Returns the columns of a split, or of `count` questions of it."""
  rows = prepared.columns(folder, split)
  total = len(rows["id"])
  if count is not None and not 1 <= count <= total:
    raise ValueError(
      f"the number of questions must be in [1, {total}] for split"
      f" {split!r}, got {count}"
    )
  chosen = np.random.default_rng(seed).permutation(total)[: count or total]
  chosen = np.sort(chosen).tolist()
  return {
    "id": [rows["id"][i].decode() for i in chosen],
    "context": [rows["context"][i].decode() for i in chosen],
    "question": [rows["question"][i].decode() for i in chosen],
    "answers": [
      [text.decode() for text in rows["answers"][i]["text"]] for i in chosen
    ],
    "start": [int(rows["answers"][i]["answer_start"][0]) for i in chosen],
  }


def _check_room(encoder, rows, max_length: int, stride: int) -> None:
  """Raises a ValueError where a window would not move on: its library panics.

  A window holds ``[CLS] question [SEP] context [SEP]``.
  """
  room = max_length - stride - 3
  for name, question in zip(rows["id"], rows["question"]):
    if len(question) < room:  # A token has at least one character.
      continue
    asked = encoder.encode(question.strip(), add_special_tokens=False)
    if len(asked.ids) >= room:
      raise ValueError(
        f"max_length must be > {len(asked.ids) + stride + 3}, stride {stride}"
        f" and the {len(asked.ids)} tokens of question {name!r}, got"
        f" {max_length}"
      )


def _encode_spans(encoder, rows, vocabulary, keep_offsets: bool):
  """Returns inputs [N, L], labels [N, 2] and, if asked for, the `Spans`."""
  inputs, labels, owners, offsets = [], [], [], []
  for start in range(0, len(rows["id"]), _CHUNK):
    chunk = range(start, min(start + _CHUNK, len(rows["id"])))
    encodings = encoder.encode_batch(
      [(rows["question"][i].strip(), rows["context"][i]) for i in chunk]
    )
    # A context that does not fit overflows into further windows.
    windows = [
      (i, window)
      for i, encoding in zip(chunk, encodings)
      for window in (encoding, *encoding.overflowing)
    ]
    inputs.append(tokens.arrays(encoder, [w for _, w in windows], vocabulary))
    labels += [
      _label(window, rows["start"][i], rows["answers"][i][0])
      for i, window in windows
    ]
    owners += [i for i, _ in windows]
    if keep_offsets:  # They are slow to get, and only answers need them.
      offsets += [_context_offsets(window) for _, window in windows]
  arrays = {
    key: np.concatenate([part[key] for part in inputs]) for key in inputs[0]
  }
  spans = None
  if keep_offsets:
    spans = Spans(
      np.array(owners, np.int32),
      np.stack(offsets),
      rows["id"],
      rows["context"],
      rows["answers"],
    )
  return arrays, np.array(labels, np.int32), spans


def _label(window, start: int, answer: str) -> tuple[int, int]:
  """Returns the first and the last token of an answer, or 0, 0."""
  first = window.char_to_token(start, 1)
  last = window.char_to_token(start + len(answer) - 1, 1)
  return (0, 0) if first is None or last is None else (first, last)


def _context_offsets(window) -> np.ndarray:
  """Returns [L, 2]; zeros for tokens that are not of the context."""
  offsets = np.array(window.offsets, np.int32)
  inside = np.array([s == 1 for s in window.sequence_ids])
  return np.where(inside[:, None], offsets, 0)
