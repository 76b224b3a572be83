"""Digests of trees: what was saved, and what was trained, in a few letters."""

import hashlib
import json
from typing import Any

import jax
import numpy as np

__all__ = (
  "of_json",
  "of_leaves",
  "sha256",
)


def sha256(tree: Any) -> str:
  """Returns a digest of all leaves: their paths, dtypes, shapes and bytes.

  Args:
    tree: arrays with values.

  >>> import jax.numpy as jnp
  >>> sha256({"w": jnp.zeros(2)}) == sha256({"w": jnp.zeros(2)})
  True
  """
  digest = hashlib.sha256()
  for path, leaf_digest in sorted(of_leaves(tree).items()):
    digest.update(f"{path}\n{leaf_digest}\n".encode())
  return digest.hexdigest()


def of_leaves(tree: Any) -> dict[str, str]:
  """Returns {path: digest of dtype, shape and bytes} of every leaf.

  Args:
    tree: arrays with values.

  >>> list(of_leaves({"w": np.zeros(2)}))
  ["['w']"]
  """
  digests = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    array = np.asarray(leaf)
    digest = hashlib.sha256(f"{array.dtype} {array.shape}\n".encode())
    digest.update(np.ascontiguousarray(array).tobytes())
    digests[jax.tree_util.keystr(path)] = digest.hexdigest()
  return digests


def of_json(data: Any) -> str:
  """Returns a digest of data that JSON can hold; the order of keys is none.

  Args:
    data: dicts, lists, texts and numbers.

  Raises:
    ValueError: JSON cannot hold it.

  >>> of_json({"a": 1, "b": 2}) == of_json({"b": 2, "a": 1})
  True
  """
  try:
    text = json.dumps(data, sort_keys=True)
  except TypeError as error:
    raise ValueError(f"data must be what JSON can hold: {error}") from error
  return hashlib.sha256(text.encode()).hexdigest()
