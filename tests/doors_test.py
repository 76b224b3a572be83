"""Wrong calls of everything public: an error that names the argument."""

import functools
import inspect
import random
import types

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest
from flax import linen as nn

import kdropout_jax as kd
from kdropout_jax import analysis
from kdropout_jax.masks import diagnostics
from kdropout_jax.subnets import disjoint

_MODULES = {
  "kd": kd,
  "guided": kd.guided,
  "linen": kd.linen,
  "nnx": kd.nnx,
  "optim": kd.optim,
  "subnets": kd.subnets,
  "diagnostics": diagnostics,
  **{f"analysis.{n}": getattr(analysis, n) for n in analysis.__all__},
}

# What the library hands out; nobody builds it to call something with it.
_RESULTS = {
  "UnsupportedError",
  "ScheduleProtocol",
  "KeptOnlyState",
  "LateL1State",
  "PrunedState",
  "State",
  "Table",
  "Window",
  "Scores",
  "Curve",
  "Interference",
  "Prediction",
  "Moments",
  "Movement",
  "Ticket",
}

# Flax modules are dataclasses whose fields are read when they are called, and
# these functions are tried with models in tests of their own.
_MODELS = {
  "Dropout",
  "MaskedDense",
  "SpatialDropout",
  "DropConnectDense",
  "apply",
  "intercept",
  "retrofit",
  "set_step",
  "set_subnets",
  "visitable",
}

_JUNK = (
  None,
  "x",
  1.5,
  -1,
  2**40,
  True,
  float("nan"),
  b"bytes",
  object(),
  [],
  ["x"],
  {},
  {"a": object()},
  np.array(["x"]),
  np.zeros((0,), np.float32),
  np.ones((2, 3, 4, 5), np.float32),
  np.ones((2,), np.complex64),
  np.array([None, 1], object),
  jax.random.key(0),
)


@pytest.fixture(autouse=True)
def unchecked():
  """Lets nobody but the library complain: much junk is never looked at."""
  jaxtyping.config.update("jaxtyping_disable", True)
  yield
  jaxtyping.config.update("jaxtyping_disable", False)


@functools.cache
def _no_ids(step, key):
  del step, key


