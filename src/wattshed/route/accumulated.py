"""The online study's accumulators: a total of costs for each deployment, the least is next.

Wilkins, dissertation (``gfw27_project.pdf``), algorithms 1 and 2. A query of m input and n
output tokens costs ζ ê - (1 - ζ) â on a deployment: its energy, and its accuracy times
m + n, both scaled to [0, 1] by the least and the most among the last queries that the
deployment was sent. So a cost says how large a query is among those of its own deployment, and
not which deployment needs less energy. Here to be compared with, not to be used.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import NamedTuple

import numpy as np

from wattshed.errors import ParameterError
from wattshed.fleet import Fleet
from wattshed.plan.cost import accuracies
from wattshed.plan.problem import predict_problem
from wattshed.records import Decision, Endpoint, Request, Served
from wattshed.route.outlook import Outlook, forecast
from wattshed.route.policy import FilteredPolicy, load_and_name
from wattshed.workload.table import Queries

REMEMBERED = 100
"""Queries of each deployment by which its costs are scaled, as the study's code has it."""
RESET_EVERY = 10
"""All totals return to 0 when the chosen deployment remembers a multiple of as many."""
FIRST_TOKENS = 2048
"""Until a deployment was sent anything, 0 and a query of as many tokens in and out scale."""


class Size(NamedTuple):
    """What a query is on one deployment: energy in J, and accuracy x (m + n) in tokens."""

    energy_j: float
    quality: float


class Past:
    """What a deployment was sent last.

    Parameters
    ----------
    most : Size
        Stands for the largest until there is one; the smallest is then 0.
    """

    def __init__(self, most: Size) -> None:
        self._first = (Size(0.0, 0.0), most)
        self._held: deque[Size] = deque(maxlen=REMEMBERED)

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, size: Size) -> None:
        """Remember a query, and forget the one before the last 100."""
        self._held.append(size)

    def cost(self, size: Size, zeta: float) -> float:
        """ζ ê - (1 - ζ) â; below 0 or above 1 where no remembered query is so small or large."""
        known = self._held or self._first
        energy, quality = (
            _scaled(value, min(past), max(past))
            for value, past in zip(size, zip(*known, strict=True), strict=True)
        )
        return zeta * energy - (1 - zeta) * quality


def _scaled(value: float, least: float, most: float) -> float:
    return (value - least) / (most - least) if most != least else 0.0


