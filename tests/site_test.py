"""The documentation site: complete, self-contained, built without a warning."""

import importlib
import re
import subprocess
import sys

import pytest

import kdropout_jax as kd
from tests import documents

pytest.importorskip(
  "sphinx_book_theme", reason="the dependency group docs is not installed"
)
_API = "".join(p.read_text() for p in (documents.DOCS / "api").glob("*.md"))


def public_names():
  """Yields (module, name) of all that a user may import."""
  for name in kd.__all__:
    yield "kdropout_jax", name
  for module in ("linen", "nnx", "subnets", "optim", "guided", "testing"):
    for name in getattr(kd, module).__all__:
      yield f"kdropout_jax.{module}", name
  diagnostics = importlib.import_module("kdropout_jax.masks.diagnostics")
  for name in diagnostics.__all__:
    yield "kdropout_jax.masks.diagnostics", name
  for package in (kd.analysis, kd.training):
    for name in package.__all__:
      yield package.__name__, name


_ELSEWHERE = {
  "kdropout_jax.config": "kdropout_jax.MaskConfig",
  "kdropout_jax.guided.Guided": "kdropout_jax.Guided",
}


def is_told(module, name):
  """Returns whether the API's pages show a name or, of a module, its names."""
  full = f"{module}.{name}"
  full = re.escape(_ELSEWHERE.get(full, full))
  return re.search(rf":: {full}(\.\w+)?$", _API, flags=re.MULTILINE)


def test_every_public_name_has_a_place_in_the_api_pages():
  missing = [f"{m}.{n}" for m, n in public_names() if not is_told(m, n)]
  assert missing == []


def test_every_page_is_reached():
  """Sphinx would warn of it, but slowly."""
  tables = "".join(
    (documents.DOCS / name).read_text() for name in ("index.md", "measured.md")
  )
  for page in documents.pages():
    name = str(page.relative_to(documents.DOCS).with_suffix(""))
    assert name == "index" or f"\n{name}\n" in tables, name


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_asks_nobody(tmp_path):
  command = (sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q")
  built = subprocess.run(
    [*command, "-d", str(tmp_path / "trees"), "docs", str(tmp_path / "site")],
    cwd=documents.ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert built.returncode == 0, built.stderr
  pages = list((tmp_path / "site").rglob("*.html"))
  assert len(pages) > 50
  for page in pages:
    text = page.read_text()
    asked = re.findall(r'<(?:script|link|img)[^>]*"(?:https?:)?//[^>]*>', text)
    assert asked == [], page.name
  subnets = (tmp_path / "site/api/subnets.html").read_text()
  assert "WindowTrainer" in subnets and "&gt;&gt;&gt; " in subnets
