"""RAPL on fake sysfs trees, laid out with links as Linux does."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from wattshed.errors import MeterError
from wattshed.measure.clock import VirtualClock
from wattshed.measure.meter import Meter
from wattshed.measure.meters import rapl

TREE = "sys/devices/virtual/powercap"
RANGE_UJ = 262_143_328_850
NOBODY = 65_534

TWO_PACKAGES = {
    "intel-rapl:0": ("package-0", 1_000_001),
    "intel-rapl:0:0": ("core", 11),
    "intel-rapl:0:1": ("dram", 2_000_000),
    "intel-rapl:1": ("package-1", 3_000_000),
    "intel-rapl:1:0": ("core", 33),
    "intel-rapl:1:1": ("dram", 4_000_000),
}
LAPTOP = {
    "intel-rapl:0": ("package-0", 5_000_000),
    "intel-rapl:0:0": ("core", 1),
    "intel-rapl:0:1": ("uncore", 2),
    "intel-rapl:1": ("psys", 9_000_000),
    "intel-rapl-mmio:0": ("package-0", 5_000_077),
}
AMD = {"intel-rapl:0": ("package-0", 7_000_000), "intel-rapl:0:0": ("core", 3)}


def directory_of(root: Path, zone: str) -> Path:
    kind, *numbers = zone.split(":")
    path = root / TREE / kind
    for end in range(1, len(numbers) + 1):
        path /= ":".join([kind, *numbers[:end]])
    return path


@pytest.fixture
def make_tree(tmp_path: Path) -> Callable[[Mapping[str, tuple[str, int]]], Path]:
    def make(zones: Mapping[str, tuple[str, int]]) -> Path:
        powercap = tmp_path / "sys/class/powercap"
        powercap.mkdir(parents=True)
        for kind in {zone.split(":")[0] for zone in zones}:
            (tmp_path / TREE / kind).mkdir(parents=True)
            (powercap / kind).symlink_to(f"../../devices/virtual/powercap/{kind}")
        for zone, (name, energy_uj) in zones.items():
            path = directory_of(tmp_path, zone)
            path.mkdir(parents=True, exist_ok=True)
            (path / "name").write_text(f"{name}\n")
            (path / "energy_uj").write_text(f"{energy_uj}\n")
            (path / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
            (powercap / zone).symlink_to(os.path.relpath(path, powercap))
        return powercap

    return make


def opened(powercap: Path) -> dict[str, Meter]:
    meters = rapl.open_meters(str(powercap), VirtualClock())
    return {meter.info.id: meter for meter in meters}


def test_packages_and_dram_are_offered_and_what_a_package_contains_is_not(
    make_tree: Callable[..., Path],
) -> None:
    meters = opened(make_tree(TWO_PACKAGES))
    said = {name: meter.read().energy_j for name, meter in meters.items()}
    assert said == {
        "rapl:package-0": pytest.approx(1.000001),
        "rapl:dram-0": pytest.approx(2.0),
        "rapl:package-1": pytest.approx(3.0),
        "rapl:dram-1": pytest.approx(4.0),
    }
    scopes = {name: meter.info.scope for name, meter in meters.items()}
    assert scopes["rapl:package-1"] == "cpu_package"
    assert scopes["rapl:dram-1"] == "dram"
    assert meters["rapl:dram-1"].info.range_j == pytest.approx(262_143.32885)
    assert {meter.info.boundary for meter in meters.values()} == {"host"}


def test_psys_covers_packages_and_their_dram_and_mmio_duplicates_are_left_out(
    make_tree: Callable[..., Path],
) -> None:
    meters = opened(make_tree(LAPTOP))
    assert list(meters) == ["rapl:package-0", "rapl:psys"]
    psys = meters["rapl:psys"].info
    assert psys.scope == "soc"
    assert psys.covers == ("psys", "package-0", "dram-0")
    assert meters["rapl:package-0"].read().energy_j == pytest.approx(5.0)


def test_amd_has_the_same_names(make_tree: Callable[..., Path]) -> None:
    assert list(opened(make_tree(AMD))) == ["rapl:package-0"]


def test_zones_are_found_where_a_container_mounts_the_devices(
    make_tree: Callable[..., Path], tmp_path: Path
) -> None:
    make_tree(TWO_PACKAGES)
    names = ["rapl:package-0", "rapl:dram-0", "rapl:package-1", "rapl:dram-1"]
    assert list(opened(tmp_path / TREE)) == names
    assert list(opened(tmp_path / TREE / "intel-rapl")) == names


def test_a_counter_is_read_anew_and_its_time_is_that_of_the_clock(
    make_tree: Callable[..., Path], tmp_path: Path
) -> None:
    clock = VirtualClock(epoch_s=1e9)
    (meter,) = rapl.open_meters(str(make_tree(AMD)), clock)
    clock.sleep(2.5)
    (directory_of(tmp_path, "intel-rapl:0") / "energy_uj").write_text("8000000\n")
    reading = meter.read()
    assert (reading.t_ns, reading.t_wall_s, reading.energy_j) == (2_500_000_000, 1e9 + 2.5, 8.0)
    assert reading.flags == ()


@pytest.mark.parametrize("content", ["", "garbage\n", "-5\n", "1.5\n", "\x00\xff"])
def test_what_is_no_number_is_no_data(
    make_tree: Callable[..., Path], tmp_path: Path, content: str
) -> None:
    (meter,) = opened(make_tree(AMD)).values()
    (directory_of(tmp_path, "intel-rapl:0") / "energy_uj").write_text(content)
    reading = meter.read()
    assert (reading.energy_j, reading.flags) == (None, ("no_data",))


def test_a_range_that_is_no_number_is_not_known(
    make_tree: Callable[..., Path], tmp_path: Path
) -> None:
    powercap = make_tree(AMD)
    (directory_of(tmp_path, "intel-rapl:0") / "max_energy_range_uj").write_text("?\n")
    (meter,) = opened(powercap).values()
    assert meter.info.range_j is None


def test_a_driver_that_is_unloaded_is_no_data(
    make_tree: Callable[..., Path], tmp_path: Path
) -> None:
    (meter,) = opened(make_tree(AMD)).values()
    (directory_of(tmp_path, "intel-rapl:0") / "energy_uj").unlink()
    assert meter.read().flags == ("no_data",)


def test_counters_that_are_all_garbage_are_refused(
    make_tree: Callable[..., Path], tmp_path: Path
) -> None:
    powercap = make_tree(AMD)
    (directory_of(tmp_path, "intel-rapl:0") / "energy_uj").write_text("garbage\n")
    with pytest.raises(MeterError, match="holds no number") as caught:
        opened(powercap)
    assert caught.value.status == "not_trusted"


# ---------------------------------------------------------------- permissions


@contextmanager
def nobody() -> Iterator[None]:
    """Root may read everything, so tests that run as root are somebody else for a moment."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Like pytest's, but with a path that anybody may follow."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def forbid(root: Path, zone: str) -> None:
    (directory_of(root, zone) / "energy_uj").chmod(0o400 if os.geteuid() == 0 else 0)


