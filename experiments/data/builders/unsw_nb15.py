"""UNSW-NB15 as a TFDS dataset."""

import pathlib

from experiments.data.builders import local_files
from experiments.data.builders import packets


class UnswNb15(packets.PacketBuilder):
  """UNSW-NB15: modern traffic with nine kinds of attack.

  Reads ``UNSW_NB15_training-set.csv`` and ``UNSW_NB15_testing-set.csv``,
  plain, ``.gz`` or ``.xz``, in the folder given or in ``unsw_nb15/`` under
  it. Most copies have swapped the two names, so rows and digests tell which
  is which; if only one partition is there, it is split.
  """

  LAYOUT = packets.Layout(
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
    train, test, counts = packets.own_split(numberless, features)
    note = f"{packets.OWN_SPLIT}; partial: the official {split} partition only"
    self.record(note=note, **counts)
    return [
      part
      for name, rows in (("train", train), ("test", test))
      for part in self.split_parts(
        path, name, [f"0,{row}" for row in rows], digest
      )
    ]

  def _paths(self, root):
    all_names = [
      local_files.packed_names("unsw_nb15", name) for name in self.FILES
    ]
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
