"""Arrivals along a rate curve: the physics of the process, not what one seed gives."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from wattshed import read_rates, read_workload
from wattshed.errors import ParameterError
from wattshed.records import Provenance
from wattshed.simulate.arrivals import (
    curve_arrivals,
    draw_arrivals,
    draw_curve_requests,
    draw_requests,
)
from wattshed.workload.rates import RateCurve

STARTS, END = [0.0, 100.0, 150.0, 350.0, 360.0], 800.0
RATES = [2.0, 0.0, 5.0, 40.0, 0.5]
LEVEL = 0.99


def curve_of(start_s: list[float], end_s: float, rate_per_s: list[float]) -> RateCurve:
    made_up = Provenance("made-up", "", "", "", "modelled")
    return RateCurve("made-up", np.array(start_s), end_s, np.array(rate_per_s), made_up, "")


@pytest.fixture(scope="module")
def curve() -> RateCurve:
    return curve_of(STARTS, END, RATES)


def expected(curve: RateCurve, time_s: np.ndarray) -> np.ndarray:
    """Integral of the rate up to a time, by another way than the code's."""
    passed = np.append(0, np.cumsum(curve.rate_per_s * np.diff(curve.edges_s)))
    return np.interp(time_s, curve.edges_s, passed)


def test_counts_are_poisson_and_windows_independent(curve: RateCurve) -> None:
    draws = 1_000
    counts = np.array(
        [np.histogram(curve_arrivals(curve, seed=seed), curve.edges_s)[0] for seed in range(draws)]
    )
    mean = curve.rate_per_s * np.diff(curve.edges_s)
    assert (counts[:, mean == 0] == 0).all()
    counts, mean = counts[:, mean > 0], mean[mean > 0]
    wrong = (1 - LEVEL) / len(mean)  # all windows together hold at LEVEL
    assert (np.abs(counts.mean(0) - mean) < stats.norm.isf(wrong / 2) * (mean / draws) ** 0.5).all()
    spread = (draws - 1) * counts.var(0, ddof=1) / mean
    low, high = stats.chi2.ppf([wrong / 2, 1 - wrong / 2], draws - 1)
    assert ((low < spread) & (spread < high)).all()
    between = np.corrcoef(counts.T)[np.triu_indices(len(mean), 1)]
    assert np.abs(between).max() < stats.norm.isf((1 - LEVEL) / 2 / len(between)) / draws**0.5


@pytest.mark.parametrize("part", [(None, None), (30.0, 700.0)])
def test_gaps_are_exponential_once_time_runs_with_the_rate(
    curve: RateCurve, part: tuple[float | None, float | None]
) -> None:
    start, end = part
    arrival = curve_arrivals(curve, scale=20.0, start_s=start, end_s=end, seed=5)
    began = start or 0.0
    assert (np.diff(arrival) >= 0).all()
    assert arrival[-1] < (end or END) - began
    due = 20.0 * (expected(curve, arrival + began) - expected(curve, np.array(began)))
    assert stats.kstest(np.diff(due, prepend=0.0), "expon").pvalue > 1 - LEVEL


@pytest.mark.parametrize("cv", [0.0, 0.5, 1.0, 3.0])
def test_gaps_have_their_spread(curve: RateCurve, cv: float) -> None:
    arrival = curve_arrivals(curve, scale=100.0, cv=cv, seed=2)
    between = np.diff(100.0 * expected(curve, arrival))
    error = (0.5 + 1.5 * cv**2) ** 0.5 / len(between) ** 0.5
    assert between.std() / between.mean() == pytest.approx(cv, rel=4 * error, abs=1e-6)


@pytest.mark.parametrize("cv", [0.0, 1.0, 3.0])
def test_nothing_comes_in_empty_windows(cv: float) -> None:
    """Also where evenly spaced arrivals are due exactly when an empty window begins."""
    curve = curve_of([0.0, 10.0, 20.0, 30.0], 40.0, [1.0, 0.0, 0.0, 1.0])
    arrival = np.concatenate([curve_arrivals(curve, cv=cv, seed=seed) for seed in range(50)])
    assert len(arrival)
    assert not ((arrival >= 10) & (arrival < 30)).any()


