"""Read workloads and collapse them to their distinct queries."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from wattshed.data.catalog import dataset_names, dataset_path, provenance_of
from wattshed.errors import FileError, TableError
from wattshed.records import Provenance
from wattshed.tables import Column, RawTable, check_columns, read_raw
from wattshed.workload.importers import recognise

MAX_TOKENS = 100_000_000

COLUMNS = (
    Column("arrival_s", "float", low=0, unit="s"),
    Column("input_tokens", "int", required=True, low=1, high=MAX_TOKENS, unit="tokens"),
    Column("output_tokens", "int", required=True, low=1, high=MAX_TOKENS, unit="tokens"),
    Column("count", "int", low=1, high=10**15),
    Column("class", "str"),
    Column("deadline_s", "float", low=0, unit="s"),
)


@dataclass(frozen=True)
class Workload:
    """Queries in the order in which they came.

    Attributes
    ----------
    name : str
    table : polars.DataFrame
        Columns `arrival_s, input_tokens, output_tokens, count, class, deadline_s`.
    provenance : Provenance
    content_hash : str
        SHA-256 of the file.
    """

    name: str
    table: pl.DataFrame
    provenance: Provenance
    content_hash: str

    @property
    def queries(self) -> int:
        """Number of queries, multiplicities counted."""
        return int(self.table["count"].sum())

    def distinct(self) -> Queries:
        """Collapse to distinct (m, n), sorted, with how often each occurs."""
        grouped = (
            self.table.group_by("input_tokens", "output_tokens")
            .agg(pl.col("count").sum())
            .sort("input_tokens", "output_tokens")
        )
        return Queries(
            grouped["input_tokens"].to_numpy().astype(np.float64),
            grouped["output_tokens"].to_numpy().astype(np.float64),
            grouped["count"].to_numpy().astype(np.int64),
        )


@dataclass(frozen=True)
class Queries:
    """Distinct queries as arrays (Q,): tokens as floats, counts as integers."""

    m: NDArray[np.float64]
    n: NDArray[np.float64]
    count: NDArray[np.int64]


def read_workload(source: str | Path) -> Workload:
    """Read a workload from a file, or the built-in workload of that name.

    Parameters
    ----------
    source : str or Path
        CSV, Parquet or JSONL in our format, or an Azure or Mooncake trace, recognised
        by its header; or a name of `wattshed data list`.

    Raises
    ------
    FileError, TableError
        Naming the row, the value and the cure.
    """
    built_in = str(source) in dataset_names("workload")
    path = dataset_path(str(source)) if built_in else Path(source)
    if not built_in and not path.suffix and not path.exists():
        raise FileError(
            "workload",
            f"no file and no built-in workload named {str(source)!r}",
            f"use a file or one of {', '.join(dataset_names('workload'))}",
        )
    raw = read_raw(path)
    converted = RawTable(recognise(raw).convert(raw), raw.path, raw.first_row)
    table = check_columns(converted, COLUMNS).with_columns(pl.col("count").fill_null(1))
    _check_order(converted, table)
    provenance = (
        provenance_of(str(source))
        if built_in
        else Provenance(path.name, str(path), "", "the user's own", "measured")
    )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Workload(str(source), table, provenance, digest)


def _check_order(raw: RawTable, table: pl.DataFrame) -> None:
    arrival = table["arrival_s"]
    if arrival.null_count() == len(arrival):
        return
    late = (arrival.is_null() | (arrival.diff() < 0)).fill_null(False).arg_true()
    if len(late):
        index = int(late[0])
        raise TableError(
            raw.place(index, "arrival_s"),
            f"{arrival[index]} does not follow {arrival[index - 1]}",
            "give every row an arrival time and sort the rows by it",
        )
