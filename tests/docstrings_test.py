"""What a public function's docstring says: all of it, and an example."""

import ast
import importlib
import inspect
import pathlib
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


_ROOT = pathlib.Path(__file__).resolve().parents[1] / "kdropout_jax"


def written():
  """Yields (file, name, function or method) of what `__all__`s list."""
  for path in sorted(_ROOT.rglob("*.py")):
    tree = ast.parse(path.read_text())
    listed = {
      name
      for node in tree.body
      if isinstance(node, ast.Assign)
      and getattr(node.targets[0], "id", "") == "__all__"
      for name in ast.literal_eval(node.value)
    }
    for node in tree.body:
      if getattr(node, "name", None) not in listed:
        continue
      if isinstance(node, ast.FunctionDef):
        yield path, node.name, node
      if isinstance(node, ast.ClassDef):
        for method in node.body:
          is_function = isinstance(method, ast.FunctionDef)
          if is_function and not method.name.startswith("_"):
            yield path, f"{node.name}.{method.name}", method


def arguments(function, is_method):
  given = function.args
  names = [a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
  decorators = {getattr(d, "id", "") for d in function.decorator_list}
  return names[is_method and "staticmethod" not in decorators :]


def missing(function, is_method):
  """The arguments that the section Args has no entry for."""
  names = arguments(function, is_method)
  text = ast.get_docstring(function) or ""
  section = re.split(r"\n(?:Returns|Raises|Yields):", text)[0]
  section = section.partition("Args:")[2]
  return [n for n in names if not re.search(rf"\b{n}\b[^:\n]*:", section)]


def test_every_argument_of_a_public_function_has_an_entry():
  found = {
    f"{path.relative_to(_ROOT)}: {name}": names
    for path, name, function in written()
    if (names := missing(function, "." in name))
  }
  assert not found, found


@pytest.mark.parametrize(
  ("text", "expected"),
  [("Returns.", ["a", "b"]), ("Returns.\n\n  Args:\n    a: it.", ["b"])],
)
def test_an_argument_without_an_entry_is_seen(text, expected):
  (node,) = ast.parse(f'def f(a, b):\n  """{text}\n  """').body
  assert missing(node, False) == expected
