"""The event loop, compiled.

A replica works in blocks: one step with prompts in it, or as many decoding steps as pass until
a sequence is finished, the KV cache is full, or a request arrives that may be admitted. The
ends of the blocks under way are the events, beside the arrivals. What a step costs is affine in
the context tokens, which grow by one for each sequence and step, so a block costs the same
effort whatever its length. `wattshed.simulate.reference` does the same step by step.

Numba's cache does not see changes in the modules from which this one imports compiled
functions: after a change in one of them, remove `src/wattshed/simulate/__pycache__`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from wattshed.simulate.admission import plan
from wattshed.simulate.compiled import compiled, inlined
from wattshed.simulate.layout import DECODE, IDLE, NEXT, RUNS
from wattshed.simulate.routing import count, route
from wattshed.simulate.steps import close, decode_time, total
from wattshed.simulate.structures import replay


@compiled
def advance(world: Any, runs: Any, policy: int) -> bool:
    """Simulate until all is served, or `runs` is full; whether all is served.

    Parameters
    ----------
    world : World
        Written; may be handed in again as it is.
    runs : array of RUN (R,)
        Filled from its beginning, `world.cursor` tells how far; of length 0 to record nothing.
    policy : int
    """
    world.cursor[RUNS] = 0
    room = len(runs)
    for k in range(len(world.kinds)):
        # One event adds a run for the whole batch, and one for each sequence that resumes.
        room = min(room, len(runs) - world.kinds[k].max_batch - 1)
    while world.cursor[RUNS] <= room or len(runs) == 0:
        r = world.boundary_tree[1]
        now = world.boundary[r]
        q = world.cursor[NEXT]
        if q < len(world.requests) and world.requests[q].arrival_s <= now:
            world.cursor[NEXT] += 1
            r = route(world, policy, q)
            if r >= 0 and _arrive(world, policy, r, q):
                replay(world.boundary_tree, world.boundary, r)
        elif now < np.inf:
            close(world, runs, policy, r, now)
            plan(world, r, now)
            replay(world.boundary_tree, world.boundary, r)
        else:
            return True
    return False


@inlined
def _arrive(world: Any, policy: int, r: int, q: int) -> bool:
    """Put a request into the line of a replica; whether its block ends at another time now."""
    replica, request = world.replicas[r], world.requests[q]
    request.replica = r
    count(world, policy, r, 1)
    waited = replica.head >= 0
    if waited:
        world.requests[replica.tail].behind = q
    else:
        replica.head = q
    replica.tail = q
    if waited:
        return False  # who waits behind others is not admitted before them
    if replica.activity == IDLE:
        # What arrives at the same instant is still seen by the first step.
        world.boundary[r] = request.arrival_s
        return True
    if replica.activity != DECODE or replica.batch >= world.kinds[replica.kind].max_batch:
        return False
    return _shorten(world, r, request.arrival_s)


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
