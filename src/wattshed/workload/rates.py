"""Read rate curves: how many requests come per second, window by window."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from wattshed.errors import FileError, TableError
from wattshed.files import sha256
from wattshed.records import Provenance
from wattshed.series import Array, Source, find_source, series_of
from wattshed.tables import RawTable, read_raw

COLUMNS = ("workload", "start_s", "rate_per_s")


@dataclass(frozen=True, eq=False)
class RateCurve:
    """Rate of arrivals, constant in each window.

    Attributes
    ----------
    name : str
        As it was asked for.
    start_s : array (W,)
        Of each window, rising; it lasts to the start of the next.
    end_s : float
        Of the last window.
    rate_per_s : array (W,)
        0 where nothing came, nan where nothing was recorded.
    provenance : Provenance
    content_hash : str
        SHA-256 of the file.
    """

    name: str
    start_s: Array
    end_s: float
    rate_per_s: Array
    provenance: Provenance
    content_hash: str

    @property
    def edges_s(self) -> Array:
        """Where windows begin and end, (W + 1,)."""
        return np.append(self.start_s, self.end_s)


def read_rates(source: str | Path) -> RateCurve:
    """Read a rate curve from a file, or the built-in one of that name.

    Parameters
    ----------
    source : str or Path
        CSV, Parquet or JSONL with `start_s` and `rate_per_s`; where it has a column `workload`
        with several names, ``FILE#NAME``. ``servegen-rates#m-large`` is built in.

    Raises
    ------
    FileError, TableError
        Naming the row, the value and the cure.
    """
    found = find_source(source, "rates")
    raw = read_raw(found.path)
    if "start_s" not in raw.frame.columns:
        raise TableError(
            f"{raw.path}: header",
            f"no column start_s (found {', '.join(raw.frame.columns)})",
            "give start_s and rate_per_s",
        )
    series = series_of(raw, "rate_per_s", "1/s", _rows(raw, found))
    return RateCurve(
        found.label,
        series.edges_s[:-1],
        float(series.edges_s[-1]),
        series.value,
        found.provenance,
        sha256(found.path),
    )


def _rows(raw: RawTable, source: Source) -> pl.Series | None:
    """Rows of the workload that was named; None for all of them."""
    named = "workload" in raw.frame.columns
    names = raw.frame["workload"].unique(maintain_order=True).to_list() if named else []
    if source.name in names:
        return raw.frame["workload"] == source.name
    if source.name or len(names) > 1:
        found = f"no workload {source.name!r}" if source.name else f"{len(names)} workloads"
        head = source.label.partition("#")[0]
        known = ", ".join(f"{head}#{name}" for name in names)
        raise FileError(source.label, found, f"use {known}" if known else f"use {head}")
    return None
