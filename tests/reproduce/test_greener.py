"""The study of clocks, parallelism and batches: what decides its claims, and how far.

Fast tests show the parts on single settings; the whole study runs once, in the slow ones.
"""

import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from wattshed.data import read_table
from wattshed.reproduce import STUDIES
from wattshed.reproduce.greener_claims import (
    BY_READING,
    CLAIMS,
    FIGURE_CLAIMS,
    JUDGED_BY,
    SUPPORT,
    judge_claims,
    kind_of,
    published_claims,
)
from wattshed.reproduce.greener_clock_claims import (
    best_clocks,
    four_fifths_clock,
    free_power,
    half_clock,
    inputs_and_clock,
    tbt_of_all_lengths,
    tbt_of_degrees,
)
from wattshed.reproduce.greener_judging import FAILS, HOLDS, OPEN, VERDICTS, Judged, about
from wattshed.reproduce.greener_load import (
    FULL,
    MAIN,
    READINGS,
    STATIC,
    TEXTS,
    Bench,
    full_batches,
    highest,
    keeps,
    promise_of,
    serve,
)
from wattshed.reproduce.greener_measured import measured_figures, static_batches
from wattshed.reproduce.greener_readings import energy_exponents, ratios
from wattshed.reproduce.greener_sensitivity import variants
from wattshed.reproduce.greener_settings import (
    AS_IN_PROFILE,
    BATCHES,
    CLOCKS_MHZ,
    DEGREES,
    HIGHEST_MHZ,
    TYPES,
    Assumed,
    Setting,
    by_degree,
    engine_of,
    largest_batch,
    power_factor,
    profile_of,
    throughput_of_static_batch,
)
from wattshed.reproduce.greener_size_claims import (
    doubled_batches,
    more_gpus_are_faster,
    order_of_types,
    two_small_beat_one_large,
)
from wattshed.reproduce.study import Study
from wattshed.steps import predict_steps

IDS = [f"C{i}" for i in range(1, 24)]
ORDERINGS = ("C3", "C5", "C6", "C7", "C9", "C11", "C14", "C16", "C19")


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench(0, 2)


# ---------------------------------------------------------------- claims as published


def test_every_claim_is_there_once_in_order() -> None:
    assert list(published_claims()) == IDS
    rows = read_table(CLAIMS).filter(pl.col("published").is_not_null())
    assert not rows.select("claim", "quantity").is_duplicated().any()


def test_every_claim_has_one_judge() -> None:
    by_figure, by_reading = set(FIGURE_CLAIMS), set(JUDGED_BY)
    assert by_figure & by_reading == {"C1"}  # the reading of figure 3 is the one that decides it
    assert by_reading == set(BY_READING)
    assert set(IDS) - by_figure - by_reading == {"C4", "C9", "C17", "C22", "C23"}


def test_what_has_no_measurement_is_modelled() -> None:
    kinds = {claim: kind_of(claim) for claim in IDS}
    assert {c for c, kind in kinds.items() if kind in ("measured", "derived")} == set(SUPPORT)
    assert {c for c, kind in kinds.items() if kind == "setting"} == {"C22", "C23"}
    # What follows the clock, and what is energy.
    assert {kinds[c] for c in ("C1", "C2", "C8", "C15", "C20", "C21")} == {"modelled"}


# ---------------------------------------------------------------- measurements


def test_measured_ratios_are_those_of_the_tables() -> None:
    found = measured_figures()
    assert found["C12"]["splitwise-steps"] == pytest.approx(64 / 10.1808 / (32 / 9.04557))
    assert found["C13"]["splitwise-steps"] == pytest.approx(10.1808 / 9.3377)
    assert found["C18"]["splitwise-steps"] == pytest.approx(16 * 4.17434 / 9.3377)
    assert found["C17"]["splitwise-steps"] == pytest.approx(0.0501608 / 0.0317862)
    assert found["C17"]["mlenergy-v3-steps"] == pytest.approx(0.0224323 / 0.0165727)
    known = [r for r in found["C13"]["freesh-slo"].values() if r is not None]
    assert (min(known), max(known)) == pytest.approx((18.48 / 19.17, 3.5), rel=0.01)


def test_out_of_memory_is_no_measurement() -> None:
    rows = static_batches().filter(tensor_parallel=2)
    assert rows["batch_size"].max() == largest_batch(2) == 32


