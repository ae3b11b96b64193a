"""The master problem of a least-CVaR search: the worst weights of draws, by linear program."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wattshed.fit.forms import Array


@dataclass(frozen=True)
class Master:
    """The worst weights for the best mixture of known assignments.

    Attributes
    ----------
    weight : array (D,)
        At least 0, at most `cap`, sum 1.
    ceiling : float
        The mixture's CVaR: the dual is nowhere above it.
    mix : array (N,)
        Part of each assignment in the mixture; sum 1.
    """

    weight: Array
    ceiling: float
    mix: Array


def best_weights(cost: Array, cap: float) -> Master:
    """Maximise over weights w the least of the N weighted means cost @ w.

    Parameters
    ----------
    cost : array (N, D)
        Cost of each known assignment under each draw.
    cap : float
        Largest weight of one draw.
    """
    from scipy.optimize import linprog

    number = cost.shape[1]
    centre, spread = float(cost.mean()), float(np.ptp(cost)) or 1.0
    rows = np.hstack([-(cost - centre) / spread, np.ones((len(cost), 1))])
    found = linprog(
        np.append(np.zeros(number), -1.0),
        A_ub=rows,
        b_ub=np.zeros(len(cost)),
        A_eq=np.append(np.ones(number), 0.0)[None],
        b_eq=[1.0],
        bounds=[(0, cap)] * number + [(None, None)],
        method="highs",
    )
    mix = np.maximum(-found.ineqlin.marginals, 0.0)
    return Master(_within(found.x[:-1], cap), centre - spread * found.fun, mix / mix.sum())


def _within(weight: Array, cap: float) -> Array:
    """The solver's weights without its tolerances, so that the bound they give is exact."""
    weight = np.clip(weight, 0.0, cap)
    missing = 1.0 - weight.sum()
    if missing <= 0:
        return np.asarray(weight / weight.sum())
    room = cap - weight
    return np.asarray(weight + room * (missing / room.sum()))
