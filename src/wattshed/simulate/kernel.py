"""The event loop, compiled.

A replica works in blocks: one step with prompts in it, or as many decoding steps as pass until
a sequence is finished, the KV cache is full, or a request arrives that may be admitted. The
ends of the blocks under way are the events, beside arrivals and outages. What a step costs is
affine in the context tokens, which grow by one for each sequence and step, so a block costs the
same effort whatever its length. `wattshed.simulate.reference` does the same step by step.

Numba's cache does not see changes in the modules from which this one imports compiled
functions: after a change in one of them, remove `src/wattshed/simulate/__pycache__`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from wattshed.compiled import called, compiled, inlined
from wattshed.simulate.admission import line_up, plan
from wattshed.simulate.layout import (
    AGAIN,
    CHOSEN,
    DECODE,
    EVENTS,
    IDLE,
    NEXT,
    NEXT_OUTAGE,
    REJECTED,
    RUNS,
    SERVING,
    UNDECIDED,
    WAKE,
)
from wattshed.simulate.ledger import asleep, rest
from wattshed.simulate.outages import happen
from wattshed.simulate.routing import EXTERNAL, count, route
from wattshed.simulate.steps import close, decode_time, interrupt, total
from wattshed.simulate.structures import replay

DONE, PAUSED, ASKS = range(3)
"""Why `advance` returned: all is served; runs or events are used up; a caller must route."""


@compiled
def advance(world: Any, runs: Any, routing: Any, control: Any, events: int, end_s: float) -> int:
    """Simulate until all is served, or `runs` is full, or some events have passed.

    Parameters
    ----------
    world : World
        Written; may be handed in again as it is.
    runs : array of RUN (R,)
        Filled from its beginning, `world.cursor` tells how far; of length 0 to record nothing.
    routing : Routing
    control : Control
    events : int
        Most events.
    end_s : float
        If not negative, only write down what all replicas drew until then.
    """
    world.cursor[RUNS] = 0
    if end_s >= 0:
        _settle(world, runs, end_s)
        return DONE
    room = len(runs)
    for k in range(len(world.kinds)):
        # One event adds a run for the whole batch, and one for each sequence that resumes.
        room = min(room, len(runs) - world.kinds[k].max_batch - 2)
    for _ in range(events):
        if world.cursor[RUNS] > room and len(runs) > 0:
            return PAUSED
        r = world.boundary_tree[1]
        now, arrival = world.boundary[r], next_arrival(world)
        o = world.cursor[NEXT_OUTAGE]
        if o < len(world.outages) and world.outages[o].at_s <= min(arrival, now):
            if arrival == now == np.inf:
                return DONE  # what happens to machines that nobody needs is not told
            world.cursor[NEXT_OUTAGE] += 1
            happen(world, runs, routing, o)
        elif arrival <= now and arrival < np.inf:
            if routing.code == EXTERNAL and world.cursor[CHOSEN] == UNDECIDED:
                return ASKS
            _send(world, routing, arrival)
        elif now < np.inf:
            close(world, runs, routing, r, now)
            plan(world, control, r, now)
            replay(world.boundary_tree, world.boundary, r)
        else:
            return DONE
        world.cursor[EVENTS] += 1
    return PAUSED


@called
def _settle(world: Any, runs: Any, now: float) -> None:
    """Write down what all replicas drew until now, whatever they are doing."""
    for r in range(len(world.replicas)):
        interrupt(world, runs, r, now)
        if world.replicas[r].activity in SERVING:
            _settle_sequences(world, r)


@inlined
def _settle_sequences(world: Any, r: int) -> None:
    """Charge the decoding sequences, without taking them from the batch."""
    replica = world.replicas[r]
    for i in range(replica.slot, replica.slot + replica.batch):
        q = world.slots[i].request
        request = world.requests[q]
        to_come = request.outputs - request.produced
        offset = request.inputs + request.produced - (world.slots[i].key - to_come)
        request.decode_j += replica.own_j + offset * replica.rate_j + replica.index_j
        request.shared_j += replica.shared_j
        request.finish_s = np.nan


@inlined
def next_request(world: Any) -> int:
    """The next request to be sent: first those that must be sent once more."""
    again = world.cursor[AGAIN]
    return int(world.again[again - 1] if again > 0 else world.cursor[NEXT])


@inlined
def next_arrival(world: Any) -> float:
    """When it is sent; inf if there is none."""
    if world.cursor[AGAIN] > 0:
        return float(world.outages[world.cursor[NEXT_OUTAGE] - 1].at_s)
    q = world.cursor[NEXT]
    return float(world.requests[q].arrival_s) if q < len(world.requests) else np.inf


@inlined
def _send(world: Any, routing: Any, now: float) -> None:
    """Send the next request to a replica, or reject it."""
    q = next_request(world)
    world.cursor[AGAIN if world.cursor[AGAIN] > 0 else NEXT] += -1 if world.cursor[AGAIN] > 0 else 1
    r = route(world, routing, q, now)
    world.cursor[CHOSEN] = UNDECIDED
    if r < 0:
        world.requests[q].fate = REJECTED
    elif _arrive(world, routing, r, q, now):
        replay(world.boundary_tree, world.boundary, r)


@inlined
def _arrive(world: Any, routing: Any, r: int, q: int, now: float) -> bool:
    """Put a request into the line of a replica; whether its block ends at another time now."""
    replica = world.replicas[r]
    world.requests[q].replica = r
    count(world, routing, r, 1)
    waited = replica.head >= 0
    line_up(world, r, q)
    if waited:
        return False  # who waits behind others is not admitted before them
    if asleep(world, r, now):
        rest(world, r, now)
        replica.activity = WAKE
        world.boundary[r] = now + world.kinds[replica.kind].wake_s
        return True
    if replica.activity == IDLE:
        # What arrives at the same instant is still seen by the first step.
        world.boundary[r] = now
        return True
    if replica.activity != DECODE or replica.batch >= replica.cap:
        return False
    return _shorten(world, r, now)


@inlined
def _shorten(world: Any, r: int, now: float) -> bool:
    """End a block of decoding steps with the first step that ends at or after `now`."""
    replica = world.replicas[r]
    first, growth = decode_time(world, r)
    since, slope = now - replica.begun_s, first - 0.5 * growth
    root = np.sqrt(slope * slope + 2.0 * growth * since)
    steps = min(max(int(np.ceil(2.0 * since / (slope + root))), 1), replica.steps)
    while steps > 1 and replica.begun_s + total(first, growth, steps - 1) >= now:
        steps -= 1
    while steps < replica.steps and replica.begun_s + total(first, growth, steps) < now:
        steps += 1
    if steps == replica.steps:
        return False
    replica.steps = steps
    world.boundary[r] = replica.begun_s + total(first, growth, steps)
    return True
