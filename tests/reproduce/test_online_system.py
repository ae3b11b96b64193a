"""The compiled slots and accumulators against plain ones, and against the policy itself."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import pytest

from wattshed import load_policy, read_workload
from wattshed.records import Endpoint, Request, Served
from wattshed.reproduce.online_policies import DECIDED, ONLINE, QUEUE_AWARE, QUEUE_WEIGHTS
from wattshed.reproduce.online_setting import Order, Setting, make_setting, shuffles
from wattshed.reproduce.online_system import Queries, System, Weights, make_memory, serve
from wattshed.route.accumulated import Accumulated

COUNT = 3000
TICK_S = 0.2
SLOTS = np.array([25, 60, 400])  # few enough for queues, with 50 queries a second


@pytest.fixture(scope="module")
def setting() -> Setting:
    return make_setting(read_workload("alpaca-gpt4-reconstructed"))


@pytest.fixture(scope="module")
def order(setting: Setting) -> Order:
    return next(shuffles(setting, 1, seed=3))


def first_queries(order: Order, *, ticks: bool, count: int = COUNT) -> Queries:
    gaps = np.random.default_rng(1).exponential(TICK_S / 10, count)
    arrival_s = np.arange(count) // 10 * TICK_S if ticks else np.cumsum(gaps)
    columns = (order.energy_j, order.quality, order.runtime_s)
    return Queries(arrival_s, *(column[:count] for column in columns))


class Slots:
    """Slots of the models, kept as lists and looked through each time."""

    def __init__(self, queries: Queries, system: System) -> None:
        self.queries, self.system = queries, system
        self.busy: list[list[tuple[float, int]]] = [[] for _ in system.slots]
        self.queue: list[deque[int]] = [deque() for _ in system.slots]
        self.wait_s = np.full(len(queries.arrival_s), np.nan)

    def send(self, q: int, k: int) -> None:
        if len(self.busy[k]) < self.system.slots[k]:
            self._begin(q, k, float(self.queries.arrival_s[q]))
        else:
            self.queue[k].append(q)

    def _begin(self, q: int, k: int, now_s: float) -> None:
        self.wait_s[q] = now_s - self.queries.arrival_s[q]
        self.busy[k].append((now_s + max(0.0, float(self.queries.runtime_s[q, k])), q))

    def _next(self, k: int, until_s: float) -> tuple[float, int] | None:
        """Which leaves next, in the order in which they began where only the oldest may."""
        rows = self.busy[k][:1] if self.system.head_of_line else self.busy[k]
        ended = [row for row in rows if row[0] <= until_s]
        return min(ended, key=lambda row: row[0]) if ended else None

    def leave(self, until_s: float) -> list[int]:
        gone = []
        for k in range(len(self.busy)):
            last_s = 0.0
            while (row := self._next(k, until_s)) is not None:
                self.busy[k].remove(row)
                gone.append(row[1])
                last_s = max(last_s, row[0])
                if self.queue[k]:
                    q = self.queue[k].popleft()
                    self._begin(q, k, until_s if self.system.tick_s else last_s)
        return gone


def play(queries: Queries, system: System, choose, finished=lambda q: None) -> tuple:
    """Serve one by one: the group of a tick, then what has ended; or what has ended first."""
    slots = Slots(queries, system)
    chosen = np.full(len(queries.arrival_s), -1)
    for q, now_s in enumerate(queries.arrival_s):
        if q and now_s > queries.arrival_s[q - 1]:
            until_s = queries.arrival_s[q - 1] if system.tick_s else now_s
            for gone in slots.leave(float(until_s)):
                finished(gone)
        chosen[q] = choose(q, slots)
        slots.send(q, chosen[q])
    until_s = float(queries.arrival_s[-1]) if system.tick_s else math.inf
    while any(slots.queue):
        slots.leave(until_s)
        until_s += system.tick_s
    return chosen, slots.wait_s


SYSTEMS = {
    "ticks, oldest": System(SLOTS, True, TICK_S),
    "ticks, any": System(SLOTS, False, TICK_S),
    "at once, oldest": System(SLOTS, True, 0.0),
    "at once, any": System(SLOTS, False, 0.0),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_queries_wait_as_in_plain_slots(setting: Setting, order: Order, name: str) -> None:
    system = SYSTEMS[name]
    queries = first_queries(order, ticks=system.tick_s > 0)
    given = np.arange(COUNT) % 3
    _, expected = play(queries, system, lambda q, _: int(given[q]))
    found = serve(queries, system, DECIDED, make_memory(setting.most), given)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert found.max() > 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "name"),
    [(ONLINE, "ticks, oldest"), (QUEUE_AWARE, "ticks, oldest"), (QUEUE_AWARE, "at once, any")],
)
@pytest.mark.parametrize("zeta", [0.0, 0.5, 1.0])
def test_decisions_are_those_of_the_policy(
    setting: Setting, order: Order, experiment: str, zeta: float, name: str
) -> None:
    """Decision for decision, through queues, resets and forgotten queries."""
    system, weight = SYSTEMS[name], QUEUE_WEIGHTS[experiment]
    queries = first_queries(order, ticks=system.tick_s > 0)
    policy = load_policy("accumulated-coded", fleet=setting.fleet, zeta=zeta, queue_weight=weight)
    assert isinstance(policy, Accumulated)
    policy.outlooks.learn(setting.distinct)
    known = setting.distinct
    m, n = (np.repeat(v, known.count)[order.place] for v in (known.m, known.n))

    def choose(q: int, slots: Slots) -> int:
        endpoints = [
            Endpoint(name, name, len(slots.busy[k]), len(slots.queue[k]))
            for k, name in enumerate(setting.names)
        ]
        request = Request(str(q), int(m[q]), float(n[q]))
        decision = policy.decide(request, endpoints, float(queries.arrival_s[q]))
        return setting.names.index(decision.endpoint or "")

    expected, waits = play(
        queries, system, choose, lambda q: policy.finished(Served(str(q), "", 0.0))
    )
    chosen = np.full(COUNT, -1)
    weights = Weights(zeta, weight, printed=False)
    found = serve(queries, system, weights, make_memory(setting.most), chosen)
    np.testing.assert_array_equal(chosen, expected)
    np.testing.assert_allclose(found, waits, atol=1e-9)


@pytest.mark.parametrize("zeta", [0.0, 0.5, 1.0])
def test_as_printed_it_decides_as_the_policy_and_overflows_with_it(
    setting: Setting, order: Order, zeta: float
) -> None:
    queries = first_queries(order, ticks=True)
    chosen = np.full(COUNT, -1)
    weights = Weights(zeta, 0.0, printed=True)
    serve(queries, SYSTEMS["ticks, any"], weights, make_memory(setting.most), chosen)
    policy = load_policy("accumulated-printed", fleet=setting.fleet, zeta=zeta)
    assert isinstance(policy, Accumulated)
    policy.outlooks.learn(setting.distinct)
    known = setting.distinct
    m, n = (np.repeat(v, known.count)[order.place] for v in (known.m, known.n))
    endpoints = [Endpoint(name, name) for name in setting.names]
    for q in range(COUNT):
        decision = policy.decide(Request(str(q), int(m[q]), float(n[q])), endpoints, 0.0)
        if decision.endpoint is None:
            break
        assert setting.names[chosen[q]] == decision.endpoint
    assert q < COUNT - 1
    assert (chosen[q:] == -1).all()


def test_only_the_oldest_query_holds_others_up(setting: Setting) -> None:
    """Two slots, a long query and short ones behind it."""
    runtime_s = np.array([[10.0], [1.0], [1.0], [1.0]])
    queries = Queries(np.array([0.0, 0.5, 1.0, 2.0]), runtime_s, runtime_s, runtime_s)
    expected = {True: [0, 0, 9.0, 8.0], False: [0, 0, 0.5, 0.5]}
    for head_of_line, waits in expected.items():
        system = System(np.array([2]), head_of_line, 0.0)
        memory = make_memory(setting.most[:1])
        found = serve(queries, system, DECIDED, memory, np.zeros(4, np.int64))
        np.testing.assert_allclose(found, waits)
