"""Sentence pairs (MRPC) as token ids."""

import os
import pathlib

import numpy as np

from experiments.data import dataset as dataset_lib
from experiments.data import prepared
from experiments.data import registry
from experiments.data import tokens


def build(
  spec: registry.Spec,
  folder: pathlib.Path,
  *,
  vocabulary: str | os.PathLike[str] | None = None,
  vocabulary_size: int = 8_000,
  max_length: int = 128,
  lowercase: bool = True,
) -> dataset_lib.Dataset:
  """Returns a dataset of sentence pairs as ids, types and masks [N, L].

  Args:
    spec: the dataset's.
    folder: where it is prepared.
    vocabulary: a local WordPiece vocabulary; None learns one from the
      training set, once, and keeps it beside the dataset.
    vocabulary_size: of the one that is learnt.
    max_length: tokens of a pair; the longer sentence is cut first.
    lowercase: whether text is lowered.

  Raises:
    ValueError: `max_length` is too small, or the vocabulary does not fit.
  """
  tokens.check_length(max_length)
  train = prepared.columns(folder, "train")
  test, note = (
    prepared.columns(folder, spec.test_split),
    prepared.note(spec, folder),
  )
  if (test["label"] < 0).all():
    # TFDS's own GLUE hides the test labels.
    test, note = prepared.columns(folder, "validation"), "tested on validation"
  path = vocabulary or tokens.learnt(
    folder,
    lambda: [text for pair in _pairs(train) for text in pair],
    vocabulary_size,
    lowercase,
  )
  encoder = tokens.tokenizer(path, lowercase)
  encoder.enable_truncation(max_length, strategy="longest_first")
  encoder.enable_padding(length=max_length)

  def encode(rows):
    return tokens.arrays(encoder, encoder.encode_batch(_pairs(rows)), path)

  return dataset_lib.Dataset(
    info=dataset_lib.Info(
      name=spec.name,
      task=spec.task,
      num_classes=spec.num_classes,
      class_names=prepared.class_names(folder),
      note=note,
      counts=(("vocabulary", encoder.get_vocab_size()),),
    ),
    train_x=encode(train),
    train_labels=train["label"].astype(np.int32),
    test_x=encode(test),
    test_labels=test["label"].astype(np.int32),
  )


def _pairs(rows) -> list[tuple[str, str]]:
  columns = rows["sentence1"], rows["sentence2"]
  return [(first.decode(), second.decode()) for first, second in zip(*columns)]
