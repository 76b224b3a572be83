"""The base of our TFDS builders: shards that survive an interruption.

TFDS writes a dataset into a temporary folder and renames it at the end, so
that a half-prepared one never loads; but an interrupted preparation starts
from nothing. Here each shard, once written, is kept beside the dataset under
``.unfinished`` and the next attempt continues after it. The order of the
source is kept, and `tf.train.Example` is written without TensorFlow.
"""

import abc
import dataclasses
import hashlib
import os
import pathlib
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import tensorflow_datasets as tfds
import tqdm
from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

from experiments.data import integrity
from kdropout_jax.training import files

Example = Mapping[str, object]


@dataclasses.dataclass(frozen=True)
class Part:
  """One shard of a split.

  Attributes:
    split: the split it belongs to.
    rows: examples that `read` yields; checked.
    digest: names the content, so that a shard left from another source is
      not taken for this one.
    read: returns the examples, in order; checks the file that it reads.
  """

  split: str
  rows: int
  digest: str
  read: Callable[[], Iterable[Example]]


class PartsBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """A TFDS builder whose splits are written part by part, resumably."""

  MANUAL_DOWNLOAD_INSTRUCTIONS = "The class's docstring names the files."

  show_progress = True

  @classmethod
  def downloads(cls) -> Mapping[str, tuple[str, str]] | None:
    """Returns ``{path: (url, digest)}``, or None if a person must fetch."""
    return None

  @abc.abstractmethod
  def parts(self, dl_manager: tfds.download.DownloadManager) -> list[Part]:
    """Returns the parts of all splits, in order; reads as little as it can."""

  def record(self, **facts: object) -> None:
    """Keeps facts beside the dataset, to be read with it."""
    metadata: Any = self.info.metadata
    metadata.update(facts)

  def _split_generators(self, dl_manager):
    parts = self.parts(dl_manager)
    splits = dict.fromkeys(part.split for part in parts)
    return {
      split: self._generate_examples([p for p in parts if p.split == split])
      for split in splits
    }

  def _generate_examples(self, parts: Sequence[Part]):
    yield from enumerate(example for part in parts for example in part.read())

  def _generate_splits(self, dl_manager, download_config):
    del download_config
    parts = self.parts(dl_manager)
    work_dir = self._work_dir()
    work_dir.mkdir(parents=True, exist_ok=True)
    with tqdm.tqdm(
      total=sum(part.rows for part in parts),
      desc=f"preparing {self.name}",
      unit=" examples",
      disable=None if self.show_progress else True,
    ) as bar:
      shards = [self._write(part, work_dir, bar) for part in parts]
    infos = [
      self._place(
        split, [(p, s) for p, s in zip(parts, shards) if p.split == split]
      )
      for split in dict.fromkeys(part.split for part in parts)
    ]
    return infos

  def _download_and_prepare(self, dl_manager, download_config):
    super()._download_and_prepare(dl_manager, download_config)
    # TFDS writes the same info next, and then renames the folder; digests
    # written later could be missing after a kill.
    self.info.download_size = dl_manager.downloaded_size
    self.info.write_to_directory(self.data_dir)
    integrity.write(pathlib.Path(self.data_dir))

  def _post_download_and_prepare_hook(self):
    shutil.rmtree(self._work_dir(), ignore_errors=True)

  def _work_dir(self) -> pathlib.Path:
    root = pathlib.Path(self.data_dir_root) / ".unfinished"
    return root / f"{self.name}-{self.version}"

  def _write(self, part: Part, work_dir, bar) -> pathlib.Path:
    """Writes one shard, unless an earlier attempt has finished it."""
    name = hashlib.sha256(
      f"{part.split} {part.rows} {part.digest}".encode()
    ).hexdigest()[:24]
    shard = work_dir / f"{part.split}-{name}"
    if shard.exists():
      bar.update(part.rows)
      return shard
    with files.replacing(shard) as unfinished:
      count = self._write_examples(part, unfinished, bar)
      if count != part.rows:
        raise ValueError(
          f"{self.name}, a part of split {part.split!r}: expected"
          f" {part.rows:,} rows, got {count:,}: its file is truncated or is"
          " another one; fetch it again"
        )
    return shard

  def _write_examples(self, part: Part, path: pathlib.Path, bar) -> int:
    writer = array_record_module.ArrayRecordWriter(
      os.fspath(path), "group_size:1"
    )
    features: Any = self.info.features
    count = 0
    try:
      for example in part.read():
        writer.write(features.serialize_example(example))
        count += 1
        bar.update()
    finally:
      writer.close()
    return count

  def _place(self, split: str, shards) -> tfds.core.SplitInfo:
    """Links the shards into the dataset's folder under their TFDS names."""
    template = self._get_filename_template(split_name=split)
    for i, (_, shard) in enumerate(shards):
      target = os.fspath(
        template.sharded_filepath(shard_index=i, num_shards=len(shards))
      )
      try:
        os.link(shard, target)
      except OSError:  # A file system without hard links.
        shutil.copy2(shard, target)
    return tfds.core.SplitInfo(
      name=split,
      shard_lengths=[part.rows for part, _ in shards],
      num_bytes=sum(shard.stat().st_size for _, shard in shards),
      filename_template=template,
    )
