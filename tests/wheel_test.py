"""The wheel works in an empty environment; the sdist holds what a reader needs.

The wheel's test is slow, and the only one that needs a package index.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile

import pytest

import kdropout_jax as kd

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_EXAMPLE = re.search(
  r"```python\n(.*?)```", (_ROOT / "README.md").read_text(), flags=re.DOTALL
).group(1)
_CODE = (
  """
import sys, time
start = time.perf_counter()
import kdropout_jax
seconds = time.perf_counter() - start
for name in ("tensorflow_datasets", "matplotlib", "triton", "grain"):
  try:
    __import__(name)
  except ImportError:
    continue
  raise SystemExit(f"{name} is installed: this is no bare environment")
assert "kdropout_jax.nn.nnx" not in sys.modules
"""
  + _EXAMPLE
  + """
assert logits.shape == (64, 10)
print("seconds", seconds)
"""
)


def run(*command, cwd):
  result = subprocess.run(
    command, cwd=cwd, capture_output=True, text=True, check=False
  )
  assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"
  return result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("python", ["3.12", "3.13"])
def test_the_wheel_installs_imports_and_runs(python, tmp_path):
  uv = shutil.which("uv")
  assert uv, "this test needs uv"
  find = (uv, "python", "find", "--no-python-downloads", python)
  if subprocess.run(find, cwd=_ROOT, capture_output=True).returncode:
    pytest.skip(f"no Python {python} on this machine")
  source = tmp_path / "source"
  ignore = shutil.ignore_patterns(".*", "docs", "tests", "runs", "data")
  shutil.copytree(_ROOT, source, ignore=ignore)
  # From here: a shim of pyenv's knows no uv elsewhere.
  run(uv, "build", "--wheel", "--out-dir", str(tmp_path), source, cwd=_ROOT)
  (wheel,) = tmp_path.glob("*.whl")
  environment = tmp_path / "environment"
  run(uv, "venv", "--python", python, str(environment), cwd=_ROOT)
  interpreter = environment / "bin" / "python"
  pip = (uv, "pip", "install", "--python", str(interpreter))
  run(*pip, "--no-config", str(wheel), cwd=_ROOT)
  program = tmp_path / "program.py"
  program.write_text(_CODE)
  run(str(interpreter), str(program), cwd=tmp_path)  # writes the bytecode
  out = run(str(interpreter), str(program), cwd=tmp_path)
  load = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
  assert float(out.split()[-1]) < 5.0 * load


_BUILD = "import sys; from setuptools import build_meta as b; b.build_sdist(sys.argv[1])"


_METADATA = """
import pathlib, sys
from setuptools import build_meta
out = pathlib.Path(sys.argv[1])  # The build has arguments of its own.
folder = build_meta.prepare_metadata_for_build_wheel(str(out))
print((out / folder / "METADATA").read_text())
"""


def test_the_page_of_a_package_has_no_link_that_leads_nowhere(tmp_path):
  """An index shows the text alone: files beside it are not there."""
  source = tmp_path / "source"
  source.mkdir()
  for name in ("pyproject.toml", "setup.cfg", "PACKAGE.md", "LICENSE"):
    shutil.copy(_ROOT / name, source)
  ignore = shutil.ignore_patterns("__pycache__")
  shutil.copytree(
    _ROOT / "kdropout_jax", source / "kdropout_jax", ignore=ignore
  )
  out = tmp_path / "out"
  out.mkdir()
  out = run(sys.executable, "-c", _METADATA, str(out), cwd=source)
  page = out[out.index("Metadata-Version") :]
  head, _, text = page.partition("\n\n")
  assert f"Version: {kd.__version__}" in head and "Author: The kd" in head
  assert "Description-Content-Type: text/markdown" in head
  assert "kdropout_jax" in text and "## Install" in text
  assert links(text) == []
  assert links(
    "see [a](docs/a.md), ![b](b.png), [c](#d), <img src='e.png'>"
  ) == [
    "docs/a.md",
    "b.png",
    "e.png",
  ]


def links(text):
  """Returns what a page's links and pictures point to beside it."""
  found = re.findall(r"\]\(([^)\s]+)|(?:src|href)=[\"']([^\"']+)", text)
  targets = [a or b for a, b in found]
  return [t for t in targets if not re.match(r"https?://|#|mailto:", t)]


def test_the_sdist_holds_tests_documents_examples_and_the_citation(tmp_path):
  source = tmp_path / "source"
  # Numbers of results are most of the tree, and one folder stands for them.
  ignore = shutil.ignore_patterns(".*", "runs", "data", "k-dropout", "build")
  shutil.copytree(_ROOT, source, ignore=ignore)
  run(sys.executable, "-c", _BUILD, str(tmp_path), cwd=source)
  # The version of the code is that of the package.
  (archive,) = tmp_path.glob(f"kdropout_jax-{kd.__version__}.tar.gz")
  with tarfile.open(archive) as opened:
    names = {name.partition("/")[2] for name in opened.getnames()}
  assert {
    "CITATION.cff",
    "CHANGELOG.md",
    "LICENSE",
    "PACKAGE.md",
    "README.md",
  } <= names
  for folder in ("tests", "docs", "examples", "experiments", "kdropout_jax"):
    here = {
      path.relative_to(source).as_posix()
      for path in (source / folder).rglob("*")
      if path.is_file() and path.suffix != ".pyc"
    }
    assert here <= names, here - names
  assert not [name for name in names if name.endswith(".pyc")]