@pytest.mark.parametrize(("degree", "batch"), [(2, 32), (4, 64), (8, 4), (8, 16), (8, 64)])
def test_profile_gives_measured_static_batches(degree: int, batch: int) -> None:
    rows = static_batches().filter(tensor_parallel=degree, batch_size=batch)
    profile = profile_of(degree)
    prefill_s = predict_steps(profile, 0, 0, 512 * batch).time_s[0]
    step_s = predict_steps(profile, batch, 576 * batch).time_s[0]
    held_out = {(h.quantity, h.axis): h.worst_ape_pct / 100 for h in profile.held_out}
    assert prefill_s == pytest.approx(
        rows["prefill_time_s"].item(), rel=held_out["prefill_time_s", "batch"]
    )
    assert step_s == pytest.approx(
        rows["decode_time_s"].item(), rel=held_out["decode_time_s", "batch"]
    )
    assert batch / (prefill_s + 127 * step_s) == pytest.approx(
        rows["throughput_per_s"].item(), rel=0.06
    )


def test_static_batch_is_prefill_and_decode_steps() -> None:
    setting, profile = Setting(max_batch=16), profile_of(8)
    steps = [predict_steps(profile, 16, 16 * (500 + k)).time_s[0] for k in range(1, 128)]
    whole_s = predict_steps(profile, 0, 0, 16 * 500).time_s[0] + sum(steps)
    assert throughput_of_static_batch(setting) == pytest.approx(16 / whole_s, rel=1e-6)


# ---------------------------------------------------------------- SLO and search


def test_slo_is_five_times_the_request_alone() -> None:
    profile = profile_of(8)
    first_s = predict_steps(profile, 0, 0, 500).time_s[0]
    later_s = predict_steps(profile, 1, 500 + 64).time_s[0]
    promise = promise_of(Setting("MM", degree=2, clock_mhz=800))
    assert promise.ttft_s == pytest.approx(5 * first_s)
    assert promise.tbt_s == pytest.approx(5 * later_s)
    own = promise_of(Setting("MM", degree=2, clock_mhz=800), own_degree=True)
    assert own.ttft_s == pytest.approx(5 * predict_steps(profile_of(2), 0, 0, 500).time_s[0])


@pytest.mark.parametrize("limit", [0.3, 1.0, 9.99])
def test_search_finds_the_limit(limit: float) -> None:
    assert highest(lambda rate: rate <= limit, 10.0) == pytest.approx(limit, rel=0.004)


def test_search_finds_nothing_where_nothing_is_feasible() -> None:
    assert highest(lambda _: False, 10.0) == 0.0


@pytest.mark.parametrize("max_batch", [4, 64])
def test_what_is_found_keeps_the_slo_and_more_does_not(bench: Bench, max_batch: int) -> None:
    setting = Setting(max_batch=max_batch)
    promise, level = promise_of(setting), READINGS[MAIN].level
    for unit, rate in zip(bench.arrivals, bench.maximum(setting), strict=True):
        kept = [keeps(serve(setting, unit / (f * rate)), promise, level) for f in (0.7, 1, 1.05)]
        assert kept == [True, True, False]


def test_a_stricter_reading_serves_no_more(bench: Bench) -> None:
    setting = Setting(max_batch=8)
    served = [bench.maximum(setting, reading) for reading in ("p99", "p90", "median", FULL)]
    for strict, loose in pairwise(served):
        assert (strict <= loose * 1.004).all()


def test_no_reading_serves_more_than_full_batches(bench: Bench) -> None:
    setting = Setting()
    full = full_batches(setting)[0]
    for reading in READINGS:
        assert (bench.maximum(setting, reading) <= 1.05 * full).all()


def test_search_is_reproducible_and_hangs_on_the_seed(bench: Bench) -> None:
    setting = Setting(max_batch=16)
    np.testing.assert_array_equal(Bench(0, 2).maximum(setting), bench.maximum(setting))
    assert (Bench(1, 2).maximum(setting) != bench.maximum(setting)).all()


def test_energy_has_no_part_in_times(bench: Bench) -> None:
    other = Setting(clock_mhz=1600, assumed=Assumed(dynamic_exponent=3.0, unscaled_power=True))
    np.testing.assert_array_equal(
        bench.maximum(other), bench.maximum(replace(other, assumed=AS_IN_PROFILE))
    )


