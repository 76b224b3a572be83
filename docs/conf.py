"""How Sphinx builds the site: `uv run sphinx-build -W docs build/docs`."""

import pathlib
import re

import kdropout_jax

_DOCS = pathlib.Path(__file__).parent
_COPIES = _DOCS / "copied"


def _copy(*files: pathlib.Path) -> None:
  """Copies pages that live elsewhere, where they have changed."""
  _COPIES.mkdir(exist_ok=True)
  texts = {file.name: file.read_text() for file in files}
  texts.setdefault("CHANGELOG.md", "# Changelog\n\nNot in this checkout.\n")
  for stale in {file.name for file in _COPIES.iterdir()} - set(texts):
    (_COPIES / stale).unlink()
  for name, text in texts.items():
    copy = _COPIES / name
    if not copy.exists() or copy.read_text() != text:
      copy.write_text(text)


_copy(
  *(_DOCS.parent / "examples").glob("*.ipynb"),
  *_DOCS.parent.glob("CHANGELOG.md"),
)

project = "kdropout_jax"
author = "The kdropout_jax authors"
copyright = author
release = version = kdropout_jax.__version__
extensions = [
  "myst_nb",
  "sphinx.ext.autodoc",
  "sphinx.ext.napoleon",
  "sphinx_copybutton",
]
default_role = "code"
exclude_patterns = ["_build"]
suppress_warnings = [
  "myst.header",  # pages that experiments write have headings as they like
]

# Docstrings: Google's sections, shapes as they stand in the source.
napoleon_numpy_docstring = False
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
python_maximum_signature_line_length = 72

myst_heading_anchors = 3
nb_execution_mode = "off"  # outputs are committed; a test executes them
nb_merge_streams = True
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "sphinx_book_theme"
html_title = "kdropout_jax"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
  "use_download_button": False,
  "use_fullscreen_button": False,
  "show_navbar_depth": 1,
}


def _without_flax(app, what, name, obj, options, signature, returns):
  """Leaves out of a linen module's signature what Flax adds to each."""
  del app, what, name, obj, options
  if signature is not None:
    signature = re.sub(r", parent: .*(?=\)$)", "", signature)
  return signature, returns


def _with_title(app, docname, source):
  """Gives a title to a page of an experiment's that has none."""
  del app
  if docname.startswith("results/") and not source[0].startswith("# "):
    name = docname.rpartition("/")[2].replace("_", " ")
    source[0] = f"# {name.capitalize()}\n\n{source[0]}"


def setup(app):
  """Called by Sphinx."""
  app.connect("source-read", _with_title)
  app.connect("autodoc-process-signature", _without_flax)
