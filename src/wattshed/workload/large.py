"""Collapse a Parquet workload that is too large to hold, in one pass of bounded memory.

Memory grows with the distinct queries, not with the rows. Only if some row is wrong does a
second pass look for the first one, which is then told as if the table had been read whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from wattshed.errors import FileError, TableError
from wattshed.tables import Column, RawTable, check_columns
from wattshed.workload.columns import COLUMNS, check_order, late

KEYS = ("input_tokens", "output_tokens", "class")


@dataclass(frozen=True)
class Groups:
    """Equal queries of a workload with their number.

    Attributes
    ----------
    table : polars.DataFrame
        The columns of a workload, sorted by tokens and class; arrival and deadline are null.
    span_s : float or None
        Last minus first arrival; None if the file has no arrivals.
    """

    table: pl.DataFrame
    span_s: float | None


def parquet_header(path: Path, above: int) -> RawTable | None:
    """Columns, without rows, of a Parquet file with more than `above` rows; None for others.

    A file that cannot be read is one of the others: reading it whole says what is wrong.
    """
    if not path.name.lower().endswith(".parquet"):
        return None
    try:
        scan = pl.scan_parquet(path)
        if scan.select(pl.len()).collect().item() <= above:
            return None
        return RawTable(scan.head(0).collect(), str(path), 1)
    except (OSError, pl.exceptions.PolarsError):
        return None


def collapse(path: Path) -> Groups:
    """Group the rows of a Parquet file in our format by tokens and class.

    Raises
    ------
    FileError, TableError
        As for a workload that is read whole, naming the first row that is wrong.
    """
    try:
        return _collapse(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0]
        raise FileError(
            str(path), f"cannot be read: {reason}", "check that it is a table"
        ) from None


def _collapse(path: Path) -> Groups:
    scan = pl.scan_parquet(path)
    schema = scan.collect_schema()
    present = [column for column in COLUMNS if column.name in schema]
    values = {c.name: _value(c, schema[c.name]) for c in present}
    wrong = _wrong(present, values, schema)
    count = values["count"].fill_null(1).sum() if "count" in values else pl.len()
    arrival = values.get("arrival_s", pl.lit(None, pl.Float64))
    groups = (
        scan.with_columns(wrong.alias("wrong"))
        .group_by(values[key].alias(key) for key in KEYS if key in values)
        .agg(
            count.cast(pl.Int64).alias("count"),
            pl.col("wrong").sum(),
            arrival.min().alias("first_s"),
            arrival.max().alias("last_s"),
        )
        .collect(engine="streaming")
    )
    if groups["wrong"].sum():
        _tell(scan, wrong, str(path))
    return Groups(_as_workload(groups), _span_s(groups))


def _value(column: Column, dtype: pl.DataType) -> pl.Expr:
    """The checked value of a column; null where it is missing or wrong."""
    raw = _raw(column.name, dtype)
    if column.kind == "str":
        return raw.cast(pl.String)
    number = raw if dtype.is_integer() else raw.cast(pl.Float64, strict=False)
    good = number.is_between(column.low, column.high)
    if not dtype.is_integer():
        good &= number.is_finite()
        if column.kind == "int":
            good &= number == number.round()
    return pl.when(good).then(number).cast(pl.Int64 if column.kind == "int" else pl.Float64)


def _raw(name: str, dtype: pl.DataType) -> pl.Expr:
    return pl.col(name).str.strip_chars().replace("", None) if dtype == pl.String else pl.col(name)


def _wrong(present: list[Column], values: dict[str, pl.Expr], schema: pl.Schema) -> pl.Expr:
    """Whether anything is wrong with a row."""
    found = [
        values[c.name].is_null()
        if c.required
        else values[c.name].is_null() & _raw(c.name, schema[c.name]).is_not_null()
        for c in present
    ]
    if "arrival_s" in values:
        found.append(late(values["arrival_s"]))
    return pl.any_horizontal(found)


def _tell(scan: pl.LazyFrame, wrong: pl.Expr, path: str) -> None:
    """Find the first wrong row and raise what reading it by itself raises."""
    found = scan.with_row_index("row").filter(wrong).select(pl.col("row").min())
    row = int(found.collect(engine="streaming").item())
    check_columns(RawTable(scan.slice(row, 1).collect(), path, row + 1), COLUMNS)
    before = max(0, row - 1)
    pair = RawTable(scan.slice(before, 2).collect(), path, before + 1)
    check_order(pair, check_columns(pair, COLUMNS))
    raise TableError(f"{path}: row {row + 1}", "cannot be used", "correct it, or remove the row")


def _as_workload(groups: pl.DataFrame) -> pl.DataFrame:
    dtypes = {"int": pl.Int64, "float": pl.Float64, "str": pl.String, "bool": pl.Boolean}
    kept = [key for key in (*KEYS, "count") if key in groups.columns]
    missing = [pl.lit(None, dtypes[c.kind]).alias(c.name) for c in COLUMNS if c.name not in kept]
    table = groups.select(*kept, *missing).select(c.name for c in COLUMNS)
    return table.sort(KEYS)


def _span_s(groups: pl.DataFrame) -> float | None:
    first, last = groups["first_s"].min(), groups["last_s"].max()
    return last - first if isinstance(first, float) and isinstance(last, float) else None
