"""Which deployment is cheapest at each (m, n): the picture behind every threshold rule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wattshed.fit.forms import Array
from wattshed.fleet import Fleet
from wattshed.plan.cost import Scales, Weights, cost_matrix, least_cost
from wattshed.plan.problem import predict_problem
from wattshed.workload.table import Queries

POINTS = 96


@dataclass(frozen=True)
class Regions:
    """The cheapest deployment over a log-spaced grid.

    Attributes
    ----------
    m, n : arrays
        Grid coordinates in tokens.
    cheapest : int array (len(n), len(m))
        Index into `names`.
    names : list of str
        Deployments, then ``no deployment`` where some queries are admitted by none.
    """

    m: Array
    n: Array
    cheapest: NDArray[np.int64]
    names: list[str]


def find_regions(fleet: Fleet, scales: Scales, weights: Weights, around: Queries) -> Regions:
    """Find the cheapest eligible deployment of a fleet on a grid that spans some queries.

    Parameters
    ----------
    fleet : Fleet
    scales : Scales
        Of the plan whose regions are drawn.
    weights : Weights
    around : Queries
    """
    m, n = _grid(around.m), _grid(around.n)
    mm, nn = np.meshgrid(m, n)
    ones = np.ones(mm.size, np.int64)
    queries = Queries(mm.ravel(), nn.ravel(), ones, 0 * ones)
    shape = (mm.size, len(fleet.deployments))
    problem = predict_problem(fleet, queries, np.zeros(shape, np.int64))
    choice = least_cost(cost_matrix(problem, weights, scales))
    served = problem.eligible.any(axis=1)
    choice = np.where(served, choice, len(problem.names))
    names = problem.names if served.all() else [*problem.names, "no deployment"]
    return Regions(m, n, choice.reshape(mm.shape), names)


def _grid(tokens: Array) -> Array:
    low, high = tokens.min(), tokens.max()
    return np.unique(np.geomspace(low, max(high, low + 1), POINTS).round())
