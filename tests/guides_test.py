"""The site's Python runs, page by page, as a reader would run it."""

import re

import jax
import numpy as np
import pytest

from tests import documents

_PAGES = [page for page in documents.pages() if documents.blocks(page)]


_SLOW = {"small_networks"}
"""Its parts run in README's test; probing an optimizer takes long."""


@pytest.mark.parametrize(
  "page",
  [
    pytest.param(page, marks=[pytest.mark.slow] if page.stem in _SLOW else [])
    for page in _PAGES
  ],
  ids=documents.name_of,
)
def test_each_page_runs(page, capsys):
  names = documents.run(page)
  said = capsys.readouterr().out
  results = [names[name] for name in ("logits", "y", "masks") if name in names]
  assert results or "forward: " in said
  for leaf in jax.tree.leaves(results):
    leaf = np.asarray(leaf)
    assert np.isfinite(leaf).all() and leaf.any(), page


def test_every_guide_has_python_but_the_one_of_commands():
  guides = [p for p in documents.pages() if p.parent.name == "guides"]
  assert len(guides) >= 10
  assert {p.stem for p in guides} - {p.stem for p in _PAGES} == {"papers"}


def test_a_page_that_does_not_run_is_seen(tmp_path, monkeypatch):
  monkeypatch.setattr(documents, "ROOT", tmp_path)
  page = tmp_path / "page.md"
  page.write_text("```python\nx = 1\n```\ntext\n```python\nx.none\n```\n")
  with pytest.raises(AttributeError, match="none") as error:
    documents.run(page)
  assert str(error.traceback[-1].path) == "page.md, block 2"


@pytest.mark.parametrize("page", documents.pages(), ids=documents.name_of)
def test_links_lead_somewhere(page):
  text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
  targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
  for target in targets:
    if target.startswith("https://arxiv.org/abs/"):
      continue
    assert "://" not in target, "readers without a network"
    target = target.replace("copied/", f"{documents.ROOT}/examples/")
    assert (page.parent / target).exists(), target
