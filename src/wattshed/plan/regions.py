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
        Deployments, then ``no deployment`` for queries that none admits.
    """

    m: Array
    n: Array
    cheapest: NDArray[np.int64]
    names: list[str]


def find_regions(
    fleet: Fleet, scales: Scales, weights: Weights, *, longest: tuple[int, int]
) -> Regions:
    """Find the cheapest eligible deployment of a fleet on a grid up to `longest` (m, n).

    Parameters
    ----------
    fleet : Fleet
    scales : Scales
        Of the plan whose regions are drawn.
    weights : Weights
    longest : tuple of int
        Largest m and n.
    """
    m, n = _grid(longest[0]), _grid(longest[1])
    mm, nn = np.meshgrid(m, n)
    ones = np.ones(mm.size, np.int64)
    queries = Queries(mm.ravel(), nn.ravel(), ones)
    shape = (mm.size, len(fleet.deployments))
    problem = predict_problem(fleet, queries, np.zeros(shape, np.int64))
    choice = least_cost(cost_matrix(problem, weights, scales))
    nowhere = len(problem.names)
    choice = np.where(problem.eligible.any(axis=1), choice, nowhere)
    return Regions(m, n, choice.reshape(mm.shape), [*problem.names, "no deployment"])


def _grid(longest: int) -> Array:
    return np.unique(np.geomspace(4, max(longest, 8), POINTS).round())
