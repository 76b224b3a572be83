"""Subnets that depend on the example."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.k_dropout import input_dependent
from experiments.run import config
from experiments.run import methods


def test_labels_share_out_the_slots():
  own = config.RunConfig(method="sequential", m=5, k=9, assignment="label")
  assign = methods.assign(own, num_classes=10)
  slots = assign(None, jnp.arange(10))
  assert slots.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
  rows = config.RunConfig(method="sequential", m=5, k=9)
  assert methods.assign(rows, num_classes=10) is None


def test_wrong_assignments_are_refused():
  with pytest.raises(ValueError, match="assignment must be one of rows, label"):
    config.RunConfig(method="sequential", assignment="labels")
  with pytest.raises(ValueError, match="assignment='label' has no effect here"):
    config.RunConfig(method="standard", assignment="label")


def test_a_subnet_knows_its_own_classes_alone(call, workdir):
  call(input_dependent.main, subnets=5)
  found = json.loads((workdir / "input_dependent.json").read_text())["numbers"]
  by_label = np.array(found["label"]["subnets"])  # [S, subnets, classes]
  assert by_label.shape == (2, 5, 10)
  own = np.repeat(np.eye(5, dtype=bool), 2, axis=1)
  # A subnet that saw two digits names no other.
  assert by_label[:, own].mean() > 0.8
  assert by_label[:, ~own].max() < 0.1
  by_rows = np.array(found["rows"]["subnets"])
  assert by_rows[:, ~own].mean() > 0.3


def test_a_scale_without_meaning_is_refused(call):
  with pytest.raises(
    ValueError, match="scale must be one of cpu, smoke, got 'paper'"
  ):
    call(input_dependent.main, scale="paper")