def _calls():
  """Returns {(module, name): (function, right arguments)}."""
  key = jax.random.key(0)
  x = jnp.ones((4, 6))
  ids = jnp.arange(2, dtype=jnp.uint32)
  one = kd.Masks(jnp.array([[True, False] * 3]), 6, num_kept=3)
  two = kd.Masks(jnp.eye(2, 6, dtype=bool), 6, num_kept=1)
  layers = {"h": one}
  layout = kd.subnets.Layout({"w": {0: "h"}})
  params = {"w": jnp.ones((6, 3))}
  flags = {"w": jnp.ones((6, 3), bool)}
  sgd = optax.sgd(0.1)
  guided = kd.Guided(total=4, concurrent=2)
  state = kd.guided.init(guided)
  config = kd.MaskConfig(
    schedule=kd.Sequential(k=2, m=2),
    pattern=kd.Bernoulli(),
    widths={"h": 6},
    batch_size=4,
  )
  draw = {"key": key, "schedule": config.schedule, "batch_size": 4}
  small = kd.subnets.extract(params, layout, layers)
  logits, labels = jnp.ones((4, 3)), jnp.zeros((4,), jnp.int32)
  members, hits = jnp.ones((2, 4, 3)), jnp.ones((2, 4), bool)
  line = {"start": params, "end": params}
  alphas = jnp.array([0.0, 1.0])

  def total(p):  # takes anything: what is tried is the library
    del p
    return jnp.zeros(())

  drop = nn.Dropout(0.5, deterministic=False)
  apply_fn = lambda p, x: drop.apply({}, jnp.zeros((len(x), 6)))  # noqa: E731
  subnet = {"apply_fn": apply_fn, "params": params, "x": x}
  subnet |= {"masks": {"Dropout": one}, "rows_at_once": 4, "byte_budget": 9}
  gradients = {
    "loss_fn": lambda p, a: total(p),
    "params": params,
    "args": alphas,
  }
  scores = {"logits": logits, "labels": labels}
  cut = {"params": params, "layout": layout}
  table = {
    ("kd", "Bernoulli"): {"rate": 0.5},
    ("kd", "Blocks"): {"rate": 0.5, "block_size": 2, "exact": True},
    ("kd", "CustomPattern"): {"fn": lambda key, width: None, "rate": 0.5},
    ("kd", "CustomSchedule"): {"fn": _no_ids, "concurrent": 2},
    ("kd", "ExactCount"): {"rate": 0.5},
    ("kd", "Gaussian"): {"rate": 0.5},
    ("kd", "Guided"): {
      "total": 4,
      "concurrent": 2,
      "temperature": 1.0,
      "explore": 0.5,
      "decay": 0.5,
    },
    ("kd", "Gyro"): {
      "total": 4,
      "concurrent": 2,
      "num_steps": 4,
      "scheduling": "random",
      "rows_per_subnet": 1,
      "replacement": False,
      "per_layer": False,
    },
    ("kd", "MaskConfig"): {
      "schedule": config.schedule,
      "pattern": config.pattern,
      "widths": {"h": 6},
      "batch_size": 4,
    },
    ("kd", "Masks"): {
      "keep": one.keep,
      "width": 6,
      "block_size": 1,
      "num_kept": 3,
    },
    ("kd", "Pooled"): {
      "pool_size": 4,
      "m": 2,
      "replacement": True,
      "per_layer": False,
    },
    ("kd", "Sequential"): {"k": 4, "m": 2, "per_layer": False},
    ("kd", "Standard"): {"per_layer": False},
    ("kd", "assign_rows"): {"num_rows": 2, "num_subnets": 2, "batch_size": 4},
    ("kd", "drop_connect"): {
      "x": x,
      "w": jnp.ones((6, 3)),
      "b": jnp.ones(3),
      "masks": jnp.ones((2, 21), bool),
      "rate": 0.5,
    },
    ("kd", "dropout"): {"x": x, "masks": two, "rate": 0.5},
    ("kd", "spatial_dropout"): {
      "x": jnp.ones((4, 2, 6)),
      "masks": two,
      "rate": 0.5,
    },
    ("kd", "explain"): {
      "x_shape": (4, 6),
      "w_shape": (6, 3),
      "platform": "tpu",
    },
    ("kd", "layer_masks"): {"step": 0, "key": key, "config": config},
    ("kd", "masked_matmul"): {
      "x": x,
      "w": jnp.ones((6, 3)),
      "in_mask": two,
    },
    ("kd", "masks_for_steps"): {
      "start": 0,
      "count": 2,
      "key": key,
      "config": config,
    },
    ("kd", "subnet_ids"): {"step": 0, **draw},
    ("kd", "subnet_masks"): {
      "layer_key": key,
      "ids": ids,
      "width": 6,
      "pattern": kd.Bernoulli(),
    },
    ("kd", "subnet_noise"): {
      "layer_key": key,
      "ids": ids,
      "width": 6,
      "pattern": kd.Gaussian(),
    },
    ("kd", "kl_sparsity"): {"activations": x, "target": 0.1, "margin": 0.02},
    ("guided", "init"): {"config": guided},
    ("guided", "select"): {
      "state": state,
      "step": 0,
      "key": key,
      "config": guided,
    },
    ("guided", "update"): {
      "state": state,
      "ids": ids,
      "losses": alphas,
      "config": guided,
    },
    ("guided", "weakness"): {"state": state},
    ("linen", "layer_keys"): {
      "model": drop,
      "variables": {},
      "key": key,
    },
    ("optim", "kept_only"): {"optimizer": sgd, "layout": layout},
    ("optim", "late_l1"): {"strength": 0.1, "start": 3},
    ("optim", "max_norm"): {"limit": 1.0, "axes": 0},
    ("optim", "pruned"): {"optimizer": sgd},
    ("subnets", "Layout"): {"axes": {"w": {0: "h"}}},
    ("subnets", "WindowTrainer"): {
      "loss_fn": total,
      "optimizer": sgd,
      "layout": layout,
      "dropped_weights": "frozen",
      "sizes": None,
      "has_aux": False,
      "reduce_grads": None,
    },
    ("subnets", "catch_up"): {
      "optimizer": sgd,
      **cut,
      "opt_state": sgd.init(params),
      "num_updates": 1,
    },
    ("subnets", "check_loss"): {"loss_fn": total, **cut, "sizes": None},
    ("subnets", "check_optimizer"): {"optimizer": sgd, **cut},
    ("subnets", "evaluate"): {
      "fn": total,
      **cut,
      "masks": layers,
      "byte_budget": 9,
      "sizes": None,
    },
    ("subnets", "extract"): {**cut, "masks": layers, "sizes": None},
    ("subnets", "insert"): {
      **cut,
      "small": small,
      "masks": layers,
      "sizes": None,
    },
    ("subnets", "layout"): {"model": drop, "variables": {}},
    ("subnets", "make_tables"): {"masks": layers, "sizes": None},
    ("subnets", "max_sizes"): {"masks": layers},
    ("subnets", "sample_masks"): {"fn": lambda: None},
    ("subnets", "small_network"): {"tables": {}},
    ("subnets", "value_and_grad"): {
      "loss_fn": total,
      "layout": layout,
      "has_aux": False,
      "row_layout": "contiguous",
      "sizes": None,
    },
    ("diagnostics", "density"): {"masks": one},
    ("diagnostics", "joint_subnets"): {"layers": layers},
    ("diagnostics", "overlap"): {"masks": one},
    ("diagnostics", "realised_reuse"): {**draw, "num_steps": 2},
    ("diagnostics", "realised_subnets"): {**draw, "num_steps": 2},
    ("analysis.calibration", "brier_score"): scores,
    ("analysis.calibration", "correct"): scores,
    ("analysis.calibration", "expected_calibration_error"): {
      **scores,
      "num_bins": 3,
    },
    ("analysis.calibration", "negative_log_likelihood"): scores,
    ("analysis.calibration", "scores"): scores,
    ("analysis.connectivity", "along_line"): {
      "fn": total,
      **line,
      "alphas": alphas,
    },
    ("analysis.connectivity", "barrier"): {
      "values": alphas,
      "alphas": alphas,
      "baseline": "mean",
    },
    ("analysis.connectivity", "check_alike"): line,
    ("analysis.connectivity", "interpolate"): {**line, "alpha": 0.5},
    ("analysis.diversity", "disagreement"): {"predictions": labels[None]},
    ("analysis.diversity", "double_fault"): {"correct": hits},
    ("analysis.diversity", "error_correlation"): {"correct": hits},
    ("analysis.diversity", "feature_distance"): {"features": members},
    ("analysis.diversity", "feature_sums"): {
      "features": members,
      "keep": jnp.ones((2, 3), bool),
    },
    ("analysis.diversity", "mean_over_pairs"): {"values": jnp.eye(2)},
    ("analysis.ensembles", "average"): {"logits": members},
    ("analysis.ensembles", "geometric"): {"logits": members},
    ("analysis.ensembles", "curve"): {
      "logits": members,
      "labels": labels,
      "order": jnp.arange(2),
    },
    ("analysis.ensembles", "vote"): {"logits": members},
    ("analysis.interference", "gradient_cosines"): gradients,
    ("analysis.interference", "measure"): gradients,
    ("analysis.marginalised", "expectation"): {
      "fn": lambda mask: mask.sum(),
      "width": 3,
      "rate": 0.5,
    },
    ("analysis.marginalised", "expected_log_loss"): {
      "mean": alphas,
      "variance": alphas,
      "labels": jnp.array([0, 1]),
    },
    ("analysis.marginalised", "expected_sigmoid"): {
      "mean": alphas,
      "variance": alphas,
    },
    ("analysis.marginalised", "moments"): {
      "x": x,
      "weights": jnp.ones(6),
      "rate": 0.5,
      "bias": 0.0,
    },
    ("analysis.marginalised", "ridge"): {
      "x": x,
      "targets": jnp.ones(4),
      "rate": 0.5,
    },
    ("analysis.marginalised", "squared_error"): {
      "x": x,
      "targets": jnp.ones(4),
      "weights": jnp.ones(6),
      "rate": 0.5,
    },
    ("analysis.mc_dropout", "predict"): {
      "logits_fn": lambda key: logits,
      "key": key,
      "num_samples": 2,
    },
    ("analysis.movement", "of_activations"): {
      "before": x,
      "after": x,
      "keep": jnp.ones(6, bool),
    },
    ("analysis.movement", "of_weights"): {"before": params, "after": params},
    ("analysis.pruning", "apply"): {"tree": params, "masks": flags},
    ("analysis.pruning", "check_fraction"): {
      "name": "fraction",
      "fraction": 0.5,
    },
    ("analysis.pruning", "count_left"): {"fraction": 0.5, "total": 4},
    ("analysis.pruning", "find_tickets"): {
      "train": lambda params, masks: params,
      "rewind_to": params,
      "fractions": [0.5],
      "scope": "layer",
    },
    ("analysis.pruning", "fraction_left"): {"masks": flags},
    ("analysis.pruning", "full_masks"): {"params": params},
    ("analysis.pruning", "is_matrix"): {"param": x},
    ("analysis.pruning", "magnitude_masks"): {
      "params": params,
      "fraction": 0.5,
      "masks": flags,
      "scope": "layer",
      "prunable": lambda leaf: True,
    },
    ("analysis.structured_pruning", "parameter_masks"): {
      **cut,
      "masks": layers,
    },
    ("analysis.structured_pruning", "unit_masks"): {
      **cut,
      "fraction": 0.5,
      "masks": layers,
    },
    ("analysis.structured_pruning", "unit_norms"): cut,
    ("analysis.subnet_accuracy", "accuracies"): {**subnet, "labels": labels},
    ("analysis.subnet_accuracy", "logits"): subnet,
  }
  return {
    (module, name): (getattr(_MODULES[module], name), arguments)
    for (module, name), arguments in table.items()
  }