def test_throughput_falls_with_the_clock_and_rises_with_the_batch(bench: Bench) -> None:
    by_clock = [bench.maximum(Setting("SS", clock_mhz=c)).mean() for c in CLOCKS_MHZ]
    by_batch = [bench.maximum(Setting(max_batch=b)).mean() for b in BATCHES]
    assert by_clock == sorted(by_clock)
    assert by_batch == sorted(by_batch)


# ---------------------------------------------------------------- assumptions


def test_nothing_assumed_changes_the_highest_clock() -> None:
    plain = engine_of(Setting())
    for assumed in variants().values():
        engine = engine_of(Setting(assumed=assumed))
        np.testing.assert_allclose(engine.time.by_batch, plain.time.by_batch)
        assert engine.time.prompt is not None
        np.testing.assert_allclose(engine.time.prompt.of([1, 500]), plain.time.prompt.of([1, 500]))


def test_waiting_prompts_slow_down_less() -> None:
    waits = Setting(clock_mhz=1400)
    slow = replace(waits, assumed=Assumed(prompts_follow=True))
    tokens = [1, 100, 500, 1024, 2048]
    full, less, more = (
        engine_of(setting).time.prompt.of(tokens) for setting in (Setting(), waits, slow)
    )
    np.testing.assert_allclose(more, full * HIGHEST_MHZ / 1400)
    assert (less < more).all()
    assert less[0] == pytest.approx(full[0])  # above the knee a prompt of one token only waits
    joules = [engine_of(s).energy.prompt.of(tokens) for s in (waits, slow)]
    saved_j = profile_of(8).clock.static_power_w * (more - less)
    np.testing.assert_allclose(joules[1] - joules[0], saved_j)


def test_unscaled_power_is_that_of_the_prior() -> None:
    for degree in DEGREES:
        scaled, plain = profile_of(degree), profile_of(degree, Assumed(unscaled_power=True))
        assert f"{power_factor(degree):.3f}" in scaled.decode_energy_j.source
        ratio = np.divide(plain.decode_energy_j.value, scaled.decode_energy_j.value)
        np.testing.assert_allclose(ratio, 1 / power_factor(degree))


def test_least_exponent_is_where_the_energy_is_a_part(bench: Bench) -> None:
    assumed = Assumed(unscaled_power=True)
    exponent = energy_exponents(bench, assumed)["16"]
    assert exponent is not None
    at = replace(assumed, dynamic_exponent=exponent)
    slow, fast = (Setting(max_batch=16, clock_mhz=c, assumed=at) for c in (1600, HIGHEST_MHZ))
    needed = [bench.at(s, bench.medium(s)).energy_j.mean() for s in (slow, fast)]
    assert needed[0] / needed[1] == pytest.approx(0.8, rel=1e-6)


# ---------------------------------------------------------------- verdicts on made-up figures


def made_up(curves: dict[str, list[float]]) -> dict[str, Any]:
    return {
        "clock_mhz": list(CLOCKS_MHZ),
        "series": {name: {"value": values} for name, values in curves.items()},
    }


FLAT = [1.0] * len(CLOCKS_MHZ)


def test_about_is_within_ten_percent() -> None:
    assert [about(7.0, ours) for ours in (6.29, 6.31, 7.69, 7.71)] == [False, True, True, False]


@pytest.mark.parametrize(("holds", "verdict"), [(True, HOLDS), (False, FAILS), (None, OPEN)])
def test_verdicts_have_names(holds: bool | None, verdict: str) -> None:
    assert Judged(holds, "").verdict == verdict


def test_throughput_at_half_the_clock() -> None:
    assert half_clock(0.78).holds
    assert not half_clock(0.5).holds
    assert not half_clock(1.0).holds


@pytest.mark.parametrize(
    ("power", "ttft", "holds"), [(0.8, 1.0, True), (0.8, 1.1, False), (0.95, 1.0, False)]
)
def test_free_power_needs_both(power: float, ttft: float, holds: bool) -> None:
    def figure(low: float) -> dict[str, Any]:
        return made_up({kind: [low] * (len(CLOCKS_MHZ) - 1) + [1.0] for kind in TYPES})

    figures = {
        "figure1": figure(ttft),
        "figure2": figure(1.0),
        "figure3": figure(1.0),
        "figure4": figure(power),
    }
    assert free_power(figures).holds is holds


