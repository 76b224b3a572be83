"""Wrong calls of everything public: an error that names the argument."""

import contextlib
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
from flax import nnx

import kdropout_jax as kd
from kdropout_jax import analysis
from kdropout_jax.masks import diagnostics

_MODULES = {
  "kd": kd,
  "guided": kd.guided,
  "linen": kd.linen,
  "nnx": kd.nnx,
  "optim": kd.optim,
  "subnets": kd.subnets,
  "testing": kd.testing,
  "diagnostics": diagnostics,
  **{f"analysis.{n}": getattr(analysis, n) for n in analysis.__all__},
}

# Public names that nobody calls with arguments of their own, and why.
_STATE = "the state of a transform, which optax hands back"
_RESULT = "what a function of its module returns"
_LEFT_OUT = {
  ("kd", "ScheduleProtocol"): "a protocol",
  ("kd", "UnsupportedError"): "an error",
  ("guided", "Guided"): "tried as kd.Guided",
  ("guided", "State"): "what kd.guided.init returns",
  ("optim", "KeptOnlyState"): _STATE,
  ("optim", "LateL1State"): _STATE,
  ("optim", "PrunedState"): _STATE,
  ("subnets", "DisjointWindow"): "what DisjointTrainer.begin returns",
  ("subnets", "Table"): _RESULT,
  ("subnets", "PermutedWindow"): "what PermutedTrainer.begin returns",
  ("subnets", "Window"): "what WindowTrainer.begin returns",
  ("analysis.calibration", "Scores"): _RESULT,
  ("analysis.ensembles", "Curve"): _RESULT,
  ("analysis.interference", "Interference"): _RESULT,
  ("analysis.marginalised", "Moments"): _RESULT,
  ("analysis.mc_dropout", "Prediction"): _RESULT,
  ("analysis.movement", "Movement"): _RESULT,
  ("analysis.pruning", "Ticket"): _RESULT,
}

# Fields that this library's modules pass on to Flax as they are.
_FLAXS = {"parent", "name", "dtype", "param_dtype", "precision", "dot_general"}
_FLAXS |= {"kernel_init", "bias_init", "promote_dtype", "dot_general_cls"}

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


