"""The HotCarbon 2024 study: tables to their printed digits, and routing over ζ."""

from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm

from wattshed.reproduce import STUDIES
from wattshed.reproduce.offline_routing import FLOOR_FACTOR, LLAMAS, PARTITION
from wattshed.reproduce.offline_tables import QUANTITIES as COLUMNS
from wattshed.reproduce.offline_tables import axes, grid_rows
from wattshed.reproduce.study import Study, cell

MODELS = (
    "falcon-40b",
    "falcon-7b",
    "llama-2-13b",
    "llama-2-70b",
    "llama-2-7b",
    "mistral-7b",
    "mixtral-8x7b",
)
QUANTITIES = ("energy", "runtime")
VERSIONS = ("intended", "intended_with_floors", "as_coded", "as_coded_all_queries")


@pytest.fixture(scope="module")
def study() -> Study:
    return STUDIES["offline-2024"](seed=0)


@pytest.fixture(scope="module")
def results(study: Study) -> dict[str, Any]:
    return study.results


def test_is_json_able_and_says_where_it_comes_from(study: Study) -> None:
    assert msgspec.json.decode(msgspec.json.encode(study))["name"] == "offline-2024"
    assert {p.name for p in study.provenance} == set(study.inputs)


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_every_model_is_there(results: dict[str, Any], quantity: str) -> None:
    assert tuple(results[quantity]) == MODELS
    cells = {model: row["cells"] for model, row in results[quantity].items()}
    assert cells == {model: 80 if model == "llama-2-70b" else 81 for model in MODELS}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("quantity", QUANTITIES)
def test_f_and_p_reproduce(results: dict[str, Any], quantity: str, model: str) -> None:
    row = results[quantity][model]
    assert abs(row["deviation_pct"]) < 0.1
    assert row["p"] == pytest.approx(row["published"]["p"], rel=5e-3)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("quantity", QUANTITIES)
def test_the_rest_reproduces_or_is_a_misprint(
    results: dict[str, Any], quantity: str, model: str
) -> None:
    row = results[quantity][model]
    if row["misprint"] is None:
        assert f"{row['r2']:.3f}" == f"{row['published']['r2']:.3f}"
        assert max(abs(d) for d in row["coefficient_deviation_pct"].values()) < 0.3


def test_there_are_two_misprints(results: dict[str, Any]) -> None:
    found = {(m["model"], m["quantity"]): m["text"] for m in results["misprints"]}
    assert set(found) == {("llama-2-7b", "runtime"), ("mistral-7b", "runtime")}
    assert "R2" in found["llama-2-7b", "runtime"]
    assert "8.76e-05" in found["mistral-7b", "runtime"]


def test_intercept_is_used_for_three_models_and_changes_f(results: dict[str, Any]) -> None:
    used = {m for m, row in results["energy"].items() if row["intercept_used_for_statistics"]}
    assert used == {"falcon-7b", "mistral-7b", "mixtral-8x7b"}
    without = {m: results["intercept_trap"][m]["without_intercept"]["f"] for m in used}
    expected = {"falcon-7b": 728.7, "mistral-7b": 1022.2, "mixtral-8x7b": 1335.7}
    assert without == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("quantity", QUANTITIES)
def test_intervals_hold_the_coefficients_and_agree_with_statsmodels(
    results: dict[str, Any], quantity: str, model: str
) -> None:
    rows = grid_rows().filter(pl.col("model") == model)
    m, n = axes(rows)
    y = rows[COLUMNS[quantity][0]].to_numpy()
    columns = {"constant": np.ones(len(m)), "m": m, "n": n, "mn": m * n}
    trap = results["intercept_trap" if quantity == "energy" else "intercept_trap_runtime"][model]
    found = (
        (results[quantity][model], ("m", "n", "mn")),
        (trap["without_intercept"], ("m", "n", "mn")),
        (trap["with_intercept"], tuple(columns)),
    )
    for fit, terms in found:
        theirs = sm.OLS(y, np.column_stack([columns[term] for term in terms])).fit()
        intervals = fit["coefficient_intervals"]
        assert tuple(intervals) == tuple(fit["coefficients"]) == terms
        np.testing.assert_allclose(list(intervals.values()), theirs.conf_int(), rtol=1e-9)
        for term in terms:
            low, high = intervals[term]
            assert low < fit["coefficients"][term] < high


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_document_shows_both_r2_of_both_fits_and_every_interval(
    study: Study, results: dict[str, Any], quantity: str
) -> None:
    tables = {t.slug: t for s in study.document.sections for t in s.tables}
    both = tables[f"intercept-trap-{quantity}"]
    statistics = ("R2 about the mean", "R2 about zero", "F", "p")
    assert both.columns[1:] == [f"{s}, {fit}" for fit in ("with", "without") for s in statistics]
    shown = tables[f"coefficients-{quantity}"]
    low, high = shown.columns.index("low"), shown.columns.index("high")
    for row in shown.rows:
        model, term = row[:2]
        interval = results[quantity][model]["coefficient_intervals"].get(term, (None, None))
        assert [row[low], row[high]] == [cell(bound, 4) for bound in interval]


