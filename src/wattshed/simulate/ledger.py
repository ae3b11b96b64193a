"""Time and energy of replicas by state, and their timelines; compiled."""

from __future__ import annotations

from typing import Any

from wattshed.compiled import called, inlined
from wattshed.simulate.layout import BINS, BOOT, IDLE, OFF, SLEEP, WAKE


@inlined
def book(world: Any, r: int, state: int, now: float, joules: float) -> None:
    """Write down what a replica drew in a state since its block began."""
    replica = world.replicas[r]
    begun = replica.begun_s
    replica.time_s[state] += now - begun
    replica.energy_j[state] += joules
    while now > world.bin_s[0] * BINS:
        _fold(world)
    width = world.bin_s[0]
    first, last = int(begun / width), min(int(now / width), BINS - 1)
    if first >= last:
        world.bins_j[r, last] += joules
        world.stack_j[state, last] += joules
        return
    _spread(world, r, state, now, joules / (now - begun))


@called
def _spread(world: Any, r: int, state: int, now: float, power_w: float) -> None:
    """Write energy down in each of the bins that a block touches."""
    width, begun = world.bin_s[0], world.replicas[r].begun_s
    for i in range(int(begun / width), min(int(now / width), BINS - 1) + 1):
        end = min(now, (i + 1) * width) if i < BINS - 1 else now
        part = power_w * (end - max(begun, i * width))
        world.bins_j[r, i] += part
        world.stack_j[state, i] += part


@called
def _fold(world: Any) -> None:
    """Make the bins twice as wide."""
    world.bin_s[0] *= 2.0
    _fold_rows(world.bins_j)
    _fold_rows(world.stack_j)


@called
def _fold_rows(rows: Any) -> None:
    for i in range(rows.shape[0]):
        for j in range(BINS // 2):
            rows[i, j] = rows[i, 2 * j] + rows[i, 2 * j + 1]
        for j in range(BINS // 2, BINS):
            rows[i, j] = 0.0


@called
def rest(world: Any, r: int, now: float) -> None:
    """Write down what a replica that serves nothing drew until now."""
    replica = world.replicas[r]
    kind = world.kinds[replica.kind]
    since = now - replica.begun_s
    if replica.activity == IDLE:
        if since > kind.sleep_after_s:
            awake_s = kind.sleep_after_s
            book(world, r, IDLE, replica.begun_s + awake_s, kind.idle_w * awake_s)
            replica.begun_s += awake_s
            since -= awake_s
            book(world, r, SLEEP, now, kind.sleep_w * since)
        else:
            book(world, r, IDLE, now, kind.idle_w * since)
    elif replica.activity == WAKE:
        book(world, r, WAKE, now, kind.wake_j * (since / kind.wake_s if kind.wake_s > 0 else 1.0))
    elif replica.activity == BOOT:
        book(world, r, BOOT, now, kind.boot_j * (since / kind.boot_s if kind.boot_s > 0 else 1.0))
    else:
        book(world, r, OFF, now, 0.0)
    replica.begun_s = now


@inlined
def asleep(world: Any, r: int, now: float) -> bool:
    """Whether a replica sleeps."""
    replica = world.replicas[r]
    since = now - replica.begun_s
    return bool(replica.activity == IDLE and since > world.kinds[replica.kind].sleep_after_s)
