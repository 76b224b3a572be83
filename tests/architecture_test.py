"""The tree keeps its shape: import arrows, one home for each awkward thing."""

import ast
import importlib
import inspect
import pathlib
import re
import subprocess
import sys
import typing

import pytest

import kdropout_jax as kd

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_LIBRARY = sorted((_ROOT / "kdropout_jax").rglob("*.py"))
_ALL = _LIBRARY + sorted((_ROOT / "experiments").rglob("*.py"))

_GUIDE = (_ROOT / "CONTRIBUTING.md").read_text()
_BASE = {
  *("_types", "_checks", "_pytrees", "_designs"),
  *("_keys", "_windows", "_shardings"),
}


def block_of(name):
  """Returns the lines of a fenced block of CONTRIBUTING.md."""
  return _GUIDE.split(f"```{name}\n")[1].split("```")[0].splitlines()


def arrows():
  """Returns {package: what it may import}, of library and experiments."""
  found = {}
  for line in block_of("arrows"):
    package, _, targets = line.partition(":")
    names = set(targets.split())
    names |= _BASE if "base" in names else set()
    for one in _BASE if package == "base" else (package,):
      found[one] = names if package != "base" else _BASE
  return found


_ARROWS = arrows()
_EXPERIMENTS = {
  name.removeprefix("experiments/"): targets
  for name, targets in _ARROWS.items()
  if name.startswith("experiments/")
}


def package_of(path):
  parts = path.relative_to(_ROOT / "kdropout_jax").parts
  return parts[0].removesuffix(".py")


