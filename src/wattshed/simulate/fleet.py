"""`wattshed.simulate_fleet`: policies and controllers on the same requests, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from msgspec import structs

from wattshed.control.clocks import BatchCap, PinnedMaximum, StaticClock
from wattshed.control.controller import Controller
from wattshed.errors import InfeasibleError, ParameterError, UnservableError
from wattshed.fleet import Fleet
from wattshed.records import IterationProfile, SimulatedPolicy, SimulationResults
from wattshed.replicas import engines_of
from wattshed.serving import engine_settings
from wattshed.simulate.engine import simulate_requests
from wattshed.simulate.external import Asked
from wattshed.simulate.layout import BOOT, OFF, WAKE
from wattshed.simulate.load import highest_rate
from wattshed.simulate.model import Outage, Requests
from wattshed.simulate.naming import Chosen, check_policy, choose_policy, make_controller
from wattshed.simulate.pairing import average, compare
from wattshed.simulate.policies import Promises
from wattshed.simulate.result import Simulation
from wattshed.simulate.scenario import Arrivals, in_order, promises_of
from wattshed.simulate.summary import rates_of, summarise
from wattshed.simulate.table import request_table
from wattshed.steps import modelled_parts

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
    equal_attainment, bound : bool
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
    equal_attainment: bool = False
    bound: bool = True
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


def simulate_fleet(  # noqa: PLR0913 - each is one thing that may be chosen
    fleet: Fleet,
    arrivals: Arrivals,
    *,
    policies: Sequence[str] = ("least-loaded",),
    controllers: Sequence[str] = ("pinned",),
    replications: int = 1,
    seed: int = 0,
    forecast: str = "histogram",
    target: float = 0.99,
    every_token: bool = False,
    clocks: Sequence[float] | None = None,
    outages: Sequence[Outage] = (),
    retry: bool = True,
    plan: str | Path | None = None,
    equal_attainment: bool = False,
    bound: bool = True,
    report: Report | None = None,
    tables: Tables | None = None,
) -> SimulationResults:
    """Serve the same requests with each policy and each controller.

    Parameters
    ----------
    fleet : Fleet
        From `load_fleet`.
    arrivals : Arrivals
    policies : sequence of str
        Names of `POLICIES` of the room `route`, those that others register, and
        ``single:DEPLOYMENT`` and ``threshold:SMALL,LARGE,T_IN`` (``out=T_OUT`` or ``product=P``
        in place of T_IN).
    controllers : sequence of str
        ``pinned``, ``governor``, ``static:CLOCK``, ``static:best`` (the one clock that needs
        least energy and keeps the promises), ``phases[:RESERVE]``, ``batch-cap[:FACTOR]``.
    replications : int
        With requests drawn anew; all contenders get the same.
    seed : int
        Of the first; each further one takes the next.
    forecast : {"known", "mean", "histogram"}
        What policies know of output lengths; the simulator knows the true ones.
    target : float
        Part of the latency promises that policies and controllers aim at.
    every_token : bool
        The limit between tokens holds for each of them, and not for the mean of a request.
    clocks : sequence of float, optional
        Fractions of the highest clock that controllers choose from; `CLOCKS` unless told.
    outages : sequence of Outage
    retry : bool
        Requests whose replica fails before their first token are sent once more.
    plan : str or Path, optional
        plan.json whose rule the policy ``prices`` follows; without one, one is made of the
        workload, at the rate at which it comes.
    equal_attainment : bool
        Have policies and controllers that learn aim higher than `target` until they reach it, so
        that energies are compared at equal attainment; what cannot reach it says so.
    bound : bool
        Compute what no schedule of these requests on these replicas can undercut.
    report : callable, optional
        Told stage, done and total. A KeyboardInterrupt that it raises ends the simulation with
        what there is so far.
    tables : callable, optional
        Given the table of requests of each contender's first replication.

    Returns
    -------
    SimulationResults

    Raises
    ------
    ParameterError, FleetError, FileError
    InfeasibleError
        If a load is asked for, and the promises are broken at any.
    """
    if replications < 1:
        raise ParameterError("replications", f"{replications}", "give at least 1")
    chosen = tuple(sorted(set(CLOCKS if clocks is None else clocks)))
    _check_clocks(chosen)
    told = (tuple(outages), retry, plan, equal_attainment, bound, report, tables)
    fleet = in_order(fleet)
    _check_names(policies, controllers, fleet)
    arrivals, loaded = at_load(fleet, arrivals, target, every_token, report)
    setup = Setup(fleet, arrivals, forecast, target, every_token, chosen, *told)
    seeds = [seed + i for i in range(replications if arrivals.drawn else 1)]
    draws = [draw(setup, s) for s in seeds]
    found: list[list[SimulatedPolicy]] = []
    stopped = False
    for policy in policies:
        for text in controllers:
            if not stopped:
                runs = _contend(setup, draws, policy, text)
                stopped = any(run.partial for run in runs)
                found.append(runs)
    return SimulationResults(
        fleet.name,
        arrivals.workload.name,
        arrivals.description,
        len(draws[0].requests),
        rates_of(draws[0].requests),
        len(seeds),
        seeds,
        [average(runs) for runs in found],
        compare(found, target),
        [*loaded, *notes_of(fleet, replications > len(seeds), stopped)],
        stopped,
    )


def at_load(
    fleet: Fleet, arrivals: Arrivals, target: float, every_token: bool, report: Report | None
) -> tuple[Arrivals, list[str]]:
    """Arrivals at the rate that a load stands for, and that in words."""
    if arrivals.load is None:
        return arrivals, []
    told = (lambda done, total: report("load", done, total)) if report else None
    most = highest_rate(fleet, arrivals, target=target, every_token=every_token, report=told)
    note = (
        f"load {arrivals.load:.0%}: of the {most:.4g} requests/s up to which least-loaded routing"
        f" at the highest clock keeps {target:.4g} of the promises"
    )
    return replace(arrivals, load=None, rate_per_s=arrivals.load * most), [note]


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
    return Draw(seed, requests, promises)


def _check_names(policies: Sequence[str], controllers: Sequence[str], fleet: Fleet) -> None:
    """Refuse what is not known before anything is simulated."""
    for name, given in (("policies", policies), ("controllers", controllers)):
        if not given:
            raise ParameterError(name, "none", "give at least one")
    for text in policies:
        check_policy(text, fleet)
    for text in controllers:
        if text != BEST_STATIC:
            make_controller(text)


def _check_clocks(clocks: tuple[float, ...]) -> None:
    for clock in clocks:
        if not 0 < clock <= 1:
            raise ParameterError("clocks", f"{clock:g}", "give fractions of the highest, up to 1")


def _contend(setup: Setup, draws: list[Draw], policy: str, text: str) -> list[SimulatedPolicy]:
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
    clocks = None if isinstance(controller, PinnedMaximum) else _allowed(setup, controller)
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


def modelled_of(fleet: Fleet, controller: Controller, *, boots: bool = False) -> list[str]:
    """What rests on assumptions, deployment by deployment; replicas boot after an outage."""
    lowest = 0.5  # any clock below the highest
    if isinstance(controller, PinnedMaximum | BatchCap):
        lowest = 1.0
    elif isinstance(controller, StaticClock):
        lowest = controller.clock
    found = []
    for d in fleet.deployments:
        if isinstance(d.profile, IterationProfile):
            parts = modelled_parts(d.profile, min(lowest, engine_settings(d).clock))
            sleeps = d.sleep_after_s is not None
            used = {k: v for k, v in parts.items() if _plays(k, sleeps=sleeps, boots=boots)}
            found += [f"{d.name}: {part}: {source}" for part, source in used.items()]
    return found


def _plays(part: str, *, sleeps: bool, boots: bool) -> bool:
    """Whether a part of a profile plays a part in a simulation."""
    state = part.split(".")[1] if part.startswith("states.") else "resident"
    return state == "resident" or (sleeps and state == "sleep") or (boots and state == "boot")


def notes_of(fleet: Fleet, replayed: bool, stopped: bool) -> list[str]:
    """What a reader has to know."""
    notes = ["the first request arrives at 0; replicas are on from then until all is served"]
    if replayed:
        notes.append("a replay is the same each time: it was simulated once")
    if stopped:
        notes.append("stopped before its end: figures are of what was simulated until then")
    for d in fleet.deployments:
        if isinstance(d.profile, IterationProfile):
            notes += engine_settings(d).notes
        elif d.idle_power_w is None:
            notes.append(f"{d.name}: its idle power is not known and taken as 0 W")
    return notes
