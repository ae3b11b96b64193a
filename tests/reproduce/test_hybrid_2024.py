"""The e-Energy 2024 study: what must reproduce, and what its corrections come to."""

from typing import Any

import msgspec
import numpy as np
import pytest

from wattshed.report.document import Chart
from wattshed.reproduce import STUDIES
from wattshed.reproduce.hybrid_totals import round_to_tabulated
from wattshed.reproduce.study import Study, compare

THRESHOLDS_4A = [*(str(2**k) for k in range(3, 12)), "m1-pro-only", "a100-only"]
THRESHOLDS_5A = [*(str(2**k) for k in range(3, 10)), "m1-pro-only", "a100-only"]


@pytest.fixture(scope="module")
def study() -> Study:
    return STUDIES["hybrid-2024"](seed=0)


@pytest.fixture(scope="module")
def charts(study: Study) -> dict[str, Chart]:
    found = [c for s in study.document.sections for c in s.charts if isinstance(c, Chart)]
    return {chart.slug: chart for chart in found}


@pytest.fixture(scope="module")
def results(study: Study) -> dict[str, Any]:
    return study.results


def test_is_json_able_and_says_where_it_comes_from(study: Study) -> None:
    decoded = msgspec.json.decode(msgspec.json.encode(study))
    assert decoded["results"]["headline"]["claimed_saving_pct"] == 7.5
    assert {p.name for p in study.provenance} == set(study.inputs)
    assert all(len(digest) == 64 for digest in study.inputs.values())


def test_is_the_same_again(results: dict[str, Any]) -> None:
    assert STUDIES["hybrid-2024"](seed=0).results == results


@pytest.mark.parametrize("figure", ["figure1", "figure2"])
def test_means_of_the_sweeps_are_the_published_ones(results: dict[str, Any], figure: str) -> None:
    found = results[figure]
    assert len(found["points"]) >= 70
    assert max(found["largest_deviation_pct"].values()) < 0.01


def test_sweeps_reproduce_the_printed_energy_per_token(results: dict[str, Any]) -> None:
    printed = {"m1-pro": [2.45, 2.47, 2.69, 2.56], "swing-a100": [3.45, 2.37, 1.38, 1.14]}
    for system, expected in printed.items():
        ours = [
            point["energy_per_token_j"]["ours"]
            for point in results["figure1"]["points"]
            if (point["system"], point["model"]) == (system, "llama-2-7b")
            and point["size_tokens"] in (8, 32, 128, 512)
        ]
        assert ours == pytest.approx(expected, abs=0.006)


def test_workload_is_alpaca_gpt4_and_not_alpaca(results: dict[str, Any]) -> None:
    sums = results["figure3"]["checksums"]
    assert all(abs(s["deviation_pct"]) < 0.2 for s in sums["alpaca-gpt4-reconstructed"].values())
    assert sums["alpaca"]["sum_output_tokens"]["deviation_pct"] < -50


def test_histograms_hold_every_query(results: dict[str, Any]) -> None:
    for name, histogram in results["figure3"]["histograms"].items():
        queries = results["figure3"]["checksums"][name]["queries"]["ours"]
        assert sum(histogram["input"]) == sum(histogram["output"]) == queries


@pytest.mark.parametrize("threshold", THRESHOLDS_4A)
def test_figure_4a_reproduces_within_1_pct(results: dict[str, Any], threshold: str) -> None:
    assert abs(results["figure4a"]["total_energy_kwh"][threshold]["deviation_pct"]) <= 1


@pytest.mark.parametrize("threshold", THRESHOLDS_5A)
def test_figure_5a_on_input_lengths_reproduces(results: dict[str, Any], threshold: str) -> None:
    found = results["figure5a_as_published"]["total_energy_kwh"][threshold]
    assert abs(found["deviation_pct"]) <= 4.5


@pytest.mark.parametrize("threshold", THRESHOLDS_5A)
def test_figure_5a_on_output_lengths_was_not_published(
    results: dict[str, Any], threshold: str
) -> None:
    found = results["figure5a_corrected"]["total_energy_kwh"][threshold]
    assert (found["published"], found["deviation_pct"]) == (None, None)


def test_corrections_change_the_savings(results: dict[str, Any]) -> None:
    saving = "saving_at_32_vs_a100_only_pct"
    assert results["figure4a_consistent_totals"][saving] == pytest.approx(13.2, abs=0.1)
    assert results["figure4a_matched_models"][saving] == pytest.approx(7.11, abs=0.01)
    assert results["figure4a_llama_only"][saving] == pytest.approx(7.36, abs=0.01)
    assert 0 < results["figure5a_corrected"]["best_saving_pct"] < 1
    assert results["figure5a_corrected"]["total_energy_kwh"]["a100-only"]["ours"] == pytest.approx(
        4.543, abs=0.002
    )


def test_runtimes_reproduce_in_figure_4b_but_not_5b(results: dict[str, Any]) -> None:
    assert results["figure4b"]["largest_deviation_pct"] < 2.5
    assert results["figure5b"]["largest_deviation_pct"] > 10


