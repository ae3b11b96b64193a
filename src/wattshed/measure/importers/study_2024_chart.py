"""The timechart of uProf beside results of the study of 2024: energy of the core of each call."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from wattshed.errors import FileError, ParameterError, TableError
from wattshed.measure.formulas import core_sum_flags, uprof_core_energy_j
from wattshed.measure.logs.text import read_text
from wattshed.measure.logs.uprof import Timechart, parse_uprof, start_date


class Chart:
    """A timechart on the clock of the calls.

    Parameters
    ----------
    path : Path
    zone : str or None
        Name of the time zone of its times.

    Raises
    ------
    FileError, TableError, ParameterError
    """

    def __init__(self, path: Path, zone: str | None) -> None:
        text = read_text(path)
        self._path, self._log = path, parse_uprof(text, str(path))
        self._begin_s = _epoch_s(self._log, text, path, zone)
        self._second_threads = False
        self.flags = core_sum_flags(self._log.core_power_w, self._log.socket_power_w)

    def energy_j(
        self, where: str, core: int | None, begun_s: float, runtime_s: float
    ) -> float | None:
        """Energy of the core on which a call began, or None if the chart does not cover it."""
        begin_s = begun_s - self._begin_s
        end_s = begin_s + runtime_s
        if begin_s < 0 or end_s > self._log.begin_s[-1] + self._log.dt_s[-1]:
            return None
        power_w = self._log.core_power_w[:, [self._column(where, core)]]
        log = self._log
        return uprof_core_energy_j(power_w, [0], log.dt_s, log.begin_s, (begin_s, end_s))

    def _column(self, where: str, cpu: int | None) -> int:
        """Column of a call's core; Linux numbers the second threads of cores after all first."""
        if cpu is None:
            raise TableError(where, "does not tell the CPU", "leave the timechart out")
        cores = self._log.cores
        if cpu >= len(cores):
            self._second_threads = True
        core = cpu % len(cores)
        if cpu >= 2 * len(cores) or core not in cores:
            raise TableError(
                where,
                f"began on CPU {cpu}, and {self._path} has {len(cores)} cores",
                "give the timechart of that machine",
            )
        return cores.index(core)

    def notes(self, known: int, calls: int) -> list[str]:
        """What to know of energies of hosts; an error if there are none."""
        if not known:
            raise TableError(
                str(self._path), f"covers none of {calls} calls", "check --zone, and the file"
            )
        notes = ["host energy is that of the one core on which each call began"]
        if known < calls:
            notes.append(f"{calls - known} calls lie outside the timechart: no host energy")
        if self._second_threads:
            notes.append("CPUs beyond the cores are taken as their second threads")
        return notes


def _epoch_s(log: Timechart, text: str, path: Path, zone: str | None) -> float:
    """When the first record of a timechart began, since the epoch.

    Raises
    ------
    ParameterError
        If the zone is not told, or unknown.
    FileError
        If the file does not tell its day.
    """
    day = start_date(text)
    if day is None:
        raise FileError(str(path), "has no 'Profile Start Time'", "give the whole timechart.csv")
    if zone is None:
        raise ParameterError(
            "--zone", f"not given, and {path} tells local times", "give one, as America/Chicago"
        )
    try:
        tz = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # the last of a name that is a folder's
        raise ParameterError("--zone", repr(zone), "give one, as America/Chicago") from None
    midnight = datetime(day.year, day.month, day.day, tzinfo=tz)
    return (midnight + timedelta(seconds=log.clock_s)).timestamp() - log.interval_s