def test_longer_inputs_follow_the_clock_more() -> None:
    length = {"S": 1.0, "M": 2.0, "L": 3.0}
    slow = [HIGHEST_MHZ / clock for clock in CLOCKS_MHZ]
    curves = {kind: [length[kind[0]] * s for s in slow] for kind in TYPES}
    assert inputs_and_clock({"figure1": made_up(curves)}).holds
    curves["LL"] = [length["L"]] * len(slow)
    assert not inputs_and_clock({"figure1": made_up(curves)}).holds


def test_one_response_for_all_lengths() -> None:
    curves = dict.fromkeys(TYPES, FLAT)
    assert tbt_of_all_lengths({"figure2": made_up(curves)}).holds
    curves["LL"] = [1.2, *FLAT[1:]]
    assert not tbt_of_all_lengths({"figure2": made_up(curves)}).holds


def test_best_clocks_are_told_apart() -> None:
    falling, rising = list(range(7, 0, -1)), list(range(1, 8))
    valley = [5.0, 4, 3, 1, 3, 4, 5]
    figures = {
        name: made_up({kind: [float(v) for v in values] for kind in TYPES})
        for name, values in (("figure4", rising), ("figure5", valley), ("figure3", rising))
    }
    assert best_clocks(figures)["MM"] == (800, 1400, 1980)
    figures["figure4"] = made_up({kind: [float(v) for v in falling] for kind in TYPES})
    assert best_clocks(figures)["MM"] == (1980, 1400, 1980)


def test_higher_degrees_follow_the_clock_less() -> None:
    curves = {f"TP{d}": [1 + 1 / d] * (len(CLOCKS_MHZ) - 1) + [1.0] for d in DEGREES}
    assert tbt_of_degrees({"figure7": made_up(curves)}).holds
    curves["TP2"][0] = 1.0
    assert not tbt_of_degrees({"figure7": made_up(curves)}).holds


@pytest.mark.parametrize(("batches", "holds"), [(3, True), (2, False)])
def test_most_batches_need_less_energy(batches: int, holds: bool) -> None:
    low = [0.7] * (len(CLOCKS_MHZ) - 1) + [1.0]
    energy = {str(b): low if i < batches else FLAT for i, b in enumerate(BATCHES)}
    same = made_up({str(b): FLAT for b in BATCHES})
    figures = {"figure13": same, "figure15": made_up(energy)}
    assert four_fifths_clock(figures).holds is holds


def test_types_are_in_order() -> None:
    length = {"S": 1, "M": 2, "L": 3}
    served = {k: {"value": 10.0 / length[k[0]] / length[k[1]]} for k in TYPES}
    assert order_of_types(served).holds
    served["LL"] = {"value": 9.0}
    assert not order_of_types(served).holds


@pytest.mark.parametrize(("tbt", "holds"), [((3.0, 2.0, 1.5), True), ((3.0, 2.0, 2.0), False)])
def test_more_gpus_must_be_faster_everywhere(tbt: tuple[float, ...], holds: bool) -> None:
    names = [f"TP{d}" for d in DEGREES]
    alone = {"ttft_s": dict(zip(names, (3.0, 2.0, 1.5), strict=True))}
    alone["tbt_s"] = dict(zip(names, tbt, strict=True))
    assert more_gpus_are_faster(alone).holds is holds


def test_twice_is_the_limit() -> None:
    assert two_small_beat_one_large(1.9, 1.1).holds
    assert not two_small_beat_one_large(2.1, 1.1).holds
    assert doubled_batches({"8/4": 1.9}).holds
    assert not doubled_batches({"8/4": 1.9, "16/8": 2.0}).holds


# ---------------------------------------------------------------- acceptance on single settings


def test_batch_64_serves_seven_times_batch_4_without_random_arrivals(bench: Bench) -> None:
    found = ratios(bench, Setting(max_batch=64), Setting(max_batch=4))
    assert found[STATIC]["value"] == pytest.approx(7, abs=0.7)
    assert found["even"]["value"] == pytest.approx(7, abs=0.7)
    assert found[MAIN]["value"] > 14  # random arrivals under p99 say something else


