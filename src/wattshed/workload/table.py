"""Read workloads and collapse them to their distinct queries."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from wattshed.data.catalog import dataset_names, dataset_path, provenance_of, users_own
from wattshed.errors import FileError
from wattshed.files import sha256
from wattshed.records import Provenance
from wattshed.tables import RawTable, check_columns, read_raw
from wattshed.workload.columns import COLUMNS, check_order
from wattshed.workload.importers import recognise
from wattshed.workload.large import collapse, parquet_header


@dataclass(frozen=True)
class Workload:
    """Queries in the order in which they came, or groups of equal ones.

    Attributes
    ----------
    name : str
    table : polars.DataFrame
        Columns `arrival_s, input_tokens, output_tokens, count, class, deadline_s`.
    provenance : Provenance
    content_hash : str
        SHA-256 of the file.
    aggregated : bool
        Rows are groups of equal queries of a file too large to hold: their order, arrivals
        and deadlines are gone.
    span_s : float or None
        Last minus first arrival; None if there are no arrivals.
    """

    name: str
    table: pl.DataFrame
    provenance: Provenance
    content_hash: str
    aggregated: bool = False
    span_s: float | None = None

    @property
    def queries(self) -> int:
        """Number of queries, multiplicities counted."""
        return int(self.table["count"].sum())

    @property
    def classes(self) -> pl.Series:
        """SLO class of each row; "" where there is none."""
        if "class" not in self.table.columns:
            return pl.repeat("", self.table.height, eager=True).alias("class")
        return self.table["class"].cast(pl.String).fill_null("")

    def distinct(self, *, by_class: bool = False) -> Queries:
        """Collapse to distinct (m, n), sorted, with how often each occurs.

        Parameters
        ----------
        by_class : bool
            Keep queries of different SLO classes apart; a query without one is of class "".
        """
        keys = ["input_tokens", "output_tokens", *(["class"] if by_class else [])]
        grouped = (
            self.table.with_columns(self.classes)
            .group_by(keys)
            .agg(pl.col("count").sum())
            .sort(keys)
        )
        names = grouped["class"] if by_class else pl.Series([""])
        classes = names.unique().sort()
        group = classes.search_sorted(names).to_numpy().astype(np.int64)
        return Queries(
            grouped["input_tokens"].to_numpy().astype(np.float64),
            grouped["output_tokens"].to_numpy().astype(np.float64),
            grouped["count"].to_numpy().astype(np.int64),
            group if by_class else np.zeros(grouped.height, np.int64),
            tuple(classes.to_list()),
        )


@dataclass(frozen=True)
class Queries:
    """Distinct queries as arrays.

    Attributes
    ----------
    m, n : arrays (Q,)
        Input and output tokens.
    count : int array (Q,)
    group : int array (Q,)
        SLO class of each, as an index into `classes`.
    classes : tuple of str
        In alphabetical order; "" where a query has none.
    """

    m: NDArray[np.float64]
    n: NDArray[np.float64]
    count: NDArray[np.int64]
    group: NDArray[np.int64]
    classes: tuple[str, ...] = ("",)


def read_workload(source: str | Path, *, aggregate_above: int = 2_000_000) -> Workload:
    """Read a workload from a file, or the built-in workload of that name.

    Parameters
    ----------
    source : str or Path
        CSV, Parquet or JSONL in our format, or an Azure or Mooncake trace, recognised
        by its header; or a name of `wattshed data list`.
    aggregate_above : int
        A Parquet file in our format with more rows than this is collapsed to groups of
        equal queries while it is read, so that its rows are never in memory at once.

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
    provenance = provenance_of(str(source)) if built_in else users_own(path)
    header = parquet_header(path, aggregate_above)
    if header is not None and recognise(header).name == "native":
        groups = collapse(path)
        digest = sha256(path)
        return Workload(str(source), groups.table, provenance, digest, True, groups.span_s)
    table = _read_rows(path)
    return Workload(str(source), table, provenance, sha256(path), span_s=arrival_span_s(table))


def arrival_span_s(table: pl.DataFrame) -> float | None:
    """Last minus first arrival of rows in order; None if they have no arrivals."""
    if "arrival_s" not in table.columns or table["arrival_s"].null_count():
        return None
    return float(table["arrival_s"][-1] - table["arrival_s"][0])


def _read_rows(path: Path) -> pl.DataFrame:
    raw = read_raw(path)
    converted = RawTable(recognise(raw).convert(raw), raw.path, raw.first_row)
    table = check_columns(converted, COLUMNS).with_columns(pl.col("count").fill_null(1))
    check_order(converted, table)
    return table
