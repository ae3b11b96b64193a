"""The policies that come with the package, each made from a fleet and its own settings."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

from wattshed.errors import ParameterError
from wattshed.fleet import Fleet
from wattshed.plan.rule import within
from wattshed.records import Decision, Endpoint, PriceRule, Request, Threshold
from wattshed.route.outlook import Outlook, forecast
from wattshed.route.policy import FilteredPolicy, load_and_name, send_to_first


def prices(fleet: Fleet, *, rule: PriceRule) -> FilteredPolicy:
    """Where energy plus prices is least: what a plan does, query by query.

    Parameters
    ----------
    fleet : Fleet
        As planned.
    rule : PriceRule
        Of the plan.
    """

    def cheapest(_: Request, outlook: Outlook, found: list[Endpoint]) -> Decision:
        return send_to_first(outlook.cost_j, outlook, found)

    return FilteredPolicy(fleet, cheapest, rule)


def single(fleet: Fleet, *, deployment: str) -> FilteredPolicy:
    """All to one deployment; what may not go there goes where it needs the least energy."""
    _refuse_unknown(fleet, deployment)

    def pick(_: Request, outlook: Outlook, found: list[Endpoint]) -> Decision:
        return send_to_first([deployment, *outlook.cost_j], outlook, found)

    return FilteredPolicy(fleet, pick)


def threshold(
    fleet: Fleet,
    *,
    small: str,
    large: str,
    t_in: float | None = None,
    t_out: float | None = None,
    product: float | None = None,
) -> FilteredPolicy:
    """Short requests to one deployment, the others to another; see `Threshold`.

    A short one that may not go to `small` goes to `large`; what may go to neither goes where it
    needs the least energy.
    """
    rule = Threshold(small, large, t_in, t_out, product)
    _refuse_unknown(fleet, small, large)
    if t_in is None and t_out is None and product is None:
        cure = "give t_in, t_out or product in tokens, or several"
        raise ParameterError("policy threshold", "has no threshold", cure)

    def pick(request: Request, outlook: Outlook, found: list[Endpoint]) -> Decision:
        short = within(rule, float(request.input_tokens), forecast(request))
        order = [small, large] if short else [large]
        return send_to_first([*order, *outlook.cost_j], outlook, found)

    return FilteredPolicy(fleet, pick)


def least_loaded(fleet: Fleet) -> FilteredPolicy:
    """Join the shortest queue: the fewest requests running and waiting."""

    def pick(_request: Request, _outlook: Outlook, found: list[Endpoint]) -> Decision:
        loads = {e.name: float(e.running + e.waiting) for e in found}
        return Decision(min(found, key=load_and_name).name, "", loads)

    return FilteredPolicy(fleet, pick)


def round_robin(fleet: Fleet) -> FilteredPolicy:
    """Endpoints in turn, by name."""
    return FilteredPolicy(fleet, Turns().pick)


class Turns:
    """Whose turn it is: the name after the last one."""

    def __init__(self) -> None:
        self.last = ""

    def pick(self, _request: Request, _outlook: Outlook, found: list[Endpoint]) -> Decision:
        """The next endpoint by name, after the last the first."""
        names = sorted(e.name for e in found)
        self.last = names[bisect_right(names, self.last) % len(names)]
        return Decision(self.last)


def random(fleet: Fleet, *, seed: int = 0) -> FilteredPolicy:
    """Any endpoint, each as likely as another."""
    rng = np.random.default_rng(np.random.SeedSequence(seed))

    def pick(_request: Request, _outlook: Outlook, found: list[Endpoint]) -> Decision:
        names = sorted(e.name for e in found)
        return Decision(names[int(rng.integers(len(names)))])

    return FilteredPolicy(fleet, pick)


def power_of_two(fleet: Fleet, *, seed: int = 0) -> FilteredPolicy:
    """Of two endpoints drawn at random the less loaded, the first drawn if both are alike."""
    rng = np.random.default_rng(np.random.SeedSequence(seed))

    def pick(_request: Request, _outlook: Outlook, found: list[Endpoint]) -> Decision:
        order = sorted(found, key=lambda e: e.name)
        drawn = rng.choice(len(order), size=min(2, len(order)), replace=False)
        best = min((order[i] for i in drawn), key=lambda e: e.running + e.waiting)
        return Decision(best.name)

    return FilteredPolicy(fleet, pick)


def _refuse_unknown(fleet: Fleet, *deployments: str) -> None:
    names = [d.name for d in fleet.deployments]
    for name in deployments:
        if name not in names:
            raise ParameterError(
                "policy", f"{fleet.name} has no deployment {name!r}", f"use {', '.join(names)}"
            )
