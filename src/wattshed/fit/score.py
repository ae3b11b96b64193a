"""Leave-one-cell-out errors and bootstrap draws of a form."""

from __future__ import annotations

import math

import numpy as np

from wattshed.fit.forms import Array, Form
from wattshed.fit.ols import ratio
from wattshed.fit.solvers import solve
from wattshed.records import FormScore

GRID_POINTS = 12


def leave_one_out(form: Form, m: Array, n: Array, y: Array) -> Array:
    """Predict every cell from a fit to all the others.

    Parameters
    ----------
    form : Form
    m, n, y : arrays (N,)

    Returns
    -------
    prediction : array (N,)
    """
    theta = solve(form, m, n, y, 1.0 - np.eye(len(y)))
    return np.diagonal(form.predict(theta, m, n)).copy()


def relative_errors(prediction: Array, y: Array) -> tuple[float, float, float]:
    """Mean and median absolute relative error, and error of the total, in percent."""
    relative = np.abs(prediction / y - 1)
    bias = prediction.sum() / y.sum() - 1
    return 100 * float(relative.mean()), 100 * float(np.median(relative)), 100 * float(bias)


def count_negative(form: Form, theta: Array, m: Array, n: Array) -> int:
    """Negative predictions on a 12 x 12 log-spaced grid over the cells' own box."""
    mm, nn = np.meshgrid(
        np.geomspace(m.min(), m.max(), GRID_POINTS), np.geomspace(n.min(), n.max(), GRID_POINTS)
    )
    return int((form.predict(theta, mm.ravel().round(), nn.ravel().round()) < 0).sum())


def score_form(form: Form, m: Array, n: Array, y: Array) -> FormScore:
    """Leave-one-cell-out errors of a form on one quantity.

    Parameters
    ----------
    form : Form
    m, n, y : arrays (N,)
        Tokens and positive energies (J) or runtimes (s).
    """
    prediction = leave_one_out(form, m, n, y)
    mape, median, bias = relative_errors(prediction, y)
    theta = solve(form, m, n, y, np.ones((1, len(y))))[0]
    negative = int((prediction < 0).sum()) + count_negative(form, theta, m, n)
    r2 = 1 - ratio(float(((prediction - y) ** 2).sum()), float(((y - y.mean()) ** 2).sum()))
    return FormScore(mape, median, bias, negative, finite_or_none(r2))


def finite_or_none(value: float) -> float | None:
    """A statistic, or nothing where the data leave it undefined or infinite."""
    return value if math.isfinite(value) else None


def bootstrap_weights(cells: int, draws: int, rng: np.random.Generator) -> Array:
    """Multiplicities (draws, cells) of a bootstrap over cells."""
    weight = rng.multinomial(cells, np.full(cells, 1 / cells), size=draws)
    return np.asarray(weight, float)


def bootstrap(
    form: Form, m: Array, n: Array, y: Array, error: Array, weight: Array, rng: np.random.Generator
) -> Array:
    """Coefficients refitted to resampled cells and trials.

    Cells are drawn with `weight` (B, N); within a cell the mean of its trials is redrawn
    with its standard error, so both levels of variation count.

    Returns
    -------
    draws : array (B, P)
    """
    noise = rng.standard_normal(weight.shape) * error
    redrawn = np.maximum(y + noise, 0.05 * y)
    return solve(form, m, n, redrawn, weight)
