"""The check of annotations is on, and sees what is wrong."""

import ast
import pathlib

import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

import kdropout_jax as kd
from kdropout_jax import blocks

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_ARRAYS = ("Array", "Ids", "Step")


@pytest.fixture
def wrong(tmp_path, monkeypatch):
  """A module of the library's with a function of each wrong kind."""
  (tmp_path / "wrong.py").write_text(
    "from jaxtyping import Array, Bool, Float\n"
    "def result(x: Float[Array, 'B I']) -> Float[Array, 'B I']:\n"
    "  return x.T\n"
    "def dtype(x: Bool[Array, 'B']) -> None: pass\n"
    "def two(x: Float[Array, 'B'], y: Float[Array, 'B']) -> None: pass\n"
    "class Layer:\n"
    "  def __call__(self, x: Float[Array, 'B O']) -> Float[Array, 'B O']:\n"
    "    return x[None]\n"
    "def refuses(x: Float[Array, 'B I']) -> None:\n"
    "  raise ValueError('ours')\n"
  )
  monkeypatch.setattr(kd, "__path__", [*kd.__path__, str(tmp_path)])
  from kdropout_jax import wrong

  return wrong


def test_a_wrong_annotation_is_an_error(wrong):
  x = jnp.ones((2, 3))
  wrong.result(jnp.ones((2, 2)))
  for call in (
    lambda: wrong.result(x),
    lambda: wrong.dtype(x[0]),
    lambda: wrong.two(x[0], x[:, 0]),
    lambda: wrong.Layer()(x),
  ):
    with pytest.raises(jaxtyping.TypeCheckError):
      call()


def test_the_librarys_own_errors_come_first(wrong):
  with pytest.raises(ValueError, match="ours"):
    wrong.refuses(jnp.ones((1,)))


def test_the_library_is_checked_and_takes_numpys_arrays():
  with pytest.raises(jaxtyping.TypeCheckError):
    blocks.expand(jnp.ones((2, 2)), 2, 1)  # not bool
  blocks.expand(np.ones((2, 2), bool), 2, 1)  # NumPy's are as good


def unasked(path):
  """Yields functions that annotate an array and not what they return."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.FunctionDef) and node.returns is None:
      args = (*node.args.args, *node.args.kwonlyargs)
      told = [ast.unparse(a.annotation) for a in args if a.annotation]
      if any(a in t for t in told for a in _ARRAYS):
        yield f"{path.name}: {node.name}"


def test_what_annotates_an_array_annotates_its_result():
  """Nothing is asked of a function that does not say what it returns."""
  files = (_ROOT / "kdropout_jax").rglob("*.py")
  found = [name for path in files for name in unasked(path)]
  assert [name for name in found if not name.endswith("__init__")] == []
