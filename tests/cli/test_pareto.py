"""`wattshed pareto` as people and scripts use it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest

Run = Callable[..., CompletedProcess[str]]
RunJson = Callable[..., dict[str, Any]]

TWO_MODELS = "".join(
    f'[[deployments]]\nname = "{name}"\nprofile = "wilkins-2024/swing-a100/llama-2-{size}"\n'
    for name, size in (("small", "7b"), ("large", "70b"))
)


def test_json_has_stable_keys_and_a_convex_front(wattshed_json: RunJson) -> None:
    found = wattshed_json("pareto", "--points", "50")
    assert found["schema"] == "wattshed/pareto/1"
    assert set(found) == {"schema", "created_by", "inputs", "results", "provenance"}
    results = found["results"]
    assert {"total_points", "knee", "budgets", "gap", "reference"} <= set(results)
    keys = {"energy_j", "runtime_s_mean", "lambda", "supported", "price_j_per_s"}
    assert all(set(point) == keys and point["supported"] for point in results["points"])
    energy = np.array([point["energy_j"] for point in results["points"]])
    runtime = np.array([point["runtime_s_mean"] for point in results["points"]])
    assert len(energy) <= 50
    assert (np.diff(runtime) > 0).all()
    slope = np.diff(energy) / np.diff(runtime)
    assert (slope < 0).all()
    assert (np.diff(slope) > 0).all()
    rule = {"name", "family", "energy_j", "runtime_s_mean", "excess_pct", "supported"}
    assert all(set(b) == rule and not b["supported"] for b in results["baselines"])
    assert results["accuracy_points"] is None


@pytest.mark.slow
def test_its_ends_are_what_plan_finds(wattshed_json: RunJson) -> None:
    points = wattshed_json("pareto")["results"]["points"]
    for point, value in ((points[0], "0"), (points[-1], "1")):
        plan = wattshed_json("plan", "--lambda", value)["results"]
        assert point["energy_j"] == pytest.approx(plan["energy_j"], rel=1e-9)
        assert point["runtime_s_mean"] == pytest.approx(plan["runtime_s_mean"], rel=1e-9)


@pytest.mark.slow
def test_accuracy_is_traded_where_models_differ(
    wattshed: Run, wattshed_json: RunJson, tmp_path: Path
) -> None:
    (tmp_path / "fleet.toml").write_text(TWO_MODELS)
    arguments = ("pareto", "--fleet", "fleet.toml", "--accuracy-measure", "token-weighted")
    points = wattshed_json(*arguments, "--points", "0", "-o", "out")["results"]["accuracy_points"]
    accuracy = [point["accuracy"] for point in points]
    assert accuracy == sorted(accuracy, reverse=True)
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"index.html", "pareto.json", "pareto.svg", "accuracy-front.svg"} <= written
    assert json.loads((tmp_path / "out/pareto.json").read_text())["schema"] == "wattshed/pareto"


def test_people_see_ends_knees_and_budgets(wattshed: Run) -> None:
    done = wattshed("pareto")
    assert done.returncode == 0, done.stderr
    for words in ("fastest", "within 1.5 x", "knee", "least energy", "J per query"):
        assert words in done.stdout


@pytest.mark.slow
def test_one_plan_may_be_best_at_both(wattshed: Run, tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text(TWO_MODELS)
    done = wattshed("pareto", "--fleet", "fleet.toml", "-o", "out")
    assert done.returncode == 0, done.stderr
    assert "best at both" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--points", "-1"), ("--points", "-1", "0 for all")),
        (("--points", "many"), ("--points", "many")),
        (("--normalise", "zscore"), ("'zscore'", "ideal")),
        (("--accuracy-measure", "median"), ("--accuracy-measure", "'median'", "query-mean")),
        (("--workload", "alpacca"), ("'alpacca'", "alpaca")),
        (("--fleet", "absent.toml"), ("absent.toml", "hybrid-2024")),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(
    wattshed: Run, tmp_path: Path, arguments: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    done = wattshed("pareto", *arguments, "-o", "out")
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1
    for part in expected:
        assert part in lines[0]
    assert list(tmp_path.iterdir()) == []
