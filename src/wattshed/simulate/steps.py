"""What a replica's blocks cost, and what happens at their ends; compiled."""

from __future__ import annotations

from typing import Any

from wattshed.simulate.compiled import inlined
from wattshed.simulate.layout import DECODE, IDLE, PREFILL, QUERY, RUNS
from wattshed.simulate.peaks import longest_since, note_gap, note_join
from wattshed.simulate.routing import count
from wattshed.simulate.structures import remove, rise


@inlined
def total(first: float, growth: float, steps: int) -> float:
    """Sum of `steps` terms that grow evenly."""
    return steps * first + growth * (0.5 * steps * (steps - 1))


@inlined
def decode_time(world: Any, r: int) -> tuple[float, float]:
    """Duration of the next decoding step, and by how much it grows from step to step."""
    replica = world.replicas[r]
    rate = world.kinds[replica.kind].s_context
    first = world.seconds[replica.kind, replica.batch] + rate * replica.held
    return first, rate * replica.batch


@inlined
def close(world: Any, runs: Any, policy: int, r: int, now: float) -> None:
    """Account for the block that ends now, and let sequences leave and join."""
    replica = world.replicas[r]
    if replica.activity == IDLE:
        return
    replica.time_s[replica.activity] += now - replica.begun_s
    if replica.activity == QUERY:
        world.requests[replica.partial].finish_s = now
        replica.partial = -1
        count(world, policy, r, -1)
        return
    _account(world, runs, r, now)
    replica.done += replica.steps
    replica.held += replica.steps * replica.batch
    while replica.batch > 0 and world.slots[replica.slot].key <= replica.done:
        q = leave(world, r, 0)
        world.requests[q].finish_s = now
        count(world, policy, r, -1)
    if replica.activity == PREFILL:
        for i in range(replica.joins):
            _join(world, runs, policy, r, world.slots[replica.slot + i].joining, now)
    if replica.batch == 0:
        # Nobody counts from here: start again, so that sums stay short and exact.
        replica.done, replica.peaks = 0, 0
        replica.own_j, replica.shared_j = 0.0, 0.0


@inlined
def leave(world: Any, r: int, at: int) -> int:
    """Take a sequence from the batch and settle what it costs."""
    replica = world.replicas[r]
    key, q = world.slots[replica.slot + at].key, world.slots[replica.slot + at].request
    request = world.requests[q]
    to_come = request.outputs - request.produced
    steps = to_come - (key - replica.done)
    context = request.inputs + request.produced
    rate = world.kinds[replica.kind].j_context
    request.own_j += replica.own_j + rate * total(context, 1.0, steps)
    request.shared_j += replica.shared_j
    if steps > 0:
        request.longest_s = max(request.longest_s, longest_since(world, r, key - to_come))
    request.produced += steps
    remove(world.slots, replica.slot, replica.batch, at)
    replica.batch -= 1
    replica.held -= context + steps
    return int(q)


@inlined
def _account(world: Any, runs: Any, r: int, now: float) -> None:
    """Energy of the block, to the replica and to each of those in it; times between tokens."""
    replica = world.replicas[r]
    k, batch, steps = replica.kind, replica.batch, replica.steps
    fixed = world.joules[k, 0]
    replica.shared_j += steps * (fixed / (batch + replica.prompts))
    if batch > 0:
        first, growth = decode_time(world, r)
        if replica.activity == PREFILL:
            first = now - replica.begun_s
        note_gap(world, r, first + growth * (steps - 1))
        _record(world, runs, r, first, growth, steps, batch)
        replica.own_j += steps * ((world.joules[k, batch] - fixed) / batch)
    if replica.activity == PREFILL:
        replica.energy_j[PREFILL] += replica.prefill_j
    else:
        rate = world.kinds[k].j_context
        each = world.joules[k, batch] + rate * replica.held
        replica.energy_j[DECODE] += total(each, rate * batch, steps)


@inlined
def _record(
    world: Any, runs: Any, r: int, gap: float, growth: float, steps: int, sequences: int
) -> None:
    if len(runs) > 0:
        run = runs[world.cursor[RUNS]]
        run.gap, run.growth, run.steps, run.sequences, run.replica = (
            gap,
            growth,
            steps,
            sequences,
            r,
        )
        world.cursor[RUNS] += 1


@inlined
def _join(world: Any, runs: Any, policy: int, r: int, q: int, now: float) -> None:
    """Hand out the token that comes with the end of a prompt, and begin to decode."""
    replica, request = world.replicas[r], world.requests[q]
    if request.produced == 0:
        request.first_s = now
    else:
        gap = now - request.finish_s
        request.longest_s = max(request.longest_s, gap)
        _record(world, runs, r, gap, 0.0, 1, 1)
    request.produced += 1
    if request.produced == request.outputs:
        request.finish_s = now
        count(world, policy, r, -1)
        return
    note_join(world, r)
    key = replica.done + request.outputs - request.produced
    rise(world.slots, replica.slot, replica.batch, key, q)
    replica.batch += 1
    replica.held += request.inputs + request.produced
    request.own_j -= replica.own_j
    request.shared_j -= replica.shared_j
