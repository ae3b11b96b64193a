"""Assign queries at least cost while totals reach given floors, exactly.

minimise    sum_qk count_q x_qk cost_qk
subject to  sum_k x_qk = 1, x >= 0, sum_qk count_q x_qk gain_rqk >= floor_r.

With a floor on each deployment's queries this is a transportation problem. Without the
few floors it separates per query, so it is solved by column generation (Dantzig and Wolfe
1960, doi:10.1287/opre.8.1.101): a master problem mixes whole assignments, its prices on
the floors give the next one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wattshed.errors import ParameterError, WattshedError
from wattshed.fit.forms import Array

MAX_COLUMNS = 500
STOP = 1e-10
"""Reduced cost, relative to the spread of costs, at which no assignment can improve."""


def cover(cost: Array, count: NDArray[np.int64], gain: Array, floor: Array) -> Array:
    """Shares of least cost that reach the floors.

    Parameters
    ----------
    cost : array (Q, K)
        Of one query on each deployment.
    count : array (Q,)
        How often each query occurs.
    gain : array (R, Q, K)
        What one query on each deployment adds to each total.
    floor : array (R,)

    Returns
    -------
    shares : array (Q, K)
        Rows sum to 1; queries that tie at the optimal prices may be split.

    Raises
    ------
    ParameterError
        If the floors cannot be reached.
    WattshedError
        If the search does not end.
    """
    k = cost.shape[1]
    rows = np.arange(len(cost))
    columns: list[NDArray[np.int64]] = [np.full(len(cost), index) for index in range(k)]
    columns += [table.argmax(axis=1) for table in gain]
    tolerance = STOP * float(count @ np.ptp(cost, axis=1))

    def totals(column: NDArray[np.int64]) -> list[float]:
        """Cost and gains of a whole assignment."""
        return [float(count @ table[rows, column]) for table in (cost, *gain)]

    found = [totals(column) for column in columns]
    while len(columns) < MAX_COLUMNS:
        weights, price, base = _master(np.array(found), floor)
        reduced = cost - np.tensordot(price, gain, axes=1)
        if count @ reduced.min(axis=1) >= base - tolerance:
            chosen = np.eye(k)[np.array(columns)]
            return np.asarray(np.tensordot(weights, chosen, axes=1))
        columns.append(reduced.argmin(axis=1))
        found.append(totals(columns[-1]))
    message = f"no optimum after {MAX_COLUMNS} assignments"
    raise WattshedError(message)


def _master(totals: Array, floor: Array) -> tuple[Array, Array, float]:
    """Weights of assignments with cost and gains (C, 1 + R), price of each floor, and of all."""
    from scipy.optimize import linprog

    found = linprog(
        totals[:, 0],
        A_ub=-totals[:, 1:].T,
        b_ub=-floor,
        A_eq=np.ones((1, len(totals))),
        b_eq=[1.0],
        method="highs",
    )
    if found.status != 0:
        raise ParameterError("floor", f"{floor.tolist()} cannot be reached", "lower the floors")
    return (
        np.asarray(found.x),
        -np.asarray(found.ineqlin.marginals),
        float(found.eqlin.marginals[0]),
    )
