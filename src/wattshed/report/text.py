"""Numbers and cells as people read them: four significant digits, en dash for nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence

from wattshed.report.document import Cell, Table

DASH = "–"
SIGNIFICANT = 4


def format_number(value: float) -> str:
    """Write a number with four significant digits; integers in full.

    >>> format_number(51924), format_number(2.6857), format_number(0.13096), format_number(2.5e-7)
    ('51,924', '2.686', '0.1310', '2.500e-07')
    """
    if isinstance(value, int):
        return _grouped(f"{value:d}")
    if not math.isfinite(value):
        return str(value).replace("inf", "∞")
    if value == 0:
        return "0"
    exponent = int(f"{value:.{SIGNIFICANT - 1}e}".partition("e")[2])
    if not -5 < exponent < 9:
        return f"{value:.{SIGNIFICANT - 1}e}"
    return _grouped(f"{value:.{max(0, SIGNIFICANT - 1 - exponent)}f}")


def _grouped(digits: str) -> str:
    """Thousands in groups from five digits on, so that years stay whole."""
    whole, point, fraction = digits.partition(".")
    return f"{int(whole):,}" + point + fraction if len(whole.lstrip("-")) > 4 else digits


def format_cell(cell: Cell) -> str:
    """Write one cell; None is an en dash."""
    if cell is None:
        return DASH
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return cell if isinstance(cell, str) else format_number(cell)


def format_column(cells: Sequence[Cell]) -> list[str]:
    """Write a column; floats that are all whole numbers are written as such."""
    floats = [c for c in cells if isinstance(c, float)]
    if all(c.is_integer() and abs(c) < 1e9 for c in floats):
        cells = [int(c) if isinstance(c, float) else c for c in cells]
    return [format_cell(c) for c in cells]


def format_rows(table: Table) -> list[list[str]]:
    """Write all cells of a table.

    Raises
    ------
    ValueError
        If a row is not as long as the heading.
    """
    for number, row in enumerate(table.rows):
        if len(row) != len(table.columns):
            raise ValueError(
                f"table {table.slug}, row {number}: {len(row)} cells, {len(table.columns)} columns"
            )
    columns = [format_column([row[k] for row in table.rows]) for k in range(len(table.columns))]
    return [list(row) for row in zip(*columns, strict=True)]


def numeric_columns(table: Table) -> list[bool]:
    """Which columns hold numbers and nothing else but gaps."""
    found = []
    for k in range(len(table.columns)):
        cells = [row[k] for row in table.rows if row[k] is not None]
        found.append(bool(cells) and all(isinstance(c, int | float) for c in cells))
    return found
