"""SQuAD v1.1 as a TFDS dataset, from local files.

The features have the names and types of the stock TFDS dataset, so that one
reader serves both; the class's name differs from the stock one on purpose.
"""

import json
import pathlib

import numpy as np
import tensorflow_datasets as tfds

from experiments.data.builders import builder
from experiments.data.builders import local_files

_QUESTIONS_IN_SHARD = 20_000


class LocalSquad(builder.PartsBuilder):
  """SQuAD v1.1: 98,169 questions on Wikipedia paragraphs, answered by spans.

  Reads ``train-v1.1.json`` and ``dev-v1.1.json``, or ``squad_train.json`` and
  ``squad_dev.json`` whose answer offsets were recomputed; plain, ``.gz`` or
  ``.xz``, in the folder given or in ``squad/`` or ``squad_v1.1/`` under it.
  """

  VERSION = tfds.core.Version("1.0.0")
  URL = "https://rajpurkar.github.io/SQuAD-explorer/dataset/"
  # {split: (rows, {file: digest})}; the first file is the official one.
  FILES = {
    "train": (
      87_599,
      {
        "train-v1.1.json": (
          "sha256:3527663986b8295af4f7fcdff1ba1ff3f72d07d61a20f487cb23"
          "8a6ef92fd955"
        ),
        "squad_train.json": (
          "sha256:73db6b2a2617a44186c62f5fa6d3efbdec8ea38b37942cb75e27"
          "5df6c500ee78"
        ),
      },
    ),
    "validation": (
      10_570,
      {
        "dev-v1.1.json": (
          "sha256:95aa6a52d5d6a735563366753ca50492a658031da74f301ac523"
          "8b03966972c9"
        ),
        "squad_dev.json": (
          "sha256:04f56ff8d9526ea9e8c58d18d4dc27a3ed01dc90ee68fa4ea97b"
          "5c6ee2e13440"
        ),
      },
    ),
  }

  @classmethod
  def downloads(cls):
    return {
      f"squad/{name}": (cls.URL + name, files[name])
      for _, files in cls.FILES.values()
      for name in list(files)[:1]
    }

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      description=self.__doc__,
      features=tfds.features.FeaturesDict(
        {
          "id": tfds.features.Text(),
          "title": tfds.features.Text(),
          "context": tfds.features.Text(),
          "question": tfds.features.Text(),
          "answers": tfds.features.Sequence(
            {
              "text": tfds.features.Text(),
              "answer_start": np.int32,
            }
          ),
        }
      ),
      homepage="https://rajpurkar.github.io/SQuAD-explorer/",
      citation=(
        "P. Rajpurkar, J. Zhang, K. Lopyrev, P. Liang. SQuAD: 100,000+"
        " Questions for Machine Comprehension of Text. EMNLP 2016."
      ),
      metadata=tfds.core.MetadataDict(note="official split"),
    )

  def parts(self, dl_manager):
    root = pathlib.Path(dl_manager.manual_dir)
    return [
      part
      for split, (rows, files) in self.FILES.items()
      for part in self._split_parts(root, split, rows, files)
    ]

  def _split_parts(self, root, split, rows, files):
    names = [
      name
      for file in files
      for folder in ("squad", "squad_v1.1")
      for name in local_files.packed_names(folder, file)
    ]
    path = local_files.find(root, *names)
    name = (
      path.name.removesuffix(path.suffix)
      if path.suffix != ".json"
      else (path.name)
    )
    data = local_files.content(path, files[name])
    questions, guessed = _questions(path, data)
    local_files.check_rows(path, len(questions), rows)
    if guessed:
      self.record(note="official split; answer offsets recomputed")
      self.record(**{f"ambiguous_{split}_offsets": guessed})
    for start in range(0, rows, _QUESTIONS_IN_SHARD):
      chunk = questions[start : start + _QUESTIONS_IN_SHARD]
      yield builder.Part(
        split,
        len(chunk),
        f"{files[name]} from {start}",
        lambda chunk=chunk: iter(chunk),
      )


def _questions(path, data: bytes):
  """Returns the examples, and how many first answers have a guessed offset."""
  examples, guessed = [], 0
  try:
    for article in json.loads(data)["data"]:
      for paragraph in article["paragraphs"]:
        for question in paragraph["qas"]:
          answers = question["answers"]
          guessed += answers[0].get("start_basis") == "ambiguous_first"
          examples.append(_question(article, paragraph, question))
  except (ValueError, KeyError, IndexError, TypeError) as error:
    expected = "SQuAD's articles, paragraphs, questions and answers"
    raise local_files.damaged(path, expected, error) from error
  return examples, guessed


def _question(article, paragraph, question):
  context = paragraph["context"]
  answers = [
    {"text": a["text"], "answer_start": a["answer_start"]}
    for a in question["answers"]
  ]
  for answer in answers:
    start = answer["answer_start"]
    if context[start : start + len(answer["text"])] != answer["text"]:
      raise ValueError(
        f"answer {answer['text']!r} is not at character {start} of its"
        f" context, question {question['id']}"
      )
  return {
    "id": question["id"],
    "title": article["title"],
    "context": context,
    "question": question["question"],
    "answers": answers,
  }
