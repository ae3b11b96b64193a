"""Sums of windows count nothing twice."""

from __future__ import annotations

import pytest

from wattshed.errors import ParameterError
from wattshed.measure.sums import sum_windows
from wattshed.records import Kind, MeterInfo, WindowEnergy
from wattshed.records.measure import Scope

INFOS = [
    MeterInfo("nvml:0", "nvml", "counter", "gpu", ("GPU-0",)),
    MeterInfo("nvml:1", "nvml", "counter", "gpu", ("GPU-1",)),
    MeterInfo("nvml:0/1", "nvml", "counter", "gpu", ("GPU-0",)),
    MeterInfo("module", "nvml", "counter", "module", ("GPU-0", "package-0")),
    MeterInfo("rapl:0", "rapl", "counter", "cpu_package", ("package-0",)),
    MeterInfo("psys", "rapl", "counter", "node", ("node",)),
]


def window(meter: str, scope: Scope = "gpu", kind: Kind = "measured") -> WindowEnergy:
    return WindowEnergy(meter, 10.0, 9.0, 12.0, "tick-interpolated", 1.0, (), scope, kind)


def test_bounds_add_up() -> None:
    total = sum_windows([window("nvml:0"), window("nvml:1", kind="derived")], INFOS)
    assert (total.value_j, total.low_j, total.high_j) == (20.0, 18.0, 24.0)
    assert (total.meter, total.scope, total.kind) == ("nvml:0+nvml:1", "gpu", "derived")
    assert total.flags == ()


def test_scopes_that_differ_are_told() -> None:
    total = sum_windows([window("nvml:0"), window("rapl:0", "cpu_package")], INFOS)
    assert (total.scope, total.flags) == ("cpu_package", ("mixed_scopes",))


def test_no_value_if_one_has_none() -> None:
    nothing = WindowEnergy("nvml:1", None, 3.0, None, "auto", 0.5, ("reset",), "gpu", "measured")
    total = sum_windows([window("nvml:0"), nothing], INFOS)
    assert (total.value_j, total.low_j, total.high_j) == (None, 12.0, None)
    assert (total.flags, total.coverage) == (("reset",), 0.5)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (window("nvml:0"), window("nvml:0"), "GPU-0"),
        (window("nvml:0"), window("nvml:0/1"), "GPU-0"),
        (window("nvml:0"), window("module", "module"), "GPU-0"),
        (window("rapl:0", "cpu_package"), window("module", "module"), "package-0"),
        (window("nvml:1", "module"), window("rapl:0", "cpu_package"), "parts of"),
        (window("psys", "node"), window("nvml:0"), "the whole machine"),
    ],
)
def test_nothing_is_counted_twice(first: WindowEnergy, second: WindowEnergy, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        sum_windows([first, second], INFOS)


def test_unknown_meters_and_nothing_are_refused() -> None:
    with pytest.raises(ParameterError, match="'other'"):
        sum_windows([window("other")], INFOS)
    with pytest.raises(ParameterError, match="no windows"):
        sum_windows([], INFOS)
