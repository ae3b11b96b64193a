"""Sphinx settings; the build needs no network, so there is no intersphinx."""

from wattshed import __version__

project = "wattshed"
author = "the wattshed developers"
copyright = author
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
source_suffix = {".md": "markdown"}

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_typehints = "none"  # types and units stand in the docstrings
napoleon_google_docstring = False
napoleon_numpy_docstring = True
napoleon_use_ivar = True  # attributes as a list, not as objects of their own
napoleon_use_rtype = False

doctest_global_setup = "import wattshed as ws"
copybutton_exclude = ".linenos, .gp, .go"  # copy neither prompts nor output

html_theme = "furo"
html_title = f"wattshed {release}"
