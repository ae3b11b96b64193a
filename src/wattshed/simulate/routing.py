"""The routing policies as the event loop applies them, compiled.

Each sends a request to a replica that is up, of a deployment that may serve it; -1 if there is
none. What they weigh is computed beforehand by the room `route`, or by its compiled rules.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wattshed.compiled import called, inlined
from wattshed.engines.model import Array
from wattshed.route.frugal_rule import (
    Bid,
    Seen,
    Wanted,
    better,
    joules_of,
    late_by,
    lateness_of,
    price_of,
    settle,
    spend,
    usual_after,
)
from wattshed.simulate.layout import CHOSEN, LAST, PREFILL
from wattshed.simulate.ledger import asleep
from wattshed.simulate.structures import replay

ROUND_ROBIN, DRAW, LEAST_OUTSTANDING, POWER_OF_TWO, RANKED, FRUGAL, EXTERNAL = range(7)
AWAY = 2.0**40
"""Added to the load of a replica that takes no requests."""


class Routing(NamedTuple):
    """A policy, and what it needs for each request (Q) and deployment (K).

    Attributes
    ----------
    code : int
    retries : bool
        Requests whose replica fails before their first token are sent once more.
    draws : array (Q, 2), or (0, 2)
        Uniform numbers of a policy that draws.
    cost : array (Q, K), or (0, K)
        Least is first for RANKED; inf where a deployment may not serve a request.
    expected, late : arrays (Q,), or (0,)
        Output tokens forecast: mean, and the quantile for promises.
    ttft_s, tbt_s, e2e_s : arrays (Q,), or (0,)
        Limits.
    every_token : bool
        The limit on TBT holds for each token, and not for their mean.
    target : float
        Part of the promises that is to be kept.
    keep : array (1,)
        FRUGAL: part of the limits that predictions may use up; learned, written.
    packs : bool
        FRUGAL: take the fullest of those that keep their promises.
    clock : int array (K,)
        FRUGAL: at which steps are predicted.
    alone : ALONE (rows, Q)
        FRUGAL: deployments that serve one query at a time, by the forecast.
    tenant : int array (Q,), or (0,)
    budgets : Budgets
    usual : array (2,)
        Input and output tokens of requests lately; written.
    """

    code: int
    retries: bool
    draws: Array
    cost: Array
    expected: Array
    late: Array
    ttft_s: Array
    tbt_s: Array
    e2e_s: Array
    every_token: bool
    target: float
    keep: Array
    packs: bool
    clock: NDArray[np.int64]
    alone: Any
    tenant: NDArray[np.int64]
    budgets: Any
    usual: Array


@inlined
def route(world: Any, routing: Any, q: int, now: float) -> int:
    """Replica for a request that is sent now, or -1."""
    code, r = routing.code, int(world.cursor[CHOSEN])
    if code == ROUND_ROBIN:
        r = _in_turn(world, routing, q)
    elif code == DRAW:
        r = _drawn(world, routing, q)
    elif code == LEAST_OUTSTANDING:
        r = _least(world, routing, q)
    elif code == POWER_OF_TWO:
        r = _better_of_two(world, routing, q)
    elif code == RANKED:
        r = _first_in_rank(world, routing, q)
    elif code == FRUGAL:
        r = _frugal(world, routing, q, now)
    elif r >= 0 and not _admits(world, routing, world.replicas[r].kind, q):
        r = -1  # a caller goes by forecasts, and this one turned out to be longer
    return r


@inlined
def count(world: Any, routing: Any, r: int, by: float) -> None:
    """Add to what is outstanding at a replica."""
    world.load[r] += by
    if routing.code in (LEAST_OUTSTANDING, RANKED):
        kind = world.kinds[world.replicas[r].kind]
        tree = world.load_tree[kind.tree : kind.tree_end]
        replay(tree, world.load[kind.first : kind.end], r - kind.first)


@inlined
def close_down(world: Any, routing: Any, r: int) -> None:
    """Send nothing more to a replica."""
    count(world, routing, r, AWAY)


@inlined
def open_up(world: Any, routing: Any, r: int) -> None:
    """Send requests to a replica again."""
    count(world, routing, r, -AWAY)


@inlined
def _admits(world: Any, routing: Any, k: int, q: int) -> bool:
    """Whether a request fits into a deployment that serves nothing else, and may go there."""
    if len(routing.cost) > 0 and routing.cost[q, k] == np.inf:
        return False
    kind, request = world.kinds[k], world.requests[q]
    if kind.row >= 0:
        return bool(np.isfinite(world.alone[kind.row, q].runtime_s))
    # The last token is never fed again, so it needs no room in the KV cache.
    length = request.inputs + request.outputs
    return bool(length - 1 <= kind.kv and length <= kind.context)


@called
def _in_turn(world: Any, routing: Any, q: int) -> int:
    r = world.cursor[LAST] + 1
    looked = 0
    while looked < len(world.replicas) + len(world.kinds):
        if r >= len(world.replicas):
            r = 0
        k = world.replicas[r].kind
        if not _admits(world, routing, k, q):
            looked += world.kinds[k].end - r
            r = world.kinds[k].end
        elif world.load[r] >= AWAY:
            looked += 1
            r += 1
        else:
            world.cursor[LAST] = r
            return int(r)
    return -1


@called
def _drawn(world: Any, routing: Any, q: int) -> int:
    total = 0.0
    for k in range(len(world.kinds)):
        if _admits(world, routing, k, q):
            total += world.kinds[k].weight
    left = routing.draws[q, 0] * total
    chosen = -1
    for k in range(len(world.kinds)):
        kind = world.kinds[k]
        if kind.weight > 0 and _admits(world, routing, k, q):
            replicas = kind.end - kind.first
            chosen = kind.first + min(int(left / kind.weight * replicas), replicas - 1)
            if left < kind.weight:
                break
            left -= kind.weight
    return _or_next(world, routing, q, chosen)


@called
def _or_next(world: Any, routing: Any, q: int, r: int) -> int:
    """The replica that was drawn, or the next in number that takes requests."""
    if r < 0 or world.load[r] < AWAY:
        return int(r)
    for i in range(1, len(world.replicas)):
        other = (r + i) % len(world.replicas)
        if world.load[other] < AWAY and _admits(world, routing, world.replicas[other].kind, q):
            return int(other)
    return -1


@inlined
def _least_of(world: Any, k: int) -> int:
    return int(world.kinds[k].first + world.load_tree[world.kinds[k].tree + 1])


@inlined
def _least(world: Any, routing: Any, q: int) -> int:
    best = -1
    for k in range(len(world.kinds)):
        if _admits(world, routing, k, q):
            r = _least_of(world, k)
            if world.load[r] < AWAY and (best < 0 or world.load[r] < world.load[best]):
                best = r
    return int(best)


@inlined
def _first_in_rank(world: Any, routing: Any, q: int) -> int:
    """The least loaded replica of the deployment with the least cost that has one."""
    best, least = -1, np.inf
    for k in range(len(world.kinds)):
        if routing.cost[q, k] < least and _admits(world, routing, k, q):
            r = _least_of(world, k)
            if world.load[r] < AWAY:
                best, least = r, routing.cost[q, k]
    return int(best)


@called
def _better_of_two(world: Any, routing: Any, q: int) -> int:
    able = 0
    for k in range(len(world.kinds)):
        if _admits(world, routing, k, q):
            able += world.kinds[k].end - world.kinds[k].first
    if able == 0:
        return -1
    one = int(routing.draws[q, 0] * able)
    r = _able(world, routing, q, one)
    if able == 1:
        return _or_next(world, routing, q, r)
    two = int(routing.draws[q, 1] * (able - 1))
    other = _able(world, routing, q, two + (two >= one))
    return _or_next(world, routing, q, other if world.load[other] < world.load[r] else r)


@inlined
def _able(world: Any, routing: Any, q: int, i: int) -> int:
    """Number `i` of the replicas that can serve a request."""
    for k in range(len(world.kinds)):
        if _admits(world, routing, k, q):
            replicas = world.kinds[k].end - world.kinds[k].first
            if i < replicas:
                return int(world.kinds[k].first + i)
            i -= replicas
    return -1


@called
def _frugal(world: Any, routing: Any, q: int, now: float) -> int:
    """See `wattshed.route.frugal_rule`."""
    wanted = _wanted(world, routing, q, now)
    best, bid, spent = -1, Bid(np.inf, np.inf, np.inf), 0.0
    for k in range(len(world.kinds)):
        if not _admits(world, routing, k, q):
            continue
        empty = False
        for r in range(world.kinds[k].first, world.kinds[k].end):
            if world.load[r] >= AWAY or (world.load[r] == 0 and empty):
                continue  # an empty one is no other than the empty one before
            sleeps = asleep(world, r, now)
            empty = empty or (world.load[r] == 0 and not sleeps)
            alone = world.kinds[k].row >= 0
            if alone:
                lateness, joules = _bid_alone(world, routing, wanted, q, r)
            else:
                seen = _seen(world, routing, r, sleeps)
                lateness, joules = np.inf, joules_of(world, seen, wanted)
            total = joules + price_of(routing.budgets, k, wanted, joules)
            if best >= 0 and not routing.packs and bid.lateness <= 1.0 and total > bid.joules:
                continue  # no better, whatever its lateness
            if not alone:
                lateness = lateness_of(world, seen, wanted)
            other = Bid(lateness / routing.keep[0], total, world.load[r])
            if best < 0 or better(other, bid, routing.packs):
                best, bid, spent = r, other, joules
    if best >= 0:
        spend(routing.budgets, world.replicas[best].kind, wanted, spent)
        world.requests[q].charged_j += spent
    return int(best)


@inlined
def settle_budgets(world: Any, routing: Any, r: int, q: int) -> None:
    """Charge budgets with what a request that ends used, instead of what was predicted."""
    if len(routing.budgets.queue) > 0:
        request = world.requests[q]
        more = request.prefill_j + request.decode_j - request.charged_j
        tenant = routing.tenant[q] if len(routing.tenant) > 0 else -1
        settle(routing.budgets, world.replicas[r].kind, tenant, more, request.arrival_s)


@inlined
def _wanted(world: Any, routing: Any, q: int, now: float) -> Any:
    request = world.requests[q]
    usual = routing.usual
    usual[0] = usual_after(usual[0], request.inputs)
    usual[1] = usual_after(usual[1], routing.expected[q])
    return Wanted(
        request.inputs,
        routing.expected[q],
        routing.late[q],
        routing.ttft_s[q],
        routing.tbt_s[q],
        routing.e2e_s[q],
        routing.every_token,
        usual[0],
        usual[1],
        routing.tenant[q] if len(routing.tenant) > 0 else -1,
        now,
    )


@inlined
def _bid_alone(world: Any, routing: Any, wanted: Any, q: int, r: int) -> tuple[float, float]:
    """Lateness and joules where queries are served one after the other."""
    kind = world.kinds[world.replicas[r].kind]
    needs = routing.alone[kind.row, q]
    ttft = world.load[r] * needs.runtime_s + needs.first_s
    tbt = (needs.runtime_s - needs.first_s) / max(routing.expected[q] - 1.0, 1.0)
    return late_by(wanted, ttft, tbt), needs.energy_j - kind.idle_w * needs.runtime_s


@inlined
def _seen(world: Any, routing: Any, r: int, sleeps: bool) -> Any:
    """A replica as a gateway knows it: from what it sent there, and what came back."""
    replica = world.replicas[r]
    kind = world.kinds[replica.kind]
    waiting, backlog = replica.queued, replica.queued_tokens
    if replica.activity == PREFILL:
        waiting += replica.prompts
        backlog += replica.prompt_tokens
    if replica.partial >= 0:
        request = world.requests[replica.partial]
        backlog += request.inputs + request.produced - replica.partial_done
    extra_s, extra_j = 0.0, 0.0
    if sleeps:
        extra_s = kind.wake_s
        extra_j = kind.wake_j + kind.sleep_after_s * (kind.idle_w - kind.sleep_w)
    return Seen(
        routing.clock[replica.kind],
        replica.cap,
        kind.chunk,
        kind.kv,
        kind.idle_w,
        replica.batch,
        replica.held,
        waiting,
        backlog,
        extra_s,
        extra_j,
    )
