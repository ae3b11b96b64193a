"""All supported points of a trade-off, from the duals of every query's own hull.

Without constraints that couple queries, min E + ν R separates: each query sits on a vertex
of the lower-left convex hull of its (R, E) points and moves along one hull edge when the
price ν passes the slope of that edge. Sorting the edges of all queries by slope therefore
visits every supported point of the whole workload once, from the least energy (ν = 0) to
the least R (ν = ∞). Nothing is sampled.

Arrays run over queries; Python loops only over deployments. R is runtime, or accuracy with
its sign turned.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wattshed.errors import ParameterError
from wattshed.fit.forms import Array
from wattshed.plan.problem import Choice

Mask = NDArray[np.bool_]
Indices = NDArray[np.intp]

# Relative difference of a query's energies, or of its times, that is only rounding.
SAME_VALUE = 1e-12
# Prices that agree to nine digits are one: no weight in double precision tells them apart.
SAME_PRICE = 1e-9
# Queries whose hulls are marched together: few enough for the processor's cache.
BLOCK = 1 << 13


@dataclass(frozen=True)
class Front:
    """The supported points of a trade-off, by rising `other` and so by falling energy.

    Attributes
    ----------
    energy : array (P,)
        Total energy, J.
    other : array (P,)
        Total of the other quantity, in its unit: s, or accuracy with its sign turned.
    rate : array (P - 1,)
        Dual price between neighbours, J per unit of `other`; falling. Point i is the
        optimum of E + ν R for every ν in (rate[i], rate[i - 1]).
    move : array (P - 1,)
        Largest energy, J, that a single query's move contributes between neighbours.
    weight : float
        `other / weight` is the mean that people read.
    """

    energy: Array
    other: Array
    rate: Array
    move: Array
    weight: float

    @property
    def mean(self) -> Array:
        """Mean of the other quantity (P,)."""
        return self.other / self.weight


@dataclass(frozen=True)
class _Edges:
    """Hull edges of all queries, arrays (N,): slope, and what one query's move changes."""

    slope: Array
    energy: Array
    other: Array
    count: Array


def supported_front(
    energy: Array,
    other: Array,
    count: NDArray[np.int64],
    eligible: Mask | None = None,
    *,
    weight: float | None = None,
) -> Front:
    """Find every supported point of total energy against total `other`.

    Parameters
    ----------
    energy : array (Q, K)
        Joules of a query on each deployment.
    other : array (Q, K)
        What is traded for energy; less is better.
    count : int array (Q,)
        How often each query occurs. All occurrences move at the same price; plans that
        move some of them lie on the segment between two points (weakly supported).
    eligible : bool array (Q, K), optional
        Everything is eligible unless told.
    weight : float, optional
        Divisor of the mean; the number of queries unless told.

    Returns
    -------
    Front
        Its first point has the least energy among the plans of least `other`, its last
        the least `other` among the plans of least energy, to 1e-12 of each query's value.

    Raises
    ------
    ParameterError
        If a query is eligible nowhere.
    """
    E, R = _columns(energy, other, eligible)
    times = count.astype(np.float64)
    at = _cheapest(E, R)
    columns = np.arange(len(times))
    least = float(E[at, columns] @ times), float(R[at, columns] @ times)
    blocks = [slice(start, start + BLOCK) for start in range(0, len(times), BLOCK)]
    parts = [p for b in blocks for p in _hull_edges(E[:, b], R[:, b], times[b], at[b])]
    return _accumulate(least, _joined(parts), float(times.sum()) if weight is None else weight)


def choice_at(energy: Array, other: Array, price: float, eligible: Mask | None = None) -> Choice:
    """Deployment of each query (Q,) that minimises E + ν R, the lesser R among equals.

    Parameters
    ----------
    energy, other : arrays (Q, K)
    price : float
        ν in J per unit, 0 to infinity. At infinity the lesser E among equal R.
    eligible : bool array (Q, K), optional
    """
    E, R = _columns(energy, other, eligible)
    if np.isinf(price):
        return _cheapest(R, E)
    if price == 0:
        return _cheapest(E, R)
    return _cheapest(E + price * R, R, tolerance=0.0)


