"""Intervals over replications, and what may be called a saving."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec import structs
from scipy import stats

from wattshed.records import (
    ClassResult,
    DeploymentResult,
    Factor,
    Impact,
    Latency,
    SimulatedEnergy,
    SimulatedPolicy,
)
from wattshed.simulate.pairing import average, compare, interval_of, saving_of

NOTHING = Latency(None, None, None, None, None)
TARGET = 0.99


def a_run(energy_per_request_j: float = 100.0, **changed: Any) -> SimulatedPolicy:
    """One replication of a hundred requests."""
    energy_j = SimulatedEnergy(100 * energy_per_request_j, 1.0, 2.0, 3.0, 4.0)
    figures: dict[str, Any] = {
        **dict.fromkeys(("rejected", "lost", "unfinished", "retries", "preemptions"), 0),
        **dict.fromkeys(("duration_s", "throughput_per_s", "goodput_per_s"), 1.0),
        **dict.fromkeys(("net_energy_per_request_j", "net_energy_per_output_token_j"), 1.0),
        **dict.fromkeys(("ttft_s", "tbt_s", "tpot_s", "e2e_s"), NOTHING),
        "name": "least-loaded",
        "controller": "pinned",
        "settings": {},
        "replications": 1,
        "requests": 100,
        "completed": 100,
        "failed": 0,
        "output_tokens_per_s": 1.0,
        "attainment": 1.0,
        "attainment_every_token": 1.0,
        "classes": [],
        "energy_j": energy_j,
        "energy_by_state_j": {"idle": 1.0},
        "energy_per_request_j": energy_per_request_j,
        "energy_per_output_token_j": 1.0,
        "balance_error": 0.0,
        "deployments": [],
        "impacts": {},
        "modelled": [],
        "intervals": {},
    }
    return SimulatedPolicy(**{**figures, **changed})


def runs(energies_j: Any, **changed: Any) -> list[SimulatedPolicy]:
    return [a_run(float(energy_j), **changed) for energy_j in energies_j]


def sentence(ours: Any, theirs: Any, **changed: Any) -> str:
    mine = runs(ours, **{"name": "frugal", **changed})
    return saving_of(mine, runs(theirs), TARGET).sentence


# ---------------------------------------------------------------- intervals


@pytest.mark.parametrize("count", [2, 3, 10, 50])
def test_intervals_are_those_of_students_t(count: int) -> None:
    values = np.random.default_rng(count).normal(5.0, 2.0, count)
    low, high = stats.t.interval(0.95, count - 1, values.mean(), stats.sem(values))
    found = interval_of(values)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)
    assert found.method == f"Student's t over {count} replications"


def test_intervals_hold_the_mean_in_95_of_100_cases() -> None:
    rng, cases = np.random.default_rng(1), 4_000
    found = [interval_of(values) for values in rng.normal(3.0, 1.0, (cases, 5))]
    covered = sum(interval.low <= 3.0 <= interval.high for interval in found)
    low, high = stats.binom.interval(0.999, cases, 0.95)
    assert low <= covered <= high


def test_one_replication_is_itself_and_several_are_their_means() -> None:
    one = a_run()
    assert average([one]) is one
    found = average([a_run(100.0, attainment=0.9, gap=0.1), a_run(200.0, attainment=1.0, gap=0.3)])
    assert found.replications == 2
    assert found.energy_per_request_j == pytest.approx(150)
    assert found.energy_j.total == pytest.approx(15_000)
    assert found.attainment == pytest.approx(0.95)
    assert set(found.intervals) == {
        "attainment",
        "energy_per_request_j",
        "energy_per_output_token_j",
        "goodput_per_s",
        "gap",
    }  # nothing is known of latencies here


def test_the_worst_balance_and_any_stop_are_told() -> None:
    found = average([a_run(balance_error=1e-12), a_run(balance_error=1e-10, partial=True)])
    assert found.balance_error == 1e-10
    assert found.partial


def test_classes_are_means_over_the_replications_that_have_them() -> None:
    def of(name: str, requests: int, kept: float) -> ClassResult:
        limits = (1.0, None, None)
        return ClassResult(name, requests, requests, kept, *limits, NOTHING, NOTHING, NOTHING)

    first = a_run(classes=[of("chat", 10, 0.5)])
    second = a_run(classes=[of("chat", 20, 1.0), of("batch", 4, 0.25)])
    chat, batch = average([first, second]).classes
    assert (chat.name, chat.requests, chat.attainment) == ("chat", 15, 0.75)
    assert (batch.name, batch.requests, batch.attainment) == ("batch", 4, 0.25)


def test_impacts_are_means_and_their_intensity_is_that_of_all_energy() -> None:
    def of(energy_kwh: float, intensity: float) -> Impact:
        energy_j = energy_kwh * 3.6e6
        factor = Factor("carbon_signal", intensity, "measured", "a signal")
        carbon_g = energy_kwh * intensity
        water = (None, None, None)
        return Impact(energy_j, energy_j, "accelerator", carbon_g, *water, 1.0, "EUR", (factor,))

    both = [a_run(impacts={"here": of(1.0, 100.0)}), a_run(impacts={"here": of(3.0, 300.0)})]
    found = average(both).impacts["here"]
    assert found.energy_it_j == pytest.approx(2 * 3.6e6)
    assert found.carbon_g == pytest.approx(500)
    assert found.factors[0].value == pytest.approx(250)
    assert found.water_l is None


def test_deployments_are_means_by_place() -> None:
    def of(energy_j: float) -> list[DeploymentResult]:
        return [DeploymentResult("a", 1, 10, 100, energy_j, 0.5, 2.0)]

    (found,) = average([a_run(deployments=of(1.0)), a_run(deployments=of(3.0))]).deployments
    assert found.energy_j == 2.0


def test_what_is_found_can_be_written_as_json() -> None:
    several = runs([100, 110, 90]), runs([90, 100, 85], name="frugal", attainment=0.9)
    msgspec.json.encode([average(several[0]), *compare(several, TARGET)])


# ---------------------------------------------------------------- savings


def test_a_saving_is_paired_by_replication() -> None:
    base = np.array([100.0, 200.0, 300.0, 400.0])  # replications differ more than contenders
    found = saving_of(runs(0.9 * base, name="frugal"), runs(base), TARGET)
    assert found.saving == pytest.approx(0.1)
    assert found.interval is not None
    assert found.interval.high - found.interval.low < 1e-9


@pytest.mark.parametrize(
    ("ours", "says"),
    [
        ([80], "frugal + pinned needs 20.0% less energy per request than least-loaded + pinned,"),
        ([130], "needs 30.0% more energy per request than"),
        ([80, 80.1, 79.9], "needs 20.0% less energy per request than least-loaded + pinned (95 %:"),
        ([80, 80.1, 79.9], "(95 %: 19.8% to 20.2%), at equal attainment."),
        ([120, 120.1, 119.9], "needs 20.0% more"),
        ([120, 120.1, 119.9], "(95 %: 19.8% to 20.2%), at equal attainment."),
        ([80, 130, 81], "which is not significant, at equal attainment."),
        ([100], "needs 0.0% less"),
    ],
)
def test_sentences_say_less_more_or_not_significant(ours: list[float], says: str) -> None:
    found = sentence(ours, [100.0] * len(ours))
    assert says in found
    assert ("significant" in found) == ("significant" in says)


def test_an_interval_around_nothing_names_both_its_ends_with_their_signs() -> None:
    found = saving_of(runs([90, 112, 90], name="frugal"), runs([100] * 3), TARGET)
    assert found.interval is not None
    ends = f"{found.interval.low:.1%} to {found.interval.high:.1%}"
    assert found.interval.low < 0 < found.interval.high
    assert ends in found.sentence


@pytest.mark.parametrize(
    ("ours", "theirs", "equal", "says"),
    [
        (1.0, 0.992, True, "at equal attainment"),  # both reach the target
        (0.95, 0.954, True, "at equal attainment"),  # neither, but they are near
        (0.9, 1.0, False, "keeps 10.0 points fewer of the promises: not a saving"),
        (1.0, 0.9, False, "keeps 10.0 points more of the promises: not a saving"),
        (None, None, True, "at equal attainment"),  # nothing was promised
    ],
)
def test_a_saving_counts_at_equal_attainment_only(
    ours: float | None, theirs: float | None, equal: bool, says: str
) -> None:
    found = saving_of(runs([80], attainment=ours), runs([100], attainment=theirs), TARGET)
    assert found.equal_attainment is equal
    assert says in found.sentence
    assert found.attainment_difference == pytest.approx((ours or 0) - (theirs or 0))


def test_one_that_was_stopped_is_paired_with_what_it_has() -> None:
    base = runs([100, 100], attainment=1.0)
    base[1] = structs.replace(base[1], attainment=0.0)
    found = saving_of(runs([50], attainment=1.0), base, TARGET)
    assert (found.saving, found.interval, found.attainment_difference) == (0.5, None, 0.0)


def test_baselines_are_the_first_and_the_best_static_clocks() -> None:
    best = {"settings": {"clock": "best"}, "controller": "static:0.7"}
    contenders = [
        runs([100]),
        runs([90], **best),
        runs([80], controller="phases"),
        runs([85], name="frugal"),
        runs([75], name="frugal", **best),
        runs([70], name="frugal", controller="phases"),
        runs([95], name="packed"),
    ]
    pairs = {(s.contender, s.baseline) for s in compare(contenders, TARGET)}
    first, general, own = (
        "least-loaded + pinned",
        "least-loaded + static:0.7",
        "frugal + static:0.7",
    )
    ours = ["least-loaded + phases", "frugal + pinned", "frugal + phases", "packed + pinned"]
    assert pairs == (
        {(label, first) for label in [*ours, general, own]}
        | {(label, general) for label in ours}
        | {(label, own) for label in ours if label.startswith("frugal")}
    )


def test_who_served_nothing_is_compared_with_nobody() -> None:
    nothing = runs([0.0], completed=0, name="packed")
    assert compare([nothing, runs([100])], TARGET) == []
    assert compare([runs([100]), nothing], TARGET) == []
