"""AMD SMI, by a package of its name with its functions, exceptions and "not available"."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from wattshed.cli import main
from wattshed.errors import MeterError, ParameterError
from wattshed.measure.campaign.guard import Observation
from wattshed.measure.campaign.journal import read_journal
from wattshed.measure.clock import VirtualClock
from wattshed.measure.gpu_state_amd import observer
from wattshed.measure.meter import Meter, open_meters

FAKES = Path(__file__).parent / "fakes"
MI300 = {"uuid": "u0", "name": "AMD Instinct MI300X", "current": 140, "average": "N/A"}
MI210 = {"uuid": "u1", "name": "AMD Instinct MI210", "average": 90}


@pytest.fixture
def smi(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.delitem(sys.modules, "amdsmi", raising=False)
    monkeypatch.syspath_prepend(FAKES)
    yield importlib.import_module("amdsmi")
    del sys.modules["amdsmi"]


def gpu(kind: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"accumulator": 1_000_000, "timestamp": 5, **kind, **more}


def opened() -> list[Meter]:
    return open_meters("amdsmi", VirtualClock())


def test_energy_is_the_accumulator_times_its_resolution(smi: Any) -> None:
    smi.GPUS = [gpu(MI300)]
    (meter,) = opened()
    reading = meter.read()
    assert (reading.energy_j, reading.power_w) == (pytest.approx(15.25), 140.0)
    info = meter.info
    assert (info.id, info.kind, info.covers, info.vendor) == ("amdsmi:0", "counter", ("u0",), "AMD")
    assert (info.resolution_j, info.averaging_s) == (pytest.approx(15.25e-6), 0.0)
    assert info.model == "AMD Instinct MI300X"


def test_power_before_mi300_is_averaged(smi: Any) -> None:
    smi.GPUS = [gpu(MI210, energy_status=2)]
    (meter,) = opened()
    assert (meter.info.kind, meter.info.averaging_s) == ("power", 1.0)
    assert "not documented" in meter.info.note
    reading = meter.read()
    assert (reading.energy_j, reading.power_w, reading.flags) == (None, 90.0, ())


@pytest.mark.parametrize("nothing", ["N/A", 0xFFFF, 0xFFFFFFFF])
def test_power_that_is_not_available_is_none(smi: Any, nothing: object) -> None:
    smi.GPUS = [gpu(MI300, current=nothing, average=nothing)]
    (meter,) = opened()
    assert meter.read().power_w is None
    assert meter.read().energy_j is not None


def test_an_accumulator_whose_own_time_stands_still_is_stale(smi: Any) -> None:
    smi.GPUS = [gpu(MI300)]
    clock = VirtualClock()
    (meter,) = open_meters("amdsmi", clock)
    flags = []
    for _ in range(3):
        flags.append(meter.read().flags)
        clock.sleep(0.8)
    smi.GPUS[0].update(accumulator=2_000_000, timestamp=6)
    flags.append(meter.read().flags)
    assert flags == [(), (), ("stale",), ()]


def test_both_dies_of_an_mi250_are_counted_on_the_first(smi: Any) -> None:
    die = {"name": "AMD Instinct MI250X", "average": 180}
    smi.GPUS = [
        gpu(die, uuid="a"),
        gpu(die, uuid="b", average=0, accumulator=0),
        gpu(die, uuid="c"),
        gpu(die, uuid="d", average=0, accumulator=0),
    ]
    meters = opened()
    assert [meter.info.covers for meter in meters] == [("a", "b")] * 2 + [("c", "d")] * 2
    assert [meter.read().flags for meter in meters] == [(), ("no_data",)] * 2
    assert [meter.read().energy_j is None for meter in meters] == [False, True] * 2
    assert "amdsmi:2 counts both dies" in meters[3].info.note


def test_dies_that_both_say_power_are_two(smi: Any) -> None:
    die = {"name": "AMD Instinct MI250X", "average": 180}
    smi.GPUS = [gpu(die, uuid="a"), gpu(die, uuid="b")]
    assert [meter.info.covers for meter in opened()] == [("a",), ("b",)]


def test_what_is_known_of_the_mi100_is_told(smi: Any) -> None:
    smi.GPUS = [gpu({"uuid": "u", "name": "AMD Instinct MI100", "average": 50})]
    assert "before ROCm 6.3" in opened()[0].info.note


def test_a_permission_that_is_lost_shows(smi: Any) -> None:
    smi.GPUS = [gpu(MI300)]
    (meter,) = opened()
    smi.GPUS[0]["energy_status"] = 10
    reading = meter.read()
    assert (reading.energy_j, reading.flags) == (None, ("not_permitted",))
    smi.GPUS[0]["energy_status"] = 34
    assert meter.read().flags == ("no_data",)


@pytest.mark.parametrize(("code", "status"), [(10, "not_permitted"), (34, "missing")])
def test_a_library_that_refuses_is_told_in_one_line(smi: Any, code: int, status: str) -> None:
    smi.INIT_STATUS = code
    with pytest.raises(MeterError, match=rf"Error code: {code} \| AMDSMI_STATUS") as caught:
        opened()
    assert caught.value.status == status
    assert "\n" not in str(caught.value)


def test_gpus_that_say_nothing_are_refused(smi: Any) -> None:
    smi.GPUS = [gpu(MI300, energy_status=10, power_status=10)]
    with pytest.raises(MeterError, match="Permission Denied") as caught:
        opened()
    assert "render,video" in caught.value.cure


def test_no_gpu_is_missing(smi: Any) -> None:
    smi.GPUS = []
    with pytest.raises(MeterError, match="sees no GPU"):
        opened()


@pytest.mark.parametrize(
    ("failure", "reason", "cure"),
    [
        ("raise KeyError('libamd_smi.so')", "finds no libamd_smi.so", "ROCM_PATH"),
        ("raise OSError('libamd_smi.so: wrong ELF class')", "wrong ELF class", "amd-smi-lib"),
        ("raise AttributeError('undefined symbol: x')", "ROCm's version", "amdsmi==VERSION"),
        ("raise ImportError('broken')", "Python library is missing: broken", r"wattshed[amd]"),
    ],
)
def test_a_library_that_cannot_be_imported_is_explained(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    failure: str,
    reason: str,
    cure: str,
) -> None:
    (tmp_path / "amdsmi").mkdir()
    (tmp_path / "amdsmi/__init__.py").write_text(f"print('Unable to find')\n{failure}\n")
    monkeypatch.delitem(sys.modules, "amdsmi", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MeterError, match=reason) as caught:
        opened()
    assert (caught.value.status, capsys.readouterr().out) == ("missing", "")
    assert cure in caught.value.cure


def test_an_argument_is_refused() -> None:
    with pytest.raises(ParameterError, match="takes no argument"):
        open_meters("amdsmi:0", VirtualClock())


def test_the_guard_sees_the_hottest_and_the_slowest(smi: Any) -> None:
    smi.GPUS = [gpu(MI300, hotspot=71, edge=60, clock=2100), gpu(MI210, edge=55, clock=1700)]
    assert observer("")() == Observation(71.0, 1700.0)
    assert observer("1")() == Observation(55.0, 1700.0)
    smi.GPUS[1].update(clock_status=2)
    assert observer("1")() == Observation(55.0, None)
    smi.GPUS[0].update(clock="N/A")
    assert observer("0")() == Observation(71.0, None)


def test_a_guard_that_would_see_nothing_is_refused(smi: Any) -> None:
    smi.GPUS = [gpu(MI300)]
    with pytest.raises(ParameterError, match="tells no temperature; leave the guard out"):
        observer("")
    for part in ("1", "x"):
        with pytest.raises(ParameterError, match=f"amdsmi:{part}; give indexes below 1"):
            observer(part)


def test_hot_gpus_hold_a_campaign_back(smi: Any, tmp_path: Path) -> None:
    """From the command line; the simulated engine's clock passes by itself."""
    smi.GPUS = [gpu(MI300, hotspot=95, clock=2100)]
    engine = ["--engine", "simulated:splitwise/h100-80gb-tp8/llama-2-70b", "--idle", "0"]
    cell = ["--input", "8", "--output", "8", "--window", "0", "--max-trials", "3"]
    guard = ["--guard", "80", "--gpus", "amdsmi", "-o", str(tmp_path)]
    done = CliRunner().invoke(main, ["measure", *engine, *cell, *guard])
    assert done.exit_code == 0, done.output
    trials = read_journal(tmp_path / "journal.jsonl").trials
    assert {trial.flags for trial in trials} == {("throttled", "hot")}
    assert {trial.observed for trial in trials} == {Observation(95.0, 2100.0)}
