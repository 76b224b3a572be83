"""What a public function's docstring says: all of it, and an example."""

import importlib
import inspect
import re
from collections.abc import Iterator

import pytest

import kdropout_jax as kd

_MODULES = (
  "kdropout_jax",
  "kdropout_jax.nn.linen",
  "kdropout_jax.nn.nnx",
  "kdropout_jax.subnets",
  "kdropout_jax.optim",
  "kdropout_jax.testing",
  "kdropout_jax.masks.diagnostics",
  "kdropout_jax.masks.guided",
  *(f"kdropout_jax.analysis.{name}" for name in kd.analysis.__all__),
)


def public_functions():
  """Yields each once, under the first name that it has."""
  seen = set()
  for name in _MODULES:
    module = importlib.import_module(name)
    for attribute in module.__all__:
      function = getattr(module, attribute)
      function = getattr(function, "__wrapped__", function)
      if inspect.isfunction(function) and function not in seen:
        seen.add(function)
        yield pytest.param(function, id=f"{name}.{attribute}")


def lacking(function):
  """Returns what a function's docstring does not say."""
  doc, source = inspect.getdoc(function) or "", inspect.getsource(function)
  names = inspect.signature(function).parameters
  first, body = doc.split("\n")[0], source.replace(doc, "")
  found = [
    f"argument {name}"
    for name in names
    if not re.search(rf"^  \*{{0,2}}{name}: ", doc, flags=re.MULTILINE)
  ]
  if not re.fullmatch(r"[A-Z].*[.:]|[A-Z].*\)\.", first):
    found.append("one line that is a sentence")
  returned = inspect.signature(function).return_annotation
  if "return " in body and returned not in (None, "None", Iterator[None]):
    if "\nReturns:\n" not in doc and not first.startswith("Returns "):
      found.append("what it returns")
  if re.search(r"\braise |check_\w+\(", body) and "\nRaises:\n" not in doc:
    found.append("what it raises")
  if "\n>>> " not in doc:
    found.append("an example")
  return found


@pytest.mark.parametrize("function", list(public_functions()))
def test_it_says_all_of_it(function):
  assert lacking(function) == []


def test_what_is_lacking_is_seen():
  def f(x, y):
    """Adds

    Args:
      x: a number.
    """
    if x < 0:
      raise ValueError
    return x + y

  assert lacking(f) == [
    "argument y",
    "one line that is a sentence",
    "what it returns",
    "what it raises",
    "an example",
  ]
