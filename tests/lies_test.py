"""What says of itself what is not so is refused where it is made."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

import kdropout_jax as kd
from kdropout_jax.analysis import calibration


def masks_of():
  ids = jnp.arange(3)
  return kd.subnet_masks(jax.random.key(0), ids, 10, kd.ExactCount(0.5))


def test_a_count_that_masks_do_not_keep_is_refused():
  masks = masks_of()
  assert masks.num_kept == 5
  with pytest.raises(ValueError, match="every mask keeps, got 3, and mask 0 k"):
    dataclasses.replace(masks, num_kept=3)
  keep = masks.keep.at[2, 0].set(~masks.keep[2, 0])
  with pytest.raises(ValueError, match="got 5, and mask 2 keeps [46]"):
    kd.Masks(keep, 10, 1, 5)
  # Where there are no values to look at, nothing is.
  jax.jit(lambda keep: kd.Masks(keep, 10, 1, 5).dense())(keep)


@pytest.mark.parametrize(
  "make",
  [
    lambda v: kd.Pooled(5, 2, replacement=v),
    lambda v: kd.Pooled(5, 2, per_layer=v),
    lambda v: kd.Gyro(total=8, concurrent=2, num_steps=9, replacement=v),
    lambda v: kd.Gyro(total=8, concurrent=2, num_steps=9, per_layer=v),
    lambda v: kd.Blocks(0.5, 4, exact=v),
  ],
)
def test_a_flag_is_true_or_false(make):
  assert make(True) != make(False)
  for value in ("no", 0, None):
    with pytest.raises(ValueError, match="must be True or False, got"):
      make(value)


@pytest.mark.parametrize("wrong", [-1, 4])
def test_a_label_is_one_of_the_classes(wrong):
  logits = jnp.zeros((2, 4))
  with pytest.raises(ValueError, match=r"labels must be in \[0, 4\)"):
    calibration.scores(logits, jnp.array([0, wrong]))
  assert jnp.isfinite(calibration.scores(logits, jnp.array([0, 3])).accuracy)
