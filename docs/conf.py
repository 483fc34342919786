"""Sphinx's settings for the site; `docs/make_site.py` calls it on pages that it has put together."""

project = "braintuning"
copyright = "the braintuning developers"
html_title = "braintuning"
extensions = ["myst_nb", "numpydoc", "sphinx.ext.autodoc"]
exclude_patterns = ["jupyter_execute"]

nb_execution_mode = "off"
nb_ipywidgets_js: dict[str, dict] = {}
"""Widgets are shown as the picture that a notebook keeps of them: no script is asked of another host."""
nb_output_stderr = "remove"
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]
myst_heading_anchors = 4
myst_linkify_fuzzy_links = False

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
default_role = "code"
suppress_warnings = ["ref.python"]
"""A public name is found under its short name and in its module: either is right."""
maximum_signature_line_length = 90
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

html_theme = "furo"
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
html_static_path = ["style"]
html_css_files = ["site.css"]
