"""Key streams and the order of the examples."""

import jax
import numpy as np
import pytest

from kdropout_jax.training import rng


def orders(key, shuffle, epochs=3, num_examples=11, batch_size=3):
  return [
    np.asarray(rng.epoch_order(key, e, num_examples, batch_size, shuffle))
    for e in range(epochs)
  ]


def test_the_subnets_stream_never_sees_the_step(key):
  rngs = [rng.step_rngs(key, step, device) for step, device in ((0, 0), (7, 3))]
  assert rngs[0]["subnets"] == rngs[1]["subnets"]


def test_the_dropout_stream_changes_with_step_and_device(key):
  cases = [(0, 0), (1, 0), (0, 1)]
  words = {
    tuple(jax.random.key_data(rng.step_rngs(key, *c)["dropout"]).tolist())
    for c in cases
  }
  assert len(words) == 3


def test_streams_of_other_names_differ(key):
  assert rng.run_key(key, "init") != rng.run_key(key, "subnets")


def test_legacy_and_typed_keys_give_the_same_streams():
  typed, legacy = jax.random.key(3), jax.random.PRNGKey(3)
  assert rng.run_key(typed, "a") == rng.run_key(legacy, "a")


@pytest.mark.parametrize("shuffle", ["every_epoch", "rows", "once"])
def test_an_epoch_holds_no_example_twice(key, shuffle):
  for order in orders(key, shuffle):
    assert order.shape == (3, 3)
    assert len(set(order.ravel().tolist())) == 9
    assert order.min() >= 0 and order.max() < 11


def test_every_epoch_draws_anew(key):
  first, second, third = orders(key, "every_epoch")
  assert (first != second).any() and (second != third).any()


def test_once_freezes_batches_and_rows(key):
  first, second, third = orders(key, "once")
  np.testing.assert_array_equal(first, second)
  np.testing.assert_array_equal(first, third)


def test_rows_keeps_the_batches_and_moves_their_rows(key):
  found = orders(key, "rows", epochs=6, num_examples=40, batch_size=8)
  for order in found[1:]:
    np.testing.assert_array_equal(np.sort(order, 1), np.sort(found[0], 1))
  assert all((a != b).any() for a, b in zip(found, found[1:]))


def test_once_is_the_first_epoch_of_every_epoch(key):
  np.testing.assert_array_equal(
    orders(key, "once")[2], orders(key, "every_epoch")[0]
  )


def test_an_unknown_order_is_refused(key):
  with pytest.raises(ValueError, match="shuffle must be one of .*'never'"):
    rng.epoch_order(key, 0, 4, 2, "never")
