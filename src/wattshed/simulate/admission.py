"""What a replica does next: a prompt, a block of decoding steps, a query, or nothing; compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from wattshed.compiled import inlined
from wattshed.simulate.clocking import set_batch_cap, set_clock
from wattshed.simulate.layout import ADMISSIONS, DECODE, IDLE, LEAVING, OFF, PREFILL, QUERY
from wattshed.simulate.steps import decode_time, leave, prompt_time, total


@inlined
def plan(world: Any, control: Any, r: int, now: float) -> None:
    """Begin the next block."""
    replica = world.replicas[r]
    replica.begun_s = now
    kind = world.kinds[replica.kind]
    if kind.row >= 0:
        _plan_query(world, r, now)
        return
    set_batch_cap(world, control, r)
    _make_room(world, r, now)
    if _plan_prompts(world, r):
        replica.activity, replica.steps = PREFILL, 1
        set_clock(world, control, r, now)
        world.boundary[r] = now + prompt_time(world, r, replica.clock)
        return
    if replica.batch == 0:
        _be_idle(world, r)
        return
    room = (kind.kv - replica.held) // replica.batch + 1
    replica.steps = min(world.slots[replica.slot].key - replica.done, room)
    replica.activity = DECODE
    set_clock(world, control, r, now)
    first, growth = decode_time(world, r)
    world.boundary[r] = now + total(first, growth, replica.steps)


@inlined
def _be_idle(world: Any, r: int) -> None:
    replica = world.replicas[r]
    replica.activity = OFF if replica.up == LEAVING else IDLE
    world.boundary[r] = np.inf


@inlined
def line_up(world: Any, r: int, q: int) -> None:
    """Put a request at the end of the waiting line."""
    replica = world.replicas[r]
    if replica.head >= 0:
        world.requests[replica.tail].behind = q
    else:
        replica.head = q
    replica.tail = q
    _count_in_line(world, r, q, 1)


@inlined
def _count_in_line(world: Any, r: int, q: int, by: int) -> None:
    replica, request = world.replicas[r], world.requests[q]
    replica.queued += by
    replica.queued_tokens += by * (request.inputs + request.produced)


@inlined
def next_in_line(world: Any, r: int) -> int:
    """Take the first request from the waiting line."""
    replica = world.replicas[r]
    q = replica.head
    replica.head = world.requests[q].behind
    world.requests[q].behind = -1
    _count_in_line(world, r, q, -1)
    if np.isnan(world.requests[q].start_s):
        world.requests[q].start_s = replica.begun_s
    return int(q)


@inlined
def _plan_query(world: Any, r: int, now: float) -> None:
    """Serve one query alone."""
    replica = world.replicas[r]
    if replica.head < 0:
        _be_idle(world, r)
        return
    q = next_in_line(world, r)
    needs = world.alone[world.kinds[replica.kind].row, q]
    replica.activity, replica.partial = QUERY, q
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
        _count_in_line(world, r, q, 1)


@inlined
def _admitted_last(world: Any, r: int) -> int:
    slot, last, latest = world.replicas[r].slot, 0, -1
    for i in range(world.replicas[r].batch):
        admitted = world.requests[world.slots[slot + i].request].admitted
        if admitted > latest:
            last, latest = i, admitted
    return last


@inlined
def _plan_prompts(world: Any, r: int) -> bool:
    """Fill the next step with prompts; whether there are any."""
    replica = world.replicas[r]
    kind = world.kinds[replica.kind]
    left = kind.chunk - replica.batch
    reserved = 0
    replica.joins, replica.prompts, replica.prompt_tokens = 0, 0, 0
    replica.prompt_pairs = 0.0
    while left > 0 and (replica.partial >= 0 or _admit(world, r, reserved)):
        request, done = world.requests[replica.partial], replica.partial_done
        need = request.inputs + request.produced
        take = min(left, need - done)
        replica.prompts += 1
        replica.prompt_tokens += take
        replica.prompt_pairs += take * (done + 0.5 * take)
        replica.partial_done += take
        replica.partial_take = take
        left -= take
        if done + take == need:
            slot = world.slots[replica.slot + replica.joins]
            slot.joining, slot.take, slot.before = replica.partial, take, done
            replica.joins += 1
            replica.partial = -1
            reserved += need
    return bool(replica.prompts > 0)


@inlined
def _admit(world: Any, r: int, reserved: int) -> bool:
    """Begin the prompt at the head of the line, if batch and KV cache have room for it.

    The whole prompt and one more token of every sequence must fit, so that it is not sent
    back at once. Alone it always fits: else it would not have been sent here.
    """
    replica = world.replicas[r]
    kind = world.kinds[replica.kind]
    others = replica.batch + replica.joins
    if replica.head < 0 or others >= replica.cap:
        return False
    need = world.requests[replica.head].inputs + world.requests[replica.head].produced
    if others > 0 and replica.held + reserved + need + others + 1 > kind.kv:
        return False
    replica.partial, replica.partial_done = next_in_line(world, r), 0
    world.cursor[ADMISSIONS] += 1
    world.requests[replica.partial].admitted = world.cursor[ADMISSIONS]
    return True
