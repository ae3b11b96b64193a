"""Nothing is lost: requests, time, energy; and what cannot matter does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from wattshed.engines.model import (
    BatchingDeployment,
    OneQueryDeployment,
    affine_steps,
    interpolated_steps,
)
from wattshed.errors import ParameterError
from wattshed.simulate.engine import simulate_requests
from wattshed.simulate.layout import DECODE, IDLE, PREFILL, QUERY
from wattshed.simulate.model import Requests

SIMPLE = ("round-robin", "random", "share", "least-outstanding", "power-of-two")


def requests_of(arrival: Any, m: Any, n: Any) -> Requests:
    return Requests(np.array(arrival, float), np.array(m, int), np.array(n, int))


def test_energy_of_two_requests_is_what_pencil_and_paper_give() -> None:
    # Steps of 1 s and 10 J + 1 J per sequence + 0.5 J per context token + 2 J per prompt token.
    time = affine_steps(2, 1.0)
    energy = affine_steps(2, 10.0, 1.0, 0.5, 2.0)
    place = BatchingDeployment("place", 1, time, energy, 4, idle_power_w=3.0)
    found = simulate_requests([place], requests_of([2.0, 2.5], [3, 2], [3, 2]))
    # 2-3 s: prompt of 3. 3-4 s: decodes context 4, prompt of 2. 4-5 s: contexts 5 and 3.
    np.testing.assert_array_equal(found.start_s, [2, 3])
    np.testing.assert_array_equal(found.first_token_s, [3, 4])
    np.testing.assert_array_equal(found.finish_s, [5, 5])
    # 3 W of each step are static. The prompts pay what they add; the step beside which the
    # second prompt runs would have cost 13 J without it.
    np.testing.assert_allclose(found.static_energy_j, [3 + 1.5 + 1.5, 1.5 + 1.5])
    np.testing.assert_allclose(found.prefill_energy_j, [10 - 3 + 6, 4])
    np.testing.assert_allclose(found.decode_energy_j, [(8 + 2) + (4.5 + 2.5), 4.5 + 1.5])
    np.testing.assert_allclose(found.time_s[:, :4], [[2, 2, 1, 0]])
    np.testing.assert_allclose(found.energy_j[:, :4], [[6, 16 + 17, 16, 0]])
    np.testing.assert_array_equal(found.longest_gap_s, [1, 1])
    assert found.idle_energy_j == 6
    assert found.end_s == 5


def test_a_long_prompt_is_cut_into_chunks_that_share_steps_with_decoding() -> None:
    time = affine_steps(2, 1.0, 0.0, 0.0, 0.1, 0.01)
    place = BatchingDeployment("place", 1, time, time, 4)
    found = simulate_requests([place], requests_of([0.0, 0.5], [1, 7], [6, 2]))
    # Prompt of 1, then 3, 3 and 1 tokens of the other, each beside one decoding sequence.
    chunks = np.array([3, 3, 1])
    before = np.array([0, 3, 6])
    steps = 1 + 0.1 * chunks + 0.01 * chunks * (before + chunks / 2)
    begins = 1 + 0.1 + 0.005
    np.testing.assert_allclose(found.start_s, [0, begins])
    np.testing.assert_allclose(found.first_token_s, [begins, begins + steps.sum()])
    np.testing.assert_allclose(found.finish_s, begins + steps.sum() + np.array([2, 1]))
    assert found.longest_gap_s[0] == pytest.approx(steps.max())
    assert found.gaps is not None
    assert found.gaps.count == 6


def test_the_one_admitted_last_gives_way_and_is_computed_again() -> None:
    time = affine_steps(2, 1.0)
    place = BatchingDeployment("place", 1, time, affine_steps(2, 10.0, 0, 0, 1.0), 100, 10)
    found = simulate_requests([place], requests_of([0, 0], [3, 3], [6, 4]))
    # Both prompts 0-1 s, both decode 1-3 s with 4 + 4 and 5 + 5 tokens; 6 + 6 is too much.
    np.testing.assert_array_equal(found.preemptions, [0, 1])
    np.testing.assert_array_equal(found.start_s, [0, 0])
    # The other ends at 6 s; then 3 + 3 tokens are a prompt, whose token is the last.
    np.testing.assert_array_equal(found.finish_s, [6, 7])
    assert found.longest_gap_s[1] == 4
    np.testing.assert_allclose(found.prefill_energy_j, [5 + 3, 5 + 3 + 10 + 6])


@pytest.fixture
def mixed(make_batching: Callable[..., Any], make_requests: Callable[..., Any]) -> Any:
    requests = make_requests(800, 12.0)
    runtime = np.where(requests.output_tokens < 50, 0.02 * requests.output_tokens, np.inf)
    small = make_batching("small", 3, 4, kv_tokens=300, max_context_tokens=250)
    large = make_batching("large", 2, 16, kv_tokens=800, max_context_tokens=380)
    alone = OneQueryDeployment("alone", 2, runtime, 10 * runtime, idle_power_w=5.0)
    return [small, alone, large], requests


@pytest.mark.parametrize("policy", SIMPLE)
def test_every_request_is_served_once_or_rejected_and_energy_adds_up(
    policy: str, mixed: Any
) -> None:
    deployments, requests = mixed
    share = [1, 2, 3] if policy == "share" else None
    found = simulate_requests(deployments, requests, policy=policy, share=share)
    fits = (requests.input_tokens + requests.output_tokens <= 380) | (requests.output_tokens < 50)
    assert found.rejected == (~fits).sum() > 0
    np.testing.assert_array_equal(found.replica >= 0, fits)
    np.testing.assert_array_equal(np.isfinite(found.finish_s), fits)
    assert (found.wait_s[fits] >= 0).all()
    assert (found.finish_s[fits] > found.start_s[fits]).all()
    assert (found.request_energy_j[~fits] == 0).all()
    assert (found.request_energy_j[fits] > 0).all()
    assert found.preemptions.sum() > 0
    np.testing.assert_allclose(found.time_s.sum(axis=1), found.end_s, rtol=1e-12)
    by_replica = np.bincount(found.replica[fits], found.request_energy_j[fits], 7)
    np.testing.assert_allclose(by_replica + found.energy_j[:, IDLE], found.energy_j.sum(axis=1))
    assert abs(found.imbalance) < 1e-9
    batched = fits & ~np.isin(found.replica, [3, 4])
    assert found.gaps is not None
    assert found.gaps.count == (requests.output_tokens[batched] - 1).sum()
    spans = (found.finish_s - found.first_token_s)[batched].sum()
    assert found.gaps.mean_s * found.gaps.count == pytest.approx(spans)
    assert found.gaps.quantile_s(1.0) == pytest.approx(found.longest_gap_s[batched].max())
    assert np.isnan(found.longest_gap_s[np.isin(found.replica, [3, 4])]).any()  # not said


def test_a_deployment_split_in_two_is_the_same_fleet(
    make_batching: Callable[..., Any], make_requests: Callable[..., Any]
) -> None:
    requests = make_requests(600, 20.0)
    for policy in ("round-robin", "least-outstanding", "power-of-two", "random"):
        whole = simulate_requests([make_batching(replicas=5)], requests, policy=policy)
        parts = [make_batching("a", 2), make_batching("b", 3)]
        split = simulate_requests(parts, requests, policy=policy)
        np.testing.assert_array_equal(whole.replica, split.replica)
        np.testing.assert_array_equal(whole.finish_s, split.finish_s)
        assert whole.total_energy_j == pytest.approx(split.total_energy_j, rel=1e-12)


def test_later_and_slower_only_stretch_the_clock(
    make_batching: Callable[..., Any], make_requests: Callable[..., Any]
) -> None:
    requests = make_requests(300, 10.0)
    fast = make_batching(replicas=2)
    twice = BatchingDeployment(
        "twice",
        2,
        type(fast.time)(2 * fast.time.by_batch, *(2 * rate for rate in fast.time.rates)),
        fast.energy,
        fast.chunk_tokens,
        idle_power_w=fast.idle_power_w / 2,
    )
    late = Requests(2 * requests.arrival_s, requests.input_tokens, requests.output_tokens)
    one, two = simulate_requests([fast], requests), simulate_requests([twice], late)
    np.testing.assert_array_equal(two.finish_s, 2 * one.finish_s)
    np.testing.assert_array_equal(two.request_energy_j, one.request_energy_j)
    assert two.total_energy_j == pytest.approx(one.total_energy_j)


def test_nothing_to_do_still_balances(make_batching: Callable[..., Any]) -> None:
    found = simulate_requests([make_batching(replicas=2)], requests_of([], [], []))
    assert (found.end_s, found.total_energy_j, found.imbalance, found.rejected) == (0, 0, 0, 0)
    assert found.gaps is not None
    assert np.isnan([found.gaps.quantile_s(0.5), found.gaps.mean_s]).all()


def test_what_fits_nowhere_is_rejected_and_the_fleet_idles(
    make_batching: Callable[..., Any],
) -> None:
    place = make_batching(max_context_tokens=10)
    found = simulate_requests([place], requests_of([1, 2, 4], [9, 1, 100], [2, 10, 100]))
    assert found.rejected == 3
    assert np.isnan(found.e2e_s).all()
    assert np.isnan(found.longest_gap_s).all()
    assert found.total_energy_j == found.idle_energy_j == 4 * 480.0
    assert found.imbalance == 0


def test_a_request_may_fill_the_cache_to_the_last_token(
    make_batching: Callable[..., Any],
) -> None:
    place = make_batching(kv_tokens=10)
    found = simulate_requests([place], requests_of([0, 0, 0], [10, 6, 9], [1, 5, 3]))
    np.testing.assert_array_equal(found.replica, [0, 0, -1])  # 9 + 3 - 1 tokens do not fit
    assert np.isfinite(found.finish_s[:2]).all()


def test_first_tokens_alone_are_known_only_where_they_are_given() -> None:
    requests = requests_of([0, 0], [1, 1], [3, 1])
    runtime, joules = np.array([3.0, 1.0]), np.ones(2)
    given = OneQueryDeployment("given", 1, runtime, joules, np.ones(2))
    found = simulate_requests([given], requests)
    np.testing.assert_array_equal(found.ttft_s, [1, 4])
    np.testing.assert_array_equal(found.longest_gap_s, [1, 0])
    np.testing.assert_array_equal(found.tpot_s, [1, np.nan])
    np.testing.assert_array_equal(found.time_s[0, [IDLE, PREFILL, DECODE, QUERY]], [0, 0, 0, 4])
    unknown = simulate_requests([OneQueryDeployment("unknown", 1, runtime, joules)], requests)
    assert np.isnan(unknown.ttft_s).all()
    assert np.isnan(unknown.longest_gap_s[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"replicas": 0}, "replicas: 0"),
        ({"idle_power_w": -1.0}, "idle_power_w: -1"),
        ({"chunk_tokens": 3}, "chunk_tokens: 3 for a batch of 4"),
        ({"energy": affine_steps(5, 1.0)}, "time and energy up to batch 4 and 5"),
        ({"time": affine_steps(4, 0.0)}, "a step of 0 s"),
    ],
)
def test_a_deployment_that_cannot_be_is_refused(change: Any, message: str) -> None:
    figures = {"time": affine_steps(4, 1.0), "energy": affine_steps(4, 1.0), "replicas": 1}
    with pytest.raises(ParameterError, match=message):
        BatchingDeployment("x", **{**figures, **change})


def test_bad_figures_name_their_place(make_batching: Callable[..., Any]) -> None:
    with pytest.raises(ParameterError, match=r"output_tokens\[1\]: 0"):
        requests_of([0, 1], [1, 1], [1, 0])
    with pytest.raises(ParameterError, match=r"input_tokens\[1\]: nan"):
        Requests(np.zeros(2), np.array([1, np.nan]), np.ones(2, int))
    with pytest.raises(ParameterError, match=r"arrival_s\[1\]"):
        requests_of([1, 0.5], [1, 1], [1, 1])
    with pytest.raises(ParameterError, match="one for each arrival_s"):
        requests_of([1], [1, 1], [1])
    with pytest.raises(ParameterError, match="knots from 0"):
        interpolated_steps([1, 4], [1, 2])
    with pytest.raises(ParameterError, match="by_batch"):
        affine_steps(4, 1.0, -1.0)
    with pytest.raises(ParameterError, match="by_batch"):
        affine_steps(0, 1.0)
    one = requests_of([0], [1], [1])
    with pytest.raises(ParameterError, match="policy: 'fastest'; use one of round-robin"):
        simulate_requests([make_batching()], one, policy="fastest")
    with pytest.raises(ParameterError, match="share: none"):
        simulate_requests([make_batching()], one, policy="share")
    with pytest.raises(ParameterError, match="share: given for policy 'random'"):
        simulate_requests([make_batching()], one, policy="random", share=[1])
    with pytest.raises(ParameterError, match="give 1 numbers"):
        simulate_requests([make_batching()], one, policy="share", share=[0])
    with pytest.raises(ParameterError, match="deployments: none"):
        simulate_requests([], one)
    alone = OneQueryDeployment("alone", 1, np.ones(2), np.ones(2))
    with pytest.raises(ParameterError, match="for 1 requests"):
        simulate_requests([alone], one)
    with pytest.raises(ParameterError, match="match runtime_s"):
        OneQueryDeployment("alone", 1, np.ones(2), np.ones(1))
    with pytest.raises(ParameterError, match="first_token_s: shape"):
        OneQueryDeployment("alone", 1, np.ones(2), np.ones(2), np.ones(1))
    with pytest.raises(ParameterError, match="later than the end"):
        OneQueryDeployment("alone", 1, np.ones(2), np.ones(2), np.full(2, 2.0))