def _columns(energy: Array, other: Array, eligible: Mask | None) -> tuple[Array, Array]:
    """Both as contiguous (K, Q), infinite where a query may not go."""
    E, R = np.array(energy.T, np.float64, order="C"), np.array(other.T, np.float64, order="C")
    if eligible is not None:
        if not eligible.any(axis=1).all():
            raise ParameterError("eligible", "a query has no deployment", "remove the query")
        refused = ~eligible.T
        E[refused] = np.inf
        R[refused] = np.inf
    return E, R


def _cheapest(first: Array, second: Array, tolerance: float = SAME_VALUE) -> Choice:
    """Index (Q,) of the least `first` (K, Q), and of the least `second` among equals."""
    least = first.min(axis=0)
    limit = least + tolerance * np.abs(least)
    at = np.zeros(len(least), np.int64)
    best = np.full(len(least), np.inf)
    for k in range(len(first)):
        better = (first[k] <= limit) & (second[k] < best)
        at[better] = k
        np.copyto(best, second[k], where=better)
    return at


def _hull_edges(E: Array, R: Array, times: Array, at: Choice) -> list[_Edges]:
    """March a block of queries along their hulls at once, from least energy to least R."""
    found: list[_Edges] = []
    columns = np.arange(len(times))
    here_E, here_R, slope = E[at, columns], R[at, columns], np.zeros(len(times))
    for _ in range(len(E) - 1):
        following, steepness = _next_vertex(E, R, here_E, here_R)
        moves = np.flatnonzero(following >= 0)
        if not len(moves):
            break
        E, R, times, following = E[:, moves], R[:, moves], times[moves], following[moves]
        columns = columns[: len(moves)]
        next_E, next_R = E[following, columns], R[following, columns]
        # Three points on one line may come out concave by rounding.
        slope = np.maximum(slope[moves], steepness[moves])
        found.append(_Edges(slope, next_E - here_E[moves], here_R[moves] - next_R, times))
        here_E, here_R = next_E, next_R
    return found


def _next_vertex(E: Array, R: Array, here_E: Array, here_R: Array) -> tuple[Choice, Array]:
    """The neighbour (Q,) along each hull and the slope to it; -1 at the end of a hull."""
    following = np.full(len(here_E), -1, np.int64)
    slope = np.full(len(here_E), np.inf)
    reach = np.zeros(len(here_E))
    least_step = SAME_VALUE * np.abs(here_R)
    for k in range(len(E)):
        step = here_R - R[k]
        ahead = step > least_step
        candidate = np.full(len(step), np.inf)
        np.divide(E[k] - here_E, step, out=candidate, where=ahead)
        better = ahead & ((candidate < slope) | ((candidate == slope) & (step > reach)))
        following[better] = k
        np.copyto(slope, candidate, where=better)
        np.copyto(reach, step, where=better)
    return following, slope


def _joined(parts: list[_Edges]) -> _Edges:
    if not parts:
        return _Edges(*(np.zeros(0) for _ in range(4)))
    return _Edges(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("slope", "energy", "other", "count")
        )
    )


def _accumulate(least: tuple[float, float], edges: _Edges, weight: float) -> Front:
    """Apply all edges by rising slope; edges of one slope make one step."""
    start = np.array(least)
    if not len(edges.slope):
        return Front(start[:1], start[1:], np.zeros(0), np.zeros(0), weight)
    order = np.argsort(edges.slope)
    slope = edges.slope[order]
    first = np.flatnonzero(np.append(True, slope[1:] > slope[:-1] * (1 + SAME_PRICE)))
    single = edges.energy[order]
    count = edges.count[order]
    up = np.add.reduceat(single * count, first)
    down = np.add.reduceat(edges.other[order] * count, first)
    energy = np.append(start[0], start[0] + np.cumsum(up))
    other = np.append(start[1], start[1] - np.cumsum(down))
    move = np.maximum.reduceat(single, first)
    return Front(energy[::-1], other[::-1], (up / down)[::-1], move[::-1], weight)


# ---------------------------------------------------------------- prices and weights


def next_prices(front: Front) -> Array:
    """What one more unit of `other` saves at each point (P,), J; 0 at the least energy."""
    return np.append(front.rate, 0.0)


