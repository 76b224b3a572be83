"""What the tests of the documents share: pages, and their Python."""

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
RESULTS = DOCS / "results"


def pages() -> list[pathlib.Path]:
  """Returns the pages that are written by hand, apart from the results."""
  found = sorted(DOCS.rglob("*.md"))
  return [
    page
    for page in found
    if RESULTS not in page.parents and page.parent.name != "copied"
  ]


def blocks(page: pathlib.Path) -> list[str]:
  """Returns the Python of a page, block by block."""
  return re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)


def run(page: pathlib.Path) -> dict:
  """Runs a page from top to bottom as a reader would; returns its names."""
  names: dict = {}
  for number, code in enumerate(blocks(page), 1):
    where = f"{page.relative_to(ROOT)}, block {number}"
    exec(compile(code, where, "exec"), names)
  return names


def name_of(page: pathlib.Path) -> str:
  """Returns what a test is called by."""
  return str(page.relative_to(DOCS))
