"""What a replica does next: a prompt, a block of decoding steps, a query, or nothing; compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from wattshed.simulate.compiled import inlined
from wattshed.simulate.layout import ADMISSIONS, DECODE, IDLE, PREFILL, QUERY
from wattshed.simulate.steps import decode_time, leave, total


@inlined
def plan(world: Any, r: int, now: float) -> None:
    """Begin the next block."""
    replica = world.replicas[r]
    replica.begun_s = now
    kind = world.kinds[replica.kind]
    if kind.row >= 0:
        _plan_query(world, r, now)
        return
    _make_room(world, r, now)
    if _plan_prompts(world, r, now):
        return
    if replica.batch == 0:
        replica.activity, world.boundary[r] = IDLE, np.inf
        return
    room = (kind.kv - replica.held) // replica.batch + 1
    replica.steps = min(world.slots[replica.slot].key - replica.done, room)
    replica.activity, replica.prompts = DECODE, 0
    first, growth = decode_time(world, r)
    world.boundary[r] = now + total(first, growth, replica.steps)


@inlined
def _next_in_line(world: Any, r: int) -> int:
    replica = world.replicas[r]
    q = replica.head
    replica.head = world.requests[q].behind
    world.requests[q].behind = -1
    if np.isnan(world.requests[q].start_s):
        world.requests[q].start_s = replica.begun_s
    return int(q)


@inlined
def _plan_query(world: Any, r: int, now: float) -> None:
    """Serve one query alone."""
    replica = world.replicas[r]
    if replica.head < 0:
        replica.activity, world.boundary[r] = IDLE, np.inf
        return
    q = _next_in_line(world, r)
    needs = world.alone[world.kinds[replica.kind].row, q]
    replica.activity, replica.partial = QUERY, q
    replica.energy_j[QUERY] += needs.energy_j
    world.requests[q].own_j = needs.energy_j
    world.requests[q].first_s = now + needs.first_s
    world.boundary[r] = now + needs.runtime_s


@inlined
def _make_room(world: Any, r: int, now: float) -> None:
    """Send back those admitted last until the next step fits into the KV cache."""
    replica = world.replicas[r]
    kv = world.kinds[replica.kind].kv
    while True:
        q = replica.partial
        reserved = world.requests[q].inputs + world.requests[q].produced if q >= 0 else 0
        if replica.held + reserved <= kv:
            return
        if q >= 0:
            replica.partial = -1
        else:
            q = leave(world, r, _admitted_last(world, r))
            world.requests[q].finish_s = now  # of its last token, for the time until the next
        world.requests[q].preemptions += 1
        world.requests[q].behind = replica.head
        if replica.head < 0:
            replica.tail = q
        replica.head = q


@inlined
def _admitted_last(world: Any, r: int) -> int:
    slot, last, latest = world.replicas[r].slot, 0, -1
    for i in range(world.replicas[r].batch):
        admitted = world.requests[world.slots[slot + i].request].admitted
        if admitted > latest:
            last, latest = i, admitted
    return last


@inlined
def _plan_prompts(world: Any, r: int, now: float) -> bool:
    """Fill the next step with prompts; whether there are any."""
    replica = world.replicas[r]
    k = replica.kind
    kind = world.kinds[k]
    left = kind.chunk - replica.batch
    tokens, pairs = 0, 0.0
    reserved = 0
    replica.joins, replica.prompts = 0, 0
    while left > 0 and (replica.partial >= 0 or _admit(world, r, reserved)):
        request, done = world.requests[replica.partial], replica.partial_done
        need = request.inputs + request.produced
        take = min(left, need - done)
        seen = take * (done + 0.5 * take)
        request.own_j += kind.j_prompt * take + kind.j_pair * seen
        tokens, pairs, left = tokens + take, pairs + seen, left - take
        replica.prompts += 1
        replica.partial_done += take
        if done + take == need:
            world.slots[replica.slot + replica.joins].joining = replica.partial
            replica.joins += 1
            replica.partial = -1
            reserved += need
    if replica.prompts == 0:
        return False
    _share_fixed(world, r)
    replica.activity, replica.steps = PREFILL, 1
    joules, seconds = world.joules[k, replica.batch], world.seconds[k, replica.batch]
    joules += kind.j_context * replica.held + kind.j_prompt * tokens + kind.j_pair * pairs
    seconds += kind.s_context * replica.held + kind.s_prompt * tokens + kind.s_pair * pairs
    replica.prefill_j = joules
    world.boundary[r] = now + seconds
    return True


@inlined
def _share_fixed(world: Any, r: int) -> None:
    """Charge the prompts of a step with their shares of its fixed energy."""
    replica = world.replicas[r]
    share = world.joules[replica.kind, 0] / (replica.batch + replica.prompts)
    for i in range(replica.joins):
        world.requests[world.slots[replica.slot + i].joining].shared_j += share
    if replica.partial >= 0:
        world.requests[replica.partial].shared_j += share


@inlined
def _admit(world: Any, r: int, reserved: int) -> bool:
    """Begin the prompt at the head of the line, if batch and KV cache have room for it.

    The whole prompt and one more token of every sequence must fit, so that it is not sent
    back at once. Alone it always fits: else it would not have been sent here.
    """
    replica = world.replicas[r]
    kind = world.kinds[replica.kind]
    others = replica.batch + replica.joins
    if replica.head < 0 or others >= kind.max_batch:
        return False
    need = world.requests[replica.head].inputs + world.requests[replica.head].produced
    if others > 0 and replica.held + reserved + need + others + 1 > kind.kv:
        return False
    replica.partial, replica.partial_done = _next_in_line(world, r), 0
    world.cursor[ADMISSIONS] += 1
    world.requests[replica.partial].admitted = world.cursor[ADMISSIONS]
    return True
