"""MRPC and SQuAD v1.1 as TFDS datasets, from local files.

The features have the names and types of the stock TFDS datasets, so that one
reader serves both; the class names differ from the stock ones on purpose.
"""

import json
import pathlib

import numpy as np
import tensorflow_datasets as tfds

from experiments.datasets import builder
from experiments.datasets import local_files
from experiments.datasets import packets

_QUESTIONS_IN_SHARD = 20_000


class LocalMrpc(builder.PartsBuilder):
  """MRPC, the Microsoft Research Paraphrase Corpus, with GLUE's split.

  Reads ``msr_paraphrase_train.txt``, ``msr_paraphrase_test.txt`` and
  ``dev_ids.tsv``, plain, ``.gz`` or ``.xz``, in the folder given or in
  ``mrpc/`` under it. Unlike the stock dataset it keeps the test labels.
  """

  VERSION = tfds.core.Version("1.0.0")
  NAMES = ("not_equivalent", "equivalent")
  FILES = {
    "msr_paraphrase_train.txt": (
      "https://dl.fbaipublicfiles.com/senteval/senteval_data/"
      "msr_paraphrase_train.txt",
      "sha256:60a9b09084528f0673eedee2b69cb941920f0b8cd0eeccefc464a98768457f89",
    ),
    "msr_paraphrase_test.txt": (
      "https://dl.fbaipublicfiles.com/senteval/senteval_data/"
      "msr_paraphrase_test.txt",
      "sha256:a04e271090879aaba6423d65b94950c089298587d9c084bf9cd7439bd785f784",
    ),
    "dev_ids.tsv": (
      "https://firebasestorage.googleapis.com/v0/b/mtl-sentence-"
      "representations.appspot.com/o/data%2Fmrpc_dev_ids.tsv?alt=media"
      "&token=ec5c0836-31d5-48f4-b431-7480817f1adc",
      "sha256:971d7767d81b997fd9060ade0ec23c4fc31cbb226a55d1bd4a1bac474eb81dc7",
    ),
  }
  ROWS = {"train": 3_668, "validation": 408, "test": 1_725}

  @classmethod
  def downloads(cls):
    return {f"mrpc/{name}": source for name, source in cls.FILES.items()}

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      description=self.__doc__,
      features=tfds.features.FeaturesDict(
        {
          "sentence1": tfds.features.Text(),
          "sentence2": tfds.features.Text(),
          "label": tfds.features.ClassLabel(names=list(self.NAMES)),
          "idx": np.int32,
        }
      ),
      homepage="https://www.microsoft.com/en-us/download/details.aspx?id=52398",
      citation=(
        "W. Dolan, C. Brockett. Automatically Constructing a Corpus of"
        " Sentential Paraphrases. IWP 2005; A. Wang et al. GLUE. 2018."
      ),
      metadata=tfds.core.MetadataDict(note="official split"),
    )

  def parts(self, dl_manager):
    root = pathlib.Path(dl_manager.manual_dir)
    train_file, test_file, dev_file = (
      self._content(root, name) for name in self.FILES
    )
    dev_ids = {tuple(line.split("\t")) for line in dev_file[1].splitlines()}
    rows = _pairs(*train_file)
    splits = {
      "train": [row for row in rows if tuple(row[1:3]) not in dev_ids],
      "validation": [row for row in rows if tuple(row[1:3]) in dev_ids],
      "test": _pairs(*test_file),
    }
    digests = " ".join(digest for _, digest in self.FILES.values())
    for split, pairs in splits.items():
      local_files.check_rows(
        f"{root}, MRPC's {split} split", len(pairs), self.ROWS[split]
      )
    return [
      builder.Part(split, len(pairs), digests, lambda pairs=pairs: _mrpc(pairs))
      for split, pairs in splits.items()
    ]

  def _content(self, root, name):
    path = local_files.find(root, *packets.packed_names("mrpc", name))
    data = local_files.content(path, self.FILES[name][1])
    return path, data.decode("utf-8-sig")


def _pairs(path, text):
  """Returns [label, id 1, id 2, sentence 1, sentence 2] of each row."""
  rows = [line.split("\t") for line in text.splitlines()[1:] if line.strip()]
  for number, row in enumerate(rows):
    if len(row) != 5 or row[0] not in ("0", "1"):
      raise ValueError(
        f"{path}: expected a label 0 or 1, two ids and two sentences, got"
        f" {len(row)} fields, {row[0][:20]!r} first, as row {number}: the"
        " file is damaged or is another one"
      )
  return rows


def _mrpc(rows):
  for number, (label, _, _, first, second) in enumerate(rows):
    yield {
      "sentence1": first,
      "sentence2": second,
      "label": int(label),
      "idx": number,
    }


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
      for name in packets.packed_names(folder, file)
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
