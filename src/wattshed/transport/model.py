"""The assignment problem with coupling constraints, as arrays.

    minimise    sum_qk count_q x_qk cost_qk
    subject to  sum_k x_qk = 1,  x >= 0,  x_qk = 0 where not eligible
                sum_qk count_q x_qk usage_j(q, k) <= bound_j      for each constraint j

with usage_j(q, k) = U_jk0 + sum_d U_jkd feature_d(q, k): constant per deployment plus linear
in features such as energy and runtime. Few constraints couple millions of queries, so
everything is decided by one price for each of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

PEEK = 100
"""Queries by which nearly all deployments that differ are told apart."""


@dataclass(frozen=True)
class Constraint:
    """One coupling constraint: total usage at most `bound`.

    Attributes
    ----------
    name : str
        What people call it, e.g. ``busy time of a100``.
    unit : str
        Of `bound`, e.g. ``s``.
    usage : array (K, D + 1)
        Usage by one query on each deployment: a constant, then a factor on each feature.
    bound : float
    stated_per : float
        What people divide the bound by to state it: the queries of a mean, negative for a
        floor.
    """

    name: str
    unit: str
    usage: Array
    bound: float
    stated_per: float = 1.0

    def stated(self, bound: float) -> str:
        """A bound as people state it, e.g. ``runtime budget 1.2 s``."""
        unit = self.unit if self.stated_per == 1 or self.unit == "s" else ""
        return f"{self.name} {bound / self.stated_per:.6g} {unit}".rstrip()


@dataclass(frozen=True)
class Model:
    """The arrays of one problem, constraints scaled by their bounds.

    Attributes
    ----------
    cost : array (Q, K)
    features : array (D, Q, K)
    eligible : bool array (Q, K)
        Every query has at least one eligible deployment.
    count : array (Q,)
        How often each query occurs, whole numbers.
    constraints : tuple of Constraint, length J
    usage : array (J, K, D + 1)
        Of the constraints, divided by `scale`.
    bound, scale : arrays (J,)
    reach : array (D + 1,)
        Reciprocal typical size of each feature that a constraint uses, else 0: turns a
        change of prices into a relative change of a query's cost.
    kind : int array (K,)
        Equal for deployments that serve every query alike: all queries tie between them.
    """

    cost: Array
    features: Array
    eligible: NDArray[np.bool_]
    count: Array
    constraints: tuple[Constraint, ...]
    usage: Array
    bound: Array
    scale: Array
    reach: Array
    kind: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, int]:
        """(Q, K)."""
        return self.cost.shape[0], self.cost.shape[1]

    def sample(self, size: int, rng: np.random.Generator) -> Model:
        """The same problem over `size` of its queries, each counting as much as the others.

        One is drawn from each of `size` equal parts of the total count.
        """
        ends = np.cumsum(self.count)
        unit = ends[-1] / size
        drawn = np.searchsorted(ends, unit * (np.arange(size) + rng.random(size)), "right")
        rows, often = np.unique(drawn.clip(max=len(ends) - 1), return_counts=True)
        return replace(
            self,
            cost=np.ascontiguousarray(self.cost[rows]),
            features=np.ascontiguousarray(self.features[:, rows]),
            eligible=np.ascontiguousarray(self.eligible[rows]),
            count=often * unit,
        )

    def sizes(self, rows: NDArray[np.int64]) -> Array:
        """By how much a query's priced cost moves with prices, (T,): leads are relative to it."""
        eligible = self.eligible[rows]
        used = sum(r * np.abs(f[rows]) for r, f in zip(self.reach[1:], self.features, strict=True))
        total = np.where(eligible, used, 0.0).sum(axis=1)
        return np.asarray(self.reach[0] + total / eligible.sum(axis=1))

    def prices_by_deployment(self, price: Array) -> Array:
        """Prices (J,) as a surcharge on a query's constant and features, (K, D + 1)."""
        return np.asarray(np.tensordot(price, self.usage, 1))

    def loads(self, totals: Array) -> Array:
        """Usage (J,) of the constraints from totals by deployment (K, D + 1)."""
        return np.asarray(np.tensordot(self.usage, totals, 2))


def make_model(
    cost: Array,
    features: Array,
    eligible: NDArray[np.bool_],
    count: Array,
    constraints: tuple[Constraint, ...],
) -> Model:
    """Scale and store a problem; arrays are not copied where they already fit.

    A bound of zero or less is scaled by the largest usage that the constraint could see.
    """
    usage = np.array([c.usage for c in constraints]).reshape(
        len(constraints), cost.shape[1], len(features) + 1
    )
    bound = np.array([c.bound for c in constraints], float)
    step = max(1, len(cost) // 5000)
    typical = np.array([1.0, *(max(float(np.abs(f[::step]).mean()), 1e-300) for f in features)])
    largest = np.abs(usage * typical).sum(axis=(1, 2)) * count.sum()
    scale = np.where(np.abs(bound) > 1e-9 * largest, np.abs(bound), np.maximum(largest, 1e-300))
    used = (usage != 0).any(axis=(0, 1)) if len(constraints) else np.zeros(len(typical), bool)
    return Model(
        np.ascontiguousarray(cost, float),
        np.ascontiguousarray(features, float),
        np.ascontiguousarray(eligible),
        np.ascontiguousarray(count, float),
        constraints,
        usage / scale[:, None, None],
        bound / scale,
        scale,
        np.where(used, 1 / typical, 0.0),
        _kinds((cost, eligible, *features)),
    )


def _kinds(tables: tuple[NDArray[Any], ...]) -> NDArray[np.int64]:
    """The first deployment whose columns are the same, for each, (K,)."""
    kind = np.arange(tables[0].shape[1])
    for second in range(1, len(kind)):
        for first in range(second):
            if all(
                np.array_equal(table[:PEEK, first], table[:PEEK, second])
                and np.array_equal(table[:, first], table[:, second])
                for table in tables
            ):
                kind[second] = first
                break
    return kind
