"""The commands as people and scripts use them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from wattshed.cli import main

Run = Callable[..., CompletedProcess[str]]
RunJson = Callable[..., dict[str, Any]]
ENVELOPE = {"schema", "created_by", "inputs", "results", "provenance"}


def test_help_names_every_command_and_examples(wattshed: Run) -> None:
    done = wattshed("--help")
    assert done.returncode == 0
    for command in ("demo", "reproduce", "data", "fit", "plan", "pareto", "completion"):
        assert command in done.stdout
        assert "Examples:" in wattshed(command, "--help").stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_call_us(wattshed: Run, shell: str) -> None:
    done = wattshed("completion", shell)
    assert done.returncode == 0
    assert "_WATTSHED_COMPLETE" in done.stdout


def test_data_list_and_show_tell_source_and_licence(wattshed_json: RunJson) -> None:
    names = [d["name"] for d in wattshed_json("data", "list")["results"]["datasets"]]
    assert {"alpaca", "azure-conv-2023", "wilkins-2024", "hybrid-2024"} <= set(names)
    for name in names:
        done = CliRunner().invoke(main, ["data", "show", name])  # in one process, for speed
        assert done.exit_code == 0
        for label in ("source", "licence", "commit", "done"):
            assert label in done.stdout


def test_fit_json_of_one_deployment(wattshed_json: RunJson) -> None:
    found = wattshed_json("fit", "--system", "m1-pro", "--model", "llama-2-7b", "--draws", "20")
    assert set(found) == ENVELOPE
    (profile,) = found["results"]["profiles"]
    assert profile["name"] == "wilkins-2024/m1-pro/llama-2-7b"
    for quantity in ("energy", "runtime"):
        model = profile[quantity]
        assert {"form", "forms", "coefficients", "intervals", "domain"} <= set(model)
        assert set(model["forms"]) == {"bilinear", "phase", "roofline", "kv-phase"}
        for score in model["forms"].values():
            assert set(score) == {
                "mape_pct",
                "median_ape_pct",
                "bias_pct",
                "negative_predictions",
                "r2",
            }
        assert set(model["intervals"]) == set(model["coefficients"])


def test_axis_sweeps_predict_the_grid(wattshed_json: RunJson) -> None:
    arguments = ("fit", "--system", "swing-a100", "--model", "llama-2-7b", "--draws", "0")
    sweeps = wattshed_json(*arguments, "--experiment", "input+output")["results"]["profiles"][0]
    assert sweeps["cells"] < 81
    assert sweeps["energy"]["forms"][sweeps["energy"]["form"]]["mape_pct"] < 6


@pytest.mark.slow
def test_fit_then_plan_on_the_users_own_files(
    wattshed: Run, wattshed_json: RunJson, tmp_path: Path
) -> None:
    rows = [
        {
            "system": system,
            "model": "m",
            "input_tokens": m,
            "output_tokens": n,
            "runtime_s": speed * n * (1 + m / 500),
            "accelerator_energy_j": watts * speed * n * (1 + m / reach),
        }
        for system, watts, speed, reach in (("big", 300, 0.02, 5000), ("small", 30, 0.1, 500))
        for m in (8, 32, 128, 512, 2048)
        for n in (8, 32, 128, 512)
    ]
    pl.DataFrame(rows).write_csv(tmp_path / "runs.csv")
    done = wattshed("fit", "runs.csv", "-o", "profiles.json")
    assert done.returncode == 0, done.stderr
    assert "big/m" in done.stdout
    (tmp_path / "fleet.toml").write_text(
        '[[deployments]]\nname = "big"\nprofile = "profiles.json#big/m"\n'
        '[[deployments]]\nname = "small"\nprofile = "profiles.json#small/m"\n'
    )
    pl.DataFrame({"input_tokens": [10, 2000], "output_tokens": [50, 50]}).write_csv(
        tmp_path / "trace.csv"
    )
    plan = wattshed_json("plan", "--fleet", "fleet.toml", "--workload", "trace.csv", "-o", "out")
    assert {a["deployment"]: a["queries"] for a in plan["results"]["assignment"]} == {
        "big": 1,
        "small": 1,
    }
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"index.html", "plan.json", "regions.svg"} <= written
    assert json.loads((tmp_path / "out/plan.json").read_text())["schema"] == "wattshed/plan"


def test_plan_json_has_stable_keys(wattshed_json: RunJson) -> None:
    found = wattshed_json("plan")
    assert set(found) == ENVELOPE
    assert found["schema"] == "wattshed/plan/1"
    results = found["results"]
    assert {"energy_j", "runtime_s_mean", "assignment", "baselines", "sensitivity"} <= set(results)
    for baseline in results["baselines"]:
        assert {
            "name",
            "energy_j",
            "saving_pct",
            "saving_low_pct",
            "saving_high_pct",
            "runtime_ratio",
        } <= set(baseline)
        if baseline["name"] != results["reference"]:
            assert baseline["energy_j"] >= results["energy_j"]
    assert found["inputs"]["seed"] == 0
    assert {source["name"] for source in found["provenance"]} == {"wilkins-2024", "alpaca"}


@pytest.mark.slow
def test_a_robust_plan_says_what_it_costs_over_the_draws(wattshed_json: RunJson) -> None:
    found = wattshed_json("plan", "--robust", "p90")
    assert found["inputs"]["robust"] == "p90"
    results = found["results"]
    assert {"gap", "rule", "robust"} <= set(results)
    robust = results["robust"]
    assert set(robust) == {
        "criterion",
        "draws",
        "bound_j",
        "draw_weights",
        "plan",
        "nominal",
        "reference",
    }
    costs = [robust[name] for name in ("plan", "nominal", "reference")]
    assert all(set(c) == {"policy", "mean_j", "p90_j", "worst_tenth_j", "gap"} for c in costs)
    worst = [c["worst_tenth_j"] for c in costs]
    assert robust["bound_j"] <= min(worst) == worst[0]
    assert len(robust["draw_weights"]) == robust["draws"] == 200
    assert "nominal" in {b["family"] for b in results["baselines"]}
    assert all(0 <= b["probability_saves"] <= 1 for b in results["baselines"])
    assert wattshed_json("plan")["results"]["robust"] is None


@pytest.mark.slow
def test_the_report_of_a_robust_plan_shows_its_draws(wattshed: Run, tmp_path: Path) -> None:
    done = wattshed("plan", "--robust", "expected", "-o", "out")
    assert done.returncode == 0, done.stderr
    for text in ("draws of the fits", "in expectation", "P(saves)", "plan for the fits alone"):
        assert text in done.stdout
    page = (tmp_path / "out/index.html").read_text()
    assert "How sure the fits are" in page
    assert "--robust expected" in page
    assert (tmp_path / "out/draws.csv").exists()


@pytest.mark.slow
def test_plan_is_deterministic(wattshed: Run) -> None:
    first, second = (wattshed("plan", "--seed", "3", "--json").stdout for _ in range(2))
    assert first == second


def test_60_w_of_idle_power_is_said_to_leave_nothing(wattshed: Run) -> None:
    done = wattshed("plan", "--idle-power", "a100=60")
    assert "not significant" in done.stdout


@pytest.mark.slow
def test_demo_writes_a_self_contained_report(wattshed: Run, tmp_path: Path) -> None:
    done = wattshed("demo")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "wattshed-demo/index.html").read_text()
    for text in ("M1 Pro", "95 % interval", "T_in", "λ", "wilkins-2024", "CC BY-NC"):
        assert text in page
    assert page.count("<svg") >= 5
    assert 'src="http' not in page


@pytest.mark.slow
def test_limits_are_kept_and_priced(wattshed: Run, wattshed_json: RunJson) -> None:
    results = wattshed_json("plan", "--runtime-budget", "1.1x")["results"]
    reference = next(b for b in results["baselines"] if b["name"] == results["reference"])
    assert results["runtime_s_mean"] <= 1.1 * reference["runtime_s_mean"]
    assert results["lower_bound_j"] <= results["energy_j"]
    assert [p["constraint"] for p in results["prices"]] == ["runtime budget"]
    again = wattshed_json("plan", "--lambda", repr(results["energy_weight"]))["results"]
    assert again["energy_j"] == pytest.approx(results["energy_j"], rel=1e-6)
    done = wattshed("plan", "--horizon", "20000")
    assert "busy time of a100" in done.stdout
    assert "Lower bound" in done.stdout
