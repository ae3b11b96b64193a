"""Turn other projects' traces into our columns, recognised by their header.

An importer is a name, the columns it needs and one function from frame to frame.
Add one by adding it to `IMPORTERS`; the conformance test discovers it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from wattshed.errors import TableError
from wattshed.tables import RawTable


@dataclass(frozen=True)
class Importer:
    """One foreign format.

    Attributes
    ----------
    columns : frozenset of str
        Columns whose presence identifies the format.
    convert : callable
        Raw table to a frame with our column names and units.
    """

    name: str
    columns: frozenset[str]
    convert: Callable[[RawTable], pl.DataFrame]


def _native(table: RawTable) -> pl.DataFrame:
    return table.frame


def _azure(table: RawTable) -> pl.DataFrame:
    """Azure LLM inference traces: naive timestamps with seven fractional digits."""
    text = table.frame["TIMESTAMP"].str.strip_chars().str.slice(0, 26)
    stamp = text.str.to_datetime(format="%Y-%m-%d %H:%M:%S%.f", strict=False, time_unit="us")
    bad = stamp.is_null().arg_true()
    if len(bad):
        index = int(bad[0])
        raise TableError(
            table.place(index, "TIMESTAMP"),
            f"expected YYYY-MM-DD HH:MM:SS.f, got {table.frame['TIMESTAMP'][index]!r}",
            "correct the value, or remove the row",
        )
    return pl.DataFrame(
        {
            "arrival_s": (stamp - stamp.min()).dt.total_microseconds() / 1e6,
            "input_tokens": table.frame["ContextTokens"],
            "output_tokens": table.frame["GeneratedTokens"],
        }
    )


def _mooncake(table: RawTable) -> pl.DataFrame:
    """Mooncake traces: arrival in milliseconds."""
    column = "timestamp" if "timestamp" in table.frame.columns else "timestamp_ms"
    return pl.DataFrame(
        {
            "arrival_s": table.frame[column].cast(pl.Float64, strict=False) / 1e3,
            "input_tokens": table.frame["input_length"],
            "output_tokens": table.frame["output_length"],
        }
    )


IMPORTERS: dict[str, Importer] = {
    i.name: i
    for i in (
        Importer("native", frozenset({"input_tokens", "output_tokens"}), _native),
        Importer("azure", frozenset({"TIMESTAMP", "ContextTokens", "GeneratedTokens"}), _azure),
        Importer("mooncake", frozenset({"timestamp", "input_length", "output_length"}), _mooncake),
        Importer(
            "mooncake-ms", frozenset({"timestamp_ms", "input_length", "output_length"}), _mooncake
        ),
    )
}


def recognise(table: RawTable) -> Importer:
    """Find the importer whose columns the table has.

    Raises
    ------
    TableError
        If no importer knows the header.
    """
    found = set(table.frame.columns)
    for importer in IMPORTERS.values():
        if importer.columns <= found:
            return importer
    raise TableError(
        f"{table.path}: header",
        f"columns {', '.join(table.frame.columns)} are no known workload format",
        "name the token columns input_tokens and output_tokens",
    )
