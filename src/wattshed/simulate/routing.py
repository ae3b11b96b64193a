"""The routing policies that are compiled into the simulator.

Each sends a request to a replica of a deployment that can serve it; -1 if there is none.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from wattshed.simulate.compiled import inlined
from wattshed.simulate.layout import DRAW, LAST, LEAST_OUTSTANDING, ROUND_ROBIN
from wattshed.simulate.structures import replay


@inlined
def route(world: Any, policy: int, q: int) -> int:
    """Replica for a request that arrives now, or -1."""
    if policy == ROUND_ROBIN:
        return _in_turn(world, q)
    if policy == DRAW:
        return _drawn(world, q)
    if policy == LEAST_OUTSTANDING:
        return _least(world, q)
    return _better_of_two(world, q)


@inlined
def count(world: Any, policy: int, r: int, by: int) -> None:
    """Add to what is outstanding at a replica."""
    world.load[r] += by
    if policy == LEAST_OUTSTANDING:
        kind = world.kinds[world.replicas[r].kind]
        tree = world.load_tree[kind.tree : kind.tree_end]
        replay(tree, world.load[kind.first : kind.end], r - kind.first)


@inlined
def _admits(world: Any, k: int, q: int) -> bool:
    """Whether a request fits into a deployment that serves nothing else."""
    kind, request = world.kinds[k], world.requests[q]
    if kind.row >= 0:
        return bool(np.isfinite(world.alone[kind.row, q].runtime_s))
    # The last token is never fed again, so it needs no room in the KV cache.
    length = request.inputs + request.outputs
    return bool(length - 1 <= kind.kv and length <= kind.context)


@inlined
def _in_turn(world: Any, q: int) -> int:
    r = world.cursor[LAST] + 1
    for _ in range(len(world.kinds) + 1):
        if r == len(world.replicas):
            r = 0
        k = world.replicas[r].kind
        if _admits(world, k, q):
            world.cursor[LAST] = r
            return int(r)
        r = world.kinds[k].end
    return -1


@inlined
def _drawn(world: Any, q: int) -> int:
    total = 0.0
    for k in range(len(world.kinds)):
        if _admits(world, k, q):
            total += world.kinds[k].weight
    left = world.draws[q, 0] * total
    chosen = -1
    for k in range(len(world.kinds)):
        kind = world.kinds[k]
        if kind.weight > 0 and _admits(world, k, q):
            replicas = kind.end - kind.first
            chosen = kind.first + min(int(left / kind.weight * replicas), replicas - 1)
            if left < kind.weight:
                return int(chosen)
            left -= kind.weight
    return int(chosen)  # by rounding only: the last of the last deployment with a weight


@inlined
def _least(world: Any, q: int) -> int:
    best = -1
    for k in range(len(world.kinds)):
        if _admits(world, k, q):
            r = world.kinds[k].first + world.load_tree[world.kinds[k].tree + 1]
            if best < 0 or world.load[r] < world.load[best]:
                best = r
    return int(best)


@inlined
def _better_of_two(world: Any, q: int) -> int:
    able = 0
    for k in range(len(world.kinds)):
        if _admits(world, k, q):
            able += world.kinds[k].end - world.kinds[k].first
    if able == 0:
        return -1
    one = int(world.draws[q, 0] * able)
    r = _able(world, q, one)
    if able == 1:
        return r
    two = int(world.draws[q, 1] * (able - 1))
    other = _able(world, q, two + (two >= one))
    return other if world.load[other] < world.load[r] else r


@inlined
def _able(world: Any, q: int, i: int) -> int:
    """Number `i` of the replicas that can serve a request."""
    for k in range(len(world.kinds)):
        if _admits(world, k, q):
            replicas = world.kinds[k].end - world.kinds[k].first
            if i < replicas:
                return int(world.kinds[k].first + i)
            i -= replicas
    return -1
