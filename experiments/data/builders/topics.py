"""Python's own help texts as a TFDS dataset of characters; needs no download.

`pydoc_data.topics` ships with Python, and differs a little from version to
version: the registry has the hash of the text that our results are of, and
what is prepared from another text says so in its note.
"""

import hashlib
import platform

import numpy as np
import tensorflow_datasets as tfds

from experiments.data import registry
from experiments.data.builders import builder

LENGTH = 64
"""Characters of a window; one more is kept, to be told."""

_ROWS = {"train": 5_500, "test": 500}
_NOTE = "own split: the last windows of the text are the test set"


class PydocTopics(builder.PartsBuilder):
  """Windows of 65 characters of Python's help topics, as codes of ASCII.

  Windows follow each other and share one character: the last of one is the
  first of the next. Paragraphs that came before are left out, so that the test
  set repeats none of the training set; other characters than ASCII are 0.
  """

  VERSION = tfds.core.Version("1.0.0")

  @classmethod
  def downloads(cls):
    return {}

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      description=self.__doc__,
      features=tfds.features.FeaturesDict(
        {
          "window": tfds.features.Tensor(
            shape=(LENGTH + 1,),
            dtype=np.uint8,
            encoding=tfds.features.Encoding.BYTES,
          )
        }
      ),
      homepage="https://docs.python.org/3/reference/",
      citation="Python Software Foundation. The Python Language Reference.",
      metadata=tfds.core.MetadataDict(note=_NOTE),
    )

  def parts(self, dl_manager):
    del dl_manager
    whole = text()
    digest = sha256(whole)
    if digest != registry.get("pydoc_topics").digest:
      self.record(
        note=f"{_NOTE}; the text of Python {platform.python_version()}, which"
        f" is not that of our results ({digest})"
      )
    windows = cut(whole)
    first, parts = 0, []
    for split, rows in _ROWS.items():
      own = windows[first : first + rows]
      first += rows
      parts.append(
        builder.Part(split, rows, digest, lambda own=own: _examples(own))
      )
    return parts


def text() -> str:
  """Returns all topics by name, each paragraph where it stands first."""
  from pydoc_data import topics  # pylint: disable=g-import-not-at-top

  pages = [topics.topics[name] for name in sorted(topics.topics)]
  parts = [part.strip("\n") for page in pages for part in page.split("\n\n")]
  return "\n\n".join(part for part in dict.fromkeys(parts) if part)


def sha256(whole: str) -> str:
  """Returns the digest of a text, as the registry has it."""
  return f"sha256:{hashlib.sha256(whole.encode()).hexdigest()}"


def cut(whole: str) -> np.ndarray:
  """Returns windows [N, 65] of a text's codes, each from the last one's end.

  >>> cut("ab" * 64 + "é").shape
  (2, 65)
  """
  codes = np.array([ord(c) if ord(c) < 128 else 0 for c in whole], np.uint8)
  windows = np.lib.stride_tricks.sliding_window_view(codes, LENGTH + 1)
  return windows[::LENGTH]


def _examples(windows: np.ndarray):
  for window in windows:
    yield {"window": np.array(window)}
