"""NSL-KDD, KDD Cup 1999 and UNSW-NB15 as TFDS datasets.

Network connections: numbers, three categories, and the kind of attack. Rows
are stored as they are in the files; turning them into features needs
statistics of the training set and is left to the reader of the dataset.
"""

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow_datasets as tfds

from experiments.datasets import builder
from experiments.datasets import local_files

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


_OWN_SPLIT = (
  "own split: 70/30 by groups of equal feature rows, duplicates dropped, seed 0"
)

_FAMILIES = {
  "normal": "normal",
  "dos": (
    "back land neptune pod smurf teardrop apache2 udpstorm processtable"
    " worm mailbomb"
  ),
  "probe": "satan ipsweep nmap portsweep mscan saint",
  "r2l": (
    "guess_passwd ftp_write imap phf multihop warezmaster warezclient spy"
    " xlock xsnoop snmpguess snmpgetattack httptunnel sendmail named"
  ),
  "u2r": "buffer_overflow loadmodule rootkit perl sqlattack xterm ps",
}
_FAMILY_OF = {
  attack: family
  for family, attacks in _FAMILIES.items()
  for attack in attacks.split()
}
_KDD_CATEGORIES = {"protocol_type": 1, "service": 2, "flag": 3}
_KDD_NUMBERS = (0, *range(4, 41))


class NslKdd(PacketBuilder):
  """NSL-KDD: KDD Cup 1999 without its duplicates, with a harder test set.

  Reads ``KDDTrain+.txt``, ``KDDTest+.txt`` and, if it is there,
  ``KDDTest-21.txt``, plain, ``.gz`` or ``.xz``, in the folder given or in
  ``nsl_kdd/`` under it.
  """

  LAYOUT = Layout(_KDD_NUMBERS, _KDD_CATEGORIES, 41, 43)
  NAMES = tuple(_FAMILIES)
  HOMEPAGE = "https://www.unb.ca/cic/datasets/nsl.html"
  CITATION = (
    "M. Tavallaee, E. Bagheri, W. Lu, A. Ghorbani. A Detailed Analysis of"
    " the KDD CUP 99 Data Set. CISDA 2009."
  )
  FILES = {
    "train": (
      "KDDTrain+.txt",
      125_973,
      "sha256:1b86d2f957b33082081bba410fe129b475efebcc13c9014c3f447c8271aadf95",
    ),
    "test": (
      "KDDTest+.txt",
      22_544,
      "sha256:fa46b0935342616aa83b7c2578db355b6a7aaabbc492248172c7a1e8b7ab8f84",
    ),
    "test21": (
      "KDDTest-21.txt",
      11_850,
      "sha256:746993ac9e25868827cacf09eab450050a2a1056e1ce48a1ad39f5dc801d531d",
    ),
  }

  def attack_class(self, attack):
    return _FAMILY_OF[attack]

  def parts(self, dl_manager):
    root = pathlib.Path(dl_manager.manual_dir)
    parts = []
    for split, (name, rows, digest) in self.FILES.items():
      candidates = packed_names("nsl_kdd", name)
      if split == "test21" and not any((root / c).exists() for c in candidates):
        continue
      path = local_files.find(root, *candidates)
      lines = lines_of(path, digest, rows)
      parts += self.split_parts(path, split, lines, digest)
    return parts


class KddCup1999(PacketBuilder):
  """KDD Cup 1999: the 10 % training file and, if it is there, the test file.

  Reads ``kddcup.data_10_percent.gz`` and ``corrected.gz``, in the folder given
  or in ``kddcup99/`` or ``kddcup99_10pct/`` under it. Without the second one
  the first is split.
  """

  LAYOUT = Layout(_KDD_NUMBERS, _KDD_CATEGORIES, 41, 42)
  NAMES = tuple(_FAMILIES)
  HOMEPAGE = "http://kdd.ics.uci.edu/databases/kddcup99/"
  CITATION = (
    "S. Stolfo, W. Fan, W. Lee, A. Prodromidis, P. Chan. KDD Cup 1999 Data."
    " UCI Machine Learning Repository, 1999."
  )
  # (file, rows, digest of the .gz file)
  TRAIN = (
    "kddcup.data_10_percent.gz",
    494_021,
    "sha256:8045aca0d84e70e622d1148d7df782496f6333bf6eb979a1b0837c42a9fd9561",
  )
  TEST = (
    "corrected.gz",
    311_029,
    "sha256:abd8165508378859b07e38537271f0ebf8a4d7319f643188cd7361e939a05c43",
  )

  @classmethod
  def downloads(cls):
    return {
      f"kddcup99/{name}": (cls.HOMEPAGE + name, digest)
      for name, _, digest in (cls.TRAIN, cls.TEST)
    }

  def attack_class(self, attack):
    return _FAMILY_OF[attack]

  def parts(self, dl_manager):
    root = pathlib.Path(dl_manager.manual_dir)
    path, lines = self._lines(root, *self.TRAIN)
    if any((root / c).exists() for c in self._candidates(self.TEST[0])):
      test_path, test = self._lines(root, *self.TEST)
      self.record(note="official split; partial: the 10 % training file only")
      return [
        *self.split_parts(path, "train", lines, self.TRAIN[2]),
        *self.split_parts(test_path, "test", test, self.TEST[2]),
      ]
    features = [line.rsplit(",", 1)[0] for line in lines]
    train, test, counts = own_split(lines, features)
    note = f"{_OWN_SPLIT}; partial: the 10 % training file only"
    self.record(note=note, **counts)
    return [
      *self.split_parts(path, "train", train, self.TRAIN[2]),
      *self.split_parts(path, "test", test, self.TRAIN[2]),
    ]

  def _candidates(self, name):
    return [f"kddcup99/{name}", f"kddcup99_10pct/{name}", name]

  def _lines(self, root, name, rows, digest):
    path = local_files.find(root, *self._candidates(name))
    local_files.check_digest(path, path.read_bytes(), digest)
    lines = local_files.content(path).decode().splitlines()
    local_files.check_rows(path, len(lines), rows)
    return path, lines


