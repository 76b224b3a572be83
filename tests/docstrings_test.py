"""Public functions say what they take: one entry an argument, by its name."""

import ast
import pathlib
import re

import pytest

_ROOT = pathlib.Path(__file__).resolve().parents[1] / "kdropout_jax"


def public_functions():
  """Yields (file, name, function) of what the modules' `__all__` list."""
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
    for path, name, function in public_functions()
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
