"""`--parallel=jit` trains what pmap does, and changes the name of no run."""

import numpy as np
import pytest

from experiments.run import config as config_lib
from experiments.run import runner
from tests import tolerance

_FIELDS = dict(
  method="pooled",
  pool_size=9,
  num_train=64,
  hidden=8,
  batch_size=16,
  num_steps=5,
  eval_every=5,
)


def train(folder, **fields):
  config = config_lib.RunConfig(**_FIELDS, **fields)
  (result,) = runner.run(config, folder / config.digest(), progress=False)
  return result


_SLOW = [pytest.param(number, marks=pytest.mark.slow) for number in (2, 8)]


@pytest.mark.parametrize("num_subnets", [4, *_SLOW], ids="T={}".format)
def test_jit_trains_what_pmap_does(num_subnets, tmp_path):
  """Four shards of rows, T below, equal to and above them; then columns."""
  fields = dict(m=num_subnets, num_devices=4)
  by_pmap = train(tmp_path, **fields)
  by_jit = train(tmp_path, **fields, parallel="jit")
  assert by_jit["params_sha256"] == by_pmap["params_sha256"]
  assert by_jit["test_loss"] == by_pmap["test_loss"]
  if num_subnets == 4:
    fields |= dict(num_devices=8, num_column_devices=2)
    split = train(tmp_path, **fields, parallel="jit")
    assert split["num_devices"] == 8
    tolerance.assert_sums_close(
      np.float32(split["train_loss"]),
      by_pmap["train_loss"],
      2 * (64 + 16 + 8 + 10) + 297,  # There and back; all test rows.
      steps=5,
    )


def test_the_default_is_in_no_runs_name():
  config = config_lib.RunConfig(**_FIELDS, m=2)
  assert not {"parallel", "num_column_devices"} & config.identity().keys()
  other = config_lib.RunConfig(**_FIELDS, m=2, parallel="jit")
  assert other.identity() == config.identity() | {"parallel": "jit"}


@pytest.mark.parametrize(
  ("fields", "error", "message"),
  [
    (dict(parallel="vmap"), ValueError, "parallel must be one of pmap, jit"),
    (dict(num_column_devices=2), ValueError, "no effect .* for parallel=jit"),
    (
      dict(parallel="jit", num_column_devices=3, num_devices=8),
      ValueError,
      "must divide num_devices=8, got 3",
    ),
  ],
)
def test_what_cannot_be_spread_is_refused(fields, error, message, tmp_path):
  with pytest.raises(error, match=message):
    train(tmp_path, m=2, **fields)
