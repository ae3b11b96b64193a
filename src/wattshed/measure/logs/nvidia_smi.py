"""CSV that ``nvidia-smi --query-gpu=timestamp,index,uuid,power.draw,... --format=csv`` writes.

With or without units, in headers (``power.draw [W]``) and in values (``54.19 W``). Times are those
of the machine's zone, which is not told. ``power.draw.instant`` is the power at a moment,
``power.draw.average`` the mean of a second; ``power.draw`` is the mean on Ampere and later (except
GA100), and the power at a moment before.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from wattshed.errors import FileError, TableError
from wattshed.measure.logs.text import at_line, finite, whole_lines

FORMATS = ("%Y/%m/%d %H:%M:%S.%f", "%Y/%m/%d %H:%M:%S")
POWERS = ("power.draw.instant", "power.draw", "power.draw.average")
"""From the best to the worst."""
UNKNOWN = re.compile(r"\[.*\]|N/A|", re.IGNORECASE)
CURE = "query timestamp, index and power.draw with --format=csv"


@dataclass(frozen=True)
class SmiLog:
    """Readings of one GPU.

    Attributes
    ----------
    device : str
        UUID, or the index, or ``0`` if there is neither.
    t_s : array (N,)
        As printed, since the epoch as if the zone were UTC.
    power_w : array (N,)
        By the best column; NaN where it says that it is not known.
    column : str
        Which that is.
    """

    device: str
    t_s: NDArray[np.float64]
    power_w: NDArray[np.float64]
    column: str


@dataclass(frozen=True)
class SmiLogs:
    """All GPUs of a log, and whether its last line was cut off and left out."""

    gpus: tuple[SmiLog, ...]
    cut_off: bool


def parse_nvidia_smi(text: str, place: str = "nvidia-smi") -> SmiLogs:
    """Read a log; a last line that was cut off is left out.

    Raises
    ------
    FileError, TableError
        Naming the line; also if lines of several GPUs cannot be told apart.
    """
    lines, cut_off = whole_lines(text)
    if not lines:
        raise FileError(place, "has no line", CURE)
    names = [name.split("[")[0].strip() for name in lines[0].split(",")]
    powers = [name for name in POWERS if name in names]
    if "timestamp" not in names or not powers:
        raise FileError(at_line(place, 1), "has no columns timestamp and power.draw", CURE)
    rows: dict[str, list[tuple[float, list[float]]]] = {}
    for number, line in enumerate(lines[1:], 2):
        if line.strip():
            device, t_s, values = _parse_row(line, names, powers, at_line(place, number))
            known = rows.setdefault(device, [])
            if known and t_s < known[-1][0]:
                raise FileError(
                    at_line(place, number), "is earlier than the line before it", "cut it there"
                )
            known.append((t_s, values))
    if not rows:
        raise FileError(place, "has no reading", CURE)
    if not {"uuid", "index"} & set(names):
        _refuse_several(rows, place)
    gpus = tuple(_of_device(device, found, powers) for device, found in rows.items())
    return SmiLogs(gpus, cut_off)


def _parse_row(
    line: str, names: Sequence[str], powers: Sequence[str], where: str
) -> tuple[str, float, list[float]]:
    values = [value.strip() for value in line.split(",")]
    if len(values) != len(names):
        raise FileError(where, f"has {len(values)} values, expected {len(names)}", CURE)
    row = dict(zip(names, values, strict=True))
    device = row.get("uuid") or row.get("index") or "0"
    return device, _moment(row["timestamp"], where), [_watts(row[name], where) for name in powers]


def _moment(text: str, where: str) -> float:
    for pattern in FORMATS:
        try:
            return datetime.strptime(text, pattern).replace(tzinfo=UTC).timestamp()
        except ValueError:
            continue
    raise TableError(where, f"expected a time like 2024/04/10 09:01:30.437, got {text!r}", CURE)


def _watts(text: str, where: str) -> float:
    if UNKNOWN.fullmatch(text):
        return np.nan
    return finite(text.removesuffix("W"), where, "a power in W")


def _of_device(
    device: str, found: Sequence[tuple[float, list[float]]], powers: Sequence[str]
) -> SmiLog:
    """Readings of a GPU, by the best column that ever has a value."""
    power_w = np.array([values for _, values in found])
    known = np.isfinite(power_w).any(axis=0)
    best = int(np.argmax(known))
    return SmiLog(device, np.array([t for t, _ in found]), power_w[:, best], powers[best])


def _refuse_several(rows: dict[str, list[tuple[float, list[float]]]], place: str) -> None:
    """Refuse lines that come in bursts: those of several GPUs, and nothing tells which is whose."""
    gaps_s = np.diff([t for t, _ in rows["0"]])
    if len(gaps_s) < 8:
        return
    short, long = np.quantile(gaps_s, [0.1, 0.9])
    if short < long / 4:
        raise FileError(
            place,
            f"lines come in bursts ({short * 1e3:.0f} and {long * 1e3:.0f} ms apart):"
            " of several GPUs, it seems",
            "query index or uuid, too",
        )
