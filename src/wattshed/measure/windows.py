"""Windows: energy between two moments, with bounds, from a trace alone.

A pure function of readings, so that it can be computed again years later by another method. It
widens for what it cannot know (when a counter changed between two reads, how old a value is, how
exact the meter is), and says so in flags rather than give a number that means nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from wattshed.errors import ParameterError
from wattshed.measure.clock import NS_PER_S
from wattshed.measure.counters import (
    BREAKS,
    FAR_NS,
    Counter,
    Ticks,
    counter_of,
    highest_power_w,
    moment,
    ticks_of,
)
from wattshed.measure.powers import averaged, instantaneous, power_of
from wattshed.measure.signs import SILENT_S, SILENT_TICKS, is_silent, unlikely, wall_stepped
from wattshed.measure.trace import Series, Trace
from wattshed.records import MeterInfo, WindowEnergy

METHODS = ("auto", "tick-interpolated", "counter-difference", "power-trapezoid", "power-averaged")
AROUND_S = 4.0
"""How much of a trace before and after a window is looked at, at least."""
LASTING = ("disagrees", "duplicate", "part_time", "wrong_unit")
"""Flags of a certificate that hold for every window of the meter."""
VALUELESS = {"no_data", "frozen", "zero", "wrong_unit", *BREAKS}


@dataclass(frozen=True)
class Estimate:
    """Energy by one method, before what the meter's maker says of it is taken into account.

    Attributes
    ----------
    value_j, low_j, high_j : float or None
    coverage : float
    flags : set of str
    """

    value_j: float | None
    low_j: float | None
    high_j: float | None
    coverage: float
    flags: frozenset[str] = frozenset()


NOTHING = Estimate(None, None, None, 0.0, frozenset({"no_data"}))


def window_energy(
    trace: Trace, meter: str, t0_ns: int, t1_ns: int, *, method: str = "auto"
) -> WindowEnergy:
    """Energy between two moments, by one meter of a trace.

    Parameters
    ----------
    trace : Trace
    meter : str
    t0_ns, t1_ns : int
        Monotonic clock. To bound the energy of a window, the trace must go on until the counter
        has changed after it.
    method : str
        ``tick-interpolated`` finds when the counter changed; ``counter-difference`` takes the
        last values read before both moments; ``power-trapezoid`` integrates power;
        ``power-averaged`` takes readings for means over the time that the meter averages.
        ``auto`` takes the first of these that the meter can give.

    Returns
    -------
    WindowEnergy
        The bounds are hard where the meter is as its `MeterInfo` says and power-based methods see
        every change of power; an error that is stated is in them.

    Raises
    ------
    ParameterError
        If the trace has no such meter, there is no such method, or the window is not one.
    """
    infos = {info.id: info for info in trace.manifest.meters}
    if meter not in infos:
        raise ParameterError(
            "meter", f"{meter!r} is not in the trace", f"use one of {', '.join(infos)}"
        )
    if method not in METHODS:
        raise ParameterError("method", f"{method!r} is unknown", f"use one of {', '.join(METHODS)}")
    if t1_ns <= t0_ns:
        raise ParameterError("window", f"ends {t0_ns - t1_ns} ns before it begins", "give t0 < t1")
    info, series = infos[meter], _around(infos[meter], trace.series(meter), t0_ns, t1_ns)
    lasting = {
        flag for one in trace.manifest.health if one.meter == meter for flag in one.flags
    }.intersection(LASTING)
    return energy_of(info, series, t0_ns, t1_ns, method=method, lasting=lasting)


def _around(info: MeterInfo, series: Series, t0_ns: int, t1_ns: int) -> Series:
    """What of a long trace a window can depend on."""
    reach_s = max(AROUND_S, 5 * (info.update_period_s or 0.0), 3 * info.averaging_s) + info.lag_s
    while True:
        reach = round(reach_s * NS_PER_S)
        begin = max(0, int(np.searchsorted(series.t_ns, t0_ns - reach, "left")) - 2)
        end = min(len(series), int(np.searchsorted(series.t_ns, t1_ns + reach, "right")) + 2)
        part = series.part(begin, end)
        if (begin == 0 or _changes(part, 0, t0_ns)) and (
            end == len(series) or _changes(part, t1_ns, FAR_NS)
        ):
            return part
        reach_s *= 2


def _changes(series: Series, begin_ns: int, end_ns: int) -> bool:
    """Whether a counter changed three times between two moments, or there is none."""
    first, last = np.searchsorted(series.t_ns, [begin_ns, end_ns])
    energy_j = series.energy_j[first:last]
    energy_j = energy_j[~np.isnan(energy_j)]
    return len(energy_j) == 0 or int(np.count_nonzero(np.diff(energy_j))) >= 3


def energy_of(
    info: MeterInfo,
    series: Series,
    t0_ns: int,
    t1_ns: int,
    *,
    method: str = "auto",
    lasting: Iterable[str] = (),
) -> WindowEnergy:
    """Energy between two moments, from the readings of one meter; see `window_energy`."""
    by_counter = not np.isnan(series.energy_j).all()
    by_power = not np.isnan(series.power_w).all()
    chosen = method if method != "auto" else _choose(info, by_counter=by_counter)
    flags = set(lasting) | _told(info, series, t0_ns, t1_ns)
    estimate = NOTHING
    if chosen in ("tick-interpolated", "counter-difference") and by_counter:
        estimate = _by_counter(info, series, t0_ns, t1_ns, plain=chosen == "counter-difference")
        if by_power and not estimate.flags & VALUELESS:
            other = _by_power(info, series, t0_ns, t1_ns, "power-averaged")
            flags |= _against(estimate, other, 0.02 + 2 * info.rel_error)
    elif chosen.startswith("power") and by_power:
        estimate = _by_power(info, series, t0_ns, t1_ns, chosen)
    if "part_time" in flags:
        estimate = _widened(estimate, _missed_j(info, series, t0_ns, t1_ns))
    return _record(info, estimate, chosen, flags)


def _choose(info: MeterInfo, *, by_counter: bool) -> str:
    if by_counter:
        return "tick-interpolated"
    return "power-averaged" if info.averaging_s > 0 else "power-trapezoid"


def _told(info: MeterInfo, series: Series, t0_ns: int, t1_ns: int) -> set[str]:
    """Flags that readings within the window carry themselves, or that their times show."""
    first = max(0, int(np.searchsorted(series.t_ns, t0_ns, "right")) - 1)
    last = int(np.searchsorted(series.t_ns, t1_ns, "left")) + 1
    told = {flag for one in set(series.flags[first:last]) for flag in one} - {"no_data"}
    if np.any(np.isnan(series.energy_j[first:last]) & np.isnan(series.power_w[first:last])):
        told.add("gap")
    if wall_stepped(series.part(first, last)):
        told.add("clock_step")
    if "scope_widened" in told and not all("scope_widened" in f for f in series.flags[first:last]):
        told.add("scope_changed")
    return told | ({"modelled"} if info.provenance == "modelled" else set())


# ---------------------------------------------------------------- by the counter


def _by_counter(
    info: MeterInfo, series: Series, t0_ns: int, t1_ns: int, *, plain: bool
) -> Estimate:
    counter = counter_of(info, series)
    if t1_ns <= counter.t_ns[0] or t0_ns >= counter.t_ns[-1]:
        return NOTHING
    ticks = ticks_of(counter)
    begin, end = moment(ticks, t0_ns, info.lag_s), moment(ticks, t1_ns, info.lag_s)
    flags = _counter_flags(info, counter, ticks, t0_ns, t1_ns)
    coverage = _coverage(counter.t_ns, t0_ns, t1_ns, ticks.tick_s)
    after_begin = begin.high_j if begin.high_j is not None else float(ticks.energy_j[-1])
    before_end = end.low_j if end.low_j is not None else float(ticks.energy_j[0])
    low_j = max(0.0, before_end - after_begin - (info.resolution_j or 0.0))
    if flags & VALUELESS:
        return Estimate(None, None if "zero" in flags else low_j, None, coverage, flags)
    if begin.low_j is None or t1_ns > counter.t_ns[-1]:
        return Estimate(None, low_j, None, coverage, flags | {"gap"})
    high_j = end.high_j
    if high_j is None:  # it did not change again: what it will show next is guessed
        highest_w = highest_power_w(ticks)
        if highest_w is None:
            return Estimate(None, low_j, None, coverage, flags | {"edge"})
        silent_s = (t1_ns - int(ticks.end_ns[-1])) / NS_PER_S + (ticks.tick_s or 0.0) + info.lag_s
        high_j = float(ticks.energy_j[-1]) + 2 * highest_w * max(0.0, silent_s)
        flags = flags | {"edge"}
    high_j = max(low_j, high_j - begin.low_j + (info.resolution_j or 0.0))
    value_j = _difference(counter, t0_ns, t1_ns) if plain else end.value_j - begin.value_j
    value_j = min(max(value_j, low_j), high_j)
    return Estimate(value_j, low_j, high_j, coverage, flags)


def _difference(counter: Counter, t0_ns: int, t1_ns: int) -> float:
    """Last value read before the end, less the last before the beginning."""
    at = np.searchsorted(counter.t_ns, [t0_ns, t1_ns], "right") - 1
    first, last = counter.energy_j[np.maximum(at, 0)]
    return float(last - first)


def _counter_flags(
    info: MeterInfo, counter: Counter, ticks: Ticks, t0_ns: int, t1_ns: int
) -> frozenset[str]:
    """What is odd about a counter from the change before a window to the one after."""
    lag_ns = round(info.lag_s * NS_PER_S)
    start = max(0, int(np.searchsorted(ticks.end_ns, t0_ns, "right")) - 1)
    stop = int(np.searchsorted(ticks.begin_ns - lag_ns, t1_ns, "left"))
    from_ns = ticks.end_ns[start]
    until_ns = ticks.end_ns[stop] if stop < len(ticks.end_ns) else counter.t_ns[-1]
    first = int(np.searchsorted(counter.t_ns, from_ns, "left"))
    last = int(np.searchsorted(counter.t_ns, until_ns, "right")) - 1
    flags = counter.happened(first, last)
    if not counter.energy_j.any():
        return frozenset(flags | {"zero"})
    silent_s = SILENT_S if ticks.tick_s is None else SILENT_TICKS * ticks.tick_s
    changes = np.append(
        ticks.end_ns[start : stop + 1], [] if stop < len(ticks.end_ns) else until_ns
    )
    if is_silent(info, float(np.max(np.diff(changes), initial=0.0)) / NS_PER_S, silent_s):
        looked = counter.t_ns[first : last + 1]
        reads_ns = 2 * np.max(counter.half_ns[first : last + 1], initial=0)
        waits_s = float(np.max(np.diff(looked), initial=0.0) + reads_ns) / NS_PER_S
        flags.add("gap" if waits_s > silent_s / 2 else "frozen")
    stop = min(stop, len(ticks.end_ns) - 1)
    seconds = (ticks.at_ns[stop] - ticks.at_ns[start]) / NS_PER_S
    if seconds > 0 and not flags & (BREAKS - {"jump"}):
        flags |= unlikely(info, float(ticks.energy_j[stop] - ticks.energy_j[start]) / seconds)
    if t1_ns - t0_ns < 2 * (ticks.tick_s or 0.0) * NS_PER_S:
        flags.add("short")
    return frozenset(flags)


def _coverage(t_ns: np.ndarray, t0_ns: int, t1_ns: int, tick_s: float | None) -> float:
    """Part of a window that lies between readings no further apart than some changes."""
    waits = np.diff(t_ns)
    usual = float(np.median(waits)) if len(waits) else 0.0
    near = waits <= max(5 * usual, 2 * (tick_s or 0.0) * NS_PER_S) + 2e7
    sums = np.concatenate(([0.0], np.cumsum(np.where(near, waits, 0))))
    first, last = np.interp([t0_ns, t1_ns], t_ns, sums)
    return float(min(1.0, (last - first) / (t1_ns - t0_ns)))


# ---------------------------------------------------------------- by power


def _by_power(info: MeterInfo, series: Series, t0_ns: int, t1_ns: int, method: str) -> Estimate:
    power = power_of(info, series)
    if len(power) < 2 or t1_ns <= power.t_ns[0] or t0_ns >= power.t_ns[-1]:
        return NOTHING
    odd = unlikely(info, float(np.mean(power.power_w)))
    if odd or not power.power_w.any():
        return Estimate(None, None, None, 1.0, frozenset(odd or {"zero"}))
    delay_s = info.lag_s + float(np.nanmean(series.read_s))
    found = instantaneous(power, t0_ns, t1_ns, delay_s)
    flags = set()
    if info.averaging_s > 0:
        flags.add("averaged")
        rows = averaged(power, t0_ns, t1_ns, info.averaging_s, delay_s)
        if rows is None:
            found = instantaneous(power, t0_ns, t1_ns, delay_s + info.averaging_s)
        else:
            value_j = found.value_j if method == "power-trapezoid" else rows.value_j
            found = replace(rows, value_j=value_j)
        if power.t_ns[-1] < t1_ns + (power.update_s + power.poll_s) * NS_PER_S:
            flags.add("edge")
    outside = power.t_ns[0] > t0_ns or power.t_ns[-1] < t1_ns
    if outside or found.coverage < 1 - 1e-6:
        flags.add("gap")
    if np.any((power.spikes_ns >= t0_ns) & (power.spikes_ns <= t1_ns)):
        flags.add("spike")
    if t1_ns - t0_ns < max(2 * power.update_s, info.averaging_s) * NS_PER_S:
        flags.add("short")
    if outside or found.coverage < 0.5:
        return Estimate(None, found.low_j, None, found.coverage, frozenset(flags))
    low_j, high_j = min(found.low_j, found.value_j), max(found.high_j, found.value_j)
    return Estimate(found.value_j, low_j, high_j, found.coverage, frozenset(flags))


def _against(counter: Estimate, power: Estimate, apart: float) -> set[str]:
    """Whether two intervals of the same energy lie apart, by more than a part of it."""
    if counter.high_j is None or counter.low_j is None:
        return set()
    if power.low_j is None or power.high_j is None or power.flags & {"gap", "spike"}:
        return set()
    apart_j = max(counter.low_j - power.high_j, power.low_j - counter.high_j)
    return {"disagrees"} if apart_j > apart * power.high_j else set()


# ---------------------------------------------------------------- together


def _missed_j(info: MeterInfo, series: Series, t0_ns: int, t1_ns: int) -> float:
    """What a sensor that looks only at times may have missed: twice the deviation to expect.

    What runs between two looks differs from what was seen by what looks differ from each other.
    """
    power = power_of(info, series)
    if len(power) > 2:
        at_ns, seen_w = power.t_ns[1:], power.power_w[1:]
        new = np.diff(power.power_w) != 0
        at_ns, seen_w = at_ns[new], seen_w[new]
    else:
        ticks = ticks_of(counter_of(info, series))
        at_ns = ticks.end_ns[2:]
        seen_w = np.diff(ticks.energy_j[1:]) / np.maximum(np.diff(ticks.end_ns[1:]), 1) * NS_PER_S
    if len(at_ns) < 3:
        return 0.0
    period_ns = float(np.median(np.diff(at_ns)))
    near = (at_ns[1:] >= t0_ns - 2 * period_ns) & (at_ns[1:] <= t1_ns + 2 * period_ns)
    return 2 * period_ns / NS_PER_S * float(np.sqrt(np.sum(np.diff(seen_w)[near] ** 2)))


def _widened(estimate: Estimate, by_j: float) -> Estimate:
    if estimate.value_j is None or estimate.low_j is None or estimate.high_j is None:
        return estimate
    low_j, high_j = max(0.0, estimate.low_j - by_j), estimate.high_j + by_j
    return replace(estimate, low_j=low_j, high_j=high_j)


def _record(info: MeterInfo, estimate: Estimate, method: str, flags: set[str]) -> WindowEnergy:
    """With the error that is stated, and no value where a flag forbids it."""
    flags = flags | estimate.flags
    low_j, value_j, high_j = estimate.low_j, estimate.value_j, estimate.high_j
    if flags & {"scope_changed", "no_data", "zero", "wrong_unit"}:
        low_j = value_j = high_j = None
    if estimate.coverage < 1 - 1e-6 and value_j is not None:
        flags.add("gap")
    low_j = None if low_j is None else low_j / (1 + info.rel_error)
    high_j = None if high_j is None else high_j / max(1 - info.rel_error, 1e-9)
    return WindowEnergy(
        meter=info.id,
        value_j=value_j,
        low_j=low_j,
        high_j=high_j,
        method=method,
        coverage=estimate.coverage,
        flags=tuple(sorted(flags)),
        scope="module" if "scope_widened" in flags else info.scope,
        kind=info.provenance,
    )
