"""Certificates of meters: what a short look at their readings shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec
import numpy as np

from wattshed.measure.checks import CHECKS
from wattshed.measure.clock import NS_PER_S, Clock
from wattshed.measure.look import Look, look_of
from wattshed.measure.trace import Series, series_of
from wattshed.records import Health, MeterInfo, MeterStatus, Reading


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
    """Read a meter for a moment, and judge it; see `look_at_all`."""
    return look_at_all([meter], clock, seconds, interval_s)[0]


def look_at_all(
    meters: Sequence[Readable], clock: Clock, seconds: float = 1.5, interval_s: float = 0.002
) -> list[Health]:
    """Read meters in turn for a moment, and judge each, and whether they repeat each other.

    Parameters
    ----------
    meters : sequence of Readable
    clock : Clock
    seconds : float
        At least; some times the documented time between new values, if that is longer.
    interval_s : float
        Between two rounds.
    """
    documented_s = max((meter.info.update_period_s or 0.0 for meter in meters), default=0.0)
    end_ns = clock.mono_ns() + round(max(seconds, 4 * documented_s) * NS_PER_S)
    readings = [[meter.read()] for meter in meters]
    while clock.mono_ns() < end_ns:
        clock.sleep(interval_s)
        for meter, known in zip(meters, readings, strict=True):
            known.append(meter.read())
    return judge_all(
        (meter.info, series_of(known)) for meter, known in zip(meters, readings, strict=True)
    )


def judge(info: MeterInfo, series: Series) -> Health:
    """Certificate of a meter, from its readings alone.

    Parameters
    ----------
    info : MeterInfo
    series : Series
        Of a second or more, read as often as can be.
    """
    look = look_of(info, series)
    found = [(check, reason) for check in CHECKS if (reason := check.finds(look))]
    status: MeterStatus = found[0][0].status if found else "ok"
    tick_s, tick_sd_s = _tick(look)
    steps_j = np.diff(look.counter.energy_j)
    return Health(
        meter=info.id,
        status=status,
        reason=found[0][1] if found else "",
        cure=found[0][0].cure if found else "",
        readings=len(series),
        seconds=look.seconds,
        tick_s=tick_s,
        tick_sd_s=tick_sd_s,
        resolution_j=float(np.min(steps_j[steps_j > 0])) if np.any(steps_j > 0) else None,
        mean_power_w=look.mean_w,
        counter_over_power=look.ratio,
        read_s=float(np.mean(series.read_s)) if len(series) else None,
        flags=tuple(sorted({check.flag for check, _ in found})),
    )


def _tick(look: Look) -> tuple[float | None, float | None]:
    if look.ticks.tick_s is None:
        return None, None
    return look.ticks.tick_s, float(np.std(np.diff(look.ticks.end_ns[1:]))) / NS_PER_S


def judge_all(looks: Iterable[tuple[MeterInfo, Series]]) -> list[Health]:
    """Certificates of meters that were looked at together: those that repeat another are marked.

    Parameters
    ----------
    looks : iterable of (MeterInfo, Series)
    """
    kept: list[tuple[MeterInfo, Series]] = []
    found = []
    for info, series in looks:
        health = judge(info, series)
        twin = next((other for other, was in kept if _repeats(info, series, other, was)), None)
        if twin is not None:
            health = _with_duplicate(health, twin.id)
        kept.append((info, series))
        found.append(health)
    return found


def _repeats(info: MeterInfo, series: Series, other: MeterInfo, was: Series) -> bool:
    """Whether two meters show one counter: by what they say they cover, or by what they show."""
    if info.scope == other.scope and info.source == other.source and info.covers == other.covers:
        return True
    mine, theirs = (np.unique(s.energy_j[~np.isnan(s.energy_j)]) for s in (series, was))
    if min(len(mine), len(theirs)) < 4:
        return False
    return len(np.intersect1d(mine, theirs)) > 0.5 * min(len(mine), len(theirs))


def _with_duplicate(health: Health, twin: str) -> Health:
    flags = tuple(sorted({*health.flags, "duplicate"}))
    if health.status != "ok":
        return msgspec.structs.replace(health, flags=flags)
    return msgspec.structs.replace(
        health,
        status="not_trusted",
        reason=f"it repeats the counter of {twin}",
        cure="count one of them, and split its energy by shares that are measured otherwise",
        flags=flags,
    )
