"""Windows of time with one value each, such as rates of arrival or carbon intensities.

A value holds from the start of its window to the start of the next; the last window is as long as
the one before it. A value that is missing is empty in a file and nan here, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from wattshed.data.catalog import (
    DatasetKind,
    dataset_names,
    dataset_path,
    provenance_of,
    users_own,
)
from wattshed.errors import FileError, TableError
from wattshed.records import Provenance
from wattshed.tables import Column, RawTable, check_columns

Array = NDArray[np.float64]

TIME_COLUMNS = ("start_s", "datetime", "datetime_utc")
"""Start of a window: in seconds, as a time with its offset, or as a time in UTC."""


@dataclass(frozen=True, eq=False)
class Series:
    """Values (W,) of windows that follow each other.

    Attributes
    ----------
    edges_s : array (W + 1,)
        Rising.
    value : array (W,)
        nan where it is not known.
    origin : datetime or None
        What `edges_s` counts from, where the file has dates.
    """

    edges_s: Array
    value: Array
    origin: datetime | None = None


@dataclass(frozen=True)
class Source:
    """Where a series is: a file, the name behind the ``#``, and what is known of both."""

    label: str
    path: Path
    name: str
    provenance: Provenance


def find_source(source: str | Path, kind: DatasetKind, folder: Path | None = None) -> Source:
    """Take ``NAME#PART`` or ``FILE#PART`` apart; built-in names come first.

    Parameters
    ----------
    folder : Path, optional
        What the path of a file is relative to.

    Raises
    ------
    FileError
        If it can only be a name, and there is none such.
    """
    label = str(source)
    head, _, name = label.partition("#")
    if head in dataset_names(kind):
        return Source(label, dataset_path(head), name, provenance_of(head))
    path = (folder or Path()) / head
    if not path.suffix and not path.exists():
        raise FileError(
            label,
            f"no file and no built-in {kind} named {head!r}",
            f"use a file or one of {', '.join(dataset_names(kind))}",
        )
    return Source(label, path, name, users_own(path))


def series_of(raw: RawTable, value: str, unit: str, keep: pl.Series | None = None) -> Series:
    """Read the windows of a table.

    Parameters
    ----------
    value : str
        Column that holds the values, 0 or more.
    unit : str
        Named in errors.
    keep : Boolean series (R,), optional
        Rows to read; all of them unless told.

    Raises
    ------
    TableError
        At the first value that is not a number from 0 on, and the first time that is not
        later than the one before; if there are fewer than two rows, or no value at all.
    """
    column, start_s, origin = _times(raw)
    _check_header(raw, value)
    checked = check_columns(raw, (Column(value, "float", low=0, unit=unit),))
    values = checked[value].fill_null(np.nan).to_numpy()
    rows = np.arange(len(values)) if keep is None else keep.arg_true().to_numpy()
    _check_windows(raw, column, start_s[rows], rows)
    if np.isnan(values[rows]).all():
        raise TableError(raw.place(int(rows[0]), value), "no row has a value", "give at least one")
    start = start_s[rows]
    return Series(np.append(start, 2 * start[-1] - start[-2]), values[rows], origin)


def overlap(edges_s: Array, windows_s: Array) -> tuple[NDArray[np.intp], NDArray[np.intp], Array]:
    """Cut bins where windows begin.

    Parameters
    ----------
    edges_s : array (B + 1,)
        Of the bins, rising, nowhere outside the windows.
    windows_s : array (W + 1,)

    Returns
    -------
    bin, window : int arrays (P,)
        That each piece is a part of.
    part : array (P,)
        Length of each piece as a part of its bin's; they add up to 1 in each bin.
    """
    inner = windows_s[(windows_s > edges_s[0]) & (windows_s < edges_s[-1])]
    cuts = np.union1d(edges_s, inner)
    begin = cuts[:-1]
    inside = np.searchsorted(edges_s, begin, side="right") - 1
    window = np.searchsorted(windows_s, begin, side="right") - 1
    return inside, window, np.diff(cuts) / np.diff(edges_s)[inside]


def when(time_s: float, origin: datetime | None) -> str:
    """A time of a series for people: a date where there are any, else seconds."""
    if origin is None:
        return f"{time_s:.10g} s"
    return (origin + timedelta(seconds=time_s)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _check_header(raw: RawTable, value: str) -> None:
    if value not in raw.frame.columns:
        raise TableError(
            f"{raw.path}: header",
            f"no column {value} (found {', '.join(raw.frame.columns)})",
            "rename the column that holds the values, or name it",
        )


def _check_windows(raw: RawTable, column: str, start_s: Array, rows: NDArray[np.intp]) -> None:
    if len(rows) < 2:
        raise TableError(
            raw.path, f"{len(rows)} window{'s' * (len(rows) != 1)}", "give at least two rows"
        )
    late = np.flatnonzero(np.diff(start_s) <= 0)
    if len(late):
        before, here = (raw.frame[column][int(rows[late[0] + i])] for i in (0, 1))
        raise TableError(
            raw.place(int(rows[late[0] + 1]), column),
            f"{here} is not later than {before} in the row before",
            "sort the rows by time, and give each window one row",
        )


def _times(raw: RawTable) -> tuple[str, Array, datetime | None]:
    """Column of the time, start of each window (R,), and what it counts from."""
    found = [name for name in TIME_COLUMNS if name in raw.frame.columns]
    if len(found) != 1:
        raise TableError(
            f"{raw.path}: header",
            f"{' and '.join(found) or 'no time'} (found {', '.join(raw.frame.columns)})",
            f"give one of the columns {', '.join(TIME_COLUMNS)}",
        )
    column = found[0]
    if column == "start_s":
        seconds = check_columns(raw, (Column(column, "float", required=True, unit="s"),))
        return column, seconds[column].to_numpy(), None
    stamps = [_stamp(raw, row, column) for row in range(raw.frame.height)]
    seconds_since = [(stamp - stamps[0]).total_seconds() for stamp in stamps]
    return column, np.array(seconds_since), stamps[0]


def _stamp(raw: RawTable, row: int, column: str) -> datetime:
    value = raw.frame[column][row]
    try:
        stamp = value if isinstance(value, datetime) else datetime.fromisoformat(str(value).strip())
    except ValueError:
        stamp = None
    if stamp is None or (stamp.tzinfo is None and column == "datetime"):
        raise TableError(
            raw.place(row, column),
            f"expected a time such as 2022-07-01T00:00:00Z, got {value!r}",
            "write ISO 8601 with its offset from UTC, or name the column datetime_utc",
        )
    return stamp.astimezone(UTC) if stamp.tzinfo else stamp.replace(tzinfo=UTC)
