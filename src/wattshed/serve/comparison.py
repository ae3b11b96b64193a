"""The requests of a canary against those of the policy beside it: pure functions of rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import polars as pl
from msgspec import structs
from scipy.special import ndtri, stdtrit

from wattshed.fit.forms import Array
from wattshed.records import Interval, LedgerComparison, LedgerDifference, LedgerSummary
from wattshed.serve.canary import CANARY, CONTROL
from wattshed.serve.summary import groups_of

LEVEL = 0.95
WELCH = "difference of ratios of sums, linearised; Student's t with Welch's degrees of freedom"
NEWCOMBE = "difference of proportions, Newcombe's hybrid of Wilson's scores"
FEW = "fewer than two requests in one of the groups"
FEW_PROMISES = "fewer than two promises that could be seen in one of the groups"
UNLIKE = "energies of unlike boundaries"


class Estimate(NamedTuple):
    """A figure of a group, and the variance of its estimate."""

    value: float
    variance: float
    size: int


def with_comparisons(summary: LedgerSummary, rows: pl.DataFrame) -> LedgerSummary:
    """The summary of rows with the comparisons that are in them."""
    return structs.replace(summary, comparisons=comparisons_of(rows))


def comparisons_of(rows: pl.DataFrame) -> list[LedgerComparison]:
    """Each canary against the policy that decided beside it.

    Parameters
    ----------
    rows : DataFrame
        Of a ledger, in order of arrival, with `wattshed.serve.summary.COLUMNS`. Those of no group
        play no part.
    """
    compared = rows.filter(pl.col("arm").is_not_null() & pl.col("policy").is_not_null())
    control = compared.filter(pl.col("arm") == CONTROL).partition_by("policy", as_dict=True)
    canary = compared.filter(pl.col("arm") == CANARY).partition_by("policy", as_dict=True)
    return [
        _compare(str(ours), str(theirs), control[ours,], canary[theirs,])
        for (ours,) in sorted(control)
        for (theirs,) in sorted(canary)
        if _meet(control[ours,]["arrived_at"], canary[theirs,]["arrived_at"])
    ]


def _meet(one: pl.Series, other: pl.Series) -> bool:
    """Whether the times of two groups overlap: those of two trials, one after the other, do not."""
    firsts, lasts = (one.item(0), other.item(0)), (one.item(-1), other.item(-1))
    return bool(max(firsts) <= min(lasts))


def _compare(
    policy: str, canary_policy: str, control: pl.DataFrame, canary: pl.DataFrame
) -> LedgerComparison:
    return LedgerComparison(
        policy,
        canary_policy,
        groups_of(control, pl.lit(CONTROL))[0],
        groups_of(canary, pl.lit(CANARY))[0],
        list(_differences(control, canary)),
    )


def _differences(control: pl.DataFrame, canary: pl.DataFrame) -> Iterator[LedgerDifference]:
    known = [rows.filter(pl.col("joules").is_not_null()) for rows in (canary, control)]
    boundaries = pl.concat([rows["boundary"] for rows in known]).n_unique()
    for name, per in (
        ("energy_per_output_token_j", "output_tokens"),
        ("energy_per_request_j", None),
    ):
        one, other = (ratio(_gross_j(rows), _numbers(rows, per)) for rows in known)
        if one is None or other is None:
            yield LedgerDifference(name, None, None, FEW)
        elif boundaries > 1:
            yield LedgerDifference(name, None, None, UNLIKE)
        else:
            yield LedgerDifference(name, one.value - other.value, welch(one, other))
    yield _kept(canary["kept"].drop_nulls(), control["kept"].drop_nulls())


def _gross_j(rows: pl.DataFrame) -> Array:
    """With the idle part, where it is known: without, `joules` holds it."""
    return np.asarray((rows["joules"] + rows["idle_joules"].fill_null(0.0)).to_numpy(), float)


def _numbers(rows: pl.DataFrame, column: str | None) -> Array:
    if column is None:
        return np.ones(rows.height)
    return np.asarray(rows[column].fill_null(0).to_numpy(), float)


def _kept(canary: pl.Series, control: pl.Series) -> LedgerDifference:
    """Of the parts of the promises that were kept."""
    if min(len(canary), len(control)) < 2:
        return LedgerDifference("attainment", None, None, FEW_PROMISES)
    one, other = ((int(each.sum()), len(each)) for each in (canary, control))
    value = one[0] / one[1] - other[0] / other[1]
    return LedgerDifference("attainment", value, newcombe(one, other))


def ratio(total: Array, per: Array) -> Estimate | None:
    """A ratio of sums with its variance (Cochran, Sampling Techniques, 1977, 6.4).

    Parameters
    ----------
    total, per : array (N,)
        Of each request.

    Returns
    -------
    Estimate or None
        None of fewer than two requests, or where nothing is to divide by.
    """
    count = len(total)
    if count < 2 or per.sum() <= 0:
        return None
    value = float(total.sum() / per.sum())
    rest = total - value * per
    variance = float(rest @ rest) / (count - 1) / count / float(per.mean()) ** 2
    return Estimate(value, variance, count)


def welch(one: Estimate, other: Estimate) -> Interval:
    """Interval of the difference one - other of independent figures (Welch 1947)."""
    difference, variance = one.value - other.value, one.variance + other.variance
    if variance == 0:
        return Interval(difference, difference, WELCH, LEVEL)
    parts = sum(e.variance**2 / (e.size - 1) for e in (one, other))
    half = float(stdtrit(variance**2 / parts, (1 + LEVEL) / 2)) * math.sqrt(variance)
    return Interval(difference - half, difference + half, WELCH, LEVEL)


def wilson(successes: int, count: int) -> tuple[float, float]:
    """Score interval of a proportion (Wilson 1927)."""
    z = float(ndtri((1 + LEVEL) / 2))
    p = successes / count
    middle = (p + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def newcombe(one: tuple[int, int], other: tuple[int, int]) -> Interval:
    """Interval of a difference of proportions one - other (Newcombe 1998, method 10).

    Parameters
    ----------
    one, other : tuple of int
        Successes, and of how many.
    """
    p, q = one[0] / one[1], other[0] / other[1]
    (p_low, p_high), (q_low, q_high) = wilson(*one), wilson(*other)
    low = p - q - math.hypot(p - p_low, q_high - q)
    high = p - q + math.hypot(p_high - p, q - q_low)
    return Interval(low, high, NEWCOMBE, LEVEL)
