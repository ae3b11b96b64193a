"""Text that Apple's ``powermetrics`` prints: a block for each sample.

A block begins with ``*** Sampled system activity (DATE) (217.49ms elapsed) ***`` and tells of the
time before it: its powers are means over the elapsed time. Blocks follow one another without a gap,
as far as their dates, which have whole seconds, do not show one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from wattshed.errors import FileError
from wattshed.measure.logs.text import at_line, finite, whole_lines

BEGIN = "*** Sampled system activity"
HEADER = re.compile(r"\*\*\* Sampled system activity \((.+?)\) \((\S+?) ?ms elapsed\) \*\*\*$")
POWER = re.compile(r"(CPU|GPU|ANE) Power: +(.*)$")
ALL_TASKS = "ALL_TASKS"
CURE = "give the text that powermetrics printed, without -f plist"


@dataclass(frozen=True)
class Task:
    """A row of the table of tasks: a process and its energy impact, which has no unit."""

    name: str
    pid: int
    energy_impact: float


@dataclass(frozen=True)
class Sample:
    """One block.

    Attributes
    ----------
    t_wall_s : float
        The date printed, since the epoch: the end of the sample, without its fraction.
    elapsed_s : float
    power_w : dict of float
        Mean power by ``cpu``, ``gpu`` and ``ane``, as far as they are printed.
    tasks : tuple of Task
        Empty without ``--show-process-energy``.
    all_tasks_impact : float or None
        Energy impact of ``ALL_TASKS``.
    """

    t_wall_s: float
    elapsed_s: float
    power_w: dict[str, float]
    tasks: tuple[Task, ...]
    all_tasks_impact: float | None

    @property
    def fields(self) -> set[str]:
        """What it tells, to see whether it was cut off."""
        return {*self.power_w, *(["tasks"] if self.all_tasks_impact is not None else [])}

    def impact(self, process: str | int) -> float:
        """Energy impact of a process by name, all of that name together, or by id.

        0 if the table does not list it, for it lists every process that ran; NaN without a table.
        """
        if self.all_tasks_impact is None:
            return np.nan
        return sum(t.energy_impact for t in self.tasks if process in (t.name, t.pid))


@dataclass(frozen=True)
class PowerLog:
    """A whole log.

    Attributes
    ----------
    begin_s, dt_s : arrays (N,)
        When samples begin, since the first one's beginning, and how long they are.
    wall_start_s : float
        When the first one began, since the epoch; to better than a second.
    cpu_power_w, gpu_power_w, ane_power_w : arrays (N,)
        NaN where it is not printed.
    samples : tuple of Sample (N,)
    cut_off : bool
        The last block was not whole, and was left out.
    """

    begin_s: NDArray[np.float64]
    dt_s: NDArray[np.float64]
    wall_start_s: float
    cpu_power_w: NDArray[np.float64]
    gpu_power_w: NDArray[np.float64]
    ane_power_w: NDArray[np.float64]
    samples: tuple[Sample, ...]
    cut_off: bool

    def energy_share(self, process: str | int) -> NDArray[np.float64]:
        """Alpha (N,): energy impact of a process over that of all; NaN where it is not known."""
        impact = np.array([sample.impact(process) for sample in self.samples])
        everyone = np.array([s.all_tasks_impact or np.nan for s in self.samples], float)
        alpha: NDArray[np.float64] = impact / everyone
        return alpha


def parse_powermetrics(text: str, place: str = "powermetrics") -> PowerLog:
    """Read a log; a last block that was cut off is left out.

    Parameters
    ----------
    text : str
    place : str
        Named in errors.

    Raises
    ------
    FileError, TableError
        Naming the line.
    """
    lines, partial = whole_lines(text)
    samples = [parse_block(block, place, number) for number, block in blocks(lines)]
    cut_off = bool(samples) and not _whole(samples)
    if cut_off:
        del samples[-1]
    if not samples:
        raise FileError(place, "has no whole sample of powermetrics", CURE)
    begin_s, dt_s = _times(samples)
    end_s, dates = begin_s + dt_s, np.array([s.t_wall_s for s in samples])
    low, high = np.max(dates - end_s), np.min(dates + 1 - end_s)
    powers = {
        name: np.array([s.power_w.get(name, np.nan) for s in samples])
        for name in ("cpu", "gpu", "ane")
    }
    return PowerLog(
        begin_s,
        dt_s,
        float((low + high) / 2 if low <= high else low),
        powers["cpu"],
        powers["gpu"],
        powers["ane"],
        tuple(samples),
        cut_off or partial,
    )


def blocks(lines: Sequence[str]) -> Iterator[tuple[int, Sequence[str]]]:
    """Blocks with the number of their first line; what comes before the first is left out."""
    starts = [i for i, line in enumerate(lines) if line.startswith(BEGIN)]
    for start, end in pairwise([*starts, len(lines)]):
        yield start + 1, lines[start:end]


def parse_block(lines: Sequence[str], place: str, number: int) -> Sample:
    """Read one block, the first line of which has a number.

    Raises
    ------
    FileError, TableError
    """
    t_wall_s, elapsed_s = _parse_header(lines[0], at_line(place, number))
    power_w: dict[str, float] = {}
    for offset, line in enumerate(lines):
        found = POWER.match(line)
        if found:  # the samplers cpu_power and gpu_power both print that of the GPU
            power = _milliwatts(found[2], at_line(place, number + offset))
            power_w.setdefault(found[1].lower(), power)
    tasks = _parse_tasks(lines, place, number)
    everyone = tasks.pop().energy_impact if tasks else None
    return Sample(t_wall_s, elapsed_s, power_w, tuple(tasks), everyone)


def _whole(samples: Sequence[Sample]) -> bool:
    """Whether the last sample tells as much as the first; if it is the first, the power of the GPU.

    That is the last power that each sampler prints, but for the ANE's.
    """
    least = {"gpu"} if len(samples) == 1 else samples[0].fields
    return samples[-1].fields >= least


def _parse_header(line: str, where: str) -> tuple[float, float]:
    found = HEADER.match(line.strip())
    if not found:
        raise FileError(where, f"is no header of a sample: {line.strip()!r}", CURE)
    try:
        date = datetime.strptime(found[1], "%a %b %d %H:%M:%S %Y %z")
    except ValueError:
        raise FileError(where, f"is no date: {found[1]!r}", CURE) from None
    elapsed_s = finite(found[2], where, "milliseconds") * 1e-3
    if elapsed_s <= 0:
        raise FileError(where, f"no time elapsed: {found[2]!r} ms", CURE)
    return date.timestamp(), elapsed_s


def _milliwatts(text: str, where: str) -> float:
    """Power in W."""
    if not text.endswith(" mW"):
        raise FileError(where, f"is no power in mW: {text!r}", CURE)
    return finite(text.removesuffix(" mW"), where, "a power in mW") * 1e-3


def _parse_tasks(lines: Sequence[str], place: str, number: int) -> list[Task]:
    """Rows of the table of tasks, ``ALL_TASKS`` last; none if it has no energy impact, or no end.

    Names hold spaces and digits; but all rows have as many numbers as the last one, which has none
    in its name.
    """
    heads = [i for i, line in enumerate(lines) if line.rstrip().endswith("Energy Impact")]
    ends = [i for i, line in enumerate(lines) if line.startswith(ALL_TASKS)]
    if not heads or not ends:
        return []
    numbers = len(lines[ends[0]].split()) - 1
    rows = range(heads[0] + 1, ends[0] + 1)
    return [
        _parse_task(lines[i], numbers, at_line(place, number + i)) for i in rows if lines[i].strip()
    ]


def _parse_task(line: str, numbers: int, where: str) -> Task:
    words = line.split()
    if len(words) <= numbers:
        raise FileError(where, f"has {len(words)} words, expected {numbers + 1} or more", CURE)
    pid = finite(words[-numbers], where, "the id of a process")
    return Task(" ".join(words[:-numbers]), int(pid), finite(words[-1], where, "an energy impact"))


def _times(samples: Sequence[Sample]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """When samples begin, and how long they are: one after the other, unless dates show a gap."""
    dt_s = np.array([sample.elapsed_s for sample in samples])
    end_s = np.empty(len(samples))
    end_s[0] = dt_s[0]
    for i in range(1, len(samples)):
        at_least = end_s[0] + samples[i].t_wall_s - samples[0].t_wall_s - 1  # dates are cut
        follows = end_s[i - 1] + dt_s[i]
        end_s[i] = follows if follows >= at_least else at_least
    return end_s - dt_s, dt_s
