"""NSL-KDD and KDD Cup 1999 as TFDS datasets."""

import pathlib

from experiments.data.builders import local_files
from experiments.data.builders import packets

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


class NslKdd(packets.PacketBuilder):
  """NSL-KDD: KDD Cup 1999 without its duplicates, with a harder test set.

  Reads ``KDDTrain+.txt``, ``KDDTest+.txt`` and, if it is there,
  ``KDDTest-21.txt``, plain, ``.gz`` or ``.xz``, in the folder given or in
  ``nsl_kdd/`` under it.
  """

  LAYOUT = packets.Layout(_KDD_NUMBERS, _KDD_CATEGORIES, 41, 43)
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
      candidates = local_files.packed_names("nsl_kdd", name)
      if split == "test21" and not any((root / c).exists() for c in candidates):
        continue
      path = local_files.find(root, *candidates)
      lines = packets.lines_of(path, digest, rows)
      parts += self.split_parts(path, split, lines, digest)
    return parts


class KddCup1999(packets.PacketBuilder):
  """KDD Cup 1999: the 10 % training file and, if it is there, the test file.

  Reads ``kddcup.data_10_percent.gz`` and ``corrected.gz``, in the folder given
  or in ``kddcup99/`` or ``kddcup99_10pct/`` under it. Without the second one
  the first is split.
  """

  LAYOUT = packets.Layout(_KDD_NUMBERS, _KDD_CATEGORIES, 41, 42)
  NAMES = tuple(_FAMILIES)
  HOMEPAGE = "https://kdd.ics.uci.edu/databases/kddcup99/"
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
    train, test, counts = packets.own_split(lines, features)
    note = f"{packets.OWN_SPLIT}; partial: the 10 % training file only"
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