def _complaint(place, argument, junk) -> str | None:
  """Calls with one wrong argument; returns what is wrong with the answer."""
  function, right = _calls()[place]
  call = f"{'.'.join(place)}({argument}={junk!r})"
  try:
    found = function(**{**right, argument: junk})
    if hasattr(found, "__enter__"):
      with found:
        pass
  except (ValueError, kd.UnsupportedError) as error:
    if argument.rstrip("s") not in str(error):
      return f"{call} does not name it: {error}"
  except Exception as error:
    return f"{call}: {type(error).__name__}: {error}"
  return None


def _is_right(argument: str, right, junk) -> bool:
  """Whether the junk is none here: it would only cost the call's time."""
  optional = (
    "masks",
    "keep",
    "order",
    "in_mask",
    "sizes",
    "rows_per_subnet",
    "b",
    "platform",
  )
  if junk is None:
    return right is None or argument in optional
  if argument in ("key", "layer_key"):
    return junk is _JUNK[-1]
  if argument in ("sizes", "variables") and isinstance(junk, dict):
    return not junk
  return argument in ("step", "start") and junk is _JUNK[4]


def _all_wrong_calls():
  return [
    (place, argument, number)
    for place, (_, right) in sorted(_calls().items())
    for argument in right
    for number, junk in enumerate(_JUNK)
    if not _is_right(argument, right[argument], junk)
  ]


def _fuzz(seed: int, count: int) -> list[str]:
  chosen = random.Random(seed).choices(_all_wrong_calls(), k=count)
  found = [_complaint(p, a, _JUNK[number]) for p, a, number in chosen]
  return sorted({text for text in found if text})


def test_a_wrong_argument_is_named():
  assert _fuzz(0, 1000) == []


@pytest.mark.slow
def test_a_wrong_argument_is_named_20000_times():
  assert _fuzz(1, 20_000) == []


def test_everything_public_is_tried():
  # nnx models are tried where they are retrofitted; Guided as kd.Guided.
  public = {
    (module, name)
    for module, holder in _MODULES.items()
    for name in holder.__all__
    if not isinstance(getattr(holder, name), types.ModuleType)
    and name not in _RESULTS | _MODELS
    and (module, name) not in {("nnx", "layer_keys"), ("guided", "Guided")}
    # Tried in tests/training/disjoint_test.py.
    and (module, name) not in {("subnets", n) for n in disjoint.__all__}
  }
  assert public <= set(_calls())


def test_right_arguments_belong_to_the_functions():
  for function, right in _calls().values():
    known = inspect.signature(function).parameters
    assert set(right) <= set(known), function
