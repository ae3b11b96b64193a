"""Policies and controllers of a simulation by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import structs

from wattshed.control.clocks import (
    BatchCap,
    DefaultGovernor,
    PhaseAwareClock,
    PinnedMaximum,
    StaticClock,
)
from wattshed.control.controller import Controller
from wattshed.engines.model import Array
from wattshed.errors import InfeasibleError, ParameterError
from wattshed.fleet import Fleet
from wattshed.plan.files import load_plan, planned_fleet
from wattshed.plan.limits import Limits
from wattshed.plan.problem import keeps_token_limits, predict_problem
from wattshed.plan.rule import priced_cost, within
from wattshed.records import PriceRule, Threshold
from wattshed.route.registry import find_policy
from wattshed.simulate.model import Requests
from wattshed.simulate.policies import Promises
from wattshed.simulate.scenario import Arrivals
from wattshed.workload.table import Queries

SAME = {
    "random": "random",
    "round-robin": "round-robin",
    "least-loaded": "least-outstanding",
    "power-of-two": "power-of-two",
    "frugal": "frugal",
    "packed": "packed",
}
"""Policies of the room `route`, and what the event loop calls them."""
CONTROLLERS = (
    "pinned",
    "governor",
    "static:CLOCK",
    "static:best",
    "phases[:RESERVE]",
    "batch-cap[:FACTOR]",
)
"""How controllers are named: CLOCK is a fraction of the highest, e.g. ``static:0.7``."""
RANKED = ("prices", "single", "threshold")
"""Policies that put deployments into an order, request by request."""


def make_controller(text: str) -> Controller:
    """A controller by its name; see `CONTROLLERS`.

    Raises
    ------
    ParameterError
    """
    name, _, value = text.partition(":")
    made: dict[str, Callable[..., Controller]] = {
        "pinned": PinnedMaximum,
        "governor": DefaultGovernor,
        "static": StaticClock,
        "phases": lambda reserve=0.5: PhaseAwareClock(reserve=reserve),
        "batch-cap": BatchCap,
    }
    bare = name in {"pinned", "governor"} and value
    if name not in made or bare or (name == "static" and not value):
        raise ParameterError("controller", repr(text), f"use one of {', '.join(CONTROLLERS)}")
    try:
        return made[name](*([float(value)] if value else []))
    except ValueError:
        raise ParameterError("controller", repr(text), f"give a number after {name}:") from None


def chooses_clocks(text: str) -> bool:
    """Whether a controller of this name sets clocks below the highest."""
    return text.partition(":")[0] in {"static", "phases"}


@dataclass(frozen=True)
class Chosen:
    """A policy as the event loop applies it.

    Attributes
    ----------
    code : str
        Name in the event loop.
    cost : array (Q, K), optional
    make : callable, optional
        Makes the policy anew, for one that is called for each request.
    settings : dict
        For people.
    """

    code: str
    cost: Array | None = None
    make: Callable[[], Any] | None = None
    settings: dict[str, str] = field(default_factory=dict)


def choose_policy(
    name: str,
    fleet: Fleet,
    requests: Requests,
    promises: Promises,
    arrivals: Arrivals,
    *,
    plan: str | Path | None = None,
) -> Chosen:
    """A policy by its name, ``single:DEPLOYMENT`` and ``threshold:SMALL,LARGE,T_IN`` included.

    Raises
    ------
    ParameterError, FileError
    """
    check_policy(name, fleet)
    name, _, detail = name.partition(":")
    allowed = admitted(fleet, requests)
    if name in SAME:
        return Chosen(SAME[name], None if allowed.all() else np.where(allowed, 0.0, np.inf))
    if name == "prices":
        rule = _rule(fleet, arrivals, plan)
        cost = _priced(fleet, requests, promises, rule)
        return Chosen("ranked", np.where(allowed, cost, np.inf), settings={"rule": "plan"})
    if name == "single":
        return Chosen("ranked", np.where(allowed, _single(fleet, detail), np.inf))
    if name == "threshold":
        cost = _threshold(fleet, requests, promises, detail)
        return Chosen("ranked", np.where(allowed, cost, np.inf), settings={"rule": detail})
    make = find_policy(name)
    return Chosen("external", None, lambda: make(without_slo(fleet)))


def check_policy(text: str, fleet: Fleet) -> None:
    """Refuse a policy that is not known, settings of one that takes none, unknown deployments.

    Raises
    ------
    ParameterError
    """
    name, _, detail = text.partition(":")
    if name == "single":
        _single(fleet, detail)
    elif name == "threshold":
        threshold_rule(fleet, detail)
    else:
        find_policy(name)
        if detail:
            raise ParameterError("policy", repr(text), f"leave out {':' + detail!r}")


def without_slo(fleet: Fleet) -> Fleet:
    """The fleet as a policy sees it that is to serve late rather than not at all."""
    return structs.replace(fleet, slo={})


def admitted(fleet: Fleet, requests: Requests) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Where the token limits of deployments let requests go, bool (Q, K)."""
    m, n = requests.input_tokens.astype(float), requests.output_tokens.astype(float)
    ones = np.ones(len(requests), np.int64)
    queries = Queries(m, n, ones, 0 * ones)
    return np.stack([keeps_token_limits(d, queries) for d in fleet.deployments], axis=1)


