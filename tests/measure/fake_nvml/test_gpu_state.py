"""What the guard of a campaign sees of GPUs, and what `wattshed measure` refuses to set on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from wattshed.cli import main
from wattshed.cli.metering import only_ok, open_what_works, settings_of
from wattshed.errors import MeterError
from wattshed.measure.campaign.guard import Observation
from wattshed.measure.campaign.journal import read_journal
from wattshed.measure.clock import SYSTEM_CLOCK
from wattshed.measure.gpu_state import combine, observer
from wattshed.measure.meter import Meter
from wattshed.records import Health

NOT_SUPPORTED, FUNCTION_NOT_FOUND, GPU_IS_LOST = 3, 13, 15
IDLE, POWER_CAP, HOT = 0x1, 0x4, 0x40


def measure(folder: Path, *more: str) -> Any:
    engine = "simulated:splitwise/h100-80gb-tp8/llama-2-70b"
    asked = ["measure", "--engine", engine, "--input", "8", "--output", "8", "--idle", "0"]
    return CliRunner().invoke(main, [*asked, "--window", "0", "-o", str(folder), *more])


def test_it_tells_temperature_clock_and_reasons(machine: Any) -> None:
    gpu = machine.gpus[0]
    gpu.temperature_c, gpu.reasons = 71, IDLE | POWER_CAP
    assert observer("0")() == Observation(71.0, 1980.0, ("gpu_idle", "sw_power_cap"))
    gpu.temperature_result = NOT_SUPPORTED
    assert observer("0")().temperature_c is None
    gpu.reasons_result = FUNCTION_NOT_FOUND  # as in older drivers, which have the old name
    assert observer("0")().throttle_reasons == ("gpu_idle", "sw_power_cap")


def test_of_several_gpus_it_tells_the_worst(machine: Any) -> None:
    for gpu, celsius, clock_mhz, reasons in zip(
        machine.gpus, (60, 85), (1980, 1200), (IDLE, HOT), strict=False
    ):
        gpu.temperature_c, gpu.clock_mhz, gpu.reasons = celsius, clock_mhz, reasons
    assert observer("")() == Observation(85.0, 1200.0, ("gpu_idle", "hw_thermal_slowdown"))
    assert combine([Observation(), Observation(50.0)]) == Observation(50.0)


def test_a_gpu_that_falls_off_is_told(machine: Any) -> None:
    observe = observer("0")
    machine.gpus[0].lost = GPU_IS_LOST
    with pytest.raises(MeterError, match="nvml:0"):
        observe()


def gpus() -> list[Meter]:
    """What ``--meter auto`` opens, without what the machine of the test may have."""
    return [m for m in open_what_works(SYSTEM_CLOCK) if m.info.source == "nvml"]


def test_auto_takes_every_gpu_or_says_why_there_is_none(
    machine: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [meter.info.id for meter in gpus()] == ["nvml:0", "nvml:1"]
    machine.n_gpus = 0
    assert gpus() == []
    told = capsys.readouterr().err
    assert "no meter works here" not in told or ("nvml: " in told and "amdsmi: " in told)


def test_settings_are_told_as_they_are_now(machine: Any) -> None:
    machine.gpus[1].limit_mw = 450_000
    found = settings_of(gpus())
    assert [each["power_limit_w"] for each in found.values()] == [700.0, 450.0]
    assert list(found) == ["GPU-00000000-feed", "GPU-00000001-feed"]


def test_auto_leaves_out_what_cannot_be_trusted(
    machine: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    meters = gpus()
    health = [Health("nvml:0", "not_trusted", "frozen"), Health("nvml:1", "ok")]
    kept, certificates = only_ok(meters, health)
    assert [meter.info.id for meter in kept] == [each.meter for each in certificates] == ["nvml:1"]
    assert only_ok(meters[:1], health[:1]) == ([], [])
    assert "no meter can be trusted" in capsys.readouterr().err


def test_hot_trials_are_flagged_in_the_journal(machine: Any, tmp_path: Path) -> None:
    machine.gpus[0].temperature_c, machine.gpus[1].temperature_c = 60, 95
    done = measure(tmp_path, "--guard", "80", "--gpus", "nvml:0")
    assert done.exit_code == 0, done.output
    trials = read_journal(tmp_path / "journal.jsonl").trials
    assert {trial.flags for trial in trials} == {()}
    assert {trial.observed for trial in trials} == {Observation(60.0, 1980.0)}
    done = measure(tmp_path / "hot", "--guard", "80", "--max-trials", "3")
    assert done.exit_code == 0, done.output
    trials = read_journal(tmp_path / "hot" / "journal.jsonl").trials
    assert {trial.flags for trial in trials} == {("throttled", "hot")}


@pytest.mark.parametrize(
    ("asked", "found"),
    [(["--clock", "99999"], "99999"), (["--power-limit", "50"], "50")],
)
def test_what_gpus_cannot_be_set_to_is_refused_before_anything_is_measured(
    machine: Any, tmp_path: Path, asked: list[str], found: str
) -> None:
    before = machine.settings()
    done = measure(tmp_path / "folder", *asked)
    assert done.exit_code == 2
    assert "nvml:0" in done.stderr
    assert found in done.stderr
    assert not (tmp_path / "folder").exists()
    assert machine.settings() == before


def test_a_campaign_sets_each_clock_and_puts_back_what_was_there(
    machine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the command line, through the real pynvml; the file is not that of this machine."""
    monkeypatch.setattr("wattshed.cli.metering.STATE_FILE", tmp_path / "settings.json")
    before = machine.settings()
    asked = ["--clock", "1200,1980", "--power-limit", "400", "--guard", "90", "--max-trials", "3"]
    done = measure(tmp_path / "folder", *asked)
    assert done.exit_code == 0, done.output
    assert machine.settings() == before
    assert not (tmp_path / "settings.json").exists()
    journal = read_journal(tmp_path / "folder" / "journal.jsonl")
    cells = journal.manifest.campaign.cells
    seen = {(cells[t.cell].clock_mhz, t.observed.clock_mhz) for t in journal.trials}
    assert seen == {(1200.0, 1200.0), (1980.0, 1980.0)}
    runs = pl.read_csv(tmp_path / "folder" / "runs.csv")
    assert set(runs["clock_mhz"]) == {1200.0, 1980.0}
