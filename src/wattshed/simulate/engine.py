"""`wattshed.simulate_requests`: requests through replicas, exactly, step by step in effect."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from wattshed.control.controller import Controller
from wattshed.engines.model import Array, Deployment
from wattshed.simulate.control import Control, compile_control
from wattshed.simulate.gaps import Gaps, gather
from wattshed.simulate.layout import (
    AGAIN,
    CHOSEN,
    EVENTS,
    NEXT,
    NEXT_OUTAGE,
    RUN,
    RUNS,
    World,
    lay_out,
)
from wattshed.simulate.model import Outage, Requests, check_fleet, check_outages
from wattshed.simulate.policies import Promises, make_routing, weights
from wattshed.simulate.result import Simulation, conclude
from wattshed.simulate.routing import Routing

ROOM = 1 << 20
"""Runs of times between tokens that are collected at once."""
AT_ONCE = 1 << 20
"""Events between two reports."""
ASKED_AT_ONCE = 64
"""Requests between two reports, where a policy is called for each."""

Decide = Callable[[World, int, float], int]
"""Replica for request q at a time, or -1."""
Report = Callable[[int, int], None]
"""Told how many of how many requests were sent; may raise KeyboardInterrupt."""


def simulate_requests(  # noqa: PLR0913 - each is one thing that may be chosen
    deployments: Sequence[Deployment],
    requests: Requests,
    *,
    policy: str = "least-outstanding",
    share: ArrayLike | None = None,
    cost: ArrayLike | None = None,
    promises: Promises | None = None,
    decide: Decide | None = None,
    controller: Controller | None = None,
    outages: Sequence[Outage] = (),
    retry: bool = True,
    seed: int = 0,
    gaps: bool = True,
    report: Report | None = None,
) -> Simulation:
    """Serve requests with the replicas of some deployments.

    Parameters
    ----------
    deployments : sequence of BatchingDeployment or OneQueryDeployment
        Replicas are numbered in this order.
    requests : Requests
    policy : str
        Which replica gets a request, among those that can serve it: ``round-robin`` the next;
        ``random`` any, with equal chances; ``share`` any of a deployment drawn by `share`;
        ``least-outstanding`` the first of those with the fewest requests waiting or served;
        ``power-of-two`` the better of two drawn at random; ``ranked`` the least loaded of the
        deployment with the least `cost`; ``frugal`` the one to whose energy the request adds
        least, of those that keep its promises and those of their residents; ``packed`` the
        fullest of these; ``external`` the one that `decide` names.
    share : array-like (K,), optional
        Weight of each deployment for the policy ``share``: how often it is drawn.
    cost : array-like (Q, K), optional
        Of each request at each deployment, inf where it may not go: the order for ``ranked``; a
        filter for the others.
    promises : Promises, optional
        Latency limits and forecasts, for ``frugal``, ``packed`` and controllers.
    decide : callable, optional
        Of the policy ``external``.
    controller : Controller, optional
        Sets clock and batch of each replica; without one, the highest clock and the whole batch.
    outages : sequence of Outage
    retry : bool
        Requests whose replica fails before their first token are sent once more, with the time
        of their arrival; without it, and after the first token, they are lost.
    seed : int
        For the policies that draw; echoed in the result.
    gaps : bool
        Keep all times between tokens. Without them less memory is needed; the longest time and
        the mean of each request are there in any case.
    report : callable, optional
        If it raises KeyboardInterrupt, the simulation ends there, with what it has so far.

    Returns
    -------
    Simulation

    Raises
    ------
    ParameterError
    """
    fleet = list(deployments)
    check_fleet(fleet, requests)
    check_outages(outages, fleet)
    routing = make_routing(
        policy, fleet, requests, share=share, cost=cost, promises=promises, retry=retry, seed=seed
    )
    control = compile_control(controller, fleet, promises)
    world = lay_out(fleet, requests, weights(fleet, share), outages)
    # About four blocks for each request, rarely more.
    room = min(4 * len(requests) + 1, ROOM) if gaps else 0
    kept, partial = run_world(world, routing, control, room, decide, report)
    return conclude(fleet, requests, world, kept if gaps else None, policy, seed, partial)


def run_world(
    world: World,
    routing: Routing,
    control: Control,
    room: int,
    decide: Decide | None = None,
    report: Report | None = None,
) -> tuple[Gaps, bool]:
    """Run a world to its end, and say whether it was stopped before.

    Times between tokens are collected `room` runs at a time; with a `room` of 0 none are.
    """
    from wattshed.simulate.kernel import ASKS, DONE, advance

    # In any case room for what one event can add, or the last account of all replicas.
    size = room + int(world.kinds["max_batch"].max()) + len(world.replicas) + 3 if room else 0
    chunks, why, partial = [], -1, False
    while why != DONE and not partial:
        runs = np.empty(size, RUN)
        try:
            why = advance(world, runs, routing, control, AT_ONCE, -1.0)
            if why == ASKS:
                _ask(world, decide)
            sent = int(world.cursor[NEXT])
            if report and (why != ASKS or sent % ASKED_AT_ONCE == 0):
                report(sent, len(world.requests))
        except KeyboardInterrupt:
            partial = True
        chunks.append(runs[: world.cursor[RUNS]].copy())
    runs = np.empty(size, RUN)
    advance(world, runs, routing, control, 0, ends_at(world, partial))
    chunks.append(runs[: world.cursor[RUNS]].copy())
    return gather(chunks), partial


def _ask(world: World, decide: Decide | None) -> None:
    assert decide is not None
    again = int(world.cursor[AGAIN])
    if again:
        q = int(world.again[again - 1])
        now_s = float(world.outages["at_s"][world.cursor[NEXT_OUTAGE] - 1])
    else:
        q = int(world.cursor[NEXT])
        now_s = float(world.requests["arrival_s"][q])
    world.cursor[CHOSEN] = decide(world, q, now_s)
    world.cursor[EVENTS] += 1


def ends_at(world: World, partial: bool) -> float:
    """When all is served, or has arrived; or when the simulation was stopped."""
    if partial:
        # No block that is under way ends before this.
        boundary = world.boundary.min(initial=np.inf)
        begun = world.replicas["begun_s"].max(initial=0.0)
        return float(min(max(begun, last_arrival(world)), boundary))
    arrived = world.requests["arrival_s"].max(initial=0.0)
    ended: Array = np.nan_to_num(world.requests["finish_s"], nan=0.0)
    begun = world.replicas["begun_s"].max(initial=0.0)
    return float(max(arrived, ended.max(initial=0.0), begun))


def last_arrival(world: World) -> float:
    """Of the requests that were sent, s."""
    sent = int(world.cursor[NEXT])
    return float(world.requests["arrival_s"][sent - 1]) if sent else 0.0
