"""What the TFDS datasets of network traffic share.

Network connections: numbers, three categories, and the kind of attack. Rows
are stored as they are in the files; turning them into features needs
statistics of the training set and is left to the reader of the dataset.
"""

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow_datasets as tfds

from experiments.data.builders import builder
from experiments.data.builders import local_files

_ROWS_IN_SHARD = 50_000


@dataclasses.dataclass(frozen=True)
class Layout:
  """Where the fields of a line are.

  Attributes:
    numeric: the positions of the numbers.
    categorical: {name: position}.
    attack: the position of the attack's name.
    num_fields: fields in a line.
  """

  numeric: tuple[int, ...]
  categorical: dict[str, int]
  attack: int
  num_fields: int


class PacketBuilder(builder.PartsBuilder, skip_registration=True):
  """Rows of numbers and categories, labelled with a class of attack."""

  VERSION = tfds.core.Version("1.0.0")
  LAYOUT: Layout
  NAMES: Sequence[str]
  HOMEPAGE: str
  CITATION: str

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      description=self.__doc__,
      features=tfds.features.FeaturesDict(
        {
          "numeric": tfds.features.Tensor(
            shape=(len(self.LAYOUT.numeric),),
            dtype=np.float64,
            encoding=tfds.features.Encoding.BYTES,
          ),
          "attack": tfds.features.Text(),
          "label": tfds.features.ClassLabel(names=list(self.NAMES)),
        }
        | {name: tfds.features.Text() for name in self.LAYOUT.categorical}
      ),
      homepage=self.HOMEPAGE,
      citation=self.CITATION,
      metadata=tfds.core.MetadataDict(note="official split"),
    )

  def attack_class(self, attack: str) -> str:
    """Returns the class, one of `NAMES`, that an attack belongs to."""
    raise NotImplementedError

  def split_parts(
    self, what: object, split: str, lines: Sequence[str], digest: str
  ) -> Iterator[builder.Part]:
    """Yields the parts of a split whose lines are given."""
    for start in range(0, len(lines), _ROWS_IN_SHARD):
      chunk = lines[start : start + _ROWS_IN_SHARD]
      yield builder.Part(
        split,
        len(chunk),
        f"{digest} from {start}",
        lambda chunk=chunk: self._examples(what, chunk),
      )

  def _examples(self, what, lines):
    layout = self.LAYOUT
    for number, line in enumerate(lines):
      fields = line.split(",")
      try:
        if len(fields) != layout.num_fields:
          raise ValueError(f"{len(fields)} fields")
        attack = fields[layout.attack].strip().rstrip(".")
        yield {
          "numeric": np.array([fields[i] for i in layout.numeric], float),
          "attack": attack,
          "label": self.attack_class(attack),
          **{k: fields[i] for k, i in layout.categorical.items()},
        }
      except (ValueError, KeyError) as error:
        raise ValueError(
          f"{what}: expected {layout.num_fields} fields with a known"
          f" attack, got {line[:80]!r} ({error}) as row {number}: the file"
          " is damaged or belongs to another dataset"
        ) from error


def lines_of(path: pathlib.Path, digest: str, rows: int, header: int = 0):
  """Returns the rows of a text file, checked, without its header."""
  data = local_files.content(path, digest)
  lines = data.decode("utf-8-sig").splitlines()[header:]
  local_files.check_rows(path, len(lines), rows)
  return lines


OWN_SPLIT = (
  "own split: 70/30 by groups of equal feature rows, duplicates dropped, seed 0"
)


def own_split(
  lines: Sequence[str], features: Sequence[str], seed: int = 0
) -> tuple[list[str], list[str], dict[str, int]]:
  """Splits rows 70/30 such that no row has an equal on the other side.

  Args:
    lines: the rows.
    features: of each row its features alone, as text; rows with equal ones
      form a group.
    seed: shuffles the groups.

  Returns:
    The training rows, the test rows, and counts: rows, distinct rows, groups.
    Of equal rows (the same features and the same label) the first one stays.
  """
  kept = dict(zip(lines, features))  # A dict keeps the first place of a key.
  groups = list(dict.fromkeys(kept.values()))
  order = np.random.default_rng(seed).permutation(len(groups))
  train_groups = {groups[i] for i in order[: round(0.7 * len(groups))]}
  train = [line for line, group in kept.items() if group in train_groups]
  test = [line for line, group in kept.items() if group not in train_groups]
  counts = {
    "rows_in_file": len(lines),
    "distinct_rows": len(kept),
    "groups": len(groups),
  }
  return train, test, counts
