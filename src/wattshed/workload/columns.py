"""What a workload must hold, column by column and in order."""

from __future__ import annotations

import polars as pl

from wattshed.errors import TableError
from wattshed.tables import Column, RawTable

MAX_TOKENS = 100_000_000

COLUMNS = (
    Column("arrival_s", "float", low=0, unit="s"),
    Column("input_tokens", "int", required=True, low=1, high=MAX_TOKENS, unit="tokens"),
    Column("output_tokens", "int", required=True, low=1, high=MAX_TOKENS, unit="tokens"),
    Column("count", "int", low=1, high=10**15),
    Column("class", "str"),
    Column("deadline_s", "float", low=0, unit="s"),
)


def late(arrival: pl.Expr) -> pl.Expr:
    """Whether a row's arrival is before the previous one's, or only one of them has any."""
    before = arrival.shift(1)
    gap = arrival.is_null() != arrival.is_null().shift(1)
    return gap.fill_null(value=False) | (arrival < before).fill_null(value=False)


def check_order(raw: RawTable, table: pl.DataFrame) -> None:
    """Refuse arrivals that are missing in some rows or not sorted.

    Raises
    ------
    TableError
    """
    rows = table.select(late(pl.col("arrival_s"))).to_series().arg_true()
    if not len(rows):
        return
    index = int(rows[0])
    before, here = (_shown(t) for t in table["arrival_s"][index - 1 : index + 1])
    raise TableError(
        raw.place(index, "arrival_s"),
        f"{here} does not follow {before}",
        "give every row an arrival time and sort the rows by it",
    )


def _shown(time_s: float | None) -> str:
    return "an empty value" if time_s is None else str(time_s)
