"""`wattshed plan --evaluate-on`: what is left of a saving on queries that were not planned."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

Run = Callable[..., CompletedProcess[str]]
RunJson = Callable[..., dict[str, Any]]
KEYS = {
    "predictor",
    "energy_j",
    "runtime_s_mean",
    "reference",
    "saving_pct",
    "saving",
    "saving_low_pct",
    "saving_high_pct",
    "significant",
    "probability_saves",
    "regret_pct",
    "displaced_queries",
    "shares",
    "busy_s",
    "accuracy_query_mean",
    "accuracy_token_weighted",
    "limits",
}


def by_predictor(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    rows = found["results"]["out_of_sample"]
    assert all(set(row) == KEYS for row in rows)
    return {row["predictor"]: row for row in rows}


def test_nothing_is_judged_unless_asked(wattshed_json: RunJson) -> None:
    found = wattshed_json("plan")
    assert found["results"]["out_of_sample"] is None
    assert found["inputs"]["evaluate_on"] is None


@pytest.mark.slow
def test_on_alpaca_known_lengths_save_and_predicted_ones_lose(wattshed_json: RunJson) -> None:
    found = wattshed_json("plan", "--evaluate-on", "half")
    assert found["results"]["queries"] == 51924 // 2
    assert found["inputs"]["evaluate_on"]["name"] == "half"
    judged = by_predictor(found)
    known, blind = judged.pop("known"), judged.pop("distribution")
    assert known["saving_low_pct"] > 0
    assert known["regret_pct"] == 0
    assert blind["saving_pct"] == 0
    predicted = judged.values()
    assert predicted
    for row in predicted:
        assert row["saving_high_pct"] < 0
        assert row["significant"]
        assert row["regret_pct"] > 0


def test_each_half_is_a_source_that_tells_the_split(wattshed_json: RunJson) -> None:
    found = wattshed_json("plan", "--evaluate-on", "half", "--seed", "4")
    notes = [p["note"] for p in found["provenance"] if p["name"] == "alpaca"]
    assert len(notes) == 2
    for note, half in zip(notes, ("first half", "second half"), strict=True):
        assert f"The {half} of alpaca" in note
        assert "seed 4" in note


@pytest.mark.slow
def test_a_plan_for_conversations_is_judged_on_code(wattshed_json: RunJson) -> None:
    plain = ("plan", "--workload", "azure-conv-2023")
    found = wattshed_json(*plain, "--evaluate-on", "azure-code-2023")
    alone = wattshed_json(*plain)
    code = wattshed_json("plan", "--workload", "azure-code-2023")
    rows = by_predictor(found)
    assert found["results"] | {"out_of_sample": None} == alone["results"]
    assert found["inputs"]["evaluate_on"]["sha256"] == code["inputs"]["workload"]["sha256"]
    assert {"azure-conv-2023", "azure-code-2023"} <= {p["name"] for p in found["provenance"]}
    # Energy alone has no scale that differs: true lengths reach the plan of the code itself.
    assert rows["known"]["energy_j"] == pytest.approx(code["results"]["energy_j"], rel=1e-9)
    for row in rows.values():
        assert row["energy_j"] >= rows["known"]["energy_j"]


@pytest.mark.slow
def test_idle_power_counts_in_the_judgement(wattshed_json: RunJson) -> None:
    found = wattshed_json("plan", "--evaluate-on", "half", "--idle-power", "a100=60")
    known = by_predictor(found)["known"]
    assert known["shares"]["a100"] == 1
    assert known["saving_pct"] == 0
    assert known["significant"] is False


@pytest.mark.slow
def test_a_plan_with_limits_is_judged_by_its_prices(wattshed_json: RunJson) -> None:
    """With known lengths, the half that was not planned keeps a budget about as well."""
    limits = ("--runtime-budget", "1.1x", "--accuracy-floor", "0.5")
    found = wattshed_json("plan", "--evaluate-on", "half", *limits)
    for row in by_predictor(found).values():
        uses = {use["constraint"]: use for use in row["limits"]}
        assert set(uses) == {"runtime budget", "accuracy floor"}
        assert uses["accuracy floor"]["kept"]
        assert row["accuracy_query_mean"] == pytest.approx(0.5097)
        assert sum(row["busy_s"].values()) == pytest.approx(uses["runtime budget"]["used"])
    known = by_predictor(found)["known"]["limits"][0]
    assert known["used"] == pytest.approx(known["bound"], rel=0.05)
    assert by_predictor(found)["known"]["regret_pct"] == 0


@pytest.mark.slow
def test_people_get_a_table_and_a_section_of_the_report(wattshed: Run, tmp_path: Path) -> None:
    (tmp_path / "later.csv").write_text("input_tokens,output_tokens\n50,20\n900,300\n")
    done = wattshed("plan", "--evaluate-on", "later.csv", "-o", "out")
    assert done.returncode == 0, done.stderr
    assert "The rule of alpaca on later.csv" in done.stdout
    for word in ("known", "mean", "histogram", "distribution", "regret (%)", "displaced"):
        assert word in done.stdout
    page = (tmp_path / "out/index.html").read_text()
    assert "When output lengths are not known" in page
    assert "--evaluate-on later.csv" in page
    assert (tmp_path / "out/out-of-sample.csv").exists()
    written = json.loads((tmp_path / "out/plan.json").read_text())
    assert len(written["out_of_sample"]) == 4


@pytest.mark.slow
def test_the_same_seed_gives_the_same_halves(wattshed: Run) -> None:
    first, again, other = (
        wattshed("plan", "--evaluate-on", "half", "--seed", seed, "--json").stdout for seed in "112"
    )
    assert first == again
    assert json.loads(first)["results"] != json.loads(other)["results"]
