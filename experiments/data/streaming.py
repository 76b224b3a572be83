"""Batches streamed by grain, for datasets that do not fit the device.

The order is a function of (seed, epoch, place), so nothing but the number of
the step is needed to continue in the middle of an epoch; grain's own iterator
state works as well. Process p of P reads the p-th part of every global batch,
so the number of processes never changes which example is in which row.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, SupportsIndex

import numpy as np
from absl import flags
from jaxtyping import UInt8

from experiments.data import dataset as dataset_lib
from experiments.data import preparation
from experiments.data import prepared
from kdropout_jax.training import rng

Example = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Arrays:
  """A data source over arrays in memory: {"x": ..., "label": ...}."""

  x: Any
  labels: np.ndarray

  def __len__(self) -> int:
    return len(self.labels)

  def __getitem__(self, index: SupportsIndex) -> Example:
    row = index.__index__()
    return {"x": dataset_lib.take(self.x, row), "label": self.labels[row]}


@dataclasses.dataclass(frozen=True)
class Images:
  """A data source over a prepared split: {"x": image, "label": int32}.

  Attributes:
    source: TFDS's data source of the split.
    size: the side that every image is scaled and cropped to; None where all
      are of one shape.
  """

  source: Any
  size: int | None = None

  def __len__(self) -> int:
    return len(self.source)

  def __getitem__(self, index: SupportsIndex) -> Example:
    example = self.source[index]
    image = example["image"]
    if self.size is not None:
      image = scale_and_crop(image, self.size)
    return {"x": image, "label": np.int32(example["label"])}


def open_images(
  name: str,
  split: str = "train",
  data_dir: Any = None,
  size: int | None = None,
) -> Images:
  """Returns the data source of an image dataset's split.

  Args:
    name: a dataset of images, ours or TFDS's.
    split: ``"train"`` or ``"test"``.
    data_dir: where prepared datasets live.
    size: the side to scale and crop to; needed where images differ in shape.

  Raises:
    ValueError: unknown dataset or split, no images, or it is not prepared.
  """
  spec = preparation.resolve(name, preparation.data_folder(data_dir))
  if spec.task != "image":
    raise ValueError(f"dataset must be one of images, got {name!r}")
  if split not in ("train", "test"):
    raise ValueError(f"split must be 'train' or 'test', got {split!r}")
  folder = preparation.prepare(name, data_dir)
  inner = spec.test_split if split == "test" else split
  return Images(prepared.open_split(folder, inner), size)


def stream(
  source: Any,
  batch_size: int,
  *,
  seed: int = 0,
  num_epochs: int = 1,
  start_step: int = 0,
  shuffle: bool = True,
  reshuffle: rng.Shuffle = "every_epoch",
  process: tuple[int, int] = (0, 1),
  num_workers: int = 0,
  num_threads: int = 4,
  prefetch: int = 8,
) -> Iterator[dict[str, Any]]:
  """Returns an iterator of batches {"x": [b, ...], "label": [b]}.

  Args:
    source: of random access, `Images`, `Arrays` or the like.
    batch_size: the global one, B; an epoch has len(source) // B batches.
    seed: of the order; every epoch has its own.
    num_epochs: epochs until the iterator ends.
    start_step: the first batch to read, counted over all epochs.
    shuffle: False keeps the source's order.
    reshuffle: "every_epoch" draws a new order each epoch; "once" keeps epoch
      0's; "rows" keeps its batches and permutes the rows within each.
    process: (index, count) of this process; it gets B // count rows.
    num_workers: worker processes; 0 reads in threads of this one.
    num_threads: of each process.
    prefetch: batches that are read ahead, per worker.

  Returns:
    A grain iterator: `get_state` and `set_state` continue exactly.

  Raises:
    ValueError: a number out of range, or a batch that does not divide.
  """
  index, count = process
  if not 1 <= batch_size <= len(source):
    raise ValueError(
      f"batch_size must be in [1, {len(source)}], the size of the source,"
      f" got {batch_size}"
    )
  if batch_size % count or not 0 <= index < count:
    raise ValueError(
      f"process must be (index, count) with index < count and count"
      f" dividing batch_size {batch_size}, got {process}"
    )
  if num_workers and not flags.FLAGS.is_parsed():
    raise ValueError(
      f"num_workers must be 0 outside of absl.app.run, got {num_workers}:"
      " grain's worker processes read parsed flags"
    )
  rng.check_shuffle(reshuffle)
  order = _Order(
    source, batch_size, seed, num_epochs, shuffle, reshuffle, index, count
  )
  total = num_epochs * order.steps_per_epoch
  if not 0 <= start_step <= total:
    raise ValueError(f"start_step must be in [0, {total}], got {start_step}")
  import grain  # Images that stream need it, and no others.

  local = batch_size // count
  batches = grain.MapDataset.source(order)[start_step * local :].batch(local)
  options = grain.ReadOptions(
    num_threads=num_threads,
    prefetch_buffer_size=max(prefetch, num_threads),
  )
  dataset = batches.to_iter_dataset(options)
  if num_workers:
    dataset = dataset.mp_prefetch(
      grain.MultiprocessingOptions(
        num_workers=num_workers, per_worker_buffer_size=prefetch
      )
    )
  return iter(dataset)


def scale_and_crop(
  image: UInt8[np.ndarray, "H W C"], size: int
) -> UInt8[np.ndarray, "size size C"]:
  """Scales the shorter side to `size` and cuts out the middle square."""
  from PIL import Image  # pylint: disable=g-import-not-at-top

  height, width = image.shape[:2]
  scale = size / min(height, width)
  shape = max(size, round(width * scale)), max(size, round(height * scale))
  scaled = Image.fromarray(image.squeeze()).resize(
    shape, Image.Resampling.BILINEAR
  )
  left, top = (shape[0] - size) // 2, (shape[1] - size) // 2
  cropped = np.asarray(scaled.crop((left, top, left + size, top + size)))
  return cropped.reshape(size, size, -1)


@dataclasses.dataclass(frozen=True)
class _Order:
  """The rows that one process reads, over all epochs, in order."""

  source: Any
  batch_size: int
  seed: int
  num_epochs: int
  shuffle: bool
  reshuffle: rng.Shuffle
  process_index: int
  process_count: int

  @property
  def steps_per_epoch(self) -> int:
    return len(self.source) // self.batch_size

  def __len__(self) -> int:
    local = self.batch_size // self.process_count
    return self.num_epochs * self.steps_per_epoch * local

  def __getitem__(self, index: SupportsIndex) -> Example:
    return self.source[self.row(index.__index__())]

  def row(self, index: int) -> int:
    """Returns the source's row for a place in this process's order."""
    local = self.batch_size // self.process_count
    whole_step, row = divmod(index, local)
    epoch, step = divmod(whole_step, self.steps_per_epoch)
    row += self.process_index * local
    if not self.shuffle:
      return step * self.batch_size + row
    if self.reshuffle == "rows":
      row = _shuffled(row, self.batch_size, self.seed, whole_step)
    drawn = epoch if self.reshuffle == "every_epoch" else 0
    place = step * self.batch_size + row
    return _shuffled(place, len(self.source), self.seed, drawn)


def _shuffled(place: int, size: int, seed: int, number: int) -> int:
  """Returns where `place` goes in the permutation of a seed and a number."""
  if size == 1:
    return 0
  import grain

  return grain.experimental.index_shuffle(
    place,
    max_index=size - 1,
    seed=(seed * 1_000_003 + number) % 2**32,
    rounds=4,
  )
