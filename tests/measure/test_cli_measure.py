"""`wattshed measure`: campaigns from the command line, on simulated engines."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner, Result

from wattshed.cli import main
from wattshed.cli.metering import open_all, refuse_repeats
from wattshed.errors import ParameterError
from wattshed.measure.campaign.journal import read_journal
from wattshed.measure.clock import NS_PER_S, VirtualClock
from wattshed.measure.driver import open_driver
from wattshed.measure.health import look_at_all
from wattshed.measure.meters.simulated import Faults, meters_for
from wattshed.measure.plant import Plant

ENGINE = "simulated:splitwise/h100-80gb-tp8/llama-2-70b"
QUICK = ["--idle", "1", "--interval", "0.05", "--window", "0"]
A100 = "wilkins-2024/swing-a100/llama-2-7b"

Run = Callable[..., CompletedProcess[str]]


def measure(folder: Path, *more: str, engine: str = ENGINE) -> Result:
    asked = ["measure", "--engine", engine, "-o", str(folder), *QUICK, *more]
    return CliRunner().invoke(main, asked)


def test_from_nothing_to_a_profile(wattshed: Run, tmp_path: Path) -> None:
    few = ["--input", "8,64,512", "--output", "8,64,512"]
    asked = ["--engine", ENGINE, *few, "-o", "campaign", "--interval", "0.05", "--idle", "2"]
    done = wattshed("measure", *asked, "--set", "noise=0.02")
    assert done.returncode == 0, done.stderr
    assert "Measured cells" in done.stdout
    files = {path.name for path in (tmp_path / "campaign").iterdir()}
    assert files == {"journal.jsonl", "runs.csv", "certificate.json"}
    fitted = wattshed("fit", "campaign/runs.csv", "-o", "profiles.json")
    assert fitted.returncode == 0, fitted.stderr
    (profile,) = json.loads((tmp_path / "profiles.json").read_text())["profiles"]
    assert profile["domain"] == {"input_tokens": [8, 512], "output_tokens": [8, 512]}


def test_json_tells_cells_and_files(tmp_path: Path) -> None:
    done = measure(tmp_path, "--input", "8,16", "--output", "8", "--batch", "1,4", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    cells = found["results"]["cells"]
    assert [(c["input_tokens"], c["batch_size"]) for c in cells] == [
        (8, 1),
        (8, 4),
        (16, 1),
        (16, 4),
    ]
    assert all(cell["trials"] >= 3 and cell["energy_j"] > 0 for cell in cells)
    assert found["inputs"]["opened"] == {"engine": ENGINE, "meters": "auto"}
    assert (found["results"]["failed"], found["results"]["stopped"]) == ([], False)


def test_without_a_meter_runs_have_no_energy(tmp_path: Path) -> None:
    done = measure(tmp_path, "--input", "8", "--output", "8", "--meter", "none")
    assert done.exit_code == 0, done.output
    table = pl.read_csv(tmp_path / "runs.csv")
    assert table["accelerator_energy_j"].null_count() == table.height == 3
    assert all(flags.endswith("no_meter") for flags in table["flags"])


def test_the_papers_rule_and_a_decision_stop_when_they_may(tmp_path: Path) -> None:
    paper = measure(tmp_path / "paper", "--grid", "vary-input", "--stop", "paper")
    assert paper.exit_code == 0, paper.output
    assert len(read_journal(tmp_path / "paper" / "journal.jsonl").trials) == 9 * 2
    decided = measure(
        tmp_path / "decided", "--grid", "vary-input", "--stop", f"decision:{A100}", "--window", "2"
    )
    assert decided.exit_code == 0, decided.output
    rival = read_journal(tmp_path / "decided" / "journal.jsonl").manifest.campaign.rival
    assert rival is not None
    assert rival.profile == A100


@pytest.mark.slow
def test_an_adaptive_grid_adds_cells_up_to_the_most(tmp_path: Path) -> None:
    few = ["--input", "8,64,512,2048", "--output", "8,32,128,512", "--max-cells", "11"]
    few += ["--max-trials", "3"]
    # A rival close enough to be in doubt: the machine itself, as measured before.
    first = measure(tmp_path / "first", *few[:4], "--max-trials", "3", "--set", "noise=0.3")
    assert first.exit_code == 0, first.output
    profiles = str(tmp_path / "profiles.json")
    runs = str(tmp_path / "first" / "runs.csv")
    fitted = CliRunner().invoke(main, ["fit", runs, "-o", profiles, "--form", "kv-phase"])
    assert fitted.exit_code == 0, fitted.output
    rival = f"{profiles}#h100-80gb-tp8/llama-2-70b"
    done = measure(tmp_path / "then", *few, "--grid", f"adaptive:{rival}", "--set", "noise=0.3")
    assert done.exit_code == 0, done.output
    cells = {trial.cell for trial in read_journal(tmp_path / "then" / "journal.jsonl").trials}
    assert len(cells) == 11


def test_a_plan_measures_nothing(tmp_path: Path) -> None:
    asked = ["measure", "--engine", "openai:http://localhost:1/v1", "--grid", "joint", "--plan"]
    done = CliRunner().invoke(main, [*asked, "--like", A100])
    assert done.exit_code == 0, done.output
    assert "270 to 2250 trials of 90 cells, " in done.output
    found = json.loads(CliRunner().invoke(main, [*asked, "--json"]).stdout)["results"]
    assert (found["at_least"], found["at_most"], found["seconds"]) == (270, 2250, None)
    assert len(found["cells"]) == 90


def test_secrets_are_not_written(tmp_path: Path) -> None:
    from wattshed.cli.measuring import Wanted

    settings = ("api_key=hunter2", "model=tiny")
    engine = "openai:http://me:hunter2@h/v1"
    wanted = Wanted(engine, settings, ("none",), "nvml", None, resume=False, traces=False)
    told = {"engine": "openai:http://h/v1", "meters": "none", "set model": "tiny"}
    assert wanted.inputs() == told
    assert wanted.engine_settings()["api_key"] == "hunter2"


# what is asked, and what the one line must hold
REFUSED: dict[str, tuple[list[str], list[str]]] = {
    "no cells": ([], ["cells: there are none", "give --input and --output, or --grid"]),
    "an unknown grid": (["--grid", "all"], ["--grid: 'all'", "vary-input, vary-output, joint"]),
    "no rival": (["--grid", "adaptive"], ["give adaptive:PROFILE"]),
    "an unknown rule": (["--grid", "joint", "--stop", "soon"], ["--stop: 'soon'", "use paper"]),
    "a rule of nothing": (["--grid", "joint", "--stop", "relative:0%"], ["stop: 0.0"]),
    "no numbers": (["--input", "8,x", "--output", "8"], ["--input: '8,x'", "whole numbers"]),
    "too few trials": (
        ["--grid", "joint", "--min-trials", "9", "--max-trials", "4"],
        ["at least 9 and at most 4"],
    ),
    "two aims": (
        ["--grid", "joint", "--stop", "relative:5,6"],
        ["--stop: '5,6'", "a finite number"],
    ),
    "no clock": (["--grid", "joint", "--clock", "1200,nan"], ["--clock: 'nan'", "a finite number"]),
    "no setting": (["--grid", "joint", "--set", "noise"], ["--set: 'noise'", "KEY=VALUE"]),
    "none and more": (
        ["--grid", "joint", "--meter", "none", "--meter", "nvml"],
        ["--meter: none nvml", "give none alone"],
    ),
    "twice": (
        ["--grid", "joint", "--meter", "simulated", "--meter", "simulated"],
        ["simulated:0 is there twice"],
    ),
    "a guard of nothing": (
        ["--grid", "joint", "--guard", "80", "--gpus", "tpu"],
        ["--gpus: 'tpu'", "give nvml"],
    ),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_bad_input_is_one_line_and_writes_nothing(tmp_path: Path, case: str) -> None:
    asked, found = REFUSED[case]
    done = measure(tmp_path / "folder", *asked)
    assert done.exit_code == 2
    (line,) = [text for text in done.stderr.splitlines() if text]
    for text in found:
        assert text in line
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize(
    ("command", "option"),
    [("measure", "--interval"), ("measure", "--guard"), ("doctor", "--seconds")],
)
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_no_time_and_no_heat_is_without_end(
    tmp_path: Path, command: str, option: str, value: str
) -> None:
    asked = ["--engine", ENGINE, "--grid", "joint", "-o", str(tmp_path / "folder")]
    more = asked if command == "measure" else []
    done = CliRunner().invoke(main, [command, *more, option, value])
    assert (done.exit_code, option in done.stderr) == (2, True)
    assert not (tmp_path / "folder").exists()


def test_a_journal_is_kept_and_another_campaign_refused(tmp_path: Path) -> None:
    asked = ["--input", "8", "--output", "8"]
    assert measure(tmp_path, *asked).exit_code == 0
    files: dict[str, Any] = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    again = measure(tmp_path, *asked)
    assert (again.exit_code, "add --resume" in again.stderr) == (2, True)
    other = measure(tmp_path, *asked, "--resume", "--seed", "1")
    assert (other.exit_code, "seed was 0, and now is 1" in other.stderr) == (2, True)
    assert measure(tmp_path, *asked, "--resume").exit_code == 0
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == files


def test_a_simulated_meter_meters_no_real_engine() -> None:
    """Its energy was used by no machine, and nothing in the runs would tell."""
    clock = VirtualClock()
    driver = open_driver(ENGINE, {}, clock)
    assert [m.info.id for m in open_all(("simulated:seed=5",), driver, clock)] == ["simulated:0"]
    other: Any = SimpleNamespace(info=driver.info)
    with pytest.raises(ParameterError, match="simulated:seed=5, but the engine is not simulated"):
        open_all(("simulated:seed=5",), other, clock)


def test_a_counter_under_two_names_is_not_added_twice() -> None:
    """As that of a GPU by NVML and by zeusd, which does not tell its UUID."""
    plant, clock = Plant(300.0), VirtualClock(NS_PER_S)
    tick = Faults(tick_s=0.1)
    (nvml,) = meters_for(plant, clock, tick, id="nvml:0")
    (zeusd,) = meters_for(plant, clock, tick, id="zeusd:gpu-0")
    slices = meters_for(plant, clock, Faults(tick_s=0.1, slices=2))  # of one GPU, and say so
    refuse_repeats(slices, look_at_all(slices, clock))
    meters = [nvml, zeusd]
    with pytest.raises(ParameterError, match="zeusd:gpu-0 repeats the counter of another meter"):
        refuse_repeats(meters, look_at_all(meters, clock))


def test_an_engine_that_is_not_there_is_told_before_anything_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "campaign"
    done = measure(folder, "--input", "8", "--output", "8", engine="openai:http://localhost:1/v1")
    assert (done.exit_code, "cannot be reached" in done.stderr) == (2, True)
    assert not folder.exists()
