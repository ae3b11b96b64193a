"""Least marginal energy among the endpoints that keep their promises: the rule, compiled.

The gateway applies it to what it knows of its endpoints, the simulator to its replicas; both take
the bid of each endpoint and keep the one that `better` prefers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from wattshed.compiled import compiled, inlined
from wattshed.engines.rules import decode_above, decode_step, prompt_above, prompt_steps

USUAL_OF = 1.0 / 256.0
"""Weight of a new request in the means of requests lately."""
SURE = 2.0
"""Standard deviations by which a wait for others to end is taken to be longer than its mean."""


class Bid(NamedTuple):
    """What an endpoint makes of a request.

    Attributes
    ----------
    lateness : float
        Largest of predicted TTFT, TBT and E2E over the part of their limits that may be used: at
        most 1 if it keeps its promises.
    joules : float
        What the request adds to the energy of the fleet, with the prices of budgets.
    load : float
        Requests that are there.
    """

    lateness: float
    joules: float
    load: float


class Seen(NamedTuple):
    """An endpoint as the rule sees it.

    Attributes
    ----------
    f : int
        Clock, as its place in the tables.
    max_batch, chunk, kv : int
    idle_w : float
    batch, held : int
        Decoding sequences and their context tokens.
    waiting, backlog : int
        Requests whose prompts are not processed yet, and the tokens of these prompts.
    extra_s, extra_j : float
        Before it can begin, and what it takes to have it begin: waking up.
    """

    f: int
    max_batch: int
    chunk: int
    kv: int
    idle_w: float
    batch: int
    held: int
    waiting: int
    backlog: int
    extra_s: float
    extra_j: float


class Wanted(NamedTuple):
    """A request as the rule sees it.

    Attributes
    ----------
    m : int
    n, n_late : float
        Expected output tokens, and the quantile that promises are kept for.
    ttft_s, tbt_s, e2e_s : float
        Limits; inf for none.
    every_token : bool
        The limit on TBT holds for each token, and not for their mean.
    usual_m, usual_n : float
        Of the requests lately: what will come between.
    tenant : int
        Of the budgets; -1 for none.
    now_s : float
    """

    m: int
    n: float
    n_late: float
    ttft_s: float
    tbt_s: float
    e2e_s: float
    every_token: bool
    usual_m: float
    usual_n: float
    tenant: int
    now_s: float


@inlined
def lateness_of(tables: Any, seen: Any, wanted: Any) -> float:
    """Largest of predicted TTFT, TBT and E2E over their limits."""
    ttft_s, tbt_s = latencies_of(tables, seen, wanted)
    return late_by(wanted, ttft_s, tbt_s)


@inlined
def latencies_of(tables: Any, seen: Any, wanted: Any) -> tuple[float, float]:
    """Predicted TTFT and TBT.

    TTFT: the steps until the prompts before it and its own are processed, half a step for the one
    under way, and the wait for a place if batch or KV cache are full. TBT: a step of all who are
    there and the request, lengthened by the usual prompts, one of which comes for each answer
    that ends; or by as many prompt tokens as fit into it, if the limit holds for each token.
    Both for the newcomer and for the residents, whose steps are the same.
    """
    f, there = seen.f, seen.batch + seen.waiting
    batch = min(there + 1, seen.max_batch)
    held = seen.held + seen.backlog
    room = max(seen.chunk - seen.batch, 1)
    tbt = decode_step(tables, f, batch, held + wanted.m + wanted.n_late)
    step_s = decode_step(tables, f, batch, 0.0)
    usual = max(int(wanted.usual_m), 1)
    if wanted.every_token:
        tokens = min(max(usual, seen.backlog + wanted.m), room)
        tbt += max(prompt_steps(tables, f, batch, 0.0, room, tokens) - step_s, 0.0)
    else:
        beside = prompt_steps(tables, f, batch, 0.0, room, usual)
        beside -= step_s * ((usual + room - 1) // room)
        tbt += max(beside, 0.0) * batch / max(wanted.usual_n, 1.0)
    ttft = seen.extra_s
    ttft += prompt_steps(tables, f, seen.batch, seen.held, room, seen.backlog + wanted.m)
    if seen.batch > 0:
        ttft += 0.5 * decode_step(tables, f, seen.batch, seen.held)
    leaving = 0.0
    if there >= seen.max_batch:
        leaving = there + 1.0 - seen.max_batch
    over = held + wanted.m + wanted.n_late - seen.kv
    if over > 0 and held > 0:
        leaving = max(leaving, over / held * there)
    if leaving > 0:
        # So many answers must end before; they do so one by one, at random.
        ttft += (leaving + SURE * np.sqrt(leaving)) * wanted.usual_n / max(there, 1) * tbt
    return ttft, tbt


@inlined
def late_by(wanted: Any, ttft_s: float, tbt_s: float) -> float:
    """Largest of TTFT, TBT and E2E over their limits."""
    e2e_s = ttft_s + max(wanted.n_late - 1.0, 0.0) * tbt_s
    return float(max(ttft_s / wanted.ttft_s, tbt_s / wanted.tbt_s, e2e_s / wanted.e2e_s))


@inlined
def joules_of(tables: Any, seen: Any, wanted: Any) -> float:
    """What a request adds to the energy of an endpoint that is on in any case.

    Its prompt; and for each token that is expected after the first, what a step draws more with
    the request among those who are there. Waking up, if it must be.
    """
    there = seen.batch + seen.waiting
    held, room = seen.held + seen.backlog, max(seen.chunk - seen.batch, 1)
    batch = min(there + 1, seen.max_batch)
    after = held + wanted.m + 0.5 * wanted.n
    more = decode_above(tables, seen.f, batch, after, seen.idle_w)
    if there > 0:
        more -= decode_above(tables, seen.f, min(there, seen.max_batch), held, seen.idle_w)
    prompt = prompt_above(tables, seen.f, seen.batch, room, wanted.m, seen.idle_w)
    return float(seen.extra_j + prompt + max(wanted.n - 1.0, 0.0) * more)


class Budgets(NamedTuple):
    """Budgets (G) as virtual queues: what was used above the allowance, and not yet paid back.

    A request at deployment k uses ``unit[g, k, h] joules + fixed[g, k] - allowance[g]`` of budget
    g in period h, and pays `price` times the queue for each unit (drift plus penalty, Neely
    2010): the longer the queue, the more its budget counts beside energy.

    Attributes
    ----------
    unit : array (G, K, H)
        Use per joule: 1 for an energy budget, the carbon intensity for a carbon budget.
    fixed : array (G, K)
        Use per request: the shortfall below the accuracy that is to be kept on average.
    allowance : array (G,)
        Per request.
    price : array (G,)
        Joules per square unit.
    tenant : int array (G,)
        Whose requests it is about; -1 for all.
    queue : array (G,)
        Written.
    period_s : float
    """

    unit: Any
    fixed: Any
    allowance: Any
    price: Any
    tenant: Any
    queue: Any
    period_s: float


def no_budgets(deployments: int) -> Budgets:
    """No budget for some deployments."""
    none = np.zeros((0, deployments))
    whose = np.zeros(0, np.int64)
    unit = np.zeros((0, deployments, 1))
    return Budgets(unit, none, none[:, 0], none[:, 0], whose, np.zeros(0), np.inf)


@inlined
def _unit(budgets: Any, g: int, k: int, now: float) -> float:
    h = min(int(now / budgets.period_s), budgets.unit.shape[2] - 1)
    return float(budgets.unit[g, k, h])


@inlined
def _use(budgets: Any, g: int, k: int, joules: float, now: float) -> float:
    unit = _unit(budgets, g, k, now)
    return float(unit * joules + budgets.fixed[g, k] - budgets.allowance[g])


@inlined
def price_of(budgets: Any, k: int, wanted: Any, joules: float) -> float:
    """What a request pays for the budgets that it uses, J."""
    total = 0.0
    for g in range(len(budgets.queue)):
        if budgets.tenant[g] < 0 or budgets.tenant[g] == wanted.tenant:
            total += budgets.price[g] * budgets.queue[g] * _use(budgets, g, k, joules, wanted.now_s)
    return total


@inlined
def spend(budgets: Any, k: int, wanted: Any, joules: float) -> None:
    """Write down what a request uses."""
    for g in range(len(budgets.queue)):
        if budgets.tenant[g] < 0 or budgets.tenant[g] == wanted.tenant:
            owed = budgets.queue[g] + _use(budgets, g, k, joules, wanted.now_s)
            budgets.queue[g] = max(owed, 0.0)


@inlined
def settle(budgets: Any, k: int, tenant: int, joules: float, sent_s: float) -> None:
    """Write down by how much a request used more energy than was predicted when it was sent."""
    for g in range(len(budgets.queue)):
        if budgets.tenant[g] < 0 or budgets.tenant[g] == tenant:
            owed = budgets.queue[g] + _unit(budgets, g, k, sent_s) * joules
            budgets.queue[g] = max(owed, 0.0)


@compiled
def settle_one(budgets: Any, k: int, tenant: int, joules: float, sent_s: float) -> None:
    """`settle`, for those who are not compiled."""
    settle(budgets, k, tenant, joules, sent_s)


@inlined
def better(one: Any, other: Any, packs: bool) -> bool:
    """Whether one bid is better than another; the first of equal ones is kept.

    Those that keep their promises before those that do not; among the former the fewest joules,
    or the most requests if it `packs`; among the latter the least late.
    """
    keeps, other_keeps = one.lateness <= 1.0, other.lateness <= 1.0
    if keeps != other_keeps:
        return bool(keeps)
    if not keeps:
        return bool(one.lateness < other.lateness)
    if packs:
        return bool(one.load > other.load)
    return bool(one.joules < other.joules or (one.joules == other.joules and one.load < other.load))


@inlined
def usual_after(usual: float, latest: float) -> float:
    """Mean over the requests lately."""
    return usual + USUAL_OF * (latest - usual)
