"""The README's Python runs, block by block, as a reader would run it."""

import pathlib
import re

import jax
import pytest

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_README = (_ROOT / "README.md").read_text()
_PACKAGE = (_ROOT / "PACKAGE.md").read_text()
_BLOCKS = re.findall(r"```python\n(.*?)```", _README, flags=re.DOTALL)


@pytest.mark.parametrize("code", _BLOCKS, ids=range(len(_BLOCKS)))
def test_each_block_runs_and_gives_logits(code):
  names = {}
  exec(compile(code, "README.md", "exec"), names)
  assert names["logits"].shape[-1] == 10
  assert jax.numpy.all(jax.numpy.isfinite(names["logits"]))


def test_the_block_of_the_package_page_is_one_of_the_readme():
  (block,) = re.findall(r"```python\n(.*?)```", _PACKAGE, flags=re.DOTALL)
  assert block in _BLOCKS


def test_the_readme_has_blocks_and_begins_with_the_two_commands():
  assert len(_BLOCKS) == 6
  commands = [line for line in _README.splitlines() if line.startswith("    ")]
  assert commands[:2] == [
    "    pip install uv && uv run python -m experiments.compare",
    "    uv run pytest",
  ]


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#]+)\)", _README))
def test_links_lead_somewhere(target):
  assert (_ROOT / target).exists(), target


def test_every_binary_is_named_in_the_documents():
  documents = _README + "".join(
    p.read_text()
    for p in [*_ROOT.glob("*.md"), *(_ROOT / "docs").rglob("*.md")]
  )
  for path in (_ROOT / "experiments").glob("*.py"):
    if path.name != "__init__.py":
      assert f"experiments.{path.stem}" in documents, path.name


def test_methods_of_the_table_exist():
  import kdropout_jax as kd

  for dotted in re.findall(r"`kd\.([\w.]+)\(", _README):
    obj = kd
    for part in dotted.split("."):
      obj = getattr(obj, part)
    assert callable(obj), dotted
