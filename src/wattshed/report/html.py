"""Render a document as one HTML page that needs nothing else: no network, no scripts."""

from __future__ import annotations

import re
from importlib.resources import files
from itertools import count

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from wattshed.report.charts import to_svg
from wattshed.report.document import Chart, Document, Map
from wattshed.report.text import format_rows, numeric_columns

_URL = re.compile(r"https?://[^\s,;()<>\"']*[^\s,;()<>\"'.:]")


def render_html(document: Document, *, linked: bool = False) -> str:
    """Render a document as a self-contained page.

    Parameters
    ----------
    document : Document
    linked : bool
        Whether captions link to the CSV, SVG and PNG files that `write_report` puts beside
        the page.

    Raises
    ------
    ValueError
        If a row of a table is not as long as its heading.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["links"] = link_addresses
    source = files("wattshed.report").joinpath("document.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source).render(
        document=document,
        linked=linked,
        table_number=count(1).__next__,
        figure_number=count(1).__next__,
        rows_of=format_rows,
        numeric_of=numeric_columns,
        picture_of=inline_picture,
    )


def link_addresses(text: str) -> Markup:
    """Turn web addresses in plain text into links; everything else is escaped."""
    parts: list[Markup] = []
    start = 0
    for found in _URL.finditer(text):
        address = escape(found.group())
        parts.append(escape(text[start : found.start()]))
        parts.append(Markup('<a href="{0}" rel="noreferrer">{0}</a>').format(address))
        start = found.end()
    return Markup("").join([*parts, escape(text[start:])])


def inline_picture(chart: Chart | Map) -> Markup:
    """Draw a chart as an SVG element with a name for those who do not see it."""
    label = Markup('role="img" aria-label="{}" ').format(describe_chart(chart))
    svg = to_svg(chart, titled=False)
    return Markup(svg.replace("<svg ", f"<svg {label}", 1))  # nosec # B704: of our own, its label escaped


def describe_chart(chart: Chart | Map) -> str:
    """Say in a sentence what a chart shows."""
    if isinstance(chart, Map):
        shown = f"Regions: {', '.join(chart.names)}."
    else:
        shown = f"Shown: {', '.join(s.name for s in chart.series)}."
    return f"{chart.title}. Axes: {chart.x_label}, {chart.y_label}. {shown}"
