"""Energies are added where they cover different components, and never in part."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattshed.measure.campaign.sums import add_up, meters_to_add
from wattshed.records import MeterInfo, WindowEnergy
from wattshed.records.measure import BOUNDARIES


def meter(name: str, scope: Any, covers: tuple[str, ...], kind: Any = "counter") -> MeterInfo:
    return MeterInfo(name, "test", kind, scope, covers)


def window(name: str, value: float | None, *flags: str, kind: Any = "measured") -> WindowEnergy:
    low, high = (None, None) if value is None else (value - 1, value + 1)
    return WindowEnergy(name, value, low, high, "tick-interpolated", 1.0, flags, "gpu", kind)


def test_gpus_are_added_and_the_host_beside_them() -> None:
    infos = [
        meter("nvml:0", "gpu", ("gpu-a",)),
        meter("nvml:1", "gpu", ("gpu-b",)),
        meter("rapl:0", "cpu_package", ("package-0",)),
        meter("rapl:0:dram", "dram", ("dram-0",)),
        meter("ipmi", "node", ("node",)),
    ]
    found = meters_to_add(infos)
    assert found == {"accelerator": ("nvml:0", "nvml:1"), "host": ("rapl:0", "rapl:0:dram")}


def test_no_component_is_counted_twice() -> None:
    infos = [
        meter("power", "gpu", ("gpu-a",), "power"),
        meter("module", "module", ("gpu-a", "package-0")),
        meter("counter", "gpu", ("gpu-a",)),
        meter("soc", "soc", ("gpu-a", "package-0")),
        meter("rapl", "cpu_package", ("package-0",)),
        meter("guess", "cpu_package", ("package-0",), "model"),
    ]
    assert meters_to_add(infos) == {"accelerator": ("counter",), "host": ("rapl",)}


@given(
    st.lists(
        st.builds(
            MeterInfo,
            st.uuids().map(str),
            st.just("test"),
            st.sampled_from(["counter", "power", "log", "model"]),
            st.sampled_from(list(BOUNDARIES)),
            st.lists(st.sampled_from("abcdef"), max_size=3, unique=True).map(tuple),
        ),
        max_size=8,
    )
)
def test_what_is_added_never_overlaps(infos: list[MeterInfo]) -> None:
    by_id = {info.id: info for info in infos}
    covers: list[str] = []
    for boundary, ids in meters_to_add(infos).items():
        assert all(by_id[i].boundary == boundary for i in ids)
        covers += [c for i in ids for c in by_id[i].covers or (i,)]
    assert len(covers) == len(set(covers))


def test_sums_carry_interval_method_and_flags() -> None:
    found = add_up([window("a", 10.0, "short"), window("b", 5.0), window("c", 99.0)], ["a", "b"])
    assert (found.value_j, found.low_j, found.high_j) == (15.0, 13.0, 17.0)
    assert (found.method, found.flags) == ("tick-interpolated", ("short",))


@pytest.mark.parametrize(
    ("windows", "meters", "value_j", "flags"),
    [
        ([], [], None, ("no_meter",)),
        ([window("a", 1.0), window("b", None, "gap")], ["a", "b"], None, ("gap", "no_data")),
        ([window("a", 1.0, kind="modelled")], ["a"], 1.0, ("modelled",)),
    ],
)
def test_what_is_not_known_is_not_made_up(
    windows: list[WindowEnergy], meters: list[str], value_j: float | None, flags: tuple[str, ...]
) -> None:
    found = add_up(windows, meters)
    assert (found.value_j, found.flags) == (value_j, flags)
