"""Certificates of meters: what a short look at their readings shows."""

from __future__ import annotations

from typing import Protocol

from wattshed.measure.clock import NS_PER_S, Clock
from wattshed.measure.trace import Series, series_of
from wattshed.records import Health, MeterInfo, Reading


class Readable(Protocol):
    """Something with readings."""

    @property
    def info(self) -> MeterInfo:
        """What it measures."""
        ...

    def read(self) -> Reading:
        """What it says now."""
        ...


def look_at(
    meter: Readable, clock: Clock, seconds: float = 1.5, interval_s: float = 0.002
) -> Health:
    """Read a meter for a moment, and judge it.

    Parameters
    ----------
    meter : Readable
    clock : Clock
    seconds : float
    interval_s : float
        Between two reads.
    """
    readings = [meter.read()]
    end_ns = readings[0].t_ns + round(seconds * NS_PER_S)
    while clock.mono_ns() < end_ns:
        clock.sleep(interval_s)
        readings.append(meter.read())
    return judge(meter.info, series_of(readings))


def judge(info: MeterInfo, series: Series) -> Health:
    """Certificate of a meter, from its readings alone."""
    seconds = float(series.t_ns[-1] - series.t_ns[0]) / NS_PER_S
    return Health(info.id, "ok", readings=len(series), seconds=seconds)
