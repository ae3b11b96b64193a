"""One contender of a simulation: a policy and a controller, on the same draws as the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from msgspec import structs

from wattshed.control.clocks import PinnedMaximum, StaticClock
from wattshed.control.controller import Controller
from wattshed.errors import InfeasibleError, ParameterError, UnservableError
from wattshed.fleet import Fleet
from wattshed.records import IterationProfile, SimulatedPolicy
from wattshed.replicas import engines_of
from wattshed.serving import engine_settings
from wattshed.simulate.budgeting import with_budgets
from wattshed.simulate.caveats import modelled_of
from wattshed.simulate.engine import simulate_requests
from wattshed.simulate.external import Asked
from wattshed.simulate.layout import BOOT, OFF, WAKE
from wattshed.simulate.model import Outage, Requests
from wattshed.simulate.naming import Chosen, choose_policy, make_controller
from wattshed.simulate.policies import Promises
from wattshed.simulate.result import Simulation
from wattshed.simulate.scenario import Arrivals, promises_of
from wattshed.simulate.summary import summarise
from wattshed.simulate.table import request_table

CLOCKS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Fractions of the highest clock that a controller may choose from, unless told."""

BEST_STATIC = "static:best"
RAISES = 4
"""How often a contender aims higher, each time for half of what it missed."""

Report = Callable[[str, int, int], None]
Tables = Callable[[pl.DataFrame], None]


@dataclass(frozen=True)
class Setup:
    """What all contenders share.

    Attributes
    ----------
    fleet : Fleet
    arrivals : Arrivals
    forecast : str
    target : float
    every_token : bool
    clocks : tuple of float
    outages : tuple of Outage
    retry : bool
    plan : str, Path or None
    budgets : tuple of str
    equal_attainment, bound : bool
    free_clocks : bool
        Some contender chooses clocks: then bounds let all do, so that all have the same.
    report, tables : callable or None
    """

    fleet: Fleet
    arrivals: Arrivals
    forecast: str = "histogram"
    target: float = 0.99
    every_token: bool = False
    clocks: tuple[float, ...] = CLOCKS
    outages: tuple[Outage, ...] = ()
    retry: bool = True
    plan: str | Path | None = None
    budgets: tuple[str, ...] = ()
    equal_attainment: bool = False
    bound: bool = True
    free_clocks: bool = False
    report: Report | None = None
    tables: Tables | None = None


@dataclass(frozen=True)
class Draw:
    """The requests of one replication.

    Attributes
    ----------
    seed : int
    requests : Requests
    promises : Promises
    """

    seed: int
    requests: Requests
    promises: Promises


def draw(setup: Setup, seed: int) -> Draw:
    """Requests of one replication, with their promises."""
    requests = setup.arrivals.draw(seed)
    if not len(requests):
        raise ParameterError("requests", "none", "give a longer time, or a higher rate")
    promises = promises_of(
        setup.fleet,
        requests,
        setup.arrivals.workload,
        forecast=setup.forecast,
        target=setup.target,
        every_token=setup.every_token,
    )
    return Draw(seed, requests, with_budgets(promises, setup.budgets, setup.fleet, requests))


def contend(setup: Setup, draws: list[Draw], policy: str, text: str) -> list[SimulatedPolicy]:
    """One contender on all draws, aiming as high as it must to keep its promises."""
    trial = replace(setup, bound=False, tables=None)
    if text == BEST_STATIC:
        text, stopped = _best_static(trial, draws, policy)
        runs = stopped or _replicate(setup, draws, policy, text)
        return [structs.replace(run, settings={**run.settings, "clock": "best"}) for run in runs]
    aim = setup.target
    for _ in range(RAISES if setup.equal_attainment and _learns(policy, text) else 0):
        runs = _replicate(trial, draws, policy, text, aim)
        if runs[-1].partial:
            return runs
        if attainment_of(runs) >= setup.target:
            break
        aim = 1 - (1 - aim) / 2
    return _replicate(setup, draws, policy, text, aim)


def _learns(policy: str, text: str) -> bool:
    return policy in {"frugal", "packed"} or text.startswith("phases")


def _best_static(trial: Setup, draws: list[Draw], policy: str) -> tuple[str, list[SimulatedPolicy]]:
    """The one clock for all that needs least energy among those that keep the promises.

    The highest if none does. If a trial was stopped: its clock, and what it found until then.
    """
    best, least_j = f"static:{trial.clocks[-1]:g}", np.inf
    for clock in reversed(trial.clocks):
        runs = _replicate(trial, draws, policy, f"static:{clock:g}")
        energy_j = float(np.mean([run.energy_per_request_j for run in runs]))
        if runs[-1].partial:
            return f"static:{clock:g}", runs
        if attainment_of(runs) >= trial.target and energy_j < least_j:
            best, least_j = f"static:{clock:g}", energy_j
    return best, []


