"""CSV of RAPL packages, as small scripts write it.

The first line names the columns, separated by commas, semicolons or tabs. One is the time: ``t``,
``time`` or ``timestamp`` in s, or with the unit in its name (``t_ns``, ``time_ms``). The others
name a package and a unit in any style: ``package-0 energy (uJ)``, ``package_1_uj``,
``pkg0_power_w``, ``cpu0 [mW]``. Energies are counters from an arbitrary zero. Columns of other
names are left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wattshed.errors import FileError
from wattshed.measure.logs.text import at_line, finite, whole_lines
from wattshed.units import JOULES_PER_MICROJOULE, JOULES_PER_MILLIJOULE

TIME = re.compile(r"(?:t|time|timestamp)(?:[ _(\[]+(s|ms|us|ns)[)\]]*)?", re.IGNORECASE)
PACKAGE = re.compile(
    r"(?:package|pkg|cpu|socket)[ _-]?(\d+)(?:[ _-]*(?:energy|power))?"
    r"[ _(\[]+(uj|mj|j|uw|mw|w)[)\]]*",
    re.IGNORECASE,
)
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
SCALES = {"": 1.0, "m": JOULES_PER_MILLIJOULE, "u": JOULES_PER_MICROJOULE}
LONGEST_S = 1e8
"""Three years: a longer log has its times in another unit than it says."""
CURE = "name columns t and package-0_uj (or _mj, _j, _w), package-1_uj"


@dataclass(frozen=True)
class RaplLog:
    """Readings of packages.

    Attributes
    ----------
    t_s : array (N,)
    packages : tuple of int
    unit : {"J", "W"}
    values : array (N, packages)
        Counters of energy in J, or powers in W.
    cut_off : bool
        The last line was cut off, and was left out.
    """

    t_s: NDArray[np.float64]
    packages: tuple[int, ...]
    unit: Literal["J", "W"]
    values: NDArray[np.float64]
    cut_off: bool

    def mean_power_w(self) -> NDArray[np.float64]:
        """Mean power (N - 1, packages) between readings; of powers, the one that ends the time.

        Raises
        ------
        FileError
            If a counter goes back: it was reset, or began anew at a range that is not known here.
        """
        if self.unit == "W":
            return self.values[1:]
        used_j = np.diff(self.values, axis=0)
        if (used_j < 0).any():
            row = int(np.argmax((used_j < 0).any(axis=1)))
            raise FileError(
                f"reading at {self.t_s[row + 1]:g} s",
                "its counter is lower than before",
                "correct the counter where it began anew, or cut the log there",
            )
        power_w: NDArray[np.float64] = used_j / np.diff(self.t_s)[:, None]
        return power_w


def parse_rapl_csv(text: str, place: str = "rapl") -> RaplLog:
    """Read a log; a last line that was cut off is left out.

    Raises
    ------
    FileError, TableError
        Naming the line.
    """
    lines, cut_off = whole_lines(text)
    head = lines[0] if lines else ""
    mark = next((mark for mark in ";\t" if mark in head), ",")
    names = [name.strip() for name in head.split(mark)]
    time_at, scale_s, packages, kind, scales = _columns(names, at_line(place, 1))
    rows = []
    for number, line in enumerate(lines[1:], 2):
        if line.strip():
            where, values = at_line(place, number), line.split(mark)
            if len(values) != len(names):
                raise FileError(where, f"has {len(values)} values, expected {len(names)}", CURE)
            at = [time_at, *packages.values()]
            rows.append([finite(values[i], where, f"a number for {names[i]}") for i in at])
            if len(rows) > 1 and rows[-1][0] <= rows[-2][0]:
                raise FileError(where, "is not later than the line before it", "cut the log there")
    if not rows:
        raise FileError(place, "has no reading", CURE)
    table = np.array(rows)
    t_s = table[:, 0] * scale_s
    if t_s[-1] - t_s[0] > LONGEST_S:
        found = f"lasts {t_s[-1] - t_s[0]:.3g} s"
        raise FileError(place, found, "name the unit of its time, as t_ns or time_ms")
    return RaplLog(
        t_s,
        tuple(packages),
        "J" if kind == "j" else "W",
        table[:, 1:] * scales,
        cut_off,
    )


def _columns(
    names: list[str], where: str
) -> tuple[int, float, dict[int, int], str, NDArray[np.float64]]:
    """Column and scale of the time, columns by package, ``j`` or ``w``, and scales by package."""
    times = [(at, match[1]) for at, name in enumerate(names) if (match := TIME.fullmatch(name))]
    found = [(match, at) for at, name in enumerate(names) if (match := PACKAGE.fullmatch(name))]
    packages = {int(match[1]): at for match, at in found}
    units = [match[2].lower() for match, _ in found]
    if len(times) != 1 or not packages:
        raise FileError(where, "has no column of the time, or none of a package with a unit", CURE)
    if len({unit[-1] for unit in units}) > 1 or len(packages) < len(found):
        raise FileError(where, "has energy and power, or a package twice", "leave one of them out")
    at, unit = times[0]
    scales = np.array([SCALES[unit[:-1]] for unit in units])
    return at, SECONDS[(unit or "s").lower()], packages, units[0][-1], scales


def is_header(line: str) -> bool:
    """Whether a first line names a time and a package."""
    names = [name.strip() for name in re.split("[,;\t]", line)]
    return any(map(TIME.fullmatch, names)) and any(map(PACKAGE.fullmatch, names))
