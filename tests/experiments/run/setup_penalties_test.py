"""Penalties of a run: on activations in the loss, on weights in the step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.run import config as config_lib
from experiments.run import optimizers
from experiments.run import setup as setup_lib
from kdropout_jax.training import step as step_lib
from kdropout_jax.training import task as task_lib
from tests import tolerance

_FIELDS = dict(
  method="none", num_train=32, hidden=8, batch_size=16, num_devices=1
)


def loss_of(params=None, **fields):
  """Returns the loss of the first batch, the parameters, and the inputs."""
  setup = setup_lib.make([config_lib.RunConfig(**_FIELDS, **fields)])
  member = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)[0]), setup.members)
  shard = task_lib.Shard(jnp.int32(0), jnp.arange(16))
  worker = task_lib.Worker(setup.task, member, shard)
  batch = jax.tree.map(
    lambda x: jnp.asarray(np.asarray(x)[:16]), setup.arrays()
  )
  if params is None:
    state = step_lib.init_state(setup.task, member, batch.inputs[:1])
    params = state.params
  loss, _ = step_lib.make_loss(worker, {}, 0, batch)(params)
  return loss, params, setup.task.preprocess(batch.inputs).reshape(16, -1)


def test_sparsity_adds_the_divergence_of_every_hidden_layer():
  plain, params, x = loss_of()
  found, _, _ = loss_of(params, sparsity=0.5, sparsity_target=0.2)
  expected, x = 0.0, np.asarray(x, np.float64)
  for i in range(2):
    layer = params[f"hidden_{i}"]
    kernel, bias = (np.asarray(layer[name]) for name in ("kernel", "bias"))
    x = np.maximum(x @ kernel + bias, 0)
    mean = np.clip(x.mean(axis=0), 0.01, 0.99)
    expected += np.sum(
      0.2 * np.log(0.2 / mean) + 0.8 * np.log(0.8 / (1 - mean))
    )
  assert expected > 0.1
  tolerance.assert_sums_close(
    found - plain, 0.5 * expected, 64 + 8 + 16 + 8, magnitude=float(found)
  )


def test_sparsity_wants_hidden_layers():
  task = setup_lib.make([config_lib.RunConfig(**_FIELDS, sparsity=0.5)]).task
  assert task.penalty is not None
  with pytest.raises(ValueError, match="sparsity is for models with .* 'mlp'"):
    task.penalty([])


def test_l1_sets_in_after_its_share_of_the_run():
  config = config_lib.RunConfig(
    optimizer="sgd", momentum=0.0, l1=0.5, l1_from=0.5, max_norm=100.0
  )
  optimizer = optimizers.make(config, num_steps=4, steps_per_epoch=2)(1.0)
  params = {"kernel": jnp.array([[8.0], [-8.0]])}
  state, seen = optimizer.init(params), []
  zeros = jax.tree.map(jnp.zeros_like, params)
  for _ in range(4):
    updates, state = optimizer.update(zeros, state, params)
    params = optax.apply_updates(params, updates)
    seen.append(params["kernel"][:, 0].tolist())
  assert seen == [[8, -8], [8, -8], [7.5, -7.5], [7, -7]]
