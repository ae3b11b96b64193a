"""`wattshed.assign`: the exact assignment of arrays of queries under capacities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wattshed.errors import InfeasibleError, ParameterError, UnservableError
from wattshed.transport.model import Array, Constraint, Model, make_model
from wattshed.transport.solve import Solution, solve

CONFLICT = 1e-4
"""Limits whose price of exceeding them is at least that part of the largest are in conflict."""


@dataclass(frozen=True)
class Assignment:
    """An assignment of whole queries, with the proof of how good it is.

    Attributes
    ----------
    choice : int array (Q,)
        Deployment of each query; of most of a row's count where `splits` spreads it.
    splits : list of (row, deployment, count)
        All parts of the rows whose count goes to several deployments.
    fractional : int
        Rows that the fractional optimum split, before they were made whole.
    energy_j, runtime_s : float
        Totals.
    lower_bound_j : float
        No assignment that keeps the constraints needs less energy.
    gap : float
        (energy_j - lower_bound_j) / energy_j.
    lp_gap : float
        The same for the fractional optimum: how far the bound is proven.
    busy_price_j_per_s : array (K,)
        Energy that one more second of each deployment's busy time would save.
    share_price_j : array (K,)
        Energy that one more query of room would save: positive where the largest share
        binds, negative where the smallest does.
    runtime_price_j_per_s : float
        Energy that one more second of total runtime would save.
    accuracy_price_j : float
        Energy that one query's worth less of accuracy (1.0 less in total) would save.
    passes : int
        Passes over all queries.
    converged : bool
        Whether the bound is proven and every constraint kept; False after an interrupt.
    """

    choice: NDArray[np.int32]
    splits: list[tuple[int, int, int]]
    fractional: int
    energy_j: float
    runtime_s: float
    lower_bound_j: float
    gap: float
    lp_gap: float
    busy_price_j_per_s: Array
    share_price_j: Array
    runtime_price_j_per_s: float
    accuracy_price_j: float
    passes: int
    converged: bool


def assign(  # noqa: PLR0913 - one argument for each constraint
    energy_j: ArrayLike,
    runtime_s: ArrayLike,
    *,
    count: ArrayLike | None = None,
    eligible: ArrayLike | None = None,
    accuracy: ArrayLike | None = None,
    max_busy_s: ArrayLike | None = None,
    min_share: ArrayLike | None = None,
    max_share: ArrayLike | None = None,
    max_mean_runtime_s: float | None = None,
    min_accuracy: float | None = None,
    on_progress: Callable[[float, float], None] | None = None,
) -> Assignment:
    """Assign each query to one deployment at the least energy, within constraints.

    Parameters
    ----------
    energy_j, runtime_s : array-like (Q, K)
        Of each query on each deployment.
    count : array-like (Q,), optional
        How often each row occurs; 1 unless told.
    eligible : bool array-like (Q, K), optional
        Where a query may go; everywhere unless told.
    accuracy : array-like (K,) or (Q, K), optional
        In any unit; its mean over queries is what `min_accuracy` bounds.
    max_busy_s : array-like (K,) or float, optional
        Largest total runtime of each deployment; inf for none.
    min_share, max_share : array-like (K,) or float, optional
        Bounds on the part of the queries that each deployment gets.
    max_mean_runtime_s : float, optional
    min_accuracy : float, optional
    on_progress : callable, optional
        Called with (lower bound in J, relative gap).

    Returns
    -------
    Assignment

    Raises
    ------
    ParameterError
        On arrays of the wrong shape or with values that are not finite.
    UnservableError
        If a query may go nowhere.
    InfeasibleError
        If the constraints cannot all hold; names them, and the least relaxation.
    """
    energy, runtime = _matrix("energy_j", energy_j), _matrix("runtime_s", runtime_s)
    if energy.shape != runtime.shape:
        raise ParameterError(
            "runtime_s", f"shape {runtime.shape} differs from energy_j {energy.shape}", "match them"
        )
    rows, k = energy.shape
    counts = np.ones(rows) if count is None else _vector("count", count, rows)
    allowed = _eligibility(eligible, energy.shape)
    limits = _Limits(k, float(counts.sum()))
    limits.busy(max_busy_s)
    limits.shares(min_share, max_share)
    limits.mean_runtime(max_mean_runtime_s)
    extra = limits.accuracy(accuracy, min_accuracy, energy.shape)
    features = runtime[None] if extra is None else np.stack([runtime, extra])
    constraints = limits.constraints(len(features))
    model = make_model(energy, features, allowed, counts, constraints)
    solution = solve(model, on_progress)
    refuse_infeasible(model, solution)
    return _describe(model, solution, runtime)


def spread(
    choice: NDArray[np.int32],
    splits: list[tuple[int, int, int]],
    count: NDArray[np.int64],
    deployments: int,
) -> Array:
    """Part of each row's count that each deployment gets, array (Q, K).

    Parameters
    ----------
    choice : int array (Q,)
    splits : list of (row, deployment, count)
        Every part of the rows that `choice` does not hold alone.
    count : int array (Q,)
    deployments : int
        Their number, K.
    """
    shares = np.eye(deployments)[choice]
    shares[[row for row, _, _ in splits]] = 0.0
    for row, deployment, queries in splits:
        shares[row, deployment] += queries / count[row]
    return shares


def refuse_infeasible(model: Model, solution: Solution) -> None:
    """Raise if the constraints conflict, or if no whole assignment keeps them.

    Raises
    ------
    InfeasibleError
    """
    if not solution.feasible:
        steep = solution.price * model.scale
        stated = list(zip(model.constraints, solution.excess, steep, strict=True))
        conflict = [c.stated(c.bound) for c, _, price in stated if price > CONFLICT * steep.max()]
        relaxed = [c.stated(_relaxed(c, excess)) for c, excess, _ in stated if excess > 0]
        raise InfeasibleError(
            "limits",
            f"they cannot all hold: {', '.join(conflict)}"
            f"{' are in conflict' if len(conflict) > 1 else ' is out of reach'}",
            f"the least relaxation is {', '.join(relaxed)}",
        )
    if not solution.whole and not solution.interrupted:
        raise InfeasibleError(
            "constraints",
            "only an assignment that splits queries was found within them",
            "leave a little more room in the bounds",
        )


def _relaxed(constraint: Constraint, excess: float) -> float:
    """The bound with what it is exceeded by, rounded so that it holds as it is stated."""
    wanted = (constraint.bound + excess) / constraint.stated_per
    step = 10.0 ** (np.floor(np.log10(max(abs(wanted), 1e-300))) - 5)
    towards = np.floor if constraint.stated_per < 0 else np.ceil
    return float(towards(wanted / step) * step * constraint.stated_per)


class _Limits:
    """Collects constraints on totals of queries, runtime and accuracy."""

    def __init__(self, k: int, total: float) -> None:
        self.k = k
        self.total = total
        self.found: list[tuple[str, str, dict[int, Array], float, float]] = []

    def busy(self, limit: ArrayLike | None) -> None:
        for index, bound in self._each("max_busy_s", limit, 0.0, np.inf):
            one = np.zeros(self.k)
            one[index] = 1.0
            self.found.append((f"busy time of deployment {index}", "s", {1: one}, bound, 1.0))

    def shares(self, low: ArrayLike | None, high: ArrayLike | None) -> None:
        for index, bound in self._each("max_share", high, 0.0, 1.0):
            one = np.zeros(self.k)
            one[index] = 1.0
            name = f"largest share of deployment {index}"
            self.found.append((name, "queries", {0: one}, bound * self.total, self.total))
        for index, bound in self._each("min_share", low, 0.0, 1.0):
            one = np.zeros(self.k)
            one[index] = -1.0
            name = f"smallest share of deployment {index}"
            self.found.append((name, "queries", {0: one}, -bound * self.total, -self.total))

    def mean_runtime(self, limit: float | None) -> None:
        if limit is not None:
            every = np.ones(self.k)
            bound = float(limit) * self.total
            self.found.append(("runtime budget", "s", {1: every}, bound, self.total))

    def accuracy(
        self, accuracy: ArrayLike | None, floor: float | None, shape: tuple[int, int]
    ) -> Array | None:
        """Add the accuracy floor; returns the feature (Q, K) it needs, if any."""
        if floor is None:
            return None
        if accuracy is None:
            raise ParameterError("min_accuracy", "there is no accuracy", "give accuracy, too")
        values = np.asarray(accuracy, float)
        bound = -float(floor) * self.total
        if values.shape == (self.k,):
            self.found.append(("accuracy floor", "", {0: -values}, bound, -self.total))
            return None
        if values.shape != shape:
            raise ParameterError(
                "accuracy", f"shape {values.shape}", f"give ({self.k},) or {shape}"
            )
        self.found.append(("accuracy floor", "", {2: -np.ones(self.k)}, bound, -self.total))
        return values

    def constraints(self, features: int) -> tuple[Constraint, ...]:
        made = []
        for name, unit, columns, bound, stated_per in self.found:
            usage = np.zeros((self.k, features + 1))
            for column, values in columns.items():
                usage[:, column] = values
            made.append(Constraint(name, unit, usage, bound, stated_per))
        return tuple(made)

    def _each(
        self, name: str, limit: ArrayLike | None, low: float, high: float
    ) -> list[tuple[int, float]]:
        """The (deployment, bound) pairs that bind anything."""
        if limit is None:
            return []
        values = np.broadcast_to(np.asarray(limit, float), (self.k,))
        if np.isnan(values).any() or (values < low).any() or (values > high).any():
            raise ParameterError(
                name, f"{values.tolist()}", f"give values from {low:g} to {high:g}"
            )
        idle = {"max_busy_s": np.inf, "max_share": 1.0, "min_share": 0.0}[name]
        return [(i, float(v)) for i, v in enumerate(values) if v != idle]


def _matrix(name: str, values: ArrayLike) -> Array:
    array = np.asarray(values, float)
    if array.ndim != 2 or not array.size:
        raise ParameterError(name, f"shape {array.shape}", "give an array (queries, deployments)")
    if not np.isfinite(array).all():
        raise ParameterError(name, "values that are not finite", "mark them not eligible instead")
    return array


def _vector(name: str, values: ArrayLike, rows: int) -> Array:
    array = np.asarray(values, float)
    if array.shape != (rows,):
        raise ParameterError(name, f"shape {array.shape}", f"give ({rows},)")
    if not ((array >= 1) & (array == np.round(array))).all():
        raise ParameterError(name, "values that are not whole and positive", "count queries")
    return array


def _eligibility(eligible: ArrayLike | None, shape: tuple[int, int]) -> NDArray[np.bool_]:
    if eligible is None:
        return np.ones(shape, bool)
    array = np.asarray(eligible, bool)
    if array.shape != shape:
        raise ParameterError("eligible", f"shape {array.shape}", f"give {shape}")
    nowhere = np.flatnonzero(~array.any(axis=1))
    if len(nowhere):
        raise UnservableError(
            f"query {nowhere[0]}", "no deployment is eligible", "make one eligible or drop it"
        )
    return array


def _describe(model: Model, solution: Solution, runtime: Array) -> Assignment:
    k = model.shape[1]
    busy, share = np.zeros(k), np.zeros(k)
    budget, accuracy = 0.0, 0.0
    for constraint, price in zip(model.constraints, solution.price, strict=True):
        queries, seconds = constraint.usage[:, 0], constraint.usage[:, 1]
        if constraint.name.startswith("busy"):
            busy += price * seconds
        elif constraint.name == "runtime budget":
            budget = float(price)
        elif constraint.name == "accuracy floor":
            accuracy = float(price)
        else:
            share += price * queries
    rows = np.arange(len(solution.choice))
    count = model.count.copy()
    count[[row for row, _, _ in solution.splits]] = 0.0
    total_s = float(count @ runtime[rows, solution.choice])
    total_s += sum(w * float(runtime[row, k]) for row, k, w in solution.splits)
    return Assignment(
        choice=solution.choice,
        splits=solution.splits,
        fractional=solution.fractional,
        energy_j=solution.cost,
        runtime_s=total_s,
        lower_bound_j=solution.bound,
        gap=solution.gap,
        lp_gap=solution.lp_gap,
        busy_price_j_per_s=busy,
        share_price_j=share,
        runtime_price_j_per_s=budget,
        accuracy_price_j=accuracy,
        passes=solution.passes,
        converged=solution.converged,
    )