def test_printed_model_is_negative_on_part_of_its_own_grid(results: dict[str, Any]) -> None:
    counts = [row["negative_predictions_on_grid"] for row in results["energy"].values()]
    assert (min(counts), max(counts)) == (5, 17)


def test_70b_on_measured_cells_only(results: dict[str, Any]) -> None:
    found = results["llama_2_70b_measured_cells"]
    assert found["cells"] == 75
    assert found["coefficients"] == pytest.approx({"m": -3.69, "n": 426.2, "mn": 0.2106}, rel=1e-3)
    assert found["r2"] == pytest.approx(0.946, abs=5e-4)


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_anova_reproduces_to_its_digits_on_the_7b_models(
    results: dict[str, Any], quantity: str
) -> None:
    for term in results["anova"][quantity].values():
        assert round(term["f"], 2) == term["published_f"]


def test_interaction_vanishes_over_all_models(results: dict[str, Any]) -> None:
    term = results["anova"]["all_models"]["energy"]["mn"]
    assert term["f"] == pytest.approx(0.97, abs=0.005)
    assert term["p"] == pytest.approx(0.55, abs=0.005)


@pytest.mark.parametrize("model", MODELS)
def test_forms_over_passes_predict_and_the_printed_form_does_not(
    results: dict[str, Any], model: str
) -> None:
    forms = results["leave_one_out"][model]["energy"]["forms"]
    assert forms["phase"]["mape_pct"] <= 10
    assert forms["roofline"]["mape_pct"] <= 10
    assert forms["bilinear"]["mape_pct"] > 100


def test_axis_to_grid(results: dict[str, Any]) -> None:
    axis = results["axis_to_grid"]
    assert axis["predicted_cells"] == 81
    assert axis["energy"]["mape_pct"] <= 6
    assert axis["sweeps_within_grid"]["energy"]["mape_pct"] <= 4
    assert axis["forms"]["bilinear"]["energy"]["mape_pct"] > 10_000
    assert axis["forms"][axis["selected"]["energy"]]["energy"] == axis["energy"]


@pytest.mark.parametrize("model", LLAMAS)
def test_single_model_totals_are_exact(results: dict[str, Any], model: str) -> None:
    for compared in results["single_model_totals"][model].values():
        assert round(compared["ours"], 4) == compared["published"]


@pytest.mark.parametrize("version", ["intended", "intended_with_floors"])
def test_energy_and_accuracy_fall_as_zeta_rises(results: dict[str, Any], version: str) -> None:
    points = results["zeta_sweep"][version]
    assert [p["zeta"] for p in points] == pytest.approx(np.linspace(0, 1, 21).tolist())
    for earlier, later in pairwise(points):
        assert later["energy_kwh"] <= earlier["energy_kwh"] * (1 + 1e-9)
        assert later["accuracy_token_weighted"] <= earlier["accuracy_token_weighted"] * (1 + 1e-9)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_query_is_routed_once(results: dict[str, Any], version: str) -> None:
    for point in results["zeta_sweep"][version]:
        assert sum(point["shares"].values()) == pytest.approx(1)


@pytest.mark.parametrize("version", VERSIONS[1:])
def test_floors_are_kept(results: dict[str, Any], version: str) -> None:
    for point in results["zeta_sweep"][version]:
        for share, part in zip(point["shares"].values(), PARTITION, strict=True):
            assert share >= FLOOR_FACTOR * part - 1e-9


def test_as_coded_sends_the_rest_to_one_model(results: dict[str, Any]) -> None:
    points = results["zeta_sweep"]["as_coded"]
    assert points[0]["rest_to"] == "llama-2-70b"
    assert points[-1]["rest_to"] == "llama-2-7b"
    assert len({tuple(p["shares"].values()) for p in points}) <= len(LLAMAS)
    for point in points:
        assert point["energy_low_kwh"] < point["energy_kwh"] < point["energy_high_kwh"]


def test_least_energy_at_round_robin_accuracy(results: dict[str, Any]) -> None:
    best = results["best_at_round_robin_accuracy"]
    assert best["accuracy_token_weighted"] == pytest.approx(0.570503, abs=1e-6)
    assert best["energy_kwh"] == pytest.approx(216.6, abs=0.05)
    coded = best["as_coded"]
    assert coded["rest_to"] == "llama-2-13b"
    assert coded["accuracy_token_weighted"] >= 0.5705
    assert best["energy_kwh"] < coded["energy_kwh"] < best["round_robin_published_kwh"]


def test_document_ends_with_the_verdicts(study: Study) -> None:
    sections = study.document.sections
    assert sections[-1].heading == "What holds and what does not"
    assert all(len(row) == len(t.columns) for s in sections for t in s.tables for row in t.rows)
    slugs = [item.slug for s in sections for item in (*s.tables, *s.charts)]
    assert len(set(slugs)) == len(slugs)


@pytest.mark.slow
def test_another_seed_changes_the_sample_only(results: dict[str, Any]) -> None:
    other = STUDIES["offline-2024"](seed=1).results
    changed = {key for key in results if other[key] != results[key]}
    assert changed == {"zeta_sweep"}
    sweep = other["zeta_sweep"]
    assert {k for k in sweep if sweep[k] != results["zeta_sweep"][k]} == {
        "as_coded",
        "intended_sample",
    }
