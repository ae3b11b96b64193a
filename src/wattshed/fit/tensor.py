"""Step times across degrees of tensor parallelism, to predict a degree that was not measured.

A step reads its share of the weights at the published efficiency, pays a fixed cost and one that
grows with the logarithm of the degree (all-reduce over a tree), and work that is divided among
the accelerators or not:

    t(p, x) = W / (p BW eta) + o + k log2 p + (u / p + v) x      o, k, u, v >= 0

with x the batch of a decode step, or the tokens of a prefill, which reads the weights while it
computes and therefore has no first term.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wattshed.fit.curves import score
from wattshed.fit.forms import Array
from wattshed.fit.physics import Accelerator, weight_pass_s
from wattshed.fit.solvers import non_negative
from wattshed.records import HeldOut
from wattshed.records.iteration import Quantity

Degree = tuple[int, Array, Array]
"""Degree, batch or tokens (N,), time in seconds (N,)."""


def fit_degrees(degrees: Sequence[Degree], floors_s: Sequence[float]) -> Array:
    """Coefficients o, k, u, v by non-negative least squares on relative residuals.

    Parameters
    ----------
    degrees : sequence of (degree, x (N,), time (N,))
    floors_s : sequence of float
        Known part of the time of each degree.

    Returns
    -------
    theta : array (4,)
        Seconds, seconds per doubling, and seconds per unit of x twice.
    """
    columns = np.concatenate([_columns(p, x) for p, x, _ in degrees])
    time = np.concatenate([y for _, _, y in degrees])
    known = np.concatenate(
        [np.full(len(x), floor) for (_, x, _), floor in zip(degrees, floors_s, strict=True)]
    )
    target = np.maximum(time - known, 0.0) / time
    return np.asarray(
        non_negative(columns / time[:, None], target[None], np.ones((1, len(time))))[0]
    )


def predict_degree(theta: Array, degree: int, x: Array, floor_s: float) -> Array:
    """Time in seconds (N,) at a degree, from coefficients (4,) and its known part."""
    return np.asarray(floor_s + _columns(degree, x) @ theta)


def score_degree(
    quantity: Quantity,
    left_out: Degree,
    seen: Sequence[Degree],
    weight_bytes: float,
    accelerator: Accelerator,
) -> HeldOut:
    """Errors of a degree that is predicted from the other degrees alone."""

    def floor(degree: int) -> float:
        if quantity == "prefill_time_s":
            return 0.0
        return weight_pass_s(weight_bytes, accelerator, degree)

    theta = fit_degrees(seen, [floor(p) for p, _, _ in seen])
    degree, x, y = left_out
    prediction = predict_degree(theta, degree, x, floor(degree))
    return score(quantity, "tensor_parallel", np.full(len(x), float(degree)), prediction, y)


def _columns(degree: int, x: Array) -> Array:
    one = np.ones_like(x)
    return np.stack([one, np.log2(degree) * one, x / degree, x], axis=1)
