"""Laws of masks whose groups partition or cover a layer evenly."""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kdropout_jax as kd
from kdropout_jax import _designs
from kdropout_jax.masks import grouped
from kdropout_jax.masks import schedules
from kdropout_jax.masks import selection

_KEY = jax.random.key(5)
_HALVES = kd.ExactCount(0.5, partition=True)
_FOUR = kd.ExactCount(0.5, balanced=4)
_PATTERNS = [
  (_HALVES, 2),
  (kd.ExactCount(2 / 3, partition=True), 3),
  (kd.ExactCount(0.75, balanced=8), 8),
  (kd.ExactCount(0.5, balanced=8), 8),
  (kd.Blocks(0.5, block_size=2, balanced=4), 4),
]


@functools.partial(jax.jit, static_argnums=(1, 2))
def _masks(ids, width, pattern):
  return kd.subnet_masks(_KEY, ids, width, pattern)


@pytest.mark.parametrize(
  ("pattern", "size", "width"),
  [(*case, 53) for case in _PATTERNS] + [(*_PATTERNS[3], 48)],
)
def test_a_group_keeps_every_unit_equally_often(pattern, size, width):
  ids = jnp.arange(3 * size, dtype=jnp.uint32) + jnp.uint32(7 * size)
  masks = _masks(ids, width, pattern)
  times = masks.keep.reshape(3, size, -1).sum(axis=1)
  np.testing.assert_array_equal(times, round((1 - pattern.rate) * size))
  counts = set(masks.keep.sum(axis=1).tolist())
  assert masks.num_kept == pattern.num_kept(width)
  if masks.num_kept is not None:
    assert counts == {masks.num_kept}
  elif pattern.balanced is None:
    assert counts == {width // size, width // size + 1}
  groups = masks.keep.reshape(3, size, -1)
  assert not (groups[0] == groups[1]).all()


@pytest.mark.parametrize(("pattern", "size"), _PATTERNS[2:3])
def test_a_mask_depends_on_key_and_id_alone(pattern, size):
  """Whole groups, which share their order on a CPU, or any ids."""
  whole = jnp.arange(2 * size, dtype=jnp.uint32)
  expected = np.asarray(_masks(whole, 40, pattern).keep)
  order = np.random.default_rng(0).permutation(2 * size)

  def keep(ids):
    return _masks(ids, 40, pattern).keep

  np.testing.assert_array_equal(keep(whole[order]), expected[order])
  np.testing.assert_array_equal(keep(whole[3:4]), expected[3:4])
  rows = whole.reshape(2, size)
  np.testing.assert_array_equal(np.concatenate(jax.vmap(keep)(rows)), expected)


@pytest.mark.parametrize("width", [4, 5])
def test_one_mask_has_the_law_of_an_exact_count(width):
  """Each set of units is kept equally often, whichever part an id has."""
  keys = jax.random.split(_KEY, 6000)
  pattern = kd.ExactCount(0.5, partition=True)
  for i in (0, 1):
    sample = jax.vmap(
      lambda key, i=i: kd.subnet_masks(key, jnp.array([i]), width, pattern)
    )
    keep = jax.jit(sample)(keys).keep[:, 0]
    kept = collections.Counter(map(tuple, np.asarray(keep).tolist()))
    # Of 4 units 6 pairs; of 5, where the larger part is drawn, 10 pairs, 10
    # triples.
    cells = {4: 6, 5: 20}[width]
    assert len(kept) == cells
    mean = 6000 / cells
    chi = sum((n - mean) ** 2 / mean for n in kept.values())
    # Five standard deviations of a chi-square with cells - 1 degrees.
    assert chi < cells - 1 + 5 * np.sqrt(2 * (cells - 1))


@pytest.mark.parametrize("design", [(2, 2), (2, 8), (3, 6)])
def test_bisection_and_ranks_find_the_same_parts_in_ties_too(design):
  design = _designs.Design(*design)
  bits = jax.random.bits(_KEY, (2 * design.size, 37), jnp.uint32) % 5
  first = jnp.repeat(bits[:: design.size], design.size, axis=0)
  for rows in (bits, first, bits[:3]):
    ranks = grouped._by_rank(rows, design)
    bisect = jax.jit(grouped._by_bisection, static_argnums=1)
    np.testing.assert_array_equal(bisect(rows, design), ranks)
    sizes = np.diff([*design.starts(37), 37])
    counted = [(np.asarray(ranks[0]) == q).sum() for q in range(len(sizes))]
    np.testing.assert_array_equal(counted, sizes)


def test_ranks_of_wide_rows_are_those_of_pairs(monkeypatch):
  bits = jax.random.bits(_KEY, (2, 30), jnp.uint32) % 7
  pairs = selection.ranks(bits)
  monkeypatch.setattr(selection, "_MAX_PAIRS", 1)
  np.testing.assert_array_equal(selection.ranks(bits), pairs)


def test_four_halves_are_the_pairs_of_four_parts():
  kept = [np.flatnonzero(row).tolist() for row in _designs.Design(2, 4).table]
  assert kept == [[0, 1], [2, 3], [0, 2], [1, 3]]


@pytest.mark.parametrize("size", [8, 16])
def test_halves_are_rows_of_a_hadamard_matrix_and_complements(size):
  signs = np.where(_designs.Design(2, size).table, 1, -1)
  assert signs.shape == (size, size)
  rows, complements = signs[::2], signs[1::2]
  np.testing.assert_array_equal(rows, -complements)
  np.testing.assert_array_equal(rows @ rows.T, size * np.eye(size // 2))
  np.testing.assert_array_equal(rows.sum(axis=1), 0)


@pytest.mark.parametrize("design", [(3, 12), (4, 16), (6, 12), (5, 5)])
def test_a_class_partitions_the_parts(design):
  parts, size = design
  table = _designs.Design(parts, size).table
  classes = table.reshape(size // parts, parts, -1)
  np.testing.assert_array_equal(classes.sum(axis=1), 1)
  assert len(np.unique(table, axis=0)) == size  # no class twice


@pytest.mark.parametrize(
  "schedule",
  [
    kd.Sequential(k=3, m=4),
    kd.Sequential(k=2, m=8),
    kd.Gyro(16, 4, num_steps=12),
    kd.Standard(),
  ],
)
def test_counted_ids_come_in_whole_groups(schedule):
  for step in range(7):
    ids = schedules.subnet_ids(step, _KEY, schedule, 8)
    keep = _masks(ids, 16, _FOUR).keep
    np.testing.assert_array_equal(keep.reshape(-1, 4, 16).sum(axis=1), 2)


def test_drawn_ids_keep_a_masks_law_but_not_the_groups():
  schedule = kd.Pooled(8, m=2)
  times = set()
  for step in range(12):
    ids = schedules.subnet_ids(step, _KEY, schedule, 8)
    masks = _masks(ids, 16, _HALVES)
    np.testing.assert_array_equal(masks.keep.sum(axis=1), 8)
    times |= set(masks.keep.sum(axis=0).tolist())
  assert times == {0, 1, 2}


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: kd.ExactCount(0.4, partition=True), "rate must be 1 - 1/P .* 0.4"),
    (lambda: kd.ExactCount(0.0, partition=True), "rate must be 1 - 1/P"),
    (lambda: kd.ExactCount(1.0, balanced=4), "rate must be 1 - 1/P"),
    (lambda: kd.ExactCount(0.75, balanced=6), "multiple of P .* = 4, got 6"),
    (lambda: kd.ExactCount(0.5, balanced=0), "balanced must be >= 1, got 0"),
    (
      lambda: kd.ExactCount(0.5, partition=True, balanced=4),
      "give one of them, got partition=True, balanced=4",
    ),
    (lambda: kd.ExactCount(0.5, partition=1), "partition must be"),  # pyright: ignore[reportArgumentType]
    (
      lambda: kd.Blocks(0.5, exact=False, partition=True),
      "exact must be True with partition",
    ),
    (lambda: _FOUR.num_kept(3), "as many units .* as the 4 parts .* got 3"),
    (
      lambda: kd.subnet_masks(
        _KEY, jnp.arange(2), 64, kd.Blocks(0.75, 32, partition=True)
      ),
      "as the 4 parts .* got 2",
    ),
  ],
)
def test_a_design_that_there_is_not_is_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()