def _rule(fleet: Fleet, arrivals: Arrivals, plan: str | Path | None) -> PriceRule:
    """Of a plan.json, or of a plan of the same workload within the time in which it comes."""
    if plan is not None:
        file = load_plan(plan)
        planned_fleet(file, fleet)  # refuses another fleet
        rule = file.plan.rule
        if rule is None:
            raise ParameterError("plan", f"{plan} has no rule", "plan without --robust")
        return rule
    from wattshed.plan.planner import plan_workload

    limits = Limits(horizon_s=_span_s(arrivals))
    try:
        made = plan_workload(without_slo(fleet), arrivals.workload, limits=limits)
    except InfeasibleError as error:
        found = f"no plan serves the workload at the rate at which it comes: {error.found}"
        raise ParameterError("policy prices", found, "lower the rate, or give --plan") from None
    assert made.rule is not None
    return made.rule


def _span_s(arrivals: Arrivals) -> float:
    """Time in which as many queries as the workload has would come."""
    requests = arrivals.draw(0)
    rate = len(requests) / max(float(requests.arrival_s[-1]), 1e-9)
    return arrivals.workload.queries / rate


def _priced(fleet: Fleet, requests: Requests, promises: Promises, rule: PriceRule) -> Array:
    """Cost (Q, K) by the forecast, in the order of the fleet."""
    m, n = requests.input_tokens.astype(float), promises.expected
    pairs, index = np.unique(np.stack([m, n]), axis=1, return_inverse=True)
    ones = np.ones(pairs.shape[1], np.int64)
    queries = Queries(pairs[0], pairs[1], ones, 0 * ones, ("",))
    problem = predict_problem(without_slo(fleet), queries)
    columns = [problem.names.index(d.name) for d in fleet.deployments]
    return np.asarray(priced_cost(problem, rule)[:, columns][index])


def _single(fleet: Fleet, name: str) -> Array:
    """The deployment first, the others in the order of the fleet."""
    rank = {d.name: float(k + 1) for k, d in enumerate(fleet.deployments)}
    _refuse_unknown("policy single", fleet, name)
    rank[name] = 0.0
    return np.array([rank[d.name] for d in fleet.deployments])


def _threshold(fleet: Fleet, requests: Requests, promises: Promises, detail: str) -> Array:
    """Short requests, by the forecast, to the small deployment, the others to the large one."""
    rule = threshold_rule(fleet, detail)
    short = within(rule, requests.input_tokens.astype(float), promises.expected)
    cost = np.tile(np.arange(2.0, len(fleet.deployments) + 2), (len(requests), 1))
    names = [d.name for d in fleet.deployments]
    cost[:, names.index(rule.large)] = 1.0
    cost[short, names.index(rule.small)] = 0.0
    return cost


def threshold_rule(fleet: Fleet, detail: str) -> Threshold:
    """Of ``SMALL,LARGE,BOUND``; a bound is T_IN, ``out=T_OUT`` or ``product=P``."""
    parts = [part.strip() for part in detail.split(",")]
    name, _, value = parts[-1].rpartition("=")
    bounds = {"": "t_in", "in": "t_in", "out": "t_out", "product": "product"}
    if len(parts) != 3 or name not in bounds or not value.isdigit():
        cure = "give threshold:SMALL,LARGE,T_IN, or out=T_OUT or product=P for T_IN"
        raise ParameterError("policy threshold", repr(detail), cure)
    for deployment in parts[:2]:
        _refuse_unknown("policy threshold", fleet, deployment)
    return Threshold(parts[0], parts[1], **{bounds[name]: float(value)})


def _refuse_unknown(where: str, fleet: Fleet, name: str) -> None:
    names = [d.name for d in fleet.deployments]
    if name not in names:
        raise ParameterError(where, f"no deployment {name!r}", f"use one of {', '.join(names)}")
