"""Queueing theory within its interval, and exact results where there are any."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from wattshed.engines.model import BatchingDeployment, OneQueryDeployment, affine_steps
from wattshed.simulate.arrivals import draw_arrivals
from wattshed.simulate.engine import simulate_requests
from wattshed.simulate.model import Requests

REPLICATIONS = 20
QUERIES = 40_000
WARM_UP = 4_000


def ones(arrival: Any) -> Requests:
    return Requests(arrival, np.ones(len(arrival), int), np.ones(len(arrival), int))


def mean_waits(draw: Callable[[Any], Any], rate: float) -> Any:
    """Mean wait for one server in each replication; `draw` gives service times."""
    waits = []
    for seed in np.random.SeedSequence(7).spawn(REPLICATIONS):
        times, services = seed.spawn(2)
        service = draw(np.random.default_rng(services))
        server = OneQueryDeployment("server", 1, service, np.zeros(QUERIES))
        found = simulate_requests([server], ones(draw_arrivals(QUERIES, rate, seed=times)))
        waits.append(found.wait_s[WARM_UP:].mean())
    return np.array(waits)


def assert_within_interval(samples: Any, theory: float) -> None:
    """The 99 % interval of the mean over replications holds the theory."""
    margin = stats.t.ppf(0.995, len(samples) - 1) * stats.sem(samples)
    assert abs(samples.mean() - theory) <= margin
    assert margin < 0.1 * theory  # the interval says something


@pytest.mark.parametrize("load", [0.5, 0.8])
@pytest.mark.parametrize(
    ("law", "second_moment"), [("exponential", 2.0), ("fixed", 1.0), ("lognormal", math.e)]
)
def test_one_server_waits_as_pollaczek_and_khinchine_say(
    law: str, second_moment: float, load: float
) -> None:
    draw = {
        "exponential": lambda rng: rng.exponential(1.0, QUERIES),
        "fixed": lambda _: np.ones(QUERIES),
        "lognormal": lambda rng: rng.lognormal(-0.5, 1.0, QUERIES),
    }[law]
    theory = load * second_moment / (2 * (1 - load))
    assert_within_interval(mean_waits(draw, load), theory)


def erlang_c_wait(servers: int, offered: float) -> float:
    """Mean wait in M/M/k with service of mean 1."""
    blocked = 1.0
    for k in range(1, servers + 1):
        blocked = offered * blocked / (k + offered * blocked)
    waiting = blocked / (1 - offered / servers * (1 - blocked))
    return waiting / (servers - offered)


@pytest.mark.parametrize(("servers", "offered"), [(4, 3.2), (10, 8.0)])
def test_batch_of_equal_servers_waits_as_erlang_says(servers: int, offered: float) -> None:
    # One replica with k places, whose steps last the same whatever is in them, is k servers with
    # one line, but for the grid of steps: so make them short, and lengths geometric.
    step = 0.01
    place = BatchingDeployment(
        "places", 1, affine_steps(servers, step), affine_steps(servers, 0.0), chunk_tokens=10**6
    )
    waits = []
    for seed in np.random.SeedSequence(11).spawn(REPLICATIONS):
        times, lengths = seed.spawn(2)
        n = np.random.default_rng(lengths).geometric(step, QUERIES)
        arrival = draw_arrivals(QUERIES, offered, seed=times)
        found = simulate_requests([place], Requests(arrival, np.ones(QUERIES, int), n))
        waits.append(found.wait_s[WARM_UP:].mean())
    # A step begins at most one step after a request is there, on average half of one if busy.
    samples = np.array(waits)
    margin = stats.t.ppf(0.995, REPLICATIONS - 1) * stats.sem(samples)
    theory = erlang_c_wait(servers, offered)
    assert theory - margin <= samples.mean() <= theory + step + margin


def test_random_routing_makes_replicas_into_single_servers() -> None:
    # Poisson arrivals dealt at random are Poisson at each replica: M/M/1 with a fourth of them.
    waits = []
    for seed in np.random.SeedSequence(3).spawn(REPLICATIONS):
        times, services = seed.spawn(2)
        service = np.random.default_rng(services).exponential(1.0, QUERIES)
        servers = OneQueryDeployment("server", 4, service, np.zeros(QUERIES))
        arrival = draw_arrivals(QUERIES, 4 * 0.7, seed=times)
        found = simulate_requests([servers], ones(arrival), policy="random", seed=5)
        waits.append(found.wait_s[WARM_UP:].mean())
    assert_within_interval(np.array(waits), 0.7 / 0.3)


def fixed_service_wait(servers: int, offered: float) -> float:
    """Mean wait in M/D/k with service of 1, numerically exact.

    Whoever is served at a time has left one service later, so that the number there is then
    those who did not fit, and who has come: max(N - k, 0) + Poisson (Crommelin 1932).
    """
    most = 400
    came = stats.poisson.pmf(np.arange(most), offered)
    chance = np.zeros(most)
    chance[0] = 1.0
    for _ in range(4_000):
        left = np.append(chance[: servers + 1].sum(), chance[servers + 1 :])
        chance = np.convolve(left, came)[:most]
    present = float(np.arange(most) @ chance / chance.sum())
    return present / offered - 1.0


def test_the_exact_wait_is_that_of_pollaczek_and_khinchine_for_one_server() -> None:
    assert fixed_service_wait(1, 0.8) == pytest.approx(0.8 / (2 * 0.2), rel=1e-9)


@pytest.mark.parametrize(("servers", "offered"), [(2, 1.6), (5, 4.25)])
def test_servers_in_turn_with_equal_queries_wait_as_crommelin_says(
    servers: int, offered: float
) -> None:
    # Where all queries last the same, servers in turn are one line.
    waits = []
    for times in np.random.SeedSequence(13).spawn(REPLICATIONS):
        place = OneQueryDeployment("server", servers, np.ones(QUERIES), np.zeros(QUERIES))
        arrival = draw_arrivals(QUERIES, offered, seed=times)
        found = simulate_requests([place], ones(arrival), policy="round-robin")
        waits.append(found.wait_s[WARM_UP:].mean())
    assert_within_interval(np.array(waits), fixed_service_wait(servers, offered))


def one_line(arrival: Any, service: Any, servers: int) -> Any:
    """Waits in G/G/k, first come, first served, by the recursion of Kiefer and Wolfowitz."""
    free, waits = [0.0] * servers, []
    for at, lasts in zip(arrival.tolist(), service.tolist(), strict=True):
        begins = max(at, heapq.heappop(free))
        heapq.heappush(free, begins + lasts)
        waits.append(begins - at)
    return np.array(waits)


@pytest.mark.parametrize("law", ["geometric", "lognormal", "two sizes"])
def test_a_batch_waits_as_a_plain_line_on_the_same_requests(law: str) -> None:
    queries, servers, step = 10_000, 5, 0.01
    rng = np.random.default_rng(2)
    n = {
        "geometric": lambda: rng.geometric(step, queries),
        "lognormal": lambda: np.ceil(rng.lognormal(-0.5, 1.0, queries) / step).astype(int),
        "two sizes": lambda: rng.choice([20, 420], queries, p=[0.8, 0.2]),
    }[law]()
    arrival = draw_arrivals(queries, 0.85 * servers, seed=1)
    place = BatchingDeployment(
        "places", 1, affine_steps(servers, step), affine_steps(servers, 0.0), chunk_tokens=10**6
    )
    found = simulate_requests([place], Requests(arrival, np.ones(queries, int), n))
    # Nobody is let in within a step: nobody waits less, nor more than if all lasted one more.
    assert (found.wait_s >= one_line(arrival, n * step, servers) - 1e-9).all()
    assert (found.wait_s <= one_line(arrival, (n + 1) * step, servers) + step + 1e-9).all()
    assert found.wait_s.mean() > 10 * step


@pytest.mark.parametrize("load", [0.3, 0.8])
def test_idle_energy_of_one_server_is_what_its_load_leaves(load: float) -> None:
    idle_w, energy_j, queries = 50.0, 400.0, 10_000
    shares = []
    for times in np.random.SeedSequence(17).spawn(REPLICATIONS):
        place = OneQueryDeployment(
            "server", 1, np.ones(queries), np.full(queries, energy_j), idle_power_w=idle_w
        )
        found = simulate_requests([place], ones(draw_arrivals(queries, load, seed=times)))
        # Of each query, its second at idle power is static; the rest it adds.
        assert found.static_energy_j.sum() == pytest.approx(idle_w * queries)
        assert found.dynamic_energy_j.sum() == pytest.approx((energy_j - idle_w) * queries)
        assert found.total_energy_j == pytest.approx(energy_j * queries + found.idle_energy_j)
        shares.append(found.idle_energy_j / (idle_w * found.end_s))
    assert_within_interval(np.array(shares), 1 - load)


def test_littles_law_holds_exactly(
    make_batching: Callable[..., Any], make_requests: Callable[..., Any]
) -> None:
    found = simulate_requests([make_batching(replicas=2)], make_requests(500, 5.0))
    events = np.concatenate([found.requests.arrival_s, found.finish_s])
    change = np.repeat([1, -1], len(found.requests))
    order = np.argsort(events, kind="stable")
    present = np.cumsum(change[order])[:-1]
    area = (present * np.diff(events[order])).sum()
    assert area == pytest.approx(found.e2e_s.sum(), rel=1e-12)


def test_batch_of_one_is_one_query_at_a_time(make_requests: Callable[..., Any]) -> None:
    requests = make_requests(2_000, 0.4)
    m, n = requests.input_tokens, requests.output_tokens
    time = affine_steps(1, 0.0161, 0.000137, 2e-8, 90e-6)
    energy = affine_steps(1, 27.8, 0.381, 1e-5, 0.1)
    batch = BatchingDeployment("batch", 1, time, energy, chunk_tokens=4096)

    def alone(model: Any) -> Any:
        context = (n - 1) * m + n * (n - 1) / 2  # m + 1, ..., m + n - 1
        first = model.by_batch[0] + model.per_prompt_token * m
        return first, first + (n - 1) * model.by_batch[1] + model.per_context_token * context

    first, runtime = alone(time)
    server = OneQueryDeployment("server", 1, runtime, alone(energy)[1], first)
    one, other = (simulate_requests([d], requests) for d in (batch, server))
    np.testing.assert_allclose(one.start_s, other.start_s, rtol=0, atol=1e-9)
    np.testing.assert_allclose(one.first_token_s, other.first_token_s, rtol=0, atol=1e-9)
    np.testing.assert_allclose(one.finish_s, other.finish_s, rtol=0, atol=1e-9)
    np.testing.assert_allclose(one.request_energy_j, other.request_energy_j, rtol=1e-9)
    assert (one.wait_s > 0).mean() > 0.5  # there was a queue
