"""BERT's published parameters, from a safetensors file in the HF layout.

Names are mapped one by one; there they are those of PyTorch, whose kernels are
[out, in]. A head that the file does not have keeps its initial values.
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util

_HEADS = ("classifier", "spans", "pooler")

_EMBEDDINGS = {
  "words/embedding": "embeddings.word_embeddings.weight",
  "types/embedding": "embeddings.token_type_embeddings.weight",
  "positions/embedding": "embeddings.position_embeddings.weight",
}

_MODULES = {
  "embeddings_norm": "embeddings.LayerNorm",
  "pooler": "pooler.dense",
  "classifier": "classifier",
  "spans": "qa_outputs",
}

_LAYER_MODULES = {
  "query": "attention.self.query",
  "key": "attention.self.key",
  "value": "attention.self.value",
  "attention_output": "attention.output.dense",
  "attention_norm": "attention.output.LayerNorm",
  "feed_forward": "intermediate.dense",
  "feed_forward_output": "output.dense",
  "feed_forward_norm": "output.LayerNorm",
}

_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}


@dataclasses.dataclass(frozen=True)
class Loaded:
  """Parameters after loading.

  Attributes:
    params: the tree, float32 as before.
    initial: our names of the parameters that kept their initial values.
    unused: the file's names that nothing was made of.
  """

  params: Any
  initial: tuple[str, ...]
  unused: tuple[str, ...]


def load(path: str | os.PathLike[str], params: Any) -> Loaded:
  """Returns the parameters of a checkpoint in the Hugging Face layout.

  Args:
    path: a local .safetensors file.
    params: initialised parameters of `bert.Bert`; they give the shapes, and
      the values of a head that the file does not have.

  Raises:
    ValueError: no such file, or a damaged one; a tensor of the encoder that is
      missing or has another shape.
  """
  tensors = _read(path)
  flat = traverse_util.flatten_dict(params, sep="/")
  found, initial, used = {}, [], set()
  for name, value in flat.items():
    source = _find(name, tensors)
    if source is None:
      if not name.startswith(_HEADS):
        raise ValueError(
          f"{path}: expected a tensor {hf_name(name)!r} for {name}, found"
          " none; give a BERT checkpoint with as many layers as the model"
        )
      initial.append(name)
      found[name] = value
      continue
    used.add(source)
    found[name] = _convert(path, name, source, tensors[source], value)
  return Loaded(
    traverse_util.unflatten_dict(found, sep="/"),
    tuple(initial),
    tuple(sorted(set(tensors) - used)),
  )


def hf_name(name: str) -> str:
  """Returns the Hugging Face name of our parameter `name`, less "bert.".

  >>> hf_name("layer_3/query/kernel")
  'encoder.layer.3.attention.self.query.weight'
  """
  if name in _EMBEDDINGS:
    return _EMBEDDINGS[name]
  module, leaf = name.rsplit("/", 1)
  if module.startswith("layer_"):
    layer, part = module.removeprefix("layer_").split("/")
    module = f"encoder.layer.{layer}.{_LAYER_MODULES[part]}"
  else:
    module = _MODULES[module]
  return f"{module}.{_LEAVES[leaf]}"


def _find(name: str, tensors: Mapping[str, Any]) -> str | None:
  """Returns the file's name of our parameter, in any of its spellings."""
  hf = hf_name(name)
  # Old files call a normalisation's parameters as TensorFlow does.
  old = hf.replace("LayerNorm.weight", "LayerNorm.gamma")
  old = old.replace("LayerNorm.bias", "LayerNorm.beta")
  for spelling in (f"bert.{hf}", hf, f"bert.{old}", old):
    if spelling in tensors:
      return spelling
  return None


def _convert(path, name: str, source: str, tensor, like) -> jax.Array:
  value = jnp.asarray(tensor, like.dtype)
  if name.endswith("/kernel") and value.ndim == 2:
    value = value.T
  if name == "positions/embedding":
    value = value[: like.shape[0]]  # A model may learn fewer positions.
  if value.shape != like.shape:
    raise ValueError(
      f"{path}: {source!r} has shape {tuple(tensor.shape)}, expected"
      f" {_torch_shape(name, like.shape)} for {name}; the model's sizes and"
      " vocabulary must be the checkpoint's"
    )
  return value


def _torch_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
  return shape[::-1] if name.endswith("/kernel") else shape


def _read(path: str | os.PathLike[str]) -> dict[str, jax.Array]:
  import safetensors  # pylint: disable=g-import-not-at-top
  from safetensors import flax as safetensors_flax

  if not pathlib.Path(path).is_file():
    raise ValueError(
      f"the checkpoint must be a local .safetensors file, got {str(path)!r},"
      " which is not there"
    )
  try:
    return safetensors_flax.load_file(path)
  except safetensors.SafetensorError as error:
    raise ValueError(
      f"{path}: expected a whole safetensors file, got one that cannot be read"
      f" ({error}); copy it again"
    ) from error
