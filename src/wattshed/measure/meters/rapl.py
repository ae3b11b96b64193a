"""CPU packages and their memory by RAPL, as Linux shows it under ``/sys/class/powercap``.

`rapl` or ``rapl:DIRECTORY``, where the directory is a powercap of another root: a container sees
the host's as a bind-mount. AMD's counters go by the same names. What is within a package (core,
uncore) is not offered, as it must not be added to it; nor are the duplicates under
``intel-rapl-mmio``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wattshed.errors import MeterError
from wattshed.measure.clock import Clock
from wattshed.measure.machine import why_no_powercap
from wattshed.measure.meter import Meter, PolledMeter
from wattshed.measure.shared import NO_DATA, NOT_PERMITTED, Said
from wattshed.records import MeterInfo
from wattshed.records.measure import Scope
from wattshed.units import JOULES_PER_MICROJOULE

POWERCAP = "/sys/class/powercap"
ZONE = re.compile(r"intel-rapl:\d+(:\d+)?")
# In the class directory all zones are links side by side; in /sys/devices/virtual/powercap, which
# containers mount, subzones lie within their package, and packages within the control type.
LAYOUTS = ("intel-rapl:*", "intel-rapl:*/intel-rapl:*")
PSYS_NOTE = "which parts of the platform psys counts is for its maker to say: packages and dram are"


@dataclass(frozen=True)
class Zone:
    """A counter that is offered: its directory and its component, ``package-0`` or ``dram-0``."""

    path: Path
    component: str


def open_meters(argument: str, clock: Clock) -> list[Meter]:
    """Open a meter for each package, its dram, and psys.

    A zone that may not be read, where others may, gets a meter, whose readings say so.

    Raises
    ------
    MeterError
        If there is none, or none may be read.
    """
    powercap = Path(argument or POWERCAP)
    zones = find_zones(powercap)
    if not zones:
        raise why_no_powercap(powercap)
    packages = [zone.component for zone in zones if zone.component.startswith("package")]
    meters = [RaplMeter(zone, packages, clock) for zone in zones]
    refusals = [meter.ask()[2] for meter in meters]
    if all(refusals):
        raise _refusal(zones, permitted=NOT_PERMITTED not in refusals)
    return list(meters)


def find_zones(powercap: Path) -> list[Zone]:
    """Packages, their dram and psys, sorted by zone; links to the same zone count once."""
    found: dict[str, Path] = {}
    for top in (powercap, powercap / "intel-rapl"):
        for layout in LAYOUTS:
            for path in sorted(top.glob(layout)):
                if ZONE.fullmatch(path.name) and (path / "name").is_file():
                    found.setdefault(path.name, path)
    names = {
        zone: (path / "name").read_text(errors="replace").strip() for zone, path in found.items()
    }
    zones = []
    for zone in sorted(found, key=lambda name: [int(part) for part in name.split(":")[1:]]):
        name, parent = names[zone], names.get(":".join(zone.split(":")[:2]), "")
        if name.startswith(("package", "psys")):
            zones.append(Zone(found[zone], name))
        elif name == "dram" and parent.startswith("package"):
            zones.append(Zone(found[zone], _dram_of(parent)))
    return zones


class RaplMeter(PolledMeter):
    """One zone; the file is opened each time, so that a permission that is taken away shows.

    Parameters
    ----------
    zone : Zone
    packages : sequence of str
        All packages of the machine: psys covers them, and their dram even if it has no counter.
    clock : Clock
    """

    def __init__(self, zone: Zone, packages: Sequence[str], clock: Clock) -> None:
        scope: Scope = "cpu_package"
        covers: tuple[str, ...] = (zone.component,)
        note = ""
        if zone.component.startswith("psys"):
            scope, note = "soc", PSYS_NOTE
            covers = (zone.component, *packages, *map(_dram_of, packages))
        elif zone.component.startswith("dram"):
            scope = "dram"
        # The step of the counter is not 1e-6 J: the processor counts in units of its own.
        info = MeterInfo(
            id=f"rapl:{zone.component}",
            source="rapl",
            kind="counter",
            scope=scope,
            covers=covers,
            range_j=_joules_in(zone.path / "max_energy_range_uj")[0],
            note=note,
        )
        super().__init__(info, clock)
        self._file = zone.path / "energy_uj"

    def ask(self) -> Said:
        """See `PolledMeter`."""
        energy_j, flags = _joules_in(self._file)
        return energy_j, None, flags


def _joules_in(file: Path) -> tuple[float | None, tuple[str, ...]]:
    try:
        digits = file.read_bytes().strip()
    except PermissionError:
        return None, NOT_PERMITTED
    except OSError:
        return None, NO_DATA
    return (int(digits) * JOULES_PER_MICROJOULE, ()) if digits.isdigit() else (None, NO_DATA)


def _dram_of(package: str) -> str:
    return package.replace("package", "dram")


def _refusal(zones: Sequence[Zone], *, permitted: bool) -> MeterError:
    file = zones[0].path / "energy_uj"
    if permitted:
        return MeterError(
            str(file),
            "holds no number, nor do the others",
            "check with 'cat' whether the counters count; the kernel log may say why they do not",
            "not_trusted",
        )
    files = " ".join(str(zone.path / "energy_uj") for zone in zones)
    return MeterError(
        str(file),
        "only root may read it, as it can leak secrets (CVE-2020-8694, PLATYPUS)",
        f"run 'sudo chmod a+r {files}', which lasts until the next boot, or read it through zeusd, "
        "which runs as root: zeusd:/run/zeusd/zeusd.sock",
        "not_permitted",
    )
