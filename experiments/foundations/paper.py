"""Srivastava et al. 2014 and Wan et al. 2013 as numbers: errors in per cent.

Those that the lecture on dropout quotes: table 9 of the first, tables 3 and 4
of the second. Wan's table 2 is not quoted, so nothing stands beside it.
"""

import math

METHODS = ("none", "dropout", "drop_connect")

TABLE_9 = {
  "l2": 1.62,
  "l2_l1": 1.60,
  "l2_kl": 1.55,
  "max_norm": 1.35,
  "dropout_l2": 1.25,
  "dropout_max_norm": 1.05,
}
"""{regularizer: test error on MNIST}."""

WORDS = {
  "l2": "L2",
  "l2_l1": "L2 + L1 towards the end",
  "l2_kl": "L2 + KL sparsity",
  "max_norm": "max-norm",
  "dropout_l2": "dropout + L2",
  "dropout_max_norm": "dropout + max-norm",
}
"""{regularizer: as the table calls it}."""

WAN_TABLE_3 = {
  "plain": ((0.77, 0.051), (0.59, 0.039), (0.63, 0.035)),
  "crops": ((0.50, 0.098), (0.39, 0.039), (0.39, 0.047)),
  "crops, rotations, scales": ((0.30, 0.035), (0.28, 0.016), (0.28, 0.032)),
}
"""{images: (mean, deviation) on MNIST, in the order of `METHODS`}."""

WAN_TABLE_3_VOTES = {
  "plain": (0.67, 0.52, 0.57),
  "crops": (0.38, 0.35, 0.32),
  "crops, rotations, scales": (0.21, 0.27, 0.21),
}
"""{images: error of five networks that vote}."""

WAN_TABLE_4 = (23.5, 19.7, 18.7)
"""Test error on CIFAR-10, in the order of `METHODS`."""

INPUT_RATE = 0.2
"""Probability of DROPPING an input: the sources keep .8 of them."""

HIDDEN_RATE = 0.5
"""Probability of dropping a hidden unit."""

TEST_IMAGES = 10_000


def binomial_error(error: float, images: int = TEST_IMAGES) -> float:
  """Returns the standard error of a test error, both in per cent.

  >>> round(binomial_error(1.62), 2)
  0.13
  """
  share = error / 100
  return 100 * math.sqrt(share * (1 - share) / images)
