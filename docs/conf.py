"""How Sphinx makes the site: `make docs` writes it to `build/docs`, without a network.

The source folder is the checkout itself, so that links between `docs`, `results` and the pages at
the top level work here as they do where the repository is browsed; `include_patterns` says what is
a page.
"""

import re
import sys
import typing
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "extensions")]
typing.GENERATING_DOCUMENTATION = "jaxinit"  # jaxtyping's types are then written as in the source

import jaxinit  # noqa: E402

project = "jaxinit"
author = "the authors of jaxinit"
copyright = f"{author}; Apache-2.0"
version = release = jaxinit.__version__
language = "en"

root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "docs/**.rst",
    "results/**.md",
    "benchmarks/README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
]
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "library_names",
    "mathml",
    "source_signatures",
]

# Every reference to something of the library must be found; those to other libraries need not.
# Single backticks in docstrings are code, and a link where they name something.
nitpicky = True
default_role = "py:obj"
nitpick_ignore_regex = [("py:.*", r"(?!jaxinit\.).*")]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_merge_streams = True
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 600  # a cell, on a busy machine

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "sphinx_book_theme"
html_title = "jaxinit"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["_extra"]
html_theme_options = {"navbar_persistent": []}  # one search field is enough

# Plans and what else lies beside the page of a study: reached from that page alone.
_BESIDE = {"PLAN": "Plan of the study", "norms": "Norms"}


def _beside(app, page, source):
    """Gives these pages a title, and says that no table of contents has them."""
    del app
    if found := re.fullmatch(r"results/.*/(PLAN|norms|evidence|report)", page):
        title = f"# {_BESIDE[found[1]]}\n\n" if found[1] in _BESIDE else ""
        source[0] = f"---\norphan: true\n---\n\n{title}{source[0]}"


def _without_a_type(app, what, name, obj, options, lines):
    """Keeps Napoleon from taking what is before the first colon about a constant for its type."""
    del app, name, obj, options
    if what in ("attribute", "data", "property") and lines:
        lines[0] = f": {lines[0]}"


def setup(app):
    """Says when these functions are called."""
    app.connect("source-read", _beside)
    app.connect("autodoc-process-docstring", _without_a_type, priority=400)
