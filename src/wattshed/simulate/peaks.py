"""The longest time between two tokens of each sequence, without looking at every token.

All sequences of a replica get their tokens together, so the longest gap of one of them is the
longest since it joined: it only falls from those that joined early to those that joined late.
A stack per replica keeps (step since which, longest gap since then), gaps falling upwards. It
has room for twice the batch; when it is full, entries that nobody needs are dropped.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from wattshed.compiled import called, inlined


@inlined
def note_gap(world: Any, r: int, gap: float) -> None:
    """Every sequence of the replica has waited `gap` for its token."""
    bottom, top = _bottom(world, r), _bottom(world, r) + world.replicas[r].peaks
    since = -1
    while top > bottom and world.peaks[top - 1].gap <= gap:
        top -= 1
        since = world.peaks[top].since
    if since >= 0:
        world.peaks[top].since, world.peaks[top].gap = since, gap
        world.replicas[r].peaks = top + 1 - bottom


@inlined
def note_join(world: Any, r: int) -> None:
    """A sequence joins after the steps done so far."""
    replica, bottom = world.replicas[r], _bottom(world, r)
    if replica.peaks > 0 and world.peaks[bottom + replica.peaks - 1].since == replica.done:
        return
    if replica.peaks == 2 * world.kinds[replica.kind].max_batch + 2:
        _drop_unused(world, r)
    top = world.peaks[bottom + replica.peaks]
    top.since, top.gap = replica.done, 0.0
    replica.peaks += 1


@inlined
def longest_since(world: Any, r: int, step: int) -> float:
    """Longest gap of a sequence that joined after `step` steps."""
    return float(world.peaks[_entry(world, r, step)].gap)


@inlined
def _bottom(world: Any, r: int) -> int:
    return int(2 * world.replicas[r].slot + 2 * r)


@inlined
def _entry(world: Any, r: int, step: int) -> int:
    low = _bottom(world, r)
    high = low + world.replicas[r].peaks
    while high - low > 1:
        middle = (low + high) // 2
        if world.peaks[middle].since <= step:
            low = middle
        else:
            high = middle
    return low


@called
def _drop_unused(world: Any, r: int) -> None:
    replica, bottom = world.replicas[r], _bottom(world, r)
    for i in range(replica.slot, replica.slot + replica.batch):
        request = world.requests[world.slots[i].request]
        joined = world.slots[i].key - (request.outputs - request.produced)
        used = world.peaks[_entry(world, r, joined)]
        used.gap = np.copysign(used.gap, -1.0)
    kept = bottom
    for i in range(bottom, bottom + replica.peaks):
        if np.signbit(world.peaks[i].gap):
            world.peaks[kept].since = world.peaks[i].since
            world.peaks[kept].gap = -world.peaks[i].gap
            kept += 1
    replica.peaks = kept - bottom
