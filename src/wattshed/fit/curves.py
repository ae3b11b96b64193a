"""Rising curves over the batch or over tokens, piecewise affine, chosen on what they did not see.

Every form ends as knots joined by straight lines, because that is what a simulator steps through;
errors are those of the joined knots. All numbers are relative: a step of 10 ms counts as much as
one of 1 s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from wattshed.fit.forms import Array
from wattshed.records import Curve, HeldOut, Kind
from wattshed.records.iteration import CurveForm, HeldOutAxis, Quantity

LADDER = 2**0.5
"""Ratio of the knots of a curved form: chords of a + r sqrt(b) then stay within 1 %."""
MIN_CELLS = 3
TIE = 1e-6


@dataclass(frozen=True)
class Knots:
    """A curve as knots.

    Attributes
    ----------
    at, value : arrays (K,)
        K >= 2; `at` rises strictly, `value` is positive and does not fall.
    coefficients : dict
        Of the form behind it; empty if there is none.
    """

    at: Array
    value: Array
    coefficients: dict[str, float] = field(default_factory=dict)


def evaluate(at: Array, value: Array, x: Array) -> Array:
    """Follow the straight lines between knots, and the last one beyond them.

    Parameters
    ----------
    at, value : arrays (K,)
    x : array (N,)

    Returns
    -------
    array (N,)
    """
    slope = np.diff(value) / np.diff(at)
    segment = np.clip(np.searchsorted(at, x, side="right") - 1, 0, len(slope) - 1)
    return np.asarray(value[segment] + slope[segment] * (x - at[segment]))


def fit_affine(x: Array, y: Array) -> Knots:
    """Fit a + c x with a, c >= 0."""
    constant, per_unit = _non_negative(np.stack([np.ones_like(x), x], axis=1), y)
    at = np.array([1.0, max(x.max(), 2.0)])
    return Knots(at, constant + per_unit * at, {"constant": constant, "per_unit": per_unit})


def fit_root(x: Array, y: Array) -> Knots:
    """Fit a + r sqrt(x) + c x with a, r, c >= 0."""
    columns = np.stack([np.ones_like(x), np.sqrt(x), x], axis=1)
    constant, per_root, per_unit = _non_negative(columns, y)
    count = 1 + max(1, int(np.ceil(np.log(max(x.max(), 2.0)) / np.log(LADDER))))
    at = np.geomspace(1.0, max(x.max(), 2.0), count)
    value = constant + per_root * np.sqrt(at) + per_unit * at
    return Knots(at, value, {"constant": constant, "per_root": per_root, "per_unit": per_unit})


def fit_knots(x: Array, y: Array) -> Knots:
    """Join the means at each x, made monotone (isotonic regression on relative residuals).

    Below the least x the first slope continues to x = 1, as far as the curve stays above
    the line to the origin.
    """
    from scipy.optimize import isotonic_regression

    at, where = np.unique(x, return_inverse=True)
    count = np.bincount(where)
    mean = np.bincount(where, y) / count
    value = np.asarray(isotonic_regression(mean, weights=count / mean**2).x)
    if at[0] > 1:
        slope = min((value[1] - value[0]) / (at[1] - at[0]), value[0] / at[0])
        at = np.concatenate([[1.0], at])
        value = np.concatenate([[value[0] - slope * (at[1] - 1)], value])
    return Knots(at, value)


def fit_floor(x: Array, y: Array) -> Knots:
    """Fit max(a, c x): the least x to which the floor reaches is tried at every cell."""
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    candidates = [_floor_of(x, y, count) for count in range(1, len(x))]
    losses = [float(((np.maximum(a, c * x) / y - 1) ** 2).sum()) for a, c in candidates]
    constant, per_unit = candidates[int(np.argmin(losses))]
    corner = max(constant / per_unit, 1.0 + 1e-6)
    end = max(x.max(), 2 * corner)
    at = np.array([1.0, corner, end])
    value = np.maximum(constant, per_unit * at)
    return Knots(at, value, {"constant": constant, "per_unit": per_unit})


def _floor_of(x: Array, y: Array, count: int) -> tuple[float, float]:
    low, high = y[:count], x[count:] / y[count:]
    return float((1 / low).sum() / (1 / low**2).sum()), float(high.sum() / (high**2).sum())


def _non_negative(columns: Array, y: Array) -> list[float]:
    from scipy.optimize import nnls

    scale = np.sqrt(((columns / y[:, None]) ** 2).sum(0))
    theta, _ = nnls(columns / y[:, None] / scale, np.ones(len(y)))
    return [float(value) for value in theta / scale]


CURVE_FORMS: dict[CurveForm, Callable[[Array, Array], Knots]] = {
    "affine": fit_affine,
    "root": fit_root,
    "knots": fit_knots,
    "floor": fit_floor,
}
BATCH_FORMS: tuple[CurveForm, ...] = ("affine", "root", "knots")
TOKEN_FORMS: tuple[CurveForm, ...] = ("affine", "floor", "knots")


def choose_form(x: Array, y: Array, group: Array, forms: Sequence[CurveForm]) -> CurveForm:
    """The form with the least mean relative error on groups left out.

    The first of `forms` if there are too few groups, or at a tie.
    """
    if len(forms) == 1 or len(np.unique(group)) < MIN_CELLS:
        return forms[0]
    errors = [np.abs(predict_unseen(x, y, group, [form]) / y - 1).mean() for form in forms]
    least = min(errors) + TIE
    return next(form for form, error in zip(forms, errors, strict=True) if error <= least)


def predict_unseen(x: Array, y: Array, group: Array, forms: Sequence[CurveForm]) -> Array:
    """Predict each group by the form chosen, and fitted, without it.

    The choice is repeated inside every fold, so the errors are not those of the form that
    happened to do best on the very cells they are counted on.

    Parameters
    ----------
    x, y, group : arrays (N,)
    forms : sequence of str

    Returns
    -------
    prediction : array (N,)
    """
    prediction = np.empty_like(y)
    for left_out in np.unique(group):
        out = group == left_out
        form = choose_form(x[~out], y[~out], group[~out], forms)
        knots = CURVE_FORMS[form](x[~out], y[~out])
        prediction[out] = evaluate(knots.at, knots.value, x[out])
    return prediction


def fit_curve(
    x: Array,
    y: Array,
    group: Array,
    forms: Sequence[CurveForm],
    *,
    kind: Kind,
    source: str,
) -> Curve:
    """Fit the form with the least error on groups left out to all cells.

    Parameters
    ----------
    x, y, group : arrays (N,)
        Batch or tokens, positive seconds or joules, and what is left out together.
    """
    form = choose_form(x, y, group, forms)
    return to_curve(CURVE_FORMS[form](x, y), form, kind=kind, source=source)


def to_curve(knots: Knots, form: CurveForm, *, kind: Kind, source: str) -> Curve:
    """Round a curve to 7 digits, as a record."""
    at, value = ([float(f"{v:.7g}") for v in side] for side in (knots.at, knots.value))
    coefficients = {name: float(f"{v:.7g}") for name, v in knots.coefficients.items()}
    return Curve(at, value, form, coefficients, kind, source)


def score(
    quantity: Quantity, axis: HeldOutAxis, left_out: Array, prediction: Array, y: Array
) -> HeldOut:
    """Errors of predictions of cells that were left out.

    Parameters
    ----------
    left_out, prediction, y : arrays (N,)
    """
    error = 100 * (prediction / y - 1)
    size = np.abs(error)
    inner = (left_out > left_out.min()) & (left_out < left_out.max())
    return HeldOut(
        quantity=quantity,
        axis=axis,
        left_out=[float(value) for value in left_out],
        error_pct=[round(float(value), 3) for value in error],
        median_ape_pct=round(float(np.median(size)), 3),
        mean_ape_pct=round(float(size.mean()), 3),
        worst_ape_pct=round(float(size.max()), 3),
        inner_mean_ape_pct=(
            round(float(size[inner].mean()), 3) if axis == "batch" and inner.any() else None
        ),
    )