class UnswNb15(PacketBuilder):
  """UNSW-NB15: modern traffic with nine kinds of attack.

  Reads ``UNSW_NB15_training-set.csv`` and ``UNSW_NB15_testing-set.csv``,
  plain, ``.gz`` or ``.xz``, in the folder given or in ``unsw_nb15/`` under
  it. Most copies have swapped the two names, so rows and digests tell which
  is which; if only one partition is there, it is split.
  """

  LAYOUT = Layout(
    (1, *range(5, 43)), {"proto": 2, "service": 3, "state": 4}, 43, 45
  )
  NAMES = tuple(
    "Normal Generic Exploits Fuzzers DoS Reconnaissance Analysis Backdoor"
    " Shellcode Worms".split()
  )
  HOMEPAGE = "https://research.unsw.edu.au/projects/unsw-nb15-dataset"
  CITATION = (
    "N. Moustafa, J. Slay. UNSW-NB15: a Comprehensive Data Set for Network"
    " Intrusion Detection Systems. MilCIS 2015."
  )
  FILES = ("UNSW_NB15_training-set.csv", "UNSW_NB15_testing-set.csv")
  # {rows: (official split, digest)}
  PARTITIONS = {
    175_341: ("train", "git:c8226c710f99228ee3ac60d3ef5a610677e3c36d"),
    82_332: (
      "test",
      "sha256:734fe6642edf758f7c94d7d9149426b49d202fe8e7bf0bef47392489c3c0a559",
    ),
  }

  def attack_class(self, attack):
    if attack not in self.NAMES:
      raise KeyError(attack)
    return attack

  def parts(self, dl_manager):
    root = pathlib.Path(dl_manager.manual_dir)
    found = dict(self._partition(path) for path in self._paths(root))
    if len(found) == 2:
      return [
        part
        for split in ("train", "test")
        for part in self.split_parts(found[split][0], split, *found[split][1:])
      ]
    ((split, (path, lines, digest)),) = found.items()
    # The number of a row, its first field, makes no row different.
    numberless = [line.split(",", 1)[1] for line in lines]
    features = [line.rsplit(",", 2)[0] for line in numberless]
    train, test, counts = own_split(numberless, features)
    note = f"{_OWN_SPLIT}; partial: the official {split} partition only"
    self.record(note=note, **counts)
    return [
      part
      for name, rows in (("train", train), ("test", test))
      for part in self.split_parts(
        path, name, [f"0,{row}" for row in rows], digest
      )
    ]

  def _paths(self, root):
    all_names = [packed_names("unsw_nb15", name) for name in self.FILES]
    present = [n for n in all_names if any((root / c).exists() for c in n)]
    return [local_files.find(root, *names) for names in present or all_names]

  def _partition(self, path):
    lines = local_files.content(path).decode("utf-8-sig").splitlines()[1:]
    if len(lines) not in self.PARTITIONS:
      known = " or ".join(f"{rows:,}" for rows in self.PARTITIONS)
      raise ValueError(
        f"{path}: expected {known} rows, got {len(lines):,}: the file is"
        " truncated or is another one; fetch it again"
      )
    split, digest = self.PARTITIONS[len(lines)]
    local_files.check_digest(path, local_files.content(path), digest)
    return split, (path, lines, digest)


def packed_names(folder: str, name: str) -> list[str]:
  """Returns where a text file may be: packed or not, in a folder or not."""
  return [
    f"{place}{name}{suffix}"
    for place in (f"{folder}/", "")
    for suffix in (".xz", ".gz", "")
  ]
