"""Print tables and documents in a terminal, a pipe or a file, without losing anything."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from wattshed.report.document import Document, Table
from wattshed.report.text import format_rows, numeric_columns

GAP = 2
_PIECE = re.compile(r"[^\s/]*/\s*|[^\s/]+\s*|\s+")


def print_table(table: Table, console: Console) -> None:
    """Print one table.

    A pipe gets every row on one line, however wide. A terminal that is too narrow even
    for wrapped words gets one block for each row instead of columns.
    """
    rows, numeric = format_rows(table), numeric_columns(table)
    columns = [[name, *(row[k] for row in rows)] for k, name in enumerate(table.columns)]
    natural = [max(map(cell_len, column)) for column in columns]
    narrow = [_narrowest(c, whole) for c, whole in zip(columns, numeric, strict=True)]
    room = console.width - GAP * (len(columns) - 1)
    widths = fit_widths(narrow, natural, room if console.is_terminal else max(sum(natural), room))
    console.print(Text(table.title, style="bold"))
    if widths is None:
        _print_blocks(table, rows, console)
    else:
        _print_grid(table, rows, widths, console)
    if table.note:
        console.print(Text(table.note, style="dim"))


def print_document(document: Document, console: Console) -> None:
    """Print title, abstract, text and tables; of figures the titles."""
    console.print(Text(document.title, style="bold"))
    if document.abstract:
        console.print(Text(document.abstract))
    for section in document.sections:
        console.print()
        console.print(Text(section.heading, style="bold underline"))
        for paragraph in section.paragraphs:
            console.print(Text(paragraph))
        for table in section.tables:
            console.print()
            print_table(table, console)
        for chart in section.charts:
            console.print(Text(f"Figure {chart.slug}: {chart.title}", style="dim"))


def fit_widths(narrow: Sequence[int], natural: Sequence[int], room: int) -> list[int] | None:
    """Narrow the widest columns until all fit; None if their longest words do not.

    >>> fit_widths([5, 6], [40, 6], 30), fit_widths([5, 6], [40, 6], 10)
    ([24, 6], None)
    """
    if sum(narrow) > room:
        return None
    widths = list(natural)
    while sum(widths) > room:
        widest = max(
            (k for k, width in enumerate(widths) if width > narrow[k]), key=lambda k: widths[k]
        )
        widths[widest] -= 1
    return widths


def _narrowest(column: list[str], whole: bool) -> int:
    """Width of the longest piece; numbers stay whole, headings wrap."""
    heading, *cells = column
    words = heading.split() + (cells if whole else [p for c in cells for p in _pieces(c)])
    return max((cell_len(word.strip()) for word in words), default=1)


def _pieces(text: str) -> list[str]:
    """Split where a line may end: after spaces and slashes."""
    return _PIECE.findall(text)


def wrap(text: str, width: int) -> str:
    r"""Break lines after spaces and slashes, so that names with slashes need less room.

    >>> wrap("wilkins-2024/m1-pro/llama-2-7b", 22)
    'wilkins-2024/m1-pro/\nllama-2-7b'
    """
    lines = [""]
    for piece in _pieces(text):
        if lines[-1] and cell_len(lines[-1] + piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


def _print_grid(table: Table, rows: list[list[str]], widths: list[int], console: Console) -> None:
    grid = Grid(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, GAP - 1, 0, 0),
        header_style="bold",
    )
    for name, width, number in zip(table.columns, widths, numeric_columns(table), strict=True):
        grid.add_column(
            Text(name), justify="right" if number else "left", width=width, vertical="top"
        )
    for k, row in enumerate(rows):
        style = "bold" if k in table.highlight else ""
        cells = (wrap(cell, width) for cell, width in zip(row, widths, strict=True))
        grid.add_row(*map(Text, cells), style=style)
    before = console.width
    console.width = max(before, sum(widths) + GAP * len(widths))
    try:
        console.print(grid)
    finally:
        console.width = before


def _print_blocks(table: Table, rows: list[list[str]], console: Console) -> None:
    """Print each row as lines of heading and value."""
    for number, row in enumerate(rows):
        console.print()
        for column, cell in zip(table.columns, row, strict=True):
            style = "bold" if number in table.highlight else ""
            console.print(Text(f"{column}: {cell}", style=style, overflow="fold"))
