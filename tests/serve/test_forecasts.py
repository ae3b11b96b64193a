"""Lengths and tokens that are learned while requests are served."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattshed import read_workload
from wattshed.serve.lengths import PRIOR, THIN, OnlineHistogram, Window
from wattshed.serve.tokens import BYTES_PER_TOKEN, BytesPerToken, on_grid


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.floats(0, 1))
def test_a_window_is_the_last_lengths(lengths: list[int], part: float) -> None:
    window = Window(16)
    for length in lengths:
        window.add(length)
    last = sorted(lengths[-16:])
    assert window.mean == pytest.approx(np.mean(last))
    assert window.quantile(part) == last[min(int(part * len(last)), len(last) - 1)]


@given(st.lists(st.lists(st.integers(1, 50), max_size=60), max_size=6))
def test_a_window_is_the_same_however_often_it_is_read(parts: list[list[int]]) -> None:
    often, once = Window(16), Window(16)
    for part in parts:
        for length in part:
            often.add(length)
            once.add(length)
        if len(often):
            often.quantile(0.5)
    for q in (0.0, 0.5, 0.9) if len(once) else ():
        assert (often.quantile(q), often.mean) == (once.quantile(q), once.mean)


def test_narrow_buckets_are_used_when_they_have_enough() -> None:
    found = OnlineHistogram()
    assert found.predict("r", 100, None) == PRIOR
    for _ in range(THIN):
        found.observe("other", 100, 10)
    assert found.predict("r", 100, None).mean == 10  # all routes
    for _ in range(THIN):
        found.observe("r", 1000, 30)
    assert found.predict("r", 100, None).mean == 30  # the route
    for _ in range(THIN):
        found.observe("r", 100, 50)
    assert found.predict("r", 100, None).mean == 50
    assert found.predict("r", 1000, None).mean == 30


def test_no_forecast_is_above_the_limit() -> None:
    forecast = OnlineHistogram().predict("r", 100, 7)
    assert (forecast.mean, forecast.late) == (7, 7)


def pinball(error: np.ndarray, part: float) -> float:
    return float(np.mean(np.maximum(part * error, (part - 1) * error)))


def test_lengths_of_real_traces_are_foreseen_online() -> None:
    """Both Azure traces in order of arrival; the second half is judged, as all is learned."""
    columns = ["arrival_s", "input_tokens", "output_tokens"]
    rows = sorted(
        (arrival_s, name, m, n)
        for name in ("azure-conv-2023", "azure-code-2023")
        for arrival_s, m, n in read_workload(name).table.select(columns).iter_rows()
    )
    half = len(rows) // 2
    first = np.array([n for _, _, _, n in rows[:half]])
    predictor = OnlineHistogram()
    found: list[tuple[float, float, int]] = []
    for k, (_, route, m, n) in enumerate(rows):
        if k >= half:
            q50, q90 = (predictor.quantile(route, m, part) for part in (0.5, 0.9))
            assert q50 is not None
            assert q90 is not None
            found.append((q50, q90, n))
        predictor.observe(route, m, n)
    q50s, q90s, lengths = np.array(found).T
    everywhere = pinball(lengths - np.quantile(first, 0.5), 0.5)
    assert pinball(lengths - q50s, 0.5) <= 0.6 * everywhere
    assert 0.87 <= np.mean(lengths <= q90s) <= 0.93


def test_tokens_are_learned_for_each_model() -> None:
    estimator = BytesPerToken()
    assert estimator.estimate("m", 40) == 40 / BYTES_PER_TOKEN
    for _ in range(200):
        estimator.observe("m", 300, 100)
    assert estimator.estimate("m", 30) == 10
    assert estimator.estimate("other", 40) == 10
    for _ in range(200):
        estimator.observe("m", 200, 100)
    assert estimator.estimate("m", 30) == pytest.approx(15, abs=1)
    estimator.observe("m", 0, 5)
    estimator.observe("m", 5, 0)
    assert estimator.estimate("m", 0) == 1


@given(st.floats(0, 1e9))
def test_rounding_is_finer_than_the_estimate(tokens: float) -> None:
    found = on_grid(tokens)
    assert found >= 1
    assert abs(found - tokens) <= max(1.0, tokens / 127)