@functools.cache
def _calls():
  """Returns {(module, name): (function, right arguments)}."""
  fields_of_dropout = {
    "rate": 0.5,
    "deterministic": False,
    "rng_collection": "dropout",
    "pattern": kd.Bernoulli,
    "row_layout": "contiguous",
  }
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
  subnet |= {"layout": None, "sizes": None}
  gradients = {
    "loss_fn": lambda p, a: total(p),
    "params": params,
    "args": alphas,
  }
  halves = kd.ExactCount(0.5, partition=True)
  parts = kd.subnet_masks(key, ids, 6, halves)
  one_slot = jnp.zeros(4, jnp.int32)
  how = {
    "rescale": "expected",
    "row_layout": "contiguous",
    "assignment": one_slot,
  }
  drops = {**fields_of_dropout, "rescale": "expected", "batch_size": 4}
  follow = {"schedule": config.schedule, "key": key, "batch_size": 4}
  follow |= {"pattern": kd.Bernoulli(), "first_row": 0, "axis_name": None}
  follow |= {"subnets": None}
  stepped = {**follow, "step": 0, "other_readers": "per_step"}
  dense = {"use_bias": True, "row_layout": "contiguous", "batch_size": 4}
  connect = {**dense, **drops, "features": 3, "inference": "mean"}
  connect |= {"num_samples": 2, "activation": None}
  masked = {**dense, "features": 3, "activation": None}
  masked |= {"implementation": "dense"}
  scores = {"logits": logits, "labels": labels}
  cut = {"params": params, "layout": layout}
  table = {
    ("kd", "Bernoulli"): {"rate": 0.5},
    ("kd", "Blocks"): {
      "rate": 0.5,
      "block_size": 2,
      "exact": True,
      "partition": False,
      "balanced": None,
    },
    ("kd", "CustomPattern"): {
      "fn": lambda key, width: None,
      "rate": 0.5,
      "num_kept": lambda width: width,
    },
    ("kd", "CustomSchedule"): {
      "fn": _no_ids,
      "concurrent": 2,
      "per_layer": False,
    },
    ("kd", "ExactCount"): {"rate": 0.5, "partition": False, "balanced": None},
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
      "design": None,
    },
    ("kd", "Pooled"): {
      "pool_size": 4,
      "m": 2,
      "replacement": True,
      "per_layer": False,
    },
    ("kd", "Sequential"): {"k": 4, "m": 2},
    ("kd", "Standard"): {},
    ("kd", "assign_rows"): {
      "num_rows": 2,
      "num_subnets": 2,
      "batch_size": 4,
      "first_row": 0,
      "row_layout": "contiguous",
    },
    ("kd", "drop_connect"): {
      "x": x,
      "w": jnp.ones((6, 3)),
      "b": jnp.ones(3),
      "masks": jnp.ones((2, 21), bool),
      "rate": 0.5,
      "batch_size": 4,
      **how,
    },
    ("kd", "dropout"): {"x": x, "masks": two, "rate": 0.5, **how},
    ("kd", "spatial_dropout"): {
      "x": jnp.ones((4, 2, 6)),
      "masks": two,
      "rate": 0.5,
      **how,
    },
    ("kd", "explain"): {
      "x_shape": (4, 6),
      "w_shape": (6, 3),
      "platform": "tpu",
      "in_mask": two,
      "out_mask": None,
      "dtype": jnp.float32,
    },
    ("kd", "layer_masks"): {"step": 0, "key": key, "config": config},
    ("kd", "masked_matmul"): {
      "x": x,
      "w": jnp.ones((6, 3)),
      "in_mask": two,
      "out_mask": None,
      "implementation": "dense",
      "precision": None,
      "preferred_element_type": jnp.float32,
    },
    ("kd", "masks_for_steps"): {
      "start": 0,
      "count": 2,
      "key": key,
      "config": config,
    },
    ("kd", "subnet_ids"): {"step": 0, **draw, "layer": None},
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
    ("linen", "DropConnectDense"): connect,
    ("linen", "Dropout"): {**drops, "broadcast_dims": ()},
    ("linen", "MaskedDense"): masked,
    ("linen", "SpatialDropout"): drops,
    ("linen", "apply"): {"model": drop, "variables": {}, **stepped},
    ("linen", "intercept"): stepped,
    ("nnx", "DropConnectDense"): connect,
    ("nnx", "Dropout"): {**drops, "broadcast_dims": ()},
    ("nnx", "MaskedDense"): masked,
    ("nnx", "SpatialDropout"): drops,
    ("nnx", "layer_keys"): {"model": _retrofitted()},
    ("nnx", "retrofit"): {
      "model": nnx.Dropout(0.5),
      **follow,
      "name": "",
    },
    ("nnx", "set_step"): {
      "model": _retrofitted(),
      "step": 0,
      "first_row": None,
    },
    ("nnx", "set_subnets"): {"model": _retrofitted(True), "subnets": ids},
    ("linen", "layer_keys"): {
      "model": drop,
      "variables": {},
      "key": key,
    },
    ("optim", "kept_only"): {"optimizer": sgd, "layout": layout},
    ("optim", "late_l1"): {"strength": 0.1, "start": 3},
    ("optim", "max_norm"): {"limit": 1.0, "axes": 0},
    ("optim", "pruned"): {"optimizer": sgd},
    ("subnets", "DisjointTrainer"): {
      "loss_fn": total,
      "optimizer": sgd,
      "layout": layout,
      "exchange": kd.subnets.Exchange(2, 2),
      "dropped_weights": "frozen",
      "shared_parameters": "each_step",
      "sizes": None,
    },
    ("subnets", "Exchange"): {
      "num_subnets": 2,
      "num_local": 1,
      "first": 0,
      "mean": lambda tree: tree,
      "mean_of_subnet": lambda tree: tree,
      "gather": lambda tree: tree,
    },
    ("subnets", "Layout"): {"axes": {"w": {0: "h"}}},
    ("subnets", "PermutedTrainer"): {
      "loss_fn": total,
      "optimizer": sgd,
      "layout": layout,
      "has_aux": False,
      "reduce_grads": None,
    },
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
    ("subnets", "check_disjoint"): {"masks": {"h": parts}, "num_subnets": 2},
    ("subnets", "visitable"): {"model": nnx.Dropout(0.5)},
    ("subnets", "check_loss"): {"loss_fn": total, **cut, "sizes": None},
    ("subnets", "check_optimizer"): {
      "optimizer": sgd,
      **cut,
      "side_by_side": False,
    },
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
    ("subnets", "layout"): {"model": drop, "variables": {}, "check": False},
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
    ("testing", "check_schedule"): {
      "schedule": kd.Sequential(k=2, m=2),
      "batch_size": 4,
      "num_steps": 2,
      "key": key,
    },
    ("diagnostics", "density"): {"masks": one},
    ("diagnostics", "joint_subnets"): {"layers": layers},
    ("diagnostics", "overlap"): {"masks": one},
    ("diagnostics", "realised_reuse"): {**draw, "num_steps": 2, "layer": None},
    ("diagnostics", "realised_subnets"): {
      **draw,
      "num_steps": 2,
      "layer": None,
    },
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
    ("analysis.connectivity", "check_alike"): {
      **line,
      "names": ("start", "end"),
    },
    ("analysis.connectivity", "interpolate"): {**line, "alpha": 0.5},
    ("analysis.diversity", "disagreement"): {"predictions": labels[None]},
    ("analysis.diversity", "double_fault"): {"correct": hits},
    ("analysis.diversity", "error_correlation"): {"correct": hits},
    ("analysis.diversity", "feature_distance"): {
      "features": members,
      "keep": jnp.ones((2, 3), bool),
    },
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
    ("analysis.mc_dropout", "combine"): {"logits": logits[None]},
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
      "prunable": lambda leaf: True,
    },
    ("analysis.pruning", "fraction_left"): {
      "masks": flags,
      "prunable": lambda leaf: True,
    },
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
    (module, name): (_called(getattr(_MODULES[module], name)), arguments)
    for (module, name), arguments in table.items()
  }


