"""What each deployment would make of a request: who may serve it, how long, at which cost.

Predictions are pure, and few sizes of requests make up most of a workload, so they are
remembered.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from wattshed.fleet import Fleet
from wattshed.plan.problem import predict_problem
from wattshed.plan.rule import energy_rule, priced_cost, refuse_other_deployments
from wattshed.records import PriceRule, Request
from wattshed.workload.table import Queries

Size = tuple[int, float, str]
"""Input tokens, expected output tokens and SLO class."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """The deployments that may serve a request.

    Attributes
    ----------
    cost_j : dict
        J or J-equivalents by the rule; least first, equal ones by name.
    runtime_s : dict
        Of the request alone; the same deployments.
    """

    cost_j: dict[str, float]
    runtime_s: dict[str, float]


class Outlooks:
    """Outlooks of requests on a fleet.

    Parameters
    ----------
    fleet : Fleet
    rule : PriceRule, optional
        Energy alone unless told.
    remembered : int
        Sizes of requests that are kept before the oldest are forgotten, each about 1 kB for four
        deployments. May be set later.
    """

    def __init__(
        self, fleet: Fleet, rule: PriceRule | None = None, remembered: int = 65_536
    ) -> None:
        self._fleet = fleet
        self.remembered = remembered
        self._rule = energy_rule(fleet) if rule is None else rule
        refuse_other_deployments(self._rule, fleet)
        self._known: dict[Size, Outlook] = {}
        self._latest: tuple[Request | None, Outlook] = None, Outlook({}, {})

    def of(self, request: Request) -> Outlook:
        """The outlook of one request."""
        latest, found = self._latest
        if request is latest:  # a policy asks, and who tells what it weighed
            return found
        found = self._known_of(request)
        self._latest = request, found
        return found

    def _known_of(self, request: Request) -> Outlook:
        size = (request.input_tokens, forecast(request), request.slo_class)
        found = self._known.get(size)
        if found is None:
            m, n, name = size
            one = np.ones(1, np.int64)
            self.learn(Queries(np.array([float(m)]), np.array([n]), one, 0 * one, (name,)))
            found = self._known[size]
        return found

    def learn(self, queries: Queries) -> None:
        """Predict many at once, which costs less for each; `n` is the forecast."""
        sizes = zip(queries.m.tolist(), queries.n.tolist(), queries.group.tolist(), strict=True)
        for (m, n, group), outlook in zip(
            sizes, outlooks(self._fleet, self._rule, queries), strict=True
        ):
            while len(self._known) >= self.remembered:
                del self._known[next(iter(self._known))]
            self._known[int(m), n, queries.classes[group]] = outlook


def forecast(request: Request) -> float:
    """Expected output tokens, no more than the request allows."""
    expected, most = request.expected_output_tokens, request.max_output_tokens
    return expected if most is None or expected <= most else float(most)


def outlooks(fleet: Fleet, rule: PriceRule, queries: Queries) -> Iterator[Outlook]:
    """Outlook of each of Q queries."""
    problem = predict_problem(fleet, queries)
    cost = priced_cost(problem, rule)
    order = np.argsort(cost, axis=1, kind="stable").tolist()
    eligible = problem.eligible.tolist()
    names = problem.names
    rows = zip(order, eligible, cost.tolist(), problem.runtime_s.tolist(), strict=True)
    for ranked, admitted, costs, runtimes in rows:
        those = [k for k in ranked if admitted[k]]
        yield Outlook({names[k]: costs[k] for k in those}, {names[k]: runtimes[k] for k in those})
