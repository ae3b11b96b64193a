"""CSV that ``AMDuProfCLI timechart --event power`` writes.

Facts on the profile come first; the table comes after ``PROFILE RECORDS``, with the columns
``RecordId,Timestamp,socket0-package-power,...,core0-power,...`` in W. A record tells of the time
before it. Times are ``H:M:S:ms`` of the machine's zone, without a date.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
from numpy.typing import NDArray

from wattshed.errors import FileError
from wattshed.measure.logs.text import at_line, finite, whole_lines

BEGIN = "PROFILE RECORDS"
START = re.compile(r"^Profile Start Time:,\s*(\w{3}-\d{2}-\d{4})_", re.MULTILINE)
INTERVAL = re.compile(r"Sampling Interval:,\s*(\d+) milli-seconds")
POWER = re.compile(r"(socket|core)(\d+)(-package)?-power", re.IGNORECASE)
CLOCK = re.compile(r"(\d{1,2}):(\d{2}):(\d{2}):(\d{1,3})")
DAY_MS = 86_400_000
DEFAULT_INTERVAL_S = 0.1
CURE = "give the timechart.csv that AMDuProfCLI timechart --event power wrote"


@dataclass(frozen=True)
class Columns:
    """Where the powers stand in a record: columns by socket and by core."""

    sockets: dict[int, int]
    cores: dict[int, int]
    count: int


@dataclass(frozen=True)
class Timechart:
    """A whole timechart.

    Attributes
    ----------
    begin_s, dt_s : arrays (N,)
        When records begin, since the first one's beginning, and how long they are.
    clock_s : float
        Time of the day at which the first one ended, by the machine's zone.
    interval_s : float
    sockets, cores : tuple of int
        Numbers of the columns of the powers.
    socket_power_w : array (N, sockets)
    core_power_w : array (N, cores)
    cut_off : bool
        The last record was not whole, and was left out.
    """

    begin_s: NDArray[np.float64]
    dt_s: NDArray[np.float64]
    clock_s: float
    interval_s: float
    sockets: tuple[int, ...]
    cores: tuple[int, ...]
    socket_power_w: NDArray[np.float64]
    core_power_w: NDArray[np.float64]
    cut_off: bool


def parse_uprof(text: str, place: str = "timechart") -> Timechart:
    """Read a timechart; a last record that was cut off is left out.

    A clock that goes back by more than half a day has passed midnight.

    Raises
    ------
    FileError, TableError
        Naming the line.
    """
    lines, cut_off = whole_lines(text)
    start = find_records(lines)
    if start is None:
        raise FileError(place, f"has no line {BEGIN!r} with a table after it", CURE)
    columns = parse_columns(lines[start - 1], at_line(place, start))
    found: list[tuple[int, list[float]]] = []
    for number, line in enumerate(lines[start:], start + 1):
        if not line.strip():
            break
        found.append(parse_record(line, columns, at_line(place, number)))
        if len(found) > 1:
            clock_ms = unroll(found[-2][0], found[-1][0], at_line(place, number))
            found[-1] = (clock_ms, found[-1][1])
    if not found:
        raise FileError(place, "has no record of power", CURE)
    return _timechart(found, columns, interval_of(lines[:start]), cut_off)


def start_date(text: str) -> date | None:
    """Day on which a timechart began, by the machine's zone; None if its head does not tell."""
    found = START.search(text)
    try:
        return datetime.strptime(found[1], "%b-%d-%Y").date() if found else None
    except ValueError:
        return None


def _timechart(
    found: Sequence[tuple[int, list[float]]], columns: Columns, interval_s: float, cut_off: bool
) -> Timechart:
    clock_ms = np.array([clock for clock, _ in found])
    dt_s = np.concatenate(([interval_s], np.diff(clock_ms) * 1e-3))
    power_w = np.array([values for _, values in found], float)
    end_s = (clock_ms - clock_ms[0]) * 1e-3 + interval_s
    sockets = len(columns.sockets)
    return Timechart(
        end_s - dt_s,
        dt_s,
        float(clock_ms[0]) * 1e-3,
        interval_s,
        tuple(columns.sockets),
        tuple(columns.cores),
        power_w[:, :sockets],
        power_w[:, sockets:],
        cut_off,
    )


def find_records(lines: Sequence[str]) -> int | None:
    """Index of the first record; None if the table has not begun."""
    for index, line in enumerate(lines[:-1]):
        if line.strip() == BEGIN:
            return index + 2
    return None


def interval_of(lines: Sequence[str]) -> float:
    """Sampling interval in s, as the head of the file tells it; 0.1 if it does not."""
    for line in lines:
        found = INTERVAL.match(line)
        if found:
            return int(found[1]) * 1e-3
    return DEFAULT_INTERVAL_S


def parse_columns(line: str, where: str) -> Columns:
    """Find the powers of sockets and cores in the header of the table.

    Raises
    ------
    FileError
    """
    names = [name.strip() for name in line.rstrip().rstrip(",").split(",")]
    found = [(POWER.fullmatch(name), at) for at, name in enumerate(names)]
    powers = [(match[1].lower(), int(match[2]), at) for match, at in found if match]
    if names[:2] != ["RecordId", "Timestamp"] or not powers:
        raise FileError(where, "has no columns RecordId,Timestamp and powers", CURE)
    return Columns(
        {number: at for kind, number, at in powers if kind == "socket"},
        {number: at for kind, number, at in powers if kind == "core"},
        len(names),
    )


def parse_record(line: str, columns: Columns, where: str) -> tuple[int, list[float]]:
    """Time of the day in ms, and powers in W: sockets, then cores.

    Raises
    ------
    FileError, TableError
    """
    values = line.rstrip().rstrip(",").split(",")
    if len(values) != columns.count:
        raise FileError(where, f"has {len(values)} values, expected {columns.count}", CURE)
    clock = CLOCK.fullmatch(values[1].strip())
    if not clock:
        raise FileError(where, f"is no time H:M:S:ms: {values[1].strip()!r}", CURE)
    hours, minutes, seconds, milliseconds = (int(part) for part in clock.groups())
    at = [*columns.sockets.values(), *columns.cores.values()]
    power_w = [finite(values[i], where, "a power in W") for i in at]
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + milliseconds, power_w


def unroll(before_ms: int, clock_ms: int, where: str) -> int:
    """Time of the day in ms, counted on past midnight from an earlier one.

    Raises
    ------
    FileError
        If it does not come later.
    """
    later = clock_ms + round((before_ms - clock_ms) / DAY_MS) * DAY_MS
    if later <= before_ms:
        raise FileError(where, "is not later than the record before it", "cut the log there")
    return later
