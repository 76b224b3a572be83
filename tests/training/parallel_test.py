"""Splitting rows and subnets over devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdropout_jax import blocks
from kdropout_jax.training import parallel
from kdropout_jax.training import task as task_lib

_B = 16


def trained_by_row(ids, num_devices, row_layout, rescale):
  """Returns the id that each row of the batch trains, device by device."""
  found = []
  for device in range(num_devices):
    rows = np.arange(_B).reshape(num_devices, -1)[device]
    shard = task_lib.Shard(jnp.int32(device), jnp.asarray(rows))
    chosen = parallel.subnets_on_device(
      jnp.asarray(ids),
      shard,
      batch_size=_B,
      num_devices=num_devices,
      row_layout=row_layout,
      rescale=rescale,
    )
    local, slots = chosen.ids, chosen.slots
    if slots is None and row_layout == "tiled":
      slots = np.arange(len(rows)) % len(local)
    elif slots is None:
      slots = blocks.row_slots(len(rows), len(local))
    found += np.asarray(local)[np.asarray(slots)].tolist()
  return found


@pytest.mark.parametrize("rescale", ["expected", "realised"])
@pytest.mark.parametrize("num_subnets", [1, 2, 4, 8, 16, 32])
@pytest.mark.parametrize("num_devices", [1, 2, 4, 8])
def test_contiguous_rows_train_the_same_on_any_number_of_devices(
  num_devices, num_subnets, rescale
):
  ids = 100 + np.arange(num_subnets)
  expected = [100 + r * num_subnets // _B for r in range(_B)]
  got = trained_by_row(ids, num_devices, "contiguous", rescale)
  assert got == expected


@pytest.mark.parametrize("num_subnets", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("num_devices", [1, 2, 4, 8])
def test_tiled_rows_train_the_same_on_any_number_of_devices(
  num_devices, num_subnets
):
  ids = 100 + np.arange(num_subnets)
  expected = [100 + r % num_subnets for r in range(_B)]
  assert trained_by_row(ids, num_devices, "tiled", "expected") == expected


def test_realised_scaling_keeps_all_subnets_on_every_device():
  shard = task_lib.Shard(jnp.int32(1), jnp.arange(8, 16))
  options = dict(batch_size=_B, num_devices=2)
  found = parallel.subnets_on_device(
    jnp.arange(4), shard, rescale="realised", **options
  )
  assert found.ids.tolist() == [0, 1, 2, 3]
  assert found.slots.tolist() == [2, 2, 2, 2, 3, 3, 3, 3]
  found = parallel.subnets_on_device(jnp.arange(4), shard, **options)
  assert found.ids.tolist() == [2, 3] and found.slots is None


def test_ids_of_layers_are_sliced_alike():
  shard = task_lib.Shard(jnp.int32(1), jnp.arange(8, 16))
  found = parallel.subnets_on_device(
    jnp.arange(8).reshape(2, 4), shard, batch_size=_B, num_devices=2
  )
  assert found.ids.tolist() == [[2, 3], [6, 7]]


@pytest.mark.parametrize(
  ("args", "message"),
  [
    ((1, 10, 4), "batch_size must be divisible by num_devices=4, got 10"),
    ((3, 12, 4), "the 3 subnets of a step must divide.* num_devices=4"),
    ((6, 12, 4), "the 6 subnets"),
  ],
)
def test_a_split_that_does_not_fit_is_refused(args, message):
  with pytest.raises(ValueError, match=message):
    parallel.check_split(*args)


@pytest.mark.parametrize("num_subnets", [1, 2, 4, 8, 12])
def test_a_split_that_fits_passes(num_subnets):
  parallel.check_split(num_subnets, 16, 4)


@pytest.mark.parametrize(
  ("number", "message"),
  [
    (0, "num_devices must be >= 1, got 0"),
    (9, "num_devices must be <= 8, the devices at hand, got 9"),
  ],
)
def test_a_wrong_number_of_devices_is_refused(number, message):
  with pytest.raises(ValueError, match=message):
    parallel.Devices(number)


def test_replicated_arrays_are_copies_on_every_device():
  source = np.arange(3.0)
  copy = parallel.Devices(4).replicate(source)
  source[0] = 9.0
  assert copy.tolist() == [0.0, 1.0, 2.0]
  assert len(copy.sharding.device_set) == 4


def test_mean_and_total_go_over_the_devices():
  devices = parallel.Devices(4)

  def fn(state, x, shared):
    return parallel.total(state * x), parallel.mean(x + shared)

  compiled = devices.compile(fn, donate=False)
  state, metric = compiled(
    devices.replicate(np.float32(2.0)), np.arange(4.0), np.float32(1.0)
  )
  assert float(state) == 12.0 and float(metric) == 2.5
  compiled(state, np.arange(4.0), np.float32(5.0))
  assert compiled.num_traces == 1


def test_a_batch_is_split_in_order():
  parts = parallel.Devices(2).split({"x": np.arange(6).reshape(6, 1)})
  assert parts["x"].tolist() == [[[0], [1], [2]], [[3], [4], [5]]]
  assert jax.process_count() == 1
