"""What a replica's blocks cost, and what happens at their ends; compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from wattshed.compiled import called, inlined
from wattshed.engines.rules import piece_of
from wattshed.learning import KEEP_GAIN, TRUST_GAIN, learn
from wattshed.simulate.layout import DECODE, PREFILL, QUERY, RUNS, SERVED
from wattshed.simulate.ledger import book, rest
from wattshed.simulate.peaks import longest_since, note_gap, note_join
from wattshed.simulate.routing import count, settle_budgets
from wattshed.simulate.structures import remove, rise

MEMORY_STEPS = 64.0
"""Over which the lengthening of steps by prompts is averaged."""


@inlined
def total(first: float, growth: float, steps: int) -> float:
    """Sum of `steps` terms that grow evenly."""
    return steps * first + growth * (0.5 * steps * (steps - 1))


@inlined
def decode_time(world: Any, r: int) -> tuple[float, float]:
    """Duration of the next decoding step, and by how much it grows from step to step."""
    replica = world.replicas[r]
    rate = world.clocks[replica.clock].s_context
    first = world.seconds[replica.clock, replica.batch] + rate * replica.held
    return first, rate * replica.batch


@inlined
def prompt_time(world: Any, r: int, f: int) -> float:
    """Duration of the step with prompts that is being planned, at clock `f`."""
    replica, clock = world.replicas[r], world.clocks[f]
    piece = world.pieces[piece_of(world, f, replica.prompt_tokens)]
    seconds = world.seconds[f, replica.batch] + clock.s_context * replica.held
    seconds += piece.s_fixed + piece.s_token * replica.prompt_tokens
    seconds += clock.s_pair * replica.prompt_pairs
    return float(seconds - clock.s_saved if replica.batch > 0 else seconds)


@inlined
def close(world: Any, runs: Any, routing: Any, r: int, now: float) -> None:
    """Account for the block that ends now, and let sequences leave and join."""
    replica = world.replicas[r]
    if replica.activity == QUERY:
        _pay_query(world, r, now, 1.0)
        _finish(world, routing, r, replica.partial, now)
        replica.partial = -1
    elif replica.activity in (PREFILL, DECODE):
        _close_steps(world, runs, r, replica.steps, now)
        while replica.batch > 0 and world.slots[replica.slot].key <= replica.done:
            _finish(world, routing, r, leave(world, r, 0), now)
        if replica.activity == PREFILL:
            for i in range(replica.joins):
                _join(world, runs, routing, r, world.slots[replica.slot + i].joining, now)
            replica.joins, replica.prompts = 0, 0
        forget(world, r)
    else:
        rest(world, r, now)


@inlined
def forget(world: Any, r: int) -> None:
    """Start the sums of an empty replica again, so that they stay short and exact."""
    replica = world.replicas[r]
    if replica.batch == 0:
        replica.done, replica.peaks = 0, 0
        replica.own_j, replica.shared_j, replica.rate_j, replica.index_j = 0.0, 0.0, 0.0, 0.0


@called
def interrupt(world: Any, runs: Any, r: int, now: float) -> None:
    """Account for a block that is cut off now: the steps that are over, and a part of one."""
    replica = world.replicas[r]
    if replica.activity == QUERY:
        whole = world.alone[world.kinds[replica.kind].row, replica.partial].runtime_s
        _pay_query(world, r, now, (now - replica.begun_s) / whole if whole > 0 else 1.0)
        return
    if replica.activity not in (PREFILL, DECODE):
        rest(world, r, now)
        return
    over, length = 0, world.boundary[r] - replica.begun_s
    if replica.activity == DECODE:
        first, growth = decode_time(world, r)
        over = replica.steps
        while over > 0 and replica.begun_s + total(first, growth, over) > now:
            over -= 1
        done_s = total(first, growth, over)
        if over > 0:
            _close_steps(world, runs, r, over, replica.begun_s + done_s)
            replica.begun_s += done_s
        length = first + growth * over
    part = (now - replica.begun_s) / length
    if over < replica.steps and part > 0:
        book(world, r, replica.activity, now, _pay(world, r, 1, length, part))


@inlined
def _close_steps(world: Any, runs: Any, r: int, steps: int, now: float) -> None:
    """Account for whole steps: energy, times between tokens, context."""
    replica = world.replicas[r]
    if replica.batch > 0:
        first, growth = decode_time(world, r)
        if replica.activity == PREFILL:
            part = 1.0 / MEMORY_STEPS
            lengthened = now - replica.begun_s - first
            replica.excess_s += part * (lengthened - replica.excess_s)
            first = now - replica.begun_s
        else:
            replica.excess_s *= (1.0 - 1.0 / MEMORY_STEPS) ** steps
        note_gap(world, r, first + growth * (steps - 1))
        _record(world, runs, r, first, growth, steps, replica.batch)
    joules = _pay(world, r, steps, now - replica.begun_s, 1.0)
    book(world, r, replica.activity, now, joules)
    replica.done += steps
    replica.held += steps * replica.batch


@inlined
def _pay(world: Any, r: int, steps: int, seconds: float, part: float) -> float:
    """Share the energy of steps, or of a part of one, among those in it; its sum.

    Static energy in equal parts; what the batch adds equally among the decoding sequences, what
    context adds to its owner, and all that prompts add to the prompts.
    """
    replica = world.replicas[r]
    batch, f = replica.batch, replica.clock
    clock, static = world.clocks[f], world.kinds[replica.kind].static_w
    each = part * static * seconds / (batch + replica.prompts)
    of_batch = world.joules[f, batch] - static * world.seconds[f, batch]
    rate = clock.j_context - static * clock.s_context
    joules = part * static * seconds
    if batch > 0:
        replica.shared_j += each
        replica.own_j += part * (steps * (of_batch / batch))
        replica.rate_j += part * (steps * rate)
        replica.index_j += part * (rate * total(replica.done, 1.0, steps))
        joules += part * (steps * of_batch + rate * total(replica.held, batch, steps))
    if replica.prompts > 0:
        joules += _pay_prompts(world, r, of_batch if batch == 0 else 0.0, each, part)
    return float(joules)


@inlined
def _pay_prompts(world: Any, r: int, alone_j: float, each: float, part: float) -> float:
    """Charge the prompts of a step with what they add to it; their dynamic energy."""
    replica = world.replicas[r]
    clock, static = world.clocks[replica.clock], world.kinds[replica.kind].static_w
    piece = world.pieces[piece_of(world, replica.clock, replica.prompt_tokens)]
    dynamic = piece.j_fixed - static * piece.s_fixed + alone_j
    dynamic += (piece.j_token - static * piece.s_token) * replica.prompt_tokens
    if replica.batch > 0:
        dynamic -= clock.j_saved - static * clock.s_saved
    token = part * dynamic / replica.prompt_tokens
    pair = part * (clock.j_pair - static * clock.s_pair)
    for i in range(replica.joins):
        slot = world.slots[replica.slot + i]
        seen = slot.take * (slot.before + 0.5 * slot.take)
        world.requests[slot.joining].prefill_j += token * slot.take + pair * seen
        world.requests[slot.joining].shared_j += each
    if replica.partial >= 0:
        take = replica.partial_take
        seen = take * (replica.partial_done - take + 0.5 * take)
        world.requests[replica.partial].prefill_j += token * take + pair * seen
        world.requests[replica.partial].shared_j += each
    return float(part * dynamic + pair * replica.prompt_pairs)


@inlined
def _pay_query(world: Any, r: int, now: float, part: float) -> None:
    replica = world.replicas[r]
    kind = world.kinds[replica.kind]
    needs, request = world.alone[kind.row, replica.partial], world.requests[replica.partial]
    static = min(kind.static_w * needs.runtime_s, needs.energy_j)
    request.shared_j += part * static
    request.decode_j += part * (needs.energy_j - static)
    book(world, r, QUERY, now, part * needs.energy_j)


@inlined
def leave(world: Any, r: int, at: int) -> int:
    """Take a sequence from the batch and settle what it costs."""
    replica = world.replicas[r]
    key, q = world.slots[replica.slot + at].key, world.slots[replica.slot + at].request
    request = world.requests[q]
    to_come = request.outputs - request.produced
    steps = to_come - (key - replica.done)
    context = request.inputs + request.produced
    request.decode_j += _summed(world, r, context - (key - to_come))
    request.shared_j += replica.shared_j
    if steps > 0:
        request.longest_s = max(request.longest_s, longest_since(world, r, key - to_come))
    request.produced += steps
    remove(world.slots, replica.slot, replica.batch, at)
    replica.batch -= 1
    replica.held -= context + steps
    return int(q)


@inlined
def _summed(world: Any, r: int, offset: int) -> float:
    """Dynamic energy so far of a sequence whose context is `offset` more than the step's number."""
    replica = world.replicas[r]
    return float(replica.own_j + offset * replica.rate_j + replica.index_j)


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
def _finish(world: Any, routing: Any, r: int, q: int, now: float) -> None:
    request = world.requests[q]
    request.finish_s = now
    request.fate = SERVED
    count(world, routing, r, -1)
    settle_budgets(world, routing, r, q)
    if len(routing.ttft_s) > 0 and not np.isnan(request.first_s):
        # Nobody waits between tokens if there is one: infinity times 0 says nothing.
        later = request.outputs - 1
        steady = later == 0 or now - request.first_s <= routing.tbt_s[q] * later
        if routing.every_token and world.kinds[world.replicas[r].kind].row < 0:
            steady = request.longest_s <= routing.tbt_s[q]
        in_time = request.first_s - request.arrival_s <= routing.ttft_s[q]
        kept = steady and in_time and now - request.arrival_s <= routing.e2e_s[q]
        replica = world.replicas[r]
        replica.trust = learn(replica.trust, kept, routing.target, TRUST_GAIN)
        routing.keep[0] = learn(routing.keep[0], kept, routing.target, KEEP_GAIN)


@inlined
def _join(world: Any, runs: Any, routing: Any, r: int, q: int, now: float) -> None:
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
        _finish(world, routing, r, q, now)
        return
    note_join(world, r)
    key = replica.done + request.outputs - request.produced
    rise(world.slots, replica.slot, replica.batch, key, q)
    replica.batch += 1
    context = request.inputs + request.produced
    replica.held += context
    request.decode_j -= _summed(world, r, context - replica.done)
    request.shared_j -= replica.shared_j
