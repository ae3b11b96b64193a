"""Arrivals and lengths: from a workload as they are, or drawn as they should be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from wattshed import read_workload
from wattshed.errors import ParameterError
from wattshed.simulate.arrivals import draw_arrivals, draw_requests, replay_requests


def test_a_replay_keeps_rows_and_scales_time() -> None:
    workload = read_workload("azure-conv-2023")
    requests, fast = replay_requests(workload), replay_requests(workload, speed=4.0)
    assert len(requests) == workload.queries
    np.testing.assert_array_equal(requests.input_tokens, workload.table["input_tokens"])
    assert requests.arrival_s[0] == 0
    assert requests.arrival_s[-1] == pytest.approx(workload.span_s)
    np.testing.assert_allclose(fast.arrival_s, requests.arrival_s / 4)


def test_rows_that_stand_for_several_queries_arrive_together(
    make_workload: Callable[..., Any],
) -> None:
    workload = make_workload([3, 5], [7, 9], [2, 1])
    table = workload.table.with_columns(arrival_s=pl.Series([10.0, 12.0]))
    requests = replay_requests(replace(workload, table=table, span_s=2.0))
    np.testing.assert_array_equal(requests.arrival_s, [0, 0, 2])
    np.testing.assert_array_equal(requests.output_tokens, [7, 7, 9])


def test_without_arrivals_there_is_nothing_to_replay(make_workload: Callable[..., Any]) -> None:
    with pytest.raises(ParameterError, match="no arrivals"):
        replay_requests(make_workload([1], [1]))
    with pytest.raises(ParameterError, match="speed: 0"):
        replay_requests(read_workload("azure-conv-2023"), speed=0)


@pytest.mark.parametrize("cv", [0.0, 0.5, 1.0, 3.0])
def test_times_between_arrivals_have_their_mean_and_spread(cv: float) -> None:
    between = np.diff(draw_arrivals(400_000, 5.0, cv=cv, seed=1), prepend=0.0)
    # Five standard errors; that of the spread grows with the fourth moment of a gamma law.
    assert between.mean() == pytest.approx(0.2, abs=5 * 0.2 * cv / 400_000**0.5 + 1e-12)
    error = (0.5 + 1.5 * cv**2) ** 0.5 / 400_000**0.5
    assert between.std() / between.mean() == pytest.approx(cv, rel=6 * error, abs=1e-9)


def test_the_same_lengths_come_at_any_rate() -> None:
    workload = read_workload("azure-conv-2023")
    slow, fast = (draw_requests(workload, 5_000, rate, seed=3) for rate in (1.0, 10.0))
    np.testing.assert_array_equal(slow.input_tokens, fast.input_tokens)
    np.testing.assert_allclose(slow.arrival_s, 10 * fast.arrival_s)
    other = draw_requests(workload, 5_000, 1.0, seed=4)
    assert (other.input_tokens != slow.input_tokens).any()
    pairs = set(workload.table.select("input_tokens", "output_tokens").iter_rows())
    drawn = zip(slow.input_tokens.tolist(), slow.output_tokens.tolist(), strict=True)
    assert set(drawn) <= pairs


def test_counts_are_chances(make_workload: Callable[..., Any]) -> None:
    requests = draw_requests(make_workload([1, 2], [1, 2], [9, 1]), 20_000, 1.0)
    assert (requests.input_tokens == 1).mean() == pytest.approx(0.9, abs=0.01)


def test_bad_rates_are_refused() -> None:
    with pytest.raises(ParameterError, match="rate_per_s: 0"):
        draw_arrivals(10, 0.0)
    with pytest.raises(ParameterError, match="cv: -1"):
        draw_arrivals(10, 1.0, cv=-1.0)