def test_evenly_spaced_arrivals_are_where_they_are_due() -> None:
    curve = curve_of([0.0, 3.0, 5.0], 7.0, [1.0, 0.0, 2.0])
    np.testing.assert_allclose(curve_arrivals(curve, cv=0.0, seed=0), [1, 2, 5, 5.5, 6, 6.5])


def test_a_curve_without_arrivals_is_no_error() -> None:
    assert len(curve_arrivals(curve_of([0.0, 1.0], 2.0, [0.0, 0.0]), seed=0)) == 0


def test_a_flat_curve_is_a_constant_rate() -> None:
    flat = curve_of([0.0, 10.0], 400.0, [5.0, 5.0])
    for cv in (0.0, 0.7, 2.0):
        arrival = curve_arrivals(flat, cv=cv, seed=9)
        np.testing.assert_allclose(arrival, draw_arrivals(len(arrival), 5.0, cv=cv, seed=9))


def test_seeds_decide_and_a_later_end_only_adds(curve: RateCurve) -> None:
    whole, again = (curve_arrivals(curve, cv=2.0, seed=3) for _ in range(2))
    np.testing.assert_array_equal(whole, again)
    early = curve_arrivals(curve, cv=2.0, end_s=340.0, seed=3)
    np.testing.assert_allclose(early, whole[: len(early)])
    assert len(early) == (whole < 340).sum()
    other = curve_arrivals(curve, cv=2.0, seed=4)
    assert not np.array_equal(other[:50], whole[:50])


def test_scaling_is_a_curve_of_scaled_rates(curve: RateCurve) -> None:
    scaled = curve_of(STARTS, END, [3 * rate for rate in RATES])
    np.testing.assert_allclose(
        curve_arrivals(curve, scale=3.0, seed=1), curve_arrivals(scaled, seed=1)
    )


def test_a_recorded_day_has_its_number_of_requests() -> None:
    curve = read_rates("servegen-rates#m-large")
    day = slice(144, 288)
    mean = 0.01 * 600 * curve.rate_per_s[day].sum()
    arrival = curve_arrivals(curve, scale=0.01, start_s=86_400, end_s=172_800, seed=6)
    assert abs(len(arrival) - mean) < stats.norm.isf((1 - LEVEL) / 2) * mean**0.5
    assert 0 <= arrival[0] < arrival[-1] < 86_400


def test_lengths_are_drawn_as_at_a_constant_rate(curve: RateCurve) -> None:
    workload = read_workload("azure-conv-2023")
    requests = draw_curve_requests(workload, curve, scale=2.0, seed=8)
    other = draw_requests(workload, len(requests), 1.0, seed=8)
    np.testing.assert_array_equal(requests.input_tokens, other.input_tokens)
    np.testing.assert_array_equal(requests.output_tokens, other.output_tokens)
    assert requests.arrival_s[-1] < END


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"scale": 0.0}, "scale: 0"),
        ({"cv": -1.0}, "cv: -1"),
        ({"start_s": -5.0}, "no windows from -5 to 800 s; give .* from 0 to 800 s"),
        ({"end_s": 900.0}, "no windows from 0 to 900 s"),
        ({"start_s": 9.0, "end_s": 9.0}, "no windows from 9 to 9 s"),
        ({"start_s": float("nan")}, "no windows from nan"),
        ({"scale": 1e6}, "1.82e.09 arrivals are expected; give a smaller scale"),
    ],
)
def test_bad_settings_are_refused(curve: RateCurve, settings: dict[str, float], told: str) -> None:
    with pytest.raises(ParameterError, match=told):
        curve_arrivals(curve, seed=0, **settings)


def test_what_was_not_recorded_is_not_drawn() -> None:
    curve = curve_of([0.0, 10.0, 20.0], 40.0, [1.0, np.nan, 1.0])
    told = "rates from 10 s on were not recorded; .*20 to 40 s has none"
    with pytest.raises(ParameterError, match=told):
        curve_arrivals(curve, seed=0)
    assert len(curve_arrivals(curve, start_s=20.0, seed=0))
    assert len(curve_arrivals(curve, end_s=10.0, seed=0))
