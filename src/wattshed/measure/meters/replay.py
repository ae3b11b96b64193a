"""Meters of a recorded trace, or of a log of another tool: they say again what was said then."""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path

from wattshed.errors import FileError, ParameterError
from wattshed.measure.clock import Clock
from wattshed.measure.logs.traces import trace_of_log
from wattshed.measure.meter import Meter, PolledMeter
from wattshed.records import MeterInfo, Reading

__all__ = ["ReplayMeter", "open_meters", "trace_of_log"]


def open_meters(argument: str, clock: Clock) -> list[Meter]:
    """Open the meters of a file; it begins to play now.

    Parameters
    ----------
    argument : str
        Path of a trace, or a log of powermetrics, nvidia-smi, AMDuProfCLI timechart or RAPL.
    clock : Clock

    Raises
    ------
    ParameterError
        If there is no path.
    FileError, TableError
        If the file is none of these.
    """
    if not argument:
        raise ParameterError("meter", "'replay' needs a file", "use replay:FILE")
    trace = trace_of_log(Path(argument))
    found = {info.id: trace.readings.get(info.id, []) for info in trace.manifest.meters}
    times_ns = [reading.t_ns for readings in found.values() for reading in readings]
    if not times_ns:
        raise FileError(argument, "has no reading", "record it again")
    lag_ns = clock.mono_ns() - min(times_ns)
    infos = trace.manifest.meters
    return [ReplayMeter(info, clock, found[info.id], lag_ns) for info in infos]


class ReplayMeter(PolledMeter):
    """Says what was current as long after its start as now is after ours; then, nothing.

    Parameters
    ----------
    info : MeterInfo
        Of the meter that was recorded.
    clock : Clock
    readings : list of Reading
    lag_ns : int
        From the clock of the recording to ours.
    """

    def __init__(self, info: MeterInfo, clock: Clock, readings: list[Reading], lag_ns: int) -> None:
        super().__init__(info, clock)
        self._readings, self._lag_ns = sorted(readings, key=lambda r: r.t_ns), lag_ns

    def ask(self) -> tuple[float | None, float | None, tuple[str, ...]]:
        """See `PolledMeter`."""
        then_ns = self.clock.mono_ns() - self._lag_ns
        at = bisect_right(self._readings, then_ns, key=lambda r: r.t_ns) - 1
        if at < 0 or then_ns > self._readings[-1].t_ns:
            return None, None, ("no_data",)
        reading = self._readings[at]
        return reading.energy_j, reading.power_w, reading.flags