def test_headline(results: dict[str, Any]) -> None:
    head = results["headline"]
    assert head["t_in_32_saving_pct"] == pytest.approx(8.2, abs=0.2)
    assert head["t_out_32_saving_pct"] == pytest.approx(7.6, abs=0.3)
    assert "No script" in head["verdict"]


def test_joint_optimum_is_small_uncertain_and_gone_with_idle_power(results: dict[str, Any]) -> None:
    optimum = results["joint_optimum"]
    assert 1.5 < optimum["saving_pct"] < 5.7
    assert optimum["interval"]["low"] < optimum["saving_pct"] < optimum["interval"]["high"]
    assert optimum["t_in_32_saving_pct"] < -15
    assert optimum["significant_at_60_w_idle"] is False
    assert optimum["runtime_ratio"] > 3


def test_no_rule_beats_the_joint_optimum(results: dict[str, Any]) -> None:
    optimum = results["joint_optimum"]
    energies = [policy["energy_kwh"] for policy in optimum["policies"]]
    assert optimum["energy_kwh"] <= min(energies)
    assert {p["family"] for p in optimum["best_rules"]} == {"t-in", "t-out", "product", "box"}


# 8 pairs of system and model; where points are published, one set of markers per system.
@pytest.mark.parametrize("figure", ["figure1", "figure2"])
@pytest.mark.parametrize(
    ("panel", "lines", "markers"),
    [("runtime", 8, 3), ("throughput", 8, 0), ("energy-per-token", 8, 3)],
)
def test_sweeps_have_a_picture_for_each_panel(
    results: dict[str, Any],
    charts: dict[str, Chart],
    figure: str,
    panel: str,
    lines: int,
    markers: int,
) -> None:
    chart = charts[f"{figure}-{panel}"]
    found = [series.style == "markers" for series in chart.series]
    assert (found.count(False), found.count(True)) == (lines, markers)
    assert (chart.x_scale, chart.y_scale) == ("log2", "log10")
    points = len(results[figure]["points"])
    assert sum(len(s.x) for s in chart.series if s.style != "markers") == points
    assert sum(len(s.x) for s in chart.series if s.style == "markers") == (points if markers else 0)


@pytest.mark.parametrize(
    ("slug", "styles", "unit"),
    [
        ("figure4a", ["line", "markers", "line", "dashed", "dashed"], "kWh"),
        ("figure4b", ["line", "markers", "dashed", "dashed"], "million token s"),
        ("figure5a", ["line", "markers", "dashed", "dashed"], "kWh"),
        ("figure5a-corrected", ["line", "dashed", "dashed"], "kWh"),
        ("figure5b", ["line", "markers", "dashed", "dashed"], "million token s"),
    ],
)
def test_thresholds_have_a_picture_for_each_panel(
    charts: dict[str, Chart], slug: str, styles: list[str], unit: str
) -> None:
    chart = charts[slug]
    assert [series.style for series in chart.series] == styles
    assert f"({unit})" in chart.y_label
    whose = "published" if "markers" in styles else "ours"
    assert all(s.name.startswith(whose) for s in chart.series if s.style == "dashed")


def test_levels_and_markers_are_the_published_values(
    results: dict[str, Any], charts: dict[str, Chart]
) -> None:
    totals = results["figure5b"]["total_runtime_token_s"]
    drawn = {series.name: series for series in charts["figure5b"].series}
    for key in ("m1-pro-only", "a100-only"):
        assert set(drawn[f"published, {key}"].y) == {totals[key]["published"] / 1e6}
    expected = [totals[key]["published"] / 1e6 for key in THRESHOLDS_5A[:-2]]
    assert drawn["published"].y == expected


def test_figure_5b_differs_in_the_longest_inputs(results: dict[str, Any]) -> None:
    found = results["figure5b"]
    longest, totals = found["longest_inputs"], found["total_runtime_token_s"]
    assert abs(totals[str(longest["above_tokens"])]["deviation_pct"]) < 1
    assert longest["queries_pct"] < 0.1
    assert longest["added_token_s"]["ours"] > 4 * longest["added_token_s"]["published"]


def test_document_ends_with_the_verdicts(study: Study) -> None:
    assert study.document.sections[-1].heading == "What holds and what does not"
    tables = [table for section in study.document.sections for table in section.tables]
    charts = [chart for section in study.document.sections for chart in section.charts]
    slugs = [item.slug for item in (*tables, *charts)]
    assert len(set(slugs)) == len(slugs)
    assert all(len(row) == len(table.columns) for table in tables for row in table.rows)


def test_lengths_are_rounded_in_log_space_then_to_what_is_tabulated() -> None:
    tokens = np.array([5.0, 11.0, 12.0, 45.0, 46.0, 2000.0])
    assert round_to_tabulated(tokens, np.array([8, 16, 32, 64, 512])).tolist() == [
        8, 8, 16, 32, 64, 512,
    ]  # fmt: skip


def test_a_figure_that_was_not_published_has_no_deviation() -> None:
    assert compare(None, 3.0) == {"published": None, "ours": 3.0, "deviation_pct": None}
    assert compare(4.0, 3.0)["deviation_pct"] == -25