def imports_of(path):
  """Yields the dotted names that a module imports, wherever it does."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      yield from (f"{node.module}.{alias.name}" for alias in node.names)


def wrong_arrows(path):
  package = package_of(path)
  for name in imports_of(path):
    if not name.startswith("kdropout_jax."):
      continue
    target = name.split(".")[1]
    if target != package and target not in _ARROWS.get(package, set()):
      yield f"{package} -> {target}"


@pytest.mark.parametrize(
  "path", _LIBRARY, ids=lambda p: str(p.relative_to(_ROOT))
)
def test_imports_follow_the_arrows(path):
  if path.parent.name == "kdropout_jax" and path.name == "__init__.py":
    return
  assert list(wrong_arrows(path)) == []


def test_a_wrong_arrow_is_seen(tmp_path, monkeypatch):
  monkeypatch.setitem(globals(), "_ROOT", tmp_path)
  path = tmp_path / "kdropout_jax" / "masks" / "x.py"
  path.parent.mkdir(parents=True)
  path.write_text("from kdropout_jax import functional\n")
  assert list(wrong_arrows(path)) == ["masks -> functional"]


def code_of(path):
  """Source without comments and docstrings."""
  tree = ast.parse(path.read_text())
  for node in ast.walk(tree):
    body = getattr(node, "body", None)
    if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
      if isinstance(body[0].value, ast.Constant):
        body[0] = ast.Pass()
  return ast.unparse(tree)


@pytest.mark.parametrize(
  ("needle", "homes"),
  [
    ("absl import flags", ()),
    ("matplotlib", ()),
    ("tensorflow", ()),
    ("jax.pmap", ("training/parallel.py",)),
    ("lax.pmean", ("training/parallel.py",)),
    ("\nimport triton", ("ops/kernels/triton_matmul.py",)),
    ("import jax_triton", ("ops/kernels/triton_matmul.py",)),
    ("jax._src", ()),
  ],
)
def test_each_awkward_thing_has_one_home(needle, homes):
  found = {
    str(path.relative_to(_ROOT / "kdropout_jax"))
    for path in _LIBRARY
    if needle in code_of(path)
  }
  assert found <= set(homes)


def test_a_step_is_folded_into_a_key_in_three_places_only():
  homes = {"masks/schedules.py", "nn/intercept.py", "training/rng.py"}
  for path in _LIBRARY:
    for node in ast.walk(ast.parse(path.read_text())):
      if not isinstance(node, ast.Call):
        continue
      if getattr(node.func, "attr", "") != "fold_in":
        continue
      if any("step" in ast.unparse(a) for a in node.args):
        assert str(path.relative_to(_ROOT / "kdropout_jax")) in homes


def test_flags_are_defined_in_binaries_and_files_of_flags():
  """What is imported for its functions never defines a flag."""
  for path in (_ROOT / "experiments").rglob("*.py"):
    is_binary = '__name__ == "__main__"' in path.read_text()
    if not path.name.endswith("flags.py") and not is_binary:
      assert "flags.DEFINE" not in code_of(path), path


def wrong_experiment_arrows(path):
  parts = path.relative_to(_ROOT / "experiments").parts
  package = parts[0]
  for name in imports_of(path):
    first, _, rest = name.partition(".")
    target = rest.partition(".")[0]
    if first == "experiments" and target not in _EXPERIMENTS[package] | {
      package
    }:
      yield f"{package} -> {target}"


def packages_of_the_experiments():
  found = (_ROOT / "experiments").rglob("*.py")
  return {
    path.relative_to(_ROOT / "experiments").parts[0]
    for path in found
    if path.parent.name != "experiments"
  }


@pytest.mark.parametrize("package", sorted(_EXPERIMENTS))
def test_imports_of_the_experiments_follow_the_arrows(package):
  files = sorted((_ROOT / "experiments" / package).rglob("*.py"))
  assert len(files) > 2
  for path in files:
    assert list(wrong_experiment_arrows(path)) == [], path


def test_every_package_of_the_experiments_has_arrows():
  assert packages_of_the_experiments() == set(_EXPERIMENTS)


def folder_of(name):
  """Returns the folder of a dotted name: of a module or of what is in one."""
  parts = name.split(".")
  while not (_ROOT / "/".join(parts)).with_suffix(".py").is_file():
    if (_ROOT / "/".join(parts)).is_dir():
      return parts
    parts = parts[:-1]
  return parts[:-1]


def share_that_stays_inside(top):
  """Returns the share of imports among packages that leave none of them.

  A package is a folder of `top`, with the folders in it; the files beside
  them are one as well. What `top` imports from elsewhere is not counted.
  """
  stays = []
  for path in (_ROOT / top).rglob("*.py"):
    here = path.relative_to(_ROOT).parent.parts[:2]
    names = [n for n in imports_of(path) if n.split(".")[0] == top]
    stays += [tuple(folder_of(name)[:2]) == here for name in names]
  return sum(stays) / len(stays)


def test_an_experiments_imports_stay_in_its_package():
  """By stage it was 30 of 100: what changes together lies together.

  A small experiment over the frame lowers it, unless the frame is one import.
  """
  assert share_that_stays_inside("experiments") >= 0.43


def test_an_import_of_another_package_is_counted(tmp_path, monkeypatch):
  monkeypatch.setitem(globals(), "_ROOT", tmp_path)
  for name in ("top/a/x.py", "top/a/deep/y.py", "top/b/z.py"):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("from top.a import x\nimport os\n")
  assert share_that_stays_inside("top") == 2 / 3


def test_the_papers_know_no_other_and_a_report_no_run():
  papers = {"k_dropout", "gyro", "foundations"}
  for paper in papers:
    assert not _EXPERIMENTS[paper] & (papers - {paper})
  assert not _EXPERIMENTS["report"] & {"run", "cells", *papers}


def test_the_guide_names_every_folder_and_none_that_is_not_there():
  told = {line.split()[0].rstrip("/") for line in block_of("tree")}
  there = {
    str(path.parent.relative_to(_ROOT))
    for top in ("kdropout_jax", "experiments")
    for path in (_ROOT / top).rglob("__init__.py")
  }
  others = {"tests", "examples", "docs"}
  assert {t for t in told if t.split("/")[0] not in others} == there
  assert all((_ROOT / folder).is_dir() for folder in told)


_OF_THE_WHOLE = {
  *("architecture", "docstrings", "doors", "examples", "guides", "lies"),
  *("readme", "site", "wheel"),
  *("experiments/papers", "experiments/foundations/parts"),
  *("experiments/foundations/smoke", "experiments/k_dropout/subnets"),
}
"""Tests of more than one package, or of all experiments of a folder."""


def is_mirrored(path):
  """Whether a test is called by a module where the tree has one.

  Or by a module and an aspect of it (dropout_gaussian_test), a package, or
  what the tests share. A module may have an underscore, and be one of twins
  (_linen_dropout, _nnx_dropout).
  """
  under = path.relative_to(_ROOT / "tests").parent
  is_ours = under.parts[:1] == ("experiments",)
  folders = [path.parent, _ROOT / ("" if is_ours else "kdropout_jax") / under]
  there = {
    found.stem.removeprefix("_").removeprefix(twin)
    for folder in folders
    for found in folder.glob("*")
    if found.is_dir() or not found.stem.endswith("_test")
    for twin in ("", "linen_", "nnx_")
  }
  parts = path.stem.removesuffix("_test").split("_")
  return any("_".join(parts[: i + 1]) in there for i in range(len(parts)))


_TESTS = sorted((_ROOT / "tests").rglob("*_test.py"))


def test_tests_are_called_by_what_they_test():
  strays = {
    str(path.relative_to(_ROOT / "tests")).removesuffix("_test.py")
    for path in _TESTS
    if not is_mirrored(path)
  }
  assert strays == _OF_THE_WHOLE


def test_a_wrong_arrow_of_the_experiments_is_seen(tmp_path, monkeypatch):
  monkeypatch.setitem(globals(), "_ROOT", tmp_path)
  path = tmp_path / "experiments" / "report" / "x.py"
  path.parent.mkdir(parents=True)
  path.write_text("from experiments.k_dropout import claims\n")
  assert list(wrong_experiment_arrows(path)) == ["report -> k_dropout"]


_SHOWN = [*(_ROOT / "examples").glob("*.py"), _ROOT / "docs" / "conf.py"]


@pytest.mark.parametrize("path", _SHOWN, ids=lambda p: p.stem)
def test_what_is_shown_to_users_imports_what_they_may(path):
  for name in imports_of(path):
    top, *parts = name.split(".")
    assert top not in {"experiments", "tests", "examples"}, name
    if top == "kdropout_jax":
      assert not any(part.startswith("_") for part in parts), name


def public_objects():
  for name in kd.__all__:
    yield name, getattr(kd, name)


def test_public_names_are_documented():
  for name, obj in public_objects():
    if inspect.ismodule(obj):
      continue
    assert inspect.getdoc(obj), name
    first = inspect.getdoc(obj).splitlines()[0]
    assert first.endswith((".", ").")), f"{name}: {first}"


_PUBLIC = [path for path in _LIBRARY if "\n__all__ = (" in path.read_text()]
_KERNELS = "triton_matmul"  # Cannot be imported everywhere.
_OPEN = [
  path
  for path in _LIBRARY
  if not path.stem.removesuffix("__init__").startswith("_")
]


def imported(path):
  parts = path.relative_to(_ROOT).with_suffix("").parts
  return importlib.import_module(".".join(parts).removesuffix(".__init__"))


def test_every_module_says_what_of_it_is_public():
  """By an underscore in its name, or by `__all__`, with () for nothing."""
  assert [path.name for path in _OPEN if path not in _PUBLIC] == []


def test_what_a_package_lists_its_modules_list_where_it_is_defined():
  for package in (p for p in _PUBLIC if p.name == "__init__.py"):
    module = imported(package)
    for name in module.__all__:
      value = getattr(module, name, None)
      home = getattr(value, "__module__", None) or ""
      if not home.startswith("kdropout_jax.") or home == module.__name__:
        continue
      if not home.rpartition(".")[2].startswith("_"):
        assert name in importlib.import_module(home).__all__, (home, name)


def test_a_package_of_modules_lists_those_that_list_something():
  lists_names = {"kdropout_jax", "subnets"}
  for package in (p for p in _PUBLIC if p.name == "__init__.py"):
    if package.parent.name in lists_names:
      continue
    beside = [p for p in _OPEN if p.parent == package.parent and p != package]
    told = {p.stem for p in beside if "\n__all__ = ()" not in p.read_text()}
    assert set(imported(package).__all__) == told, package


@pytest.mark.parametrize(
  "path", _PUBLIC, ids=lambda p: str(p.relative_to(_ROOT))
)
def test_what_a_user_may_import_is_listed_sorted_and_documented(path):
  if path.stem == _KERNELS:
    return
  module = imported(path)
  names = list(module.__all__)
  assert names == sorted(set(names))
  for name in names:
    if path.name == "__init__.py" and not hasattr(module, name):
      importlib.import_module(f"{module.__name__}.{name}")
    value = getattr(module, name)  # Words on an alias stand in its file.
    assert inspect.getdoc(value) or typing.get_args(value), name


def test_every_name_of_the_guides_public_packages_is_listed():
  """A package that users import from says what, its modules too."""
  public = {"kdropout_jax", "subnets", "analysis", "linen", "nnx"}
  listed = {
    p.parent.name if p.name == "__init__.py" else p.stem for p in _PUBLIC
  }
  assert public | {"optim", "guided", "diagnostics"} <= listed


@pytest.mark.parametrize("path", _ALL, ids=lambda p: str(p.relative_to(_ROOT)))
def test_files_are_short_enough_to_read(path):
  limit = 400
  assert len(path.read_text().splitlines()) <= limit


def test_a_listing_shows_public_names_alone():
  assert set(dir(kd)) == {*kd.__all__, "__version__"}
  with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
    _ = kd.nothing


def test_a_heavy_package_is_there_on_first_use():
  code = (
    "import kdropout_jax as kd;"
    "print(kd.analysis.ensembles, kd.training.loop, kd.testing, kd.nnx)"
  )
  subprocess.run([sys.executable, "-c", code], check=True, cwd=_ROOT)


def test_importing_the_library_is_light():
  """Neither triton, tensorflow, matplotlib nor flax.nnx is imported."""
  code = (
    "import sys, kdropout_jax;"
    "heavy = {'triton', 'jax_triton', 'tensorflow', 'matplotlib',"
    " 'tensorflow_datasets', 'absl.flags', 'grain', 'kdropout_jax.nn.nnx',"
    " 'kdropout_jax.analysis', 'kdropout_jax.training'};"
    "print(sorted(heavy & set(sys.modules)))"
  )
  out = subprocess.run(
    [sys.executable, "-c", code],
    capture_output=True,
    text=True,
    check=True,
    cwd=_ROOT,
  )
  assert set(ast.literal_eval(out.stdout)) <= {"absl.flags"}  # chex's, optax's


def lost_files_of_tests(text):
  """Returns the files of tests that a text names and that are not there."""
  named = re.findall(r"(?<![\w/])tests/[a-z0-9_/]*_test\.py", text)
  return {name for name in named if not (_ROOT / name).is_file()}


def test_every_file_of_tests_that_is_named_is_there():
  files = [*_ROOT.glob("*.md"), *(_ROOT / "docs").rglob("*.md")]
  files += [*_ALL, *(_ROOT / "tests").rglob("*.py")]
  lost = {
    str(p): lost for p in files if (lost := lost_files_of_tests(p.read_text()))
  }
  assert lost == {}
  gone = "tests/" + "gone_test.py"
  assert lost_files_of_tests(f"run {gone} and tests/readme_test.py") == {gone}
