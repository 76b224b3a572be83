"""The tree keeps its shape: import arrows, one home for each awkward thing."""

import ast
import inspect
import pathlib
import subprocess
import sys

import pytest

import kdropout_jax as kd

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_LIBRARY = sorted((_ROOT / "kdropout_jax").rglob("*.py"))
_ALL = _LIBRARY + sorted((_ROOT / "experiments").rglob("*.py"))

# A room may import from itself and from the rooms named here.
_BASE = {
  "_types",
  "_checks",
  "_pytrees",
  "_keys",
  "_windows",
  "_shardings",
}
_ARROWS = {
  **{room: _BASE for room in _BASE},
  "blocks": _BASE,
  "patterns": _BASE | {"blocks"},
  "config": _BASE | {"blocks", "patterns"},
  "masks": _BASE | {"blocks", "patterns", "config"},
  "ops": _BASE | {"blocks", "config"},
}
_ARROWS["functional"] = _ARROWS["masks"] | {"masks", "ops"}
_ARROWS["connections"] = _ARROWS["functional"] | {"functional"}
_ARROWS["nn"] = _ARROWS["connections"] | {"connections"}
_ARROWS["subnets"] = _ARROWS["nn"] | {"nn"}
_ARROWS["analysis"] = _ARROWS["subnets"] | {"subnets"}
_ARROWS["optim"] = _BASE | {"blocks", "config", "subnets"}
_ARROWS["training"] = _ARROWS["optim"] | {
  "patterns",
  "masks",
  "functional",
  "nn",
  "subnets",
  "optim",
}


def room_of(path):
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
  room = room_of(path)
  for name in imports_of(path):
    if not name.startswith("kdropout_jax."):
      continue
    target = name.split(".")[1]
    if target != room and target not in _ARROWS.get(room, set()):
      yield f"{room} -> {target}"


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


def test_flags_are_defined_in_one_file_a_binary():
  """Library code never reads flags; shared ones live in files of flags."""
  for path in (_ROOT / "experiments" / "shared").rglob("*.py"):
    if not path.name.endswith("flags.py"):
      assert "flags.DEFINE" not in code_of(path), path


# Rooms of experiments/shared, the lowest first; a file of no room stands at
# the bottom, but for the few that are read by name and put rooms together.
_FLOORS = (
  *("models", "data", "papers", "judging", "reporting", "running"),
  *("sweeping", "studies", "results", "benchmarks"),
)


def floor_of(name):
  return _FLOORS.index(name) if name in _FLOORS else -1


@pytest.mark.parametrize("room", _FLOORS)
def test_rooms_of_the_experiments_import_downwards(room):
  folder = _ROOT / "experiments" / "shared" / room
  files = sorted(folder.rglob("*.py"))
  assert len(files) > 2
  for path in files:
    for name in imports_of(path):
      parts = name.split(".")
      if parts[:2] == ["experiments", "shared"]:
        assert floor_of(parts[2]) <= floor_of(room), f"{path}: {name}"


def test_every_room_of_the_experiments_has_a_floor():
  folders = (_ROOT / "experiments" / "shared").glob("*/__init__.py")
  assert {path.parent.name for path in folders} == set(_FLOORS)


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


def test_all_is_sorted_and_complete():
  assert list(kd.__all__) == sorted(kd.__all__, key=lambda n: n)
  for name in kd.__all__:
    assert hasattr(kd, name)


@pytest.mark.parametrize("path", _ALL, ids=lambda p: str(p.relative_to(_ROOT)))
def test_files_are_short_enough_to_read(path):
  limit = 400
  assert len(path.read_text().splitlines()) <= limit


def test_importing_the_library_is_light():
  """Neither triton, tensorflow, matplotlib nor flax.nnx is imported."""
  code = (
    "import sys, kdropout_jax;"
    "heavy = {'triton', 'jax_triton', 'tensorflow', 'matplotlib',"
    " 'tensorflow_datasets', 'absl.flags', 'grain', 'kdropout_jax.nn.nnx'};"
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
