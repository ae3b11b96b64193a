"""What controllers decide for each block, compiled; `wattshed.control` says the same in Python."""

from __future__ import annotations

from typing import Any

import numpy as np

from wattshed.compiled import called, inlined
from wattshed.engines.rules import decode_step, prompt_steps
from wattshed.simulate.layout import PREFILL
from wattshed.simulate.steps import MEMORY_STEPS, prompt_time

HIGHEST, FIXED, PHASES = range(3)
"""Clock: the highest; the same always; by phase, as low as the latency promises allow."""
LOOK_AHEAD = 16
"""Waiting requests whose first tokens are looked at."""


@inlined
def set_batch_cap(world: Any, control: Any, r: int) -> None:
    """How many sequences may be in the batch."""
    replica = world.replicas[r]
    there = replica.batch + replica.queued + (replica.partial >= 0)
    replica.usual_there += (there - replica.usual_there) / MEMORY_STEPS
    if control.cap_factor < np.inf:
        wanted = max(int(np.ceil(control.cap_factor * replica.usual_there)), control.cap_least)
        replica.cap = min(wanted, world.kinds[replica.kind].max_batch)


@inlined
def set_clock(world: Any, control: Any, r: int, now: float) -> None:
    """The clock of the block that begins now."""
    replica = world.replicas[r]
    kind = world.kinds[replica.kind]
    top = kind.clock_end - 1
    if control.code == HIGHEST:
        replica.clock = top
    elif control.code == FIXED:
        replica.clock = kind.clock + min(control.steady[replica.kind], top - kind.clock)
    else:
        wanted = _by_phase(world, control, r, now)
        if wanted > replica.clock:
            replica.clock, replica.clocked_s = wanted, now
        elif now - replica.clocked_s >= control.hold_s:
            replica.clock = wanted


@called
def _by_phase(world: Any, control: Any, r: int, now: float) -> int:
    """The lowest clock at which tokens come fast enough; the highest if they do at none."""
    replica = world.replicas[r]
    kind = world.kinds[replica.kind]
    top = kind.clock_end - 1
    prompts = replica.activity == PREFILL
    entered = replica.batch + (replica.joins + (replica.partial >= 0) if prompts else 0)
    if replica.head >= 0 and (not prompts or entered >= replica.cap):
        return int(top)  # somebody waits for a place
    limit = control.tbt_s[replica.kind] * (1.0 - control.headroom) * replica.trust
    if not control.every_token:
        limit -= replica.excess_s
    for f in range(kind.clock, top):
        if replica.batch > 0:
            whole = control.every_token and prompts
            step_s = prompt_time(world, r, f) if whole else _last_step(world, r, f)
            if step_s > limit:
                continue
        if prompts and not _in_time(world, control, r, f, now):
            continue
        return int(f)
    return int(top)


@inlined
def _last_step(world: Any, r: int, f: int) -> float:
    """Duration of the last decoding step of the block at clock `f`."""
    replica = world.replicas[r]
    held = replica.held + (replica.steps - 1) * replica.batch
    return decode_step(world, f, replica.batch, held)


@called
def _in_time(world: Any, control: Any, r: int, f: int, now: float) -> bool:
    """Whether the prompts under way, and those that wait, have their first tokens in time."""
    replica = world.replicas[r]
    ready = now + prompt_time(world, r, f)
    for i in range(replica.joins):
        q = world.slots[replica.slot + i].joining
        if world.requests[q].produced == 0 and ready > _due(world, control, r, q):
            return False
    ahead, q, seen = 0, replica.partial, 0
    if q >= 0:
        ahead = world.requests[q].inputs + world.requests[q].produced - replica.partial_done
        late = world.requests[q].produced == 0 and (
            ready + _more(world, r, f, ahead) > _due(world, control, r, q)
        )
        if late:
            return False
    q = replica.head
    while q >= 0 and seen < LOOK_AHEAD:
        ahead += world.requests[q].inputs + world.requests[q].produced
        if ready + _more(world, r, f, ahead) > _due(world, control, r, q):
            return False
        q = world.requests[q].behind
        seen += 1
    return True


@inlined
def _due(world: Any, control: Any, r: int, q: int) -> float:
    """When the first token of a request is due, the reserve taken off."""
    within = control.first_within_s[q] * world.replicas[r].trust
    return float(world.requests[q].arrival_s + within)


@inlined
def _more(world: Any, r: int, f: int, tokens: int) -> float:
    """Duration of the steps after this one until so many more prompt tokens are processed."""
    replica, kind = world.replicas[r], world.kinds[world.replicas[r].kind]
    batch = min(replica.batch + replica.joins, kind.max_batch)
    return prompt_steps(world, f, batch, replica.held, max(kind.chunk - batch, 1), tokens)