def test_counters_for_root_only_are_refused_with_reason_and_cure(
    make_tree: Callable[..., Path], tmp_path: Path
) -> None:
    powercap = make_tree(AMD)
    forbid(tmp_path, "intel-rapl:0")
    with nobody(), pytest.raises(MeterError, match="CVE-2020-8694") as caught:
        opened(powercap)
    assert caught.value.status == "not_permitted"
    assert f"sudo chmod a+r {powercap}/intel-rapl:0/energy_uj" in caught.value.cure
    assert "zeusd" in caught.value.cure


def test_one_that_may_not_be_read_stays_and_says_so(
    make_tree: Callable[..., Path], tmp_path: Path
) -> None:
    powercap = make_tree(TWO_PACKAGES)
    forbid(tmp_path, "intel-rapl:0:1")
    with nobody():
        meters = opened(powercap)
        said = {name: meter.read().flags for name, meter in meters.items()}
    assert said == {
        "rapl:package-0": (),
        "rapl:dram-0": ("not_permitted",),
        "rapl:package-1": (),
        "rapl:dram-1": (),
    }


def test_a_permission_that_is_lost_shows_in_the_reading(
    make_tree: Callable[..., Path], tmp_path: Path
) -> None:
    powercap = make_tree(AMD)
    with nobody():
        (meter,) = opened(powercap).values()
        assert meter.read().flags == ()
    forbid(tmp_path, "intel-rapl:0")
    with nobody():
        reading = meter.read()
    assert (reading.energy_j, reading.flags) == (None, ("not_permitted",))


# ---------------------------------------------------------------- why there is none


@pytest.mark.parametrize(
    ("files", "reason", "cure"),
    [
        ({}, "no driver of the kernel", "sudo modprobe intel_rapl_msr"),
        ({"sys/class/dmi/id/product_name": "PowerEdge R750\n"}, "no driver", "modprobe"),
        ({"sys/class/dmi/id/sys_vendor": "QEMU\n"}, r"virtual machine \(QEMU\)", "zeusd:HOST"),
        ({"sys/class/dmi/id/product_name": "Virtual Machine\n"}, "virtual machine", "the host"),
        (
            {
                "proc/cpuinfo": "processor : 0\nflags\t\t: fpu sse hypervisor\n",
                "sys/class/dmi/id/sys_vendor": "Amazon EC2\n",
            },
            r"virtual machine \(Amazon EC2\)",
            "zeusd:HOST",
        ),
        ({".dockerenv": ""}, "container", "--volume /sys/devices/virtual/powercap"),
        ({"run/.containerenv": ""}, "container", "--volume"),
        ({"proc/1/cgroup": "0::/kubepods/burstable/pod1\n"}, "container", "rapl:/powercap"),
        (
            {".dockerenv": "", "sys/class/dmi/id/sys_vendor": "QEMU\n"},
            "virtual machine",  # a mount would not help
            "zeusd:HOST",
        ),
    ],
)
def test_missing_counters_are_explained_by_what_is_there(
    tmp_path: Path, files: Mapping[str, str], reason: str, cure: str
) -> None:
    (tmp_path / "sys").mkdir()
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    with pytest.raises(MeterError, match=reason) as caught:
        opened(tmp_path / "sys/class/powercap")
    assert caught.value.status == "missing"
    assert cure in caught.value.cure


def test_links_without_the_devices_they_point_to_are_a_container_that_hides_them(
    make_tree: Callable[..., Path], tmp_path: Path
) -> None:
    powercap = make_tree(AMD)
    (tmp_path / TREE).rename(tmp_path / "masked")
    (tmp_path / ".dockerenv").touch()
    with pytest.raises(MeterError, match="has no RAPL counters: this is a container"):
        opened(powercap)


def test_a_root_without_sysfs_is_no_linux(tmp_path: Path) -> None:
    with pytest.raises(MeterError, match="no Linux") as caught:
        opened(tmp_path / "sys/class/powercap")
    assert "apple" in caught.value.cure
