"""Settings of the site that ``make docs`` builds."""

import re
from pathlib import Path

import le_callback

ROOT = Path(__file__).parent.parent
HOME = "https://github.com/le-callback/le_callback"

project, author, copyright = "le_callback", "the le_callback authors", "the le_callback authors"
version = release = le_callback.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"le_callback {release}"
html_show_sphinx = False

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
# Comments of the generated tables stay as they are; nothing else is written in HTML.
suppress_warnings: list[str] = []

autodoc_typehints = "none"  # the docstrings give shapes and units
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True


def _to_the_repository(app, docname, source):
    """Links to files that are no pages of the site lead to the repository."""
    source[0] = re.sub(r"(?<!!)(\[[^\]]*\])\(\.\./([^)]+)\)", rf"\1({HOME}/blob/main/\2)", source[0])


def setup(app):
    """Called by Sphinx."""
    app.connect("source-read", _to_the_repository)
