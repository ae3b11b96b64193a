"""Read a CSV, Parquet or JSONL table and check it column by column.

Bad input is told with the file, the row as an editor counts it, the value and the cure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from wattshed.errors import FileError, TableError

SUFFIXES = (".csv", ".csv.gz", ".parquet", ".jsonl", ".ndjson")
_TRUE = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True)
class Column:
    """What a column must hold.

    Attributes
    ----------
    kind : {"int", "float", "str", "bool"}
    required : bool
        Every row must have a value.
    low, high : float
        Accepted range, both ends included.
    unit : str
        Named in errors, e.g. ``tokens``.
    """

    name: str
    kind: Literal["int", "float", "str", "bool"]
    required: bool = False
    low: float = -math.inf
    high: float = math.inf
    unit: str = ""


@dataclass(frozen=True)
class RawTable:
    """A table as read, with what is needed to point at a row of its file."""

    frame: pl.DataFrame
    path: str
    first_row: int

    def place(self, index: int, column: str) -> str:
        """File, row and column of a value, as an editor counts rows."""
        return f"{self.path}: row {index + self.first_row}, column {column}"


def read_raw(path: Path) -> RawTable:
    """Read a table without interpreting it.

    Raises
    ------
    FileError
        If the file is missing, unreadable, empty or of an unknown kind.
    """
    name = path.name.lower()
    if not name.endswith(SUFFIXES):
        raise FileError(
            str(path), f"unknown kind of file {path.suffix!r}", f"use one of {', '.join(SUFFIXES)}"
        )
    try:
        if name.endswith(".parquet"):
            frame, first_row = pl.read_parquet(path), 1
        elif name.endswith((".jsonl", ".ndjson")):
            frame, first_row = pl.read_ndjson(path, infer_schema_length=None), 1
        else:
            frame, first_row = pl.read_csv(path, infer_schema_length=0), 2
    except FileNotFoundError:
        raise FileError(str(path), "no such file", "check the path") from None
    except pl.exceptions.NoDataError:
        raise FileError(str(path), "the file is empty", "write a header and rows") from None
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0]
        raise FileError(
            str(path), f"cannot be read: {reason}", "check that it is a table"
        ) from None
    if frame.height == 0:
        raise TableError(str(path), "no rows", "add at least one row")
    return RawTable(frame, str(path), first_row)


def check_columns(table: RawTable, columns: tuple[Column, ...]) -> pl.DataFrame:
    """Cast and check the known columns; unknown columns are dropped, absent ones null.

    Raises
    ------
    TableError
        At the first missing column or bad value.
    """
    missing = [c.name for c in columns if c.required and c.name not in table.frame.columns]
    if missing:
        raise TableError(
            f"{table.path}: header",
            f"missing column{'s' * (len(missing) > 1)} {', '.join(missing)}"
            f" (found {', '.join(table.frame.columns)})",
            "add it, or rename the column that holds it",
        )
    return pl.DataFrame([_checked(table, column) for column in columns])


def _checked(table: RawTable, column: Column) -> pl.Series:
    dtype = {"int": pl.Int64, "float": pl.Float64, "str": pl.String, "bool": pl.Boolean}[
        column.kind
    ]
    if column.name not in table.frame.columns:
        return pl.Series(column.name, [None] * table.frame.height, dtype=dtype)
    raw = table.frame[column.name]
    if raw.dtype == pl.String:
        raw = raw.str.strip_chars().replace("", None)
    values = _cast(raw, column).rename(column.name)
    _refuse(table, column, raw, raw.is_not_null() & values.is_null(), f"expected {_kind(column)}")
    if column.required:
        _refuse(table, column, raw, values.is_null(), f"expected {_kind(column)}")
    if column.kind == "float":
        bad = values.is_nan() | values.is_infinite()
        _refuse(table, column, raw, bad, "expected a finite number")
    if column.kind in ("int", "float"):
        bounds = f"expected {column.low:g} to {column.high:g} {column.unit}".rstrip()
        bad = (values < column.low) | (values > column.high)
        _refuse(table, column, raw, bad, bounds)
    return values


def _kind(column: Column) -> str:
    kinds = {"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false"}
    return f"{kinds[column.kind]} {f'of {column.unit}' if column.unit else ''}".rstrip()


def _cast(raw: pl.Series, column: Column) -> pl.Series:
    if column.kind == "str":
        return raw.cast(pl.String)
    if column.kind == "bool":
        if raw.dtype == pl.Boolean:
            return raw
        text = raw.cast(pl.String).str.to_lowercase()
        return text.replace_strict(_TRUE, default=None, return_dtype=pl.Boolean)
    number = raw.cast(pl.Float64, strict=False)
    if column.kind == "float":
        return number
    whole = number.is_finite() & (number == number.round())
    return pl.select(pl.when(whole).then(number)).to_series().cast(pl.Int64, strict=False)


def _refuse(table: RawTable, column: Column, raw: pl.Series, bad: pl.Series, expected: str) -> None:
    rows = bad.fill_null(False).arg_true()
    if not len(rows):
        return
    more = f" (and {len(rows) - 1} more rows)" if len(rows) > 1 else ""
    value = raw[int(rows[0])]
    shown = "nothing" if value is None else repr(value)
    raise TableError(
        table.place(int(rows[0]), column.name),
        f"{expected}, got {shown}{more}",
        "correct the value, or remove the row",
    )
