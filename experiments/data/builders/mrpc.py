"""MRPC as a TFDS dataset, from local files.

The features have the names and types of the stock TFDS dataset, so that one
reader serves both; the class's name differs from the stock one on purpose.
"""

import pathlib

import numpy as np
import tensorflow_datasets as tfds

from experiments.data.builders import builder
from experiments.data.builders import local_files


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
    path = local_files.find(root, *local_files.packed_names("mrpc", name))
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