def attainment_of(runs: Sequence[SimulatedPolicy]) -> float:
    """Mean over replications; 1 where nothing was promised."""
    return float(np.mean([1.0 if run.attainment is None else run.attainment for run in runs]))


def _replicate(
    setup: Setup, draws: list[Draw], policy: str, text: str, aim: float = 0.0
) -> list[SimulatedPolicy]:
    """One contender on all draws, until it is stopped."""
    controller = make_controller(text)
    modelled = modelled_of(setup.fleet, controller, boots=bool(setup.outages))
    runs: list[SimulatedPolicy] = []
    for i, one in enumerate(draws):
        stage = f"{policy} + {text}" + (f", replication {i + 1}" if len(draws) > 1 else "")
        aimed = replace(one, promises=replace(one.promises, target=aim or setup.target))
        found, how = run(setup, aimed, policy, controller, stage)
        summary = summarise(
            found,
            setup.fleet,
            one.promises,
            controller=text,
            name=policy,
            settings=how.settings | ({"aim": f"{aim:.5g}"} if aim > setup.target else {}),
            modelled=modelled,
            series=i == 0,
        )
        if setup.tables and i == 0:
            setup.tables(request_table(found, setup.fleet, policy, text))
        runs.append(with_bound(summary, setup, found, controller) if setup.bound else summary)
        if found.partial:
            break
    return runs


def run(
    setup: Setup,
    one: Draw,
    policy: str,
    controller: Controller,
    stage: str = "",
) -> tuple[Simulation, Chosen]:
    """One contender on one draw.

    Raises
    ------
    ParameterError
    """
    requests, promises, told = one.requests, one.promises, setup.report
    how = choose_policy(policy, setup.fleet, requests, promises, setup.arrivals, plan=setup.plan)
    fleet = engines_of(
        setup.fleet.deployments,
        requests.input_tokens,
        requests.output_tokens,
        clocks_of(setup, controller),
    )
    decide = Asked(how.make(), fleet, requests, promises) if how.make else None
    return (
        simulate_requests(
            fleet,
            requests,
            policy=how.code,
            cost=how.cost,
            promises=promises,
            decide=decide,
            controller=controller,
            outages=setup.outages,
            retry=setup.retry,
            seed=one.seed,
            report=(lambda done, total: told(stage, done, total)) if told else None,
        ),
        how,
    )


def clocks_of(setup: Setup, controller: Controller) -> tuple[float, ...]:
    """Clocks that a controller may choose from, besides that of the fleet."""
    if isinstance(controller, PinnedMaximum):
        return ()
    return (controller.clock,) if isinstance(controller, StaticClock) else setup.clocks


def with_bound(
    summary: SimulatedPolicy, setup: Setup, found: Simulation, controller: Controller
) -> SimulatedPolicy:
    """The same with what no schedule of the requests that were served can undercut."""
    from wattshed.plan.bound import energy_bound

    served = found.served
    if not served.any() or found.partial:
        return summary
    clocks = _allowed(setup, controller) if setup.free_clocks else None
    tokens = found.requests.input_tokens[served], found.requests.output_tokens[served]
    try:
        bound = energy_bound(setup.fleet, tokens, _on_s(setup.fleet, found), clocks=clocks)
    except (InfeasibleError, UnservableError):
        return summary
    gap = summary.energy_j.total / bound.bound_j - 1 if bound.bound_j > 0 else None
    return structs.replace(summary, bound_j=bound.bound_j, gap=gap)


def _on_s(fleet: Fleet, found: Simulation) -> dict[str, float]:
    """How long the replicas of each deployment were neither off nor on their way back."""
    on_s = found.time_s.sum(axis=1) - found.time_s[:, [OFF, BOOT, WAKE]].sum(axis=1)
    return {
        d.name: max(float(on_s[found.deployment == k].sum()), 1e-9)
        for k, d in enumerate(fleet.deployments)
    }


def _allowed(setup: Setup, controller: Controller) -> list[float]:
    """Clocks that any deployment may be set to."""
    own = [
        engine_settings(d).clock
        for d in setup.fleet.deployments
        if isinstance(d.profile, IterationProfile)
    ]
    chosen = {*setup.clocks, *clocks_of(setup, controller)}
    return sorted({c for c in chosen if c <= max(own, default=1.0)} | set(own))
