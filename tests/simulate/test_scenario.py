"""Arrivals, promises and forecasts as a scenario has them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from msgspec import structs

from wattshed import load_fleet, read_workload
from wattshed.errors import ParameterError
from wattshed.fleet import Slo
from wattshed.profiles import predict
from wattshed.records import Profile, Provenance
from wattshed.simulate.external import endpoint_names
from wattshed.simulate.model import Requests
from wattshed.simulate.scenario import (
    FORECASTS,
    LATE,
    Arrivals,
    first_of,
    in_order,
    limits_of,
    promises_of,
)
from wattshed.workload.rates import RateCurve

ALPACA = read_workload("alpaca")
MIXED = load_fleet("mixed-70b")
HYBRID = load_fleet("hybrid-2024")


@pytest.fixture
def timed(make_workload: Callable[..., Any]) -> Any:
    """Four queries of three classes, at 10, 12, 16 and 20 s."""
    workload = make_workload([1, 2, 3, 4], [5, 6, 7, 8])
    table = workload.table.with_columns(
        pl.Series("arrival_s", [10.0, 12.0, 16.0, 20.0]),
        pl.Series("class", ["chat", "batch", "chat", "other"]),
    )
    return replace(workload, table=table, span_s=10.0)


@pytest.fixture
def curve() -> RateCurve:
    """2 requests/s, then none, then 5."""
    made_up = Provenance("made-up", "", "", "", "modelled")
    starts, rates = np.array([0.0, 100.0, 200.0]), np.array([2.0, 0.0, 5.0])
    return RateCurve("made-up", starts, 300.0, rates, made_up, "")


# ---------------------------------------------------------------- arrivals


def test_a_replay_begins_at_0_goes_at_its_speed_and_may_be_cut(timed: Any) -> None:
    arrivals = Arrivals(timed, speed=2.0)
    assert not arrivals.drawn
    assert arrivals.description == "replayed at 2 x its speed"
    np.testing.assert_array_equal(arrivals.draw(0).arrival_s, [0, 1, 3, 5])
    cut = Arrivals(timed, 2).draw(0)
    np.testing.assert_array_equal(cut.arrival_s, [0, 2])
    np.testing.assert_array_equal(cut.output_tokens, [5, 6])
    assert [cut.classes[g] for g in cut.group] == ["chat", "batch"]
    assert len(Arrivals(timed, 100).draw(0)) == 4


def test_a_replay_is_the_same_whatever_the_seed(timed: Any) -> None:
    one, other = (Arrivals(timed).draw(seed) for seed in (0, 1))
    np.testing.assert_array_equal(one.arrival_s, other.arrival_s)
    np.testing.assert_array_equal(one.input_tokens, other.input_tokens)


@pytest.mark.parametrize("cv", [1.0, 3.0])
def test_drawn_requests_come_at_their_rate(cv: float) -> None:
    count, rate = 100_000, 5.0
    requests = Arrivals(ALPACA, count, rate, cv=cv).draw(2)
    margin = 5 * cv / count**0.5  # of the mean of so many times between arrivals
    assert len(requests) == count
    assert requests.arrival_s[-1] * rate / count == pytest.approx(1, abs=margin)


def test_as_many_are_drawn_as_the_workload_has_unless_told(timed: Any) -> None:
    assert len(Arrivals(timed, rate_per_s=1.0).draw(0)) == 4
    assert Arrivals(timed, rate_per_s=1.5).description == "Poisson at 1.5 requests/s"
    assert Arrivals(timed, rate_per_s=1.5, cv=2.0).description == "gamma (cv 2) at 1.5 requests/s"


def test_a_curve_is_followed_scaled_and_cut(curve: RateCurve) -> None:
    whole = Arrivals(ALPACA, curve=curve, scale=10.0)
    assert whole.drawn
    assert whole.description == "Poisson along made-up x 10"
    counts = np.histogram(whole.draw(0).arrival_s, [0, 100, 200, 300])[0]
    assert counts[1] == 0
    for found, expected in zip(counts[[0, 2]], (2_000, 5_000), strict=True):
        assert found == pytest.approx(expected, abs=5 * expected**0.5)
    part = replace(whole, start_s=200.0, end_s=250.0, requests=7).draw(0)
    assert len(part) == 7
    assert part.arrival_s[-1] < 50


def test_a_curve_on_which_nothing_comes_gives_no_requests(curve: RateCurve) -> None:
    assert len(Arrivals(ALPACA, curve=curve, start_s=100.0, end_s=200.0).draw(0)) == 0
    with pytest.raises(ParameterError, match="no windows from 300 to 400"):
        Arrivals(ALPACA, curve=curve, start_s=300.0, end_s=400.0).draw(0)


def test_arrivals_that_contradict_themselves_are_refused(curve: RateCurve) -> None:
    with pytest.raises(ParameterError, match="requests: 0"):
        Arrivals(ALPACA, 0)
    with pytest.raises(ParameterError, match="rate: 2 and a curve"):
        Arrivals(ALPACA, rate_per_s=2.0, curve=curve)
    with pytest.raises(ParameterError, match=r"load: 0\.7 and a rate"):
        Arrivals(ALPACA, load=0.7, rate_per_s=1.0)
    with pytest.raises(ParameterError, match=r"load: 0\.7 and a rate"):
        Arrivals(ALPACA, load=0.7, curve=curve)
    for load in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(ParameterError, match="load: "):
            Arrivals(ALPACA, load=load)
    with pytest.raises(ParameterError, match="rate_per_s: -1"):
        Arrivals(ALPACA, 3, -1.0).draw(0)
    with pytest.raises(ParameterError, match="no arrivals"):
        Arrivals(ALPACA).draw(0)


# ---------------------------------------------------------------- requests


def test_requests_that_cannot_be_are_refused() -> None:
    one = np.ones(1, int)
    with pytest.raises(ParameterError, match=r"arrival_s\[0\]: -1"):
        Requests(np.array([-1.0]), one, one)
    with pytest.raises(ParameterError, match=r"arrival_s\[0\]: nan"):
        Requests(np.array([np.nan]), one, one)
    with pytest.raises(ParameterError, match=r"output_tokens\[0\]: 0"):
        Requests(np.zeros(1), one, 0 * one)
    with pytest.raises(ParameterError, match=r"group\[0\]: 2; give one of 2 classes"):
        Requests(np.zeros(1), one, one, 2 * one, ("a", "b"))
    with pytest.raises(ParameterError, match="group: shape"):
        Requests(np.zeros(1), one, one, np.zeros(2, int), ("a", "b"))


# ---------------------------------------------------------------- promises


def test_each_class_has_its_own_limits_and_the_others_the_default(timed: Any) -> None:
    slo = {"default": Slo(1.0, 0.2, 60.0), "chat": Slo(ttft_s=0.5), "batch": Slo(e2e_s=9.0)}
    limits = limits_of(slo, Arrivals(timed).draw(0))
    none = np.inf
    np.testing.assert_array_equal(limits[0], [0.5, none, 0.5, 1.0])
    np.testing.assert_array_equal(limits[1], [none, none, none, 0.2])
    np.testing.assert_array_equal(limits[2], [none, 9.0, none, 60.0])


def test_without_a_default_other_classes_are_promised_nothing(timed: Any) -> None:
    limits = limits_of({"chat": Slo(ttft_s=0.5)}, Arrivals(timed).draw(0))
    assert np.isinf(limits[:, [1, 3]]).all()
    assert np.isinf(limits_of({}, Arrivals(timed).draw(0))).all()


@pytest.mark.parametrize("forecast", FORECASTS)
def test_the_late_length_is_never_below_the_expected_one(forecast: str) -> None:
    requests = Arrivals(ALPACA, 2_000, 1.0).draw(0)
    found = promises_of(MIXED, requests, ALPACA, forecast=forecast, target=0.9, every_token=True)
    assert (found.late >= found.expected).all()
    assert (found.expected >= 1).all()
    assert (found.target, found.every_token) == (0.9, True)
    np.testing.assert_array_equal(found.ttft_s, 1.0)
    np.testing.assert_array_equal(found.tbt_s, 0.22)
    assert np.isinf(found.e2e_s).all()


def test_forecasts_know_the_length_its_mean_or_its_mean_by_input() -> None:
    requests = Arrivals(ALPACA, 20_000, 1.0).draw(0)
    n = requests.output_tokens
    known, mean, histogram = (
        promises_of(MIXED, requests, ALPACA, forecast=forecast) for forecast in FORECASTS
    )
    np.testing.assert_array_equal(known.expected, n)
    np.testing.assert_array_equal(known.late, n)
    assert len(np.unique(mean.expected)) == 1
    error = 5 * n.std() / len(n) ** 0.5
    for found in (mean, histogram):
        assert found.expected.mean() == pytest.approx(n.mean(), abs=error)
    assert len(np.unique(histogram.expected)) > 1
    # So many outputs are no longer than the late length: of all, or of those with such inputs.
    assert (n <= mean.late).mean() == pytest.approx(LATE, abs=0.01)
    assert (n <= histogram.late).mean() >= LATE - 0.01


def test_the_mean_is_late_enough_where_most_answers_are_short(
    make_workload: Callable[..., Any],
) -> None:
    workload = make_workload([1, 1], [10, 10_000], [19, 1])  # the mean is above 0.9 of them
    requests = Arrivals(workload, 10, 1.0).draw(0)
    found = promises_of(MIXED, requests, workload, forecast="mean")
    assert (found.late == found.expected).all()
    assert found.late[0] == pytest.approx(0.95 * 10 + 0.05 * 10_000)


def test_single_queries_are_predicted_by_the_forecast_and_with_their_host() -> None:
    requests = Arrivals(ALPACA, 50, 1.0).draw(0)
    found = promises_of(HYBRID, requests, ALPACA)
    assert found.alone is not None
    assert found.alone.shape == (3, 50)
    place = next(k for k, d in enumerate(HYBRID.deployments) if d.host_power_w > 0)
    a100 = HYBRID.deployments[place]
    assert isinstance(a100.profile, Profile)
    alone = predict(a100.profile, requests.input_tokens, found.expected)
    row = found.alone[place]
    np.testing.assert_allclose(row["runtime_s"], alone.runtime_s)
    np.testing.assert_allclose(row["energy_j"], alone.energy_j + 2.0 * alone.runtime_s)
    assert (row["first_s"] <= row["runtime_s"]).all()


def test_what_cannot_be_forecast_or_aimed_at_is_refused() -> None:
    requests = Arrivals(ALPACA, 1, 1.0).draw(0)
    with pytest.raises(ParameterError, match="forecast: 'oracle'; use one of known, mean"):
        promises_of(MIXED, requests, ALPACA, forecast="oracle")
    for target in (0.0, 1.1, np.nan):
        with pytest.raises(ParameterError, match="target: "):
            promises_of(MIXED, requests, ALPACA, target=target)


# ---------------------------------------------------------------- order


def test_the_order_is_that_of_the_names_of_endpoints() -> None:
    names = ["b", "a", "a-1", "a0", "A"]
    given = [structs.replace(MIXED.deployments[0], name=name, replicas=12) for name in names]
    found = in_order(structs.replace(MIXED, deployments=given))
    endpoints = endpoint_names(found.deployments)
    assert endpoints == sorted(endpoints)
    assert {d.name for d in found.deployments} == set(names)


def test_a_deadline_is_a_promise_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "due.csv"
    path.write_text("arrival_s,input_tokens,output_tokens,deadline_s\n0,9,9,5\n1,9,9,\n2,9,9,0\n")
    workload = read_workload(path)
    requests = Arrivals(workload).draw(0)
    slo = {"default": Slo(e2e_s=4.0)}
    np.testing.assert_array_equal(limits_of({}, requests)[2], [5, np.inf, 1e-9])
    np.testing.assert_array_equal(limits_of(slo, requests)[2], [4, 4, 1e-9])
    assert (first_of(requests, 1).deadline_s == [5.0]).all()
