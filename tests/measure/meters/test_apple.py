"""Apple silicon, by a package of the library's name with its classes and fields."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wattshed.errors import MeterError, ParameterError
from wattshed.measure.clock import VirtualClock
from wattshed.measure.meter import Meter, open_meters

FAKES = Path(__file__).parent / "fakes"
M3 = {"cpu_total_mj": 1_500, "gpu_mj": 0, "dram_mj": 250, "ane_mj": 40, "gpu_sram_mj": 7}


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.delitem(sys.modules, "zeus_apple_silicon", raising=False)
    monkeypatch.syspath_prepend(FAKES)
    module = importlib.import_module("zeus_apple_silicon")
    module.METRICS.update(M3)
    yield module
    del sys.modules["zeus_apple_silicon"]


def opened(clock: VirtualClock | None = None) -> dict[str, Meter]:
    meters = open_meters("apple", clock or VirtualClock())
    return {meter.info.id: meter for meter in meters}


def test_each_component_is_read_in_joules_and_counts_as_modelled(library: Any) -> None:
    meters = opened()
    said = {name: (m.info.scope, m.read().energy_j) for name, m in meters.items()}
    assert said == {
        "apple:cpu": ("cpu_package", pytest.approx(1.5)),
        "apple:gpu": ("gpu", 0.0),
        "apple:dram": ("dram", pytest.approx(0.25)),
        "apple:ane": ("soc", pytest.approx(0.04)),
    }
    assert {meter.info.provenance for meter in meters.values()} == {"modelled"}
    assert all("model" in meter.info.note for meter in meters.values())


def test_meters_share_one_question_per_round(library: Any) -> None:
    meters = opened()
    library.CALLS.clear()
    for _ in range(3):
        for meter in meters.values():
            meter.read()
    assert len(library.CALLS) == 3


def test_what_a_chip_does_not_report_is_not_offered(library: Any) -> None:
    del library.METRICS["dram_mj"]
    assert list(opened()) == ["apple:cpu", "apple:gpu", "apple:ane"]


def test_a_component_that_falls_silent_is_no_data(library: Any) -> None:
    meters = opened()
    del library.METRICS["gpu_mj"]
    reading = meters["apple:gpu"].read()
    assert (reading.energy_j, reading.flags) == (None, ("no_data",))
    assert meters["apple:cpu"].read().flags == ()


def test_a_library_that_fails_is_no_data(library: Any) -> None:
    meters = opened()
    library.FAILURE = "Failed to create IOReport subscription."
    assert {meter.read().flags for meter in meters.values()} == {("no_data",)}


def test_a_library_that_fails_from_the_start_is_missing(library: Any) -> None:
    library.FAILURE = "Failed to create IOReport subscription."
    with pytest.raises(MeterError, match="IOReport fails: Failed to create") as caught:
        opened()
    assert caught.value.status == "missing"


def test_a_chip_that_reports_nothing_is_missing(library: Any) -> None:
    library.METRICS.clear()
    with pytest.raises(MeterError, match="reports no energy"):
        opened()


def test_an_argument_is_refused() -> None:
    with pytest.raises(ParameterError, match="takes no argument"):
        open_meters("apple:gpu", VirtualClock())
