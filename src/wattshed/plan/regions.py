"""Where a plan's rule sends a query at each (m, n): the picture behind every threshold rule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wattshed.fit.forms import Array
from wattshed.fleet import Fleet
from wattshed.plan.rule import choose
from wattshed.records import PriceRule
from wattshed.workload.table import Queries

POINTS = 96


@dataclass(frozen=True)
class Regions:
    """The cheapest deployment, prices included, over a log-spaced grid.

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


def find_regions(fleet: Fleet, rule: PriceRule, around: Queries, slo_class: str = "") -> Regions:
    """Find the cheapest eligible deployment of a fleet on a grid that spans some queries.

    Parameters
    ----------
    fleet : Fleet
    rule : PriceRule
        Of the plan whose regions are drawn.
    around : Queries
    slo_class : str
        Class of every query of the grid.
    """
    m, n = _grid(around.m), _grid(around.n)
    mm, nn = np.meshgrid(m, n)
    ones = np.ones(mm.size, np.int64)
    choice = choose(fleet, rule, Queries(mm.ravel(), nn.ravel(), ones, 0 * ones, (slo_class,)))
    names = sorted(d.name for d in fleet.deployments)
    if (choice < 0).any():
        choice = np.where(choice < 0, len(names), choice)
        names.append("no deployment")
    return Regions(m, n, choice.reshape(mm.shape), names)


def _grid(tokens: Array) -> Array:
    low, high = tokens.min(), tokens.max()
    return np.unique(np.geomspace(low, max(high, low + 1), POINTS).round())
