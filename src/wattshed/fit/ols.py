"""Ordinary least squares with its statistics, and two-way analysis of variance.

Both reproduce the tables of the 2024 studies, whose R2 is uncentred where the fit has
no constant (the sum of squares about zero, not about the mean) and centred where it has
one. The two cannot be compared; `OLSFit` says which it holds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from wattshed.fit.forms import Array


class RankError(ValueError):
    """The data do not tell the coefficients apart."""


@dataclass(frozen=True)
class OLSFit:
    """Result of `ols`.

    Attributes
    ----------
    coefficients, standard_errors : arrays (P,)
    low, high : arrays (P,)
        Student-t interval of each coefficient.
    r2 : float
        Centred if `intercept`, uncentred otherwise.
    r2_centred, r2_uncentred : float
        Both, whichever the fit; not a number where nothing varies about the mean.
    f, p : float
        F statistic of all slopes and its p-value; F is infinite where no residual is left,
        and not a number where nothing varies either.
    residual_ss : float
    df_model, df_residual : int
    intercept : bool
    """

    coefficients: Array
    standard_errors: Array
    low: Array
    high: Array
    r2: float
    r2_centred: float
    r2_uncentred: float
    f: float
    p: float
    residual_ss: float
    df_model: int
    df_residual: int
    intercept: bool


def ols(columns: Array, y: Array, *, intercept: bool, level: float = 0.95) -> OLSFit:
    """Ordinary least squares.

    Parameters
    ----------
    columns : array (N, P)
        Regressors; with `intercept` the first column must be ones.
    y : array (N,)
    intercept : bool
        Whether statistics are about the mean.
    level : float
        Of the coefficient intervals.

    Returns
    -------
    OLSFit

    Raises
    ------
    RankError
        If the columns are linearly dependent, so that many coefficients fit equally.
    """
    scale = np.sqrt((columns**2).mean(0))
    if np.linalg.matrix_rank(columns / scale) < columns.shape[1]:
        raise RankError("the regressors are linearly dependent")
    q, r = np.linalg.qr(columns / scale)
    coefficients = np.linalg.solve(r, q.T @ y) / scale
    residual = y - columns @ coefficients
    residual_ss = float(residual @ residual)
    about_zero = float(y @ y)
    about_mean = float(((y - y.mean()) ** 2).sum())
    total = about_mean if intercept else about_zero
    df_model = columns.shape[1] - int(intercept)
    df_residual = len(y) - columns.shape[1]
    inverse = np.linalg.inv(r)
    variance = residual_ss / df_residual
    errors = np.sqrt(variance * (inverse**2).sum(1)) / scale
    t = float(special.stdtrit(df_residual, (1 + level) / 2))
    f = ratio(max(total - residual_ss, 0.0) / df_model, variance)
    return OLSFit(
        coefficients=coefficients,
        standard_errors=errors,
        low=coefficients - t * errors,
        high=coefficients + t * errors,
        r2=1 - ratio(residual_ss, total),
        r2_centred=1 - ratio(residual_ss, about_mean),
        r2_uncentred=1 - ratio(residual_ss, about_zero),
        f=f,
        p=float(special.fdtrc(df_model, df_residual, f)),
        residual_ss=residual_ss,
        df_model=df_model,
        df_residual=df_residual,
        intercept=intercept,
    )


def ratio(part: float, whole: float) -> float:
    """A quotient that is infinite, or not a number, where `whole` is zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.divide(part, whole))


@dataclass(frozen=True)
class AnovaTerm:
    """One row of an analysis of variance table."""

    sum_of_squares: float
    df: int
    f: float
    p: float


def anova_two_way(
    first: NDArray[np.int64], second: NDArray[np.int64], y: Array
) -> dict[str, AnovaTerm]:
    """Type II analysis of variance of two categorical factors and their interaction.

    Parameters
    ----------
    first, second : arrays (N,)
        Levels of the factors.
    y : array (N,)

    Returns
    -------
    dict
        Terms ``first``, ``second`` and ``interaction``.
    """
    a = _dummies(first)
    b = _dummies(second)
    crossed = (a[:, :, None] * b[:, None, :]).reshape(len(y), -1)
    rss_a, _ = _rss(a, y)
    rss_b, _ = _rss(b, y)
    rss_main, rank_main = _rss(np.hstack([a, b]), y)
    rss_full, rank_full = _rss(crossed, y)
    df_residual = len(y) - rank_full

    def term(sum_of_squares: float, df: int) -> AnovaTerm:
        f = sum_of_squares / df / (rss_full / df_residual)
        return AnovaTerm(sum_of_squares, df, f, float(special.fdtrc(df, df_residual, f)))

    return {
        "first": term(rss_b - rss_main, a.shape[1] - 1),
        "second": term(rss_a - rss_main, b.shape[1] - 1),
        "interaction": term(rss_main - rss_full, rank_full - rank_main),
    }


def _dummies(factor: NDArray[np.int64]) -> Array:
    return np.asarray(factor[:, None] == np.unique(factor), float)


def _rss(columns: Array, y: Array) -> tuple[float, int]:
    solution, _, rank, _ = np.linalg.lstsq(columns, y, rcond=None)
    residual = y - columns @ solution
    return float(residual @ residual), int(rank)
