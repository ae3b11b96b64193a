"""Guess the output length of queries that have only just arrived, from past queries.

A predictor is trained on a workload and maps input tokens to expected output tokens. Add
one by adding how it is trained to `PREDICTORS`; the conformance test discovers it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wattshed.workload.table import Queries, Workload

Array = NDArray[np.float64]
Predictor = Callable[[Array], Array]
"""Input tokens (Q,) to expected output tokens (Q,), fractional and at least 1."""

BUCKETS = 27
"""Powers of two up to the longest input that a workload may hold."""
THIN = 20
"""Queries below which a bucket says less than the whole workload."""


@dataclass(frozen=True)
class Mean:
    """The mean output length of the past, whatever the input."""

    output_tokens: float

    def __call__(self, m: Array) -> Array:
        """Expected output tokens (Q,)."""
        return np.full(len(m), self.output_tokens)


@dataclass(frozen=True)
class Lengths:
    """Output lengths that occurred.

    Attributes
    ----------
    n : array (D,)
        Distinct lengths, sorted.
    cumulative : array (D,)
        Part of the queries with at most that length; the last is 1.
    """

    n: Array
    cumulative: Array


@dataclass(frozen=True)
class Histogram:
    """Output lengths by power of two of the input.

    Attributes
    ----------
    mean : array (27,)
        Mean length of inputs from 2^b to 2^(b+1) - 1; that of all queries where fewer than
        20 were seen.
    lengths : tuple of Lengths, length 27
        Likewise.
    """

    mean: Array
    lengths: tuple[Lengths, ...]

    def __call__(self, m: Array) -> Array:
        """Expected output tokens (Q,)."""
        return np.asarray(self.mean[_bucket(m)])

    def quantile(self, m: Array, q: float) -> Array:
        """Length (Q,) that a part `q` in [0, 1] of the past queries did not exceed."""
        table = np.array([_quantile(lengths, q) for lengths in self.lengths])
        return np.asarray(table[_bucket(m)])


def train_mean(workload: Workload) -> Mean:
    """Mean output length of a workload."""
    queries = workload.distinct()
    return Mean(_mean(queries.n, queries.count))


def train_histogram(workload: Workload) -> Histogram:
    """Distribution of output lengths of a workload, by bucket of the input."""
    queries = workload.distinct()
    bucket = _bucket(queries.m)
    seen = np.bincount(bucket, queries.count, BUCKETS)
    rows = [bucket == b if seen[b] >= THIN else bucket >= 0 for b in range(BUCKETS)]
    return Histogram(
        np.array([_mean(queries.n[row], queries.count[row]) for row in rows]),
        tuple(_lengths(queries, row) for row in rows),
    )


PREDICTORS: dict[str, Callable[[Workload], Predictor]] = {
    "mean": train_mean,
    "histogram": train_histogram,
}


def _bucket(m: Array) -> NDArray[np.int64]:
    return np.clip(np.log2(m).astype(np.int64), 0, BUCKETS - 1)


def _mean(n: Array, count: NDArray[np.int64]) -> float:
    return float(n @ count / count.sum())


def _lengths(queries: Queries, row: NDArray[np.bool_]) -> Lengths:
    n, index = np.unique(queries.n[row], return_inverse=True)
    cumulative = np.cumsum(np.bincount(index, queries.count[row]))
    return Lengths(n, cumulative / cumulative[-1])


def _quantile(lengths: Lengths, q: float) -> float:
    return float(lengths.n[np.searchsorted(lengths.cumulative, q)])
