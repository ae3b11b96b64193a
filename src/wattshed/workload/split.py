"""Split a workload in two, so that a rule made on one half is judged on the other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
from msgspec import structs
from numpy.typing import NDArray

from wattshed.errors import ParameterError
from wattshed.workload.table import Workload, arrival_span_s

MAX_SHUFFLED = 10**9
"""What numpy's hypergeometric generator draws from at most."""


def split_half(workload: Workload, *, seed: int = 0) -> tuple[Workload, Workload]:
    """First and second half of the queries: by arrival, or at random where there is none.

    Parameters
    ----------
    workload : Workload
        A row with a `count` counts as that many queries and may go to both halves.
    seed : int
        Of the shuffle of a workload without arrivals.

    Returns
    -------
    tuple of Workload
        Of floor(Q / 2) and the other queries. Names and provenance say which half it is and
        how it was split; arrivals of each start at 0; the hash stays that of the file.

    Raises
    ------
    ParameterError
        If there is only one query, if the arrivals were aggregated away, or if there are too
        many queries to shuffle.
    """
    timed = arrival_span_s(workload.table) is not None
    _refuse(workload, timed)
    count = workload.table["count"].to_numpy()
    first = _earliest(count) if timed else _shuffled(count, seed)
    how = "by arrival" if timed else f"by a random shuffle (seed {seed}), as it has no arrivals"
    return (
        _part(workload, first, "first half", how),
        _part(workload, count - first, "second half", how),
    )


def _refuse(workload: Workload, timed: bool) -> None:
    cure = "give the two halves as two files"
    if workload.queries < 2:
        raise ParameterError(workload.name, "a single query cannot be split", "give more queries")
    if workload.aggregated and workload.span_s is not None:
        found = "too large to split by arrival: its rows were aggregated while they were read"
        raise ParameterError(workload.name, found, cure)
    if not timed and workload.queries >= MAX_SHUFFLED:
        found = f"{workload.queries} queries without arrivals are too many to shuffle"
        raise ParameterError(workload.name, found, cure)


def _earliest(count: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of each row (R,) are in the first half when rows are in order."""
    before = np.cumsum(count) - count
    return np.asarray(np.clip(count.sum() // 2 - before, 0, count))


def _shuffled(count: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """How many of each row (R,) are in the first half after a shuffle of all queries."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, 2]))
    return rng.multivariate_hypergeometric(count, int(count.sum()) // 2, method="marginals")


def _part(workload: Workload, count: NDArray[np.int64], half: str, how: str) -> Workload:
    table = workload.table.with_columns(pl.Series("count", count)).filter(pl.col("count") > 0)
    if "arrival_s" in table.columns:
        table = table.with_columns(pl.col("arrival_s") - pl.col("arrival_s").first())
    source = workload.provenance
    note = f"{source.note} The {half} of {workload.name}, split {how}.".strip()
    return replace(
        workload,
        name=f"{workload.name} ({half})",
        table=table,
        provenance=structs.replace(source, note=note),
        span_s=arrival_span_s(table),
    )
