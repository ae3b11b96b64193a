"""`wattshed.simulate_fleet`: policies and controllers on the same requests, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from wattshed.errors import ParameterError
from wattshed.fleet import Fleet
from wattshed.records import SimulatedPolicy, SimulationResults
from wattshed.simulate.caveats import notes_of
from wattshed.simulate.contenders import (
    BEST_STATIC,
    CLOCKS,
    Report,
    Setup,
    Tables,
    contend,
    draw,
)
from wattshed.simulate.load import highest_rate
from wattshed.simulate.model import Outage
from wattshed.simulate.naming import check_policy, chooses_clocks, make_controller
from wattshed.simulate.pairing import average, compare
from wattshed.simulate.scenario import Arrivals, in_order
from wattshed.simulate.summary import rates_of


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
    budgets: Sequence[str] = (),
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
    budgets : sequence of str
        Of the policy ``frugal``: ``accuracy=PART``, ``carbon=GRAMS``, ``energy=JOULES``,
        ``energy:CLASS=JOULES``, means per request.
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
    told = (tuple(outages), retry, plan, tuple(budgets), equal_attainment, bound)
    free_clocks = any(map(chooses_clocks, controllers))
    fleet = in_order(fleet)
    _check_names(policies, controllers, fleet)
    arrivals, loaded = at_load(fleet, arrivals, target, every_token, report)
    setup = Setup(
        fleet, arrivals, forecast, target, every_token, chosen, *told, free_clocks, report, tables
    )
    seeds = [seed + i for i in range(replications if arrivals.drawn else 1)]
    draws = [draw(setup, s) for s in seeds]
    found: list[list[SimulatedPolicy]] = []
    stopped = False
    for policy in policies:
        for text in controllers:
            if not stopped:
                runs = contend(setup, draws, policy, text)
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