def test_tp4_serves_three_quarters_more_than_tp2(bench: Bench) -> None:
    found = ratios(bench, by_degree(4), by_degree(2))
    assert found[STATIC]["value"] == pytest.approx(1.75, abs=0.15)
    assert found["even"]["value"] == pytest.approx(1.75, abs=0.15)


# ---------------------------------------------------------------- the whole study


@pytest.fixture(scope="module")
def study() -> Study:
    return STUDIES["greener-2024"](seed=0)


@pytest.fixture(scope="module")
def results(study: Study) -> dict[str, Any]:
    return study.results


@pytest.mark.slow
def test_is_json_able_and_says_where_it_comes_from(study: Study) -> None:
    assert msgspec.json.decode(msgspec.json.encode(study))["name"] == "greener-2024"
    assert {p.name for p in study.provenance} == set(study.inputs)


@pytest.mark.slow
def test_every_claim_gets_a_verdict_and_a_reason(results: dict[str, Any]) -> None:
    claims = {claim["id"]: claim for claim in results["claims"]}
    assert list(claims) == IDS
    assert all(claim["verdict"] in VERDICTS and claim["why"] for claim in claims.values())
    assert all(claims[c]["verdict"] != OPEN for c in ORDERINGS)
    assert {c for c in claims if claims[c]["verdict"] == OPEN} == {"C4", "C22", "C23"}
    for claim in claims.values():
        if claim["verdict"] != OPEN:
            assert set(claim["published"]) <= set(claim["ours"])


@pytest.mark.slow
def test_acceptance(results: dict[str, Any]) -> None:
    claims = {claim["id"]: claim for claim in results["claims"]}
    assert claims["C18"]["ours"]["throughput_ratio"] == pytest.approx(7, abs=0.7)
    assert claims["C12"]["ours"]["throughput_ratio"] == pytest.approx(1.75, abs=0.15)
    assert set(results["readings"]["C13_by_type"][STATIC]) == set(TYPES)
    for claim in ("C12", "C13", "C18"):
        ours = claims[claim]["ours"]["throughput_ratio"]
        assert ours == pytest.approx(claims[claim]["measured"]["splitwise-steps"], rel=0.03)


@pytest.mark.slow
def test_verdicts_by_reading_are_all_there(results: dict[str, Any]) -> None:
    for claim in results["claims"]:
        if claim["judged_by"]:
            assert set(claim["by_reading"]) == set(TEXTS)
            assert claim["by_reading"][claim["judged_by"]]["verdict"] == claim["verdict"]


@pytest.mark.slow
def test_claims_are_judged_again_from_what_is_reported(results: dict[str, Any]) -> None:
    found = judge_claims(results["figures"], results["readings"], measured_figures())
    assert {c["id"]: c["verdict"] for c in results["claims"]} == {
        claim: judged.verdict for claim, judged in found.items()
    }


@pytest.mark.slow
def test_figures_are_whole(results: dict[str, Any]) -> None:
    figures = results["figures"]
    assert {f"figure{n}" for n in range(1, 16)} <= set(figures)
    for figure in figures.values():
        for series in figure["series"].values():
            value, low, high = (np.array(series[key]) for key in ("value", "low", "high"))
            assert len(value) == len(figure["clock_mhz"])
            assert (low <= value).all()
            assert (value <= high).all()
            assert (value > 0).all()
    for n in (3, 8, 13):
        for series in figures[f"figure{n}"]["series"].values():
            assert series["value"] == sorted(series["value"])


@pytest.mark.slow
def test_document_ends_with_the_verdicts(study: Study) -> None:
    sections = study.document.sections
    assert sections[-1].heading == "What holds and what does not"
    assert all(len(row) == len(t.columns) for s in sections for t in s.tables for row in t.rows)
    slugs = {kind: [i.slug for s in sections for i in getattr(s, kind)] for kind in ("tables",)}
    assert len(set(slugs["tables"])) == len(slugs["tables"])
    verdicts = next(t for t in sections[-1].tables if t.slug == "verdicts")
    named = [re.match(r"C\d+", str(row[0])) for row in verdicts.rows]
    assert [match.group() for match in named if match] == IDS