class Accumulated(FilteredPolicy):
    """Where the accumulated cost and the query's own are least together.

    Parameters
    ----------
    fleet : Fleet
    zeta : float
        Weight of energy in [0, 1]; the rest is that of accuracy.
    queue_weight : float
        Added for each request that waits: 0 in algorithm 1, 0.1 in algorithm 2.
    printed : bool
        Add the whole minimum, the deployment's total included, so that the total doubles
        with each request: algorithms 1 and 2 to the letter. Otherwise add the request's own
        cost, and take it off, scaled anew, when the request has finished, as the study's
        code does; then all totals return to 0 at the 1st, 11th, 21st, ... request of any
        deployment, and from its 101st on at each.

    Raises
    ------
    ParameterError
        If a setting is out of range, or a deployment has no accuracy where it counts.
    """

    def __init__(self, fleet: Fleet, *, zeta: float, queue_weight: float, printed: bool) -> None:
        super().__init__(fleet, self._least)
        _refuse_outside(zeta, queue_weight)
        self._zeta, self._queue_weight, self._printed = zeta, queue_weight, printed
        self._accuracy, most = _largest(fleet, weighs_accuracy=zeta < 1)
        self._pasts = {name: Past(size) for name, size in most.items()}
        self._totals = dict.fromkeys(most, 0.0)
        self._unfinished: dict[str, tuple[str, Size]] = {}

    def finished(self, served: Served) -> None:
        """Take a finished request's cost off; see `Attentive`."""
        self._take_off(served.id)

    def _take_off(self, request_id: str) -> None:
        found = self._unfinished.pop(request_id, None)
        if found is not None:
            name, size = found
            self._totals[name] -= self._pasts[name].cost(size, self._zeta)

    def _least(self, request: Request, outlook: Outlook, found: list[Endpoint]) -> Decision:
        self._take_off(request.id)  # sent once more: it is not where it was
        waiting: Counter[str] = Counter()
        for endpoint in found:
            waiting[endpoint.deployment] += endpoint.waiting
        tokens = request.input_tokens + forecast(request)
        sizes = {
            name: Size(outlook.cost_j[name], self._accuracy[name] * tokens)
            for name in self._totals
            if name in waiting
        }
        own = {name: self._pasts[name].cost(size, self._zeta) for name, size in sizes.items()}
        costs = {
            name: self._totals[name] + cost + self._queue_weight * waiting[name]
            for name, cost in own.items()
        }
        chosen = min(costs, key=costs.__getitem__)
        if not np.isfinite(costs[chosen]):
            return Decision(None, f"the total of {chosen} doubled until it overflowed")
        self._account(request.id, chosen, sizes[chosen], own[chosen], costs[chosen])
        endpoint = min((e for e in found if e.deployment == chosen), key=load_and_name)
        return Decision(endpoint.name, "", {k: c for k, c in costs.items() if np.isfinite(c)})

    def _account(self, request_id: str, name: str, size: Size, own: float, least: float) -> None:
        if self._printed:
            self._totals[name] += least
        else:
            self._unfinished[request_id] = name, size
            self._totals[name] += own
            if len(self._pasts[name]) % RESET_EVERY == 0:
                self._totals = dict.fromkeys(self._totals, 0.0)
        self._pasts[name].hold(size)


def accumulated_printed(
    fleet: Fleet, *, zeta: float = 0.5, queue_weight: float = 0.0
) -> Accumulated:
    """The study's online algorithms to the letter, whose totals double until they overflow.

    Parameters
    ----------
    fleet : Fleet
    zeta, queue_weight : float
        See `Accumulated`.
    """
    return Accumulated(fleet, zeta=zeta, queue_weight=queue_weight, printed=True)


def accumulated_coded(fleet: Fleet, *, zeta: float = 0.5, queue_weight: float = 0.0) -> Accumulated:
    """The study's online algorithms as its code has them; must be told what has finished.

    Parameters
    ----------
    fleet : Fleet
    zeta, queue_weight : float
        See `Accumulated`.
    """
    return Accumulated(fleet, zeta=zeta, queue_weight=queue_weight, printed=False)


def _refuse_outside(zeta: float, queue_weight: float) -> None:
    if not 0 <= zeta <= 1:
        raise ParameterError("zeta", f"is {zeta:g}", "give a weight of energy from 0 to 1")
    if not 0 <= queue_weight < np.inf:
        raise ParameterError("queue_weight", f"is {queue_weight:g}", "give 0 or more")


def _largest(fleet: Fleet, *, weighs_accuracy: bool) -> tuple[dict[str, float], dict[str, Size]]:
    """Accuracy of each deployment, in the fleet's order, and a query of 2048 and 2048 tokens."""
    one = np.ones(1)
    count = np.ones(1, np.int64)
    problem = predict_problem(
        fleet, Queries(FIRST_TOKENS * one, FIRST_TOKENS * one, count, 0 * count)
    )
    known = accuracies(problem) if weighs_accuracy else np.zeros(len(problem.names))
    by_name = dict(zip(problem.names, known.tolist(), strict=True))
    energy_j = dict(zip(problem.names, problem.energy_j[0].tolist(), strict=True))
    accuracy = {d.name: by_name[d.name] for d in fleet.deployments}
    tokens = 2 * FIRST_TOKENS
    return accuracy, {name: Size(energy_j[name], a * tokens) for name, a in accuracy.items()}