def _called(found):
  """Returns what calls a function, or builds a module and calls that.

  Flax modules are dataclasses: their fields are read when they are called.
  """
  x = jnp.ones((4, 6))
  keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
  inputs = x[:, None] if "Spatial" in found.__name__ else x

  def linen_module(**fields):
    found(**fields).init_with_output(keys, inputs)

  def nnx_module(**fields):
    if "features" in fields:
      fields = {"in_features": 6, "out_features": fields.pop("features")} | (
        fields
      )
    found(**fields, rngs=nnx.Rngs(0, dropout=1))(inputs)

  def intercepted(**given):
    # As it is: what the tests ask of annotations would answer first.
    with contextlib.contextmanager(inspect.unwrap(found))(**given):
      nn.Dropout(0.5, deterministic=False).apply({}, x)

  if found is kd.linen.intercept:
    return intercepted
  if found is kd.linen.apply:
    return lambda model, variables, **given: found(model, variables, x, **given)
  if isinstance(found, type) and issubclass(found, nn.Module):
    return linen_module
  if isinstance(found, type) and issubclass(found, nnx.Module):
    return nnx_module
  return found


def _retrofitted(subnets: bool = False):
  if subnets:
    given = {"subnets": jnp.arange(2, dtype=jnp.uint32)}
  else:
    given = {"schedule": kd.Sequential(k=2, m=2)}
  return kd.nnx.retrofit(nnx.Dropout(0.5), key=jax.random.key(0), **given)


def _complaint(place, argument, junk) -> str | None:
  """Calls with one wrong argument; returns what is wrong with the answer."""
  function, right = _calls()[place]
  call = f"{'.'.join(place)}({argument}={junk!r})"
  try:
    function(**{**right, argument: junk})
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
    "assignment",
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
  if junk is True and isinstance(right, bool):
    return True
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


@pytest.mark.filterwarnings("error")
def test_a_wrong_argument_is_named():
  assert _fuzz(0, 1000) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
def test_a_wrong_argument_is_named_20000_times():
  assert _fuzz(1, 20_000) == []


def test_everything_public_is_tried():
  """But what is left out by name, with its reason."""
  public = {
    (module, name)
    for module, holder in _MODULES.items()
    for name in holder.__all__
    if not isinstance(getattr(holder, name), types.ModuleType)
  }
  assert set(_calls()) == public - set(_LEFT_OUT)
  assert set(_LEFT_OUT) <= public


def test_every_argument_is_tried():
  """But Flax's own; nnx's modules have the arguments of linen's."""
  for (module, name), (_, right) in _calls().items():
    if module == "nnx" and name[0].isupper():
      continue
    known = inspect.signature(getattr(_MODULES[module], name)).parameters
    named = {
      argument
      for argument, parameter in known.items()
      if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }
    assert set(right) <= named, (module, name)
    flaxs = _FLAXS if module == "linen" else set()
    assert named - flaxs <= set(right), (module, name, named - set(right))
