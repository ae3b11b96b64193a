"""Write a document as a folder: the page, its tables as CSV, its figures as SVG and PNG."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from pathlib import Path

from wattshed.errors import FileError
from wattshed.files import write_atomically
from wattshed.report.charts import to_png, to_svg
from wattshed.report.document import Document, Table
from wattshed.report.html import render_html

_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def write_report(
    document: Document, folder: Path, *, extra: Mapping[str, bytes | str] | None = None
) -> list[Path]:
    """Write index.html, SLUG.csv for each table, SLUG.svg and SLUG.png for each figure.

    Everything is rendered before the first file is written.

    Parameters
    ----------
    document : Document
    folder : Path
        Made if it does not exist; other files in it are left alone.
    extra : dict, optional
        Further files by name, e.g. plan.json.

    Returns
    -------
    list of Path
        The files written, index.html first.

    Raises
    ------
    FileError
        If the folder cannot be made or written.
    ValueError
        If two tables or two charts share a slug, a slug is no file name, or a row does not
        fit its heading.
    """
    check_slugs(document)
    if folder.exists() and not folder.is_dir():
        raise FileError(str(folder), "is a file, not a folder", "choose another folder")
    content: dict[str, bytes | str] = {"index.html": render_html(document, linked=True)}
    for section in document.sections:
        for table in section.tables:
            content[f"{table.slug}.csv"] = to_csv(table)
        for chart in section.charts:
            content[f"{chart.slug}.svg"] = to_svg(chart)
            content[f"{chart.slug}.png"] = to_png(chart)
    for name, value in (extra or {}).items():
        if name in content or not _SLUG.fullmatch(name):
            raise ValueError(f"extra file {name!r}: taken by the report, or not a file name")
        content[name] = value
    for name, value in content.items():
        write_atomically(folder / name, value)
    return [folder / name for name in content]


def check_slugs(document: Document) -> None:
    """Refuse slugs that two tables or two charts share, and those that name no file.

    Some systems ignore case in file names, so this does too. A table and a chart may share
    a slug: their files differ in the suffix.

    Raises
    ------
    ValueError
    """
    for kind in ("tables", "charts"):
        seen = set()
        for slug in (item.slug for section in document.sections for item in getattr(section, kind)):
            if not _SLUG.fullmatch(slug):
                raise ValueError(f"slug {slug!r}: use letters, digits, '.', '_' and '-'")
            if slug.lower() in seen:
                raise ValueError(f"slug {slug!r}: used by two {kind} of the document")
            seen.add(slug.lower())


def to_csv(table: Table) -> str:
    """Write a table in full precision; None is empty."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(table.rows)
    return file.getvalue()
