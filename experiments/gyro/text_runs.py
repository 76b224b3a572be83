"""A short training of BERT on text, scored by the metrics of its dataset.

The runner scores labels; answers need the texts, and the official metric.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tqdm
from jaxtyping import Float

from experiments import data as data_lib
from experiments import models
from experiments.data import dataset as dataset_lib
from experiments.gyro import text_scores
from experiments.report import passport
from experiments.run import config as config_lib
from experiments.run import methods
from experiments.run import optimizers
from experiments.run import pretrained
from kdropout_jax.training import loop
from kdropout_jax.training import parallel
from kdropout_jax.training import program as program_lib
from kdropout_jax.training import state as state_lib
from kdropout_jax.training import step as step_lib

FIELDS = (
  *("dataset", "num_train", "data_seed", "vocabulary", "max_length"),
  *("model", "hidden", "num_hidden", "width_scale", "pretrained"),
  *("implementation", "method", "k", "m", "pool_size", "total", "concurrent"),
  *("scheduling", "replacement", "per_layer", "rate", "pattern", "block_size"),
  *("rescale", "row_layout", "optimizer", "learning_rate", "momentum"),
  *("lr_schedule", "lr_drops", "lr_drop_factor", "warmup_steps", "max_norm"),
  *("weight_decay", "epochs", "num_steps", "batch_size", "seed", "shuffle"),
)
"""The fields of a `RunConfig` that mean something here."""

_EVAL_ROWS = 32
_DISPATCHES = 20


def run(
  config: config_lib.RunConfig,
  data_dir: str | None = None,
  *,
  num_test: int | None = None,
  fixed_rows: int = 256,
  progress: bool = True,
) -> dict[str, Any]:
  """Trains and scores one network.

  Args:
    config: the run, with ``model="bert"`` and a dataset of text.
    data_dir: where prepared datasets live.
    num_test: spans: keep so many questions of the test set, at random.
    fixed_rows: training rows whose loss is taken before and after.
    progress: whether to show a bar.

  Returns:
    {"scores": those of `text_scores.of_test`, "fixed_loss": [before, after],
    ...}.

  Raises:
    ValueError: fields that mean nothing here, or a dataset of another task.
    loop.NonFiniteLoss: a loss became NaN.
  """
  _check(config, fixed_rows)
  dataset = _load(config, data_dir, num_test)
  program, members, num_steps = _program(config, dataset)
  example = jax.tree.map(lambda x: x[:1], dataset.train_x)
  state = program.init(members, example)
  if config.pretrained is not None:
    params = pretrained.of_members(config.pretrained, state.params)
    params = program.devices.replicate(params)
    state = dataclasses.replace(state, params=params)
  data = program.devices.replicate(
    step_lib.Data(dataset.train_x, jnp.asarray(dataset.train_labels))
  )
  fixed = min(fixed_rows, dataset.num_train)
  losses = [_fixed_loss(program, members, state, data, fixed)]
  state = _train(program, members, state, data, num_steps, progress)
  losses.append(_fixed_loss(program, members, state, data, fixed))
  logits = _logits(program.task.model, state, dataset.test_x)
  return {
    "config": config.identity(),
    "scores": text_scores.of_test(dataset, logits),
    "fixed_loss": losses,
    "fixed_rows": fixed,
    "steps": num_steps,
    "train_rows": dataset.num_train,
    "test_rows": len(dataset.test_labels),
    "note": dataset.info.note,
    "counts": dict(dataset.info.counts),
    **passport.of_this_machine(),
  }


def _check(config: config_lib.RunConfig, fixed_rows: int) -> None:
  if config.model != "bert":
    raise ValueError(f"model must be 'bert' here, got {config.model!r}")
  if fixed_rows < 1:
    raise ValueError(f"fixed_rows must be >= 1, got {fixed_rows}")
  for name in config.identity():
    if name == "valid_fraction" and config.valid_fraction == 0:
      continue  # It is what happens here, and what presets say.
    if name not in FIELDS:
      raise ValueError(
        f"{name} has no effect on the text results, got"
        f" {getattr(config, name)!r}; leave it at its default"
      )


def _load(config, data_dir, num_test: int | None) -> dataset_lib.Dataset:
  options = {
    "vocabulary": config.vocabulary,
    "max_length": config.max_length,
    "num_test": num_test,
  }
  dataset = data_lib.load(
    config.dataset,
    data_dir,
    num_train=config.num_train,
    seed=config.data_seed,
    **{name: v for name, v in options.items() if v is not None},
  )
  if dataset.info.task not in ("pairs", "spans"):
    raise ValueError(
      f"dataset must be glue/mrpc or squad here, got {config.dataset!r}"
    )
  return dataset


def _program(config, dataset):
  """Returns the compiled functions, the one member and its steps."""
  num_steps = config.steps(dataset.num_train)
  devices = parallel.Devices(1)
  options = models.Options(
    num_classes=dataset.info.num_classes,
    dropout=methods.site(config),
    width_scale=config.width_scale,
    implementation=config.implementation,
    hidden=config.hidden,
    num_hidden=config.num_hidden,
    vocabulary=dict(dataset.info.counts)["vocabulary"],
  )
  model: Any = models.build("bert", options)
  per_epoch = max(dataset.num_train // config.batch_size, 1)
  task = step_lib.Task(
    model=model,
    make_optimizer=optimizers.make(config, num_steps, per_epoch),
    batch_size=config.batch_size,
    num_train=dataset.num_train,
    shuffle=config.shuffle,
    row_layout=config.row_layout,
    rescale=config.rescale,
    num_sites=model.num_sites,
  )
  schedule = methods.schedule(config, num_steps)
  members = state_lib.stack_members(
    [config.seed], [config.learning_rate], [schedule]
  )
  program = program_lib.Program(task, devices, eval_rows=_EVAL_ROWS)
  return program, devices.replicate(members), num_steps


def _fixed_loss(program, members, state, data, count: int) -> float:
  """Returns the loss, without dropout, of the first training rows."""
  found = program.evaluate(state, data, 0, count, members=members)
  return float(found["loss"][0])


def _train(program, members, state, data, num_steps: int, progress: bool):
  size = -(-num_steps // _DISPATCHES)
  with tqdm.tqdm(total=num_steps, unit="step", disable=not progress) as bar:
    for start in range(0, num_steps, size):
      count = min(size, num_steps - start)
      state, sums = program.run(state, members, data, start, count)
      bad = int(np.asarray(sums.first_bad)[0])
      if bad != step_lib.NO_STEP:
        raise loop.NonFiniteLoss(
          f"the loss of step {bad} is not finite; lower the learning rate"
        )
      bar.set_postfix(loss=float(np.asarray(sums.loss)[0]) / count)
      bar.update(count)
  return state


def _logits(model, state, inputs: Any) -> Float[np.ndarray, "N ..."]:
  """Returns the logits of the whole network, a few rows at a time."""
  variables = jax.tree.map(lambda x: jnp.asarray(x)[0], state.variables())
  apply = jax.jit(lambda batch: model.apply(variables, batch, train=False))
  total = len(jax.tree.leaves(inputs)[0])
  parts = []
  for first in range(0, total, _EVAL_ROWS):
    # Repeats the last row, so that all batches have one shape.
    rows = np.minimum(np.arange(first, first + _EVAL_ROWS), total - 1)
    batch = jax.tree.map(lambda x: x[rows], inputs)  # noqa: B023
    parts.append(np.asarray(apply(batch), np.float32))
  return np.concatenate(parts)[:total]
