"""Replicas that fail, drain and come back; compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from wattshed.compiled import called, inlined
from wattshed.simulate.admission import next_in_line
from wattshed.simulate.layout import (
    AGAIN,
    BOOT,
    DOWN,
    DRAINS,
    ENDS,
    FAILS,
    IDLE,
    LEAVING,
    LOST,
    OFF,
    QUERY,
    UP,
)
from wattshed.simulate.ledger import rest
from wattshed.simulate.routing import close_down, count, open_up
from wattshed.simulate.steps import forget, interrupt, leave
from wattshed.simulate.structures import replay


@called
def happen(world: Any, runs: Any, routing: Any, o: int) -> None:
    """An outage begins or ends."""
    event = world.outages[o]
    r, now = event.replica, event.at_s
    replica = world.replicas[r]
    if event.what == FAILS:
        close_down(world, routing, r)
        _fail(world, runs, routing, r, now)
        replica.up = DOWN
    elif event.what == DRAINS:
        close_down(world, routing, r)
        replica.up = LEAVING
        if replica.activity == IDLE and replica.head < 0:
            rest(world, r, now)
            replica.activity = OFF
    elif event.what == ENDS:
        if replica.activity == OFF:
            rest(world, r, now)
            replica.activity, replica.up = BOOT, DOWN
        else:  # it never came to be off
            replica.up = UP
            open_up(world, routing, r)
    elif replica.up != UP:
        rest(world, r, now)
        replica.activity, replica.up = IDLE, UP
        open_up(world, routing, r)


@called
def _fail(world: Any, runs: Any, routing: Any, r: int, now: float) -> None:
    """Everything stops: what was promised nothing yet is sent once more, the rest is lost."""
    replica = world.replicas[r]
    interrupt(world, runs, r, now)
    if replica.activity == QUERY and world.requests[replica.partial].first_s > now:
        world.requests[replica.partial].first_s = np.nan
    for i in range(replica.joins):
        _give_up(world, routing, r, world.slots[replica.slot + i].joining)
    replica.joins, replica.prompts = 0, 0
    if replica.partial >= 0:
        _give_up(world, routing, r, replica.partial)
        replica.partial = -1
    while replica.batch > 0:
        _give_up(world, routing, r, leave(world, r, 0))
    while replica.head >= 0:
        q = replica.head
        started = world.requests[q].start_s
        next_in_line(world, r)
        world.requests[q].start_s = started
        _give_up(world, routing, r, q)
    forget(world, r)
    replica.activity, replica.begun_s, replica.excess_s = OFF, now, 0.0
    world.boundary[r] = np.inf
    replay(world.boundary_tree, world.boundary, r)


@inlined
def _give_up(world: Any, routing: Any, r: int, q: int) -> None:
    """A request loses its replica: before the first byte it may be sent once more, not after."""
    request = world.requests[q]
    count(world, routing, r, -1)
    request.finish_s = np.nan
    if routing.retries and np.isnan(request.first_s):
        request.start_s, request.replica, request.produced = np.nan, -1, 0
        request.retries += 1
        world.again[world.cursor[AGAIN]] = q
        world.cursor[AGAIN] += 1
    else:
        request.fate = LOST