def interior_prices(front: Front) -> Array:
    """A price (P,) at which each point is the only optimum.

    The geometric mean of its dual interval. The intervals of the two ends are open; half
    the least and twice the largest rate lie inside. 1 where there is one point only.
    """
    if not len(front.rate):
        return np.ones(1)
    root = np.sqrt(front.rate)
    return np.concatenate([[2 * front.rate[0]], root[1:] * root[:-1], [front.rate[-1] / 2]])


def energy_weight(price: Array, energy_scale: float, other_scale: float) -> Array:
    """λ = 1 / (1 + ν R0/E0): the weight of energy that stands for a price ν."""
    return 1 / (1 + price * (other_scale / energy_scale))


# ---------------------------------------------------------------- choosing a point


def knee_by_distance(front: Front) -> int | None:
    """The point farthest from the chord between the ends, both axes scaled to the ends.

    None where no point lies between the ends.
    """
    if len(front.energy) < 3:
        return None
    x, y = _unit_square(front)
    return int(np.argmin(x + y))


def knee_by_rate(front: Front) -> int:
    """The fastest point from which one more percent of `other` saves less than one of energy."""
    enough = next_prices(front) * front.other < front.energy
    return int(np.argmax(enough)) if enough.any() else len(enough) - 1


def _unit_square(front: Front) -> tuple[Array, Array]:
    """The front from (0, 1) to (1, 0); needs two points."""
    x = (front.other - front.other[0]) / (front.other[-1] - front.other[0])
    y = (front.energy - front.energy[-1]) / (front.energy[0] - front.energy[-1])
    return x, y


def point_within_runtime(front: Front, max_mean_runtime_s: float) -> int:
    """The cheapest supported point whose mean runtime is within a budget.

    Its price is `next_prices(front)[index]` (J per s), its λ follows from
    `interior_prices` and `energy_weight`.

    Raises
    ------
    ParameterError
        If the fastest plan is slower.
    """
    index = _cheapest_within(front, max_mean_runtime_s)
    if index < 0:
        raise ParameterError(
            "mean runtime",
            f"{max_mean_runtime_s:g} s is out of reach",
            f"allow at least the fastest plan's {front.mean[0]:.6g} s",
        )
    return index


def point_with_accuracy(front: Front, floor: float) -> int:
    """The cheapest supported point of an accuracy front with at least this mean accuracy.

    Its price is `next_prices(front)[index]`: J that one unit less of accuracy would save.

    Raises
    ------
    ParameterError
        If the most accurate plan is less accurate.
    """
    index = _cheapest_within(front, -floor)
    if index < 0:
        raise ParameterError(
            "accuracy",
            f"{floor:g} is out of reach",
            f"ask for at most the most accurate plan's {-front.mean[0]:.6g}",
        )
    return index


def _cheapest_within(front: Front, bound: float) -> int:
    return int(np.searchsorted(front.mean, bound, side="right")) - 1


def energy_at(front: Front, mean: Array) -> Array:
    """Energy of the front, interpolated at means of `other`; flat beyond the slow end."""
    return np.asarray(np.interp(mean, front.mean, front.energy))


def thin(front: Front, points: int, keep: list[int]) -> Indices:
    """Indices of about `points` points that draw the front well; 0 keeps all.

    The ends, `keep` and every bend larger than an even share of all turning stay; the
    others are spread evenly over turning and length together.
    """
    size = len(front.energy)
    if points == 0 or size <= max(points, 3):
        return np.arange(size)
    x, y = _unit_square(front)
    dx, dy = np.diff(x), np.diff(y)
    length = np.append(0.0, np.cumsum(np.hypot(dx, dy)))
    turned = np.arctan2(dy, dx)
    turning = np.append(turned, turned[-1]) - turned[0]
    progress = length / length[-1] + turning / (turning[-1] or 1.0)
    always = np.unique([0, size - 1, *keep])
    room = max(points - len(always), 0)
    even = np.linspace(0, progress[-1], room + 2)[1:-1]
    spread = np.searchsorted(progress, even).clip(0, size - 1)
    return np.union1d(always, spread)
