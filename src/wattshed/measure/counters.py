"""Energy counters: when they changed, what they must have shown, where they cannot be trusted.

A counter that shows C from some moment on bounds the energy of all other moments: what was used up
to any later moment is at least C, and what was used up to any earlier one is at most C. All here is
made of that; nothing assumes how power ran between two changes but the value in the middle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wattshed.measure.clock import NS_PER_S
from wattshed.measure.signs import SILENT_S, highest_w
from wattshed.measure.trace import Series
from wattshed.records import MeterInfo

FAR_NS = 1 << 61
RECOVERY = 10
"""A fall to a value that was there before, overtaken within so many reads, was an old value."""


BREAKS = frozenset({"reset", "backwards", "jump", "unseen_wrap"})


@dataclass(frozen=True)
class Counter:
    """Readings of a counter in order of time, its wraps undone, its impossible readings left out.

    Attributes
    ----------
    t_ns, half_ns : int arrays (N,)
        Middle of each read, and half the time it took.
    energy_j : array (N,)
        From the first; runs on where the hardware began anew.
    events : tuple of (int, str)
        Index of a reading, and what happened between the one before and it: ``wrap`` was undone;
        ``spike`` and ``stale`` are readings left out; ``reset``, ``backwards``, ``jump`` and
        ``unseen_wrap`` (it may have begun anew unseen) leave energies that cannot be compared.
    """

    t_ns: NDArray[np.int64]
    half_ns: NDArray[np.int64]
    energy_j: NDArray[np.float64]
    events: tuple[tuple[int, str], ...] = ()

    def __len__(self) -> int:
        return len(self.t_ns)

    def happened(self, first: int, last: int) -> set[str]:
        """What happened after reading `first`, up to reading `last`."""
        return {what for i, what in self.events if first < i <= last}


def counter_of(info: MeterInfo, series: Series) -> Counter:
    """Readings of a counter, cleaned."""
    said = np.flatnonzero(~np.isnan(series.energy_j))
    t_ns, energy_j = series.t_ns[said], series.energy_j[said]
    half_ns = (series.read_s[said] * (NS_PER_S / 2)).astype(np.int64)
    steps, waits_s = np.diff(energy_j), np.diff(t_ns) / NS_PER_S
    limit_w = highest_w(info)
    largest_j = float(np.max(steps, initial=0.0))
    calm = largest_j <= limit_w * SILENT_S and not np.any(steps < 0)
    if calm and not _sparse(info, waits_s):
        return Counter(t_ns, half_ns, energy_j)
    keep, shift, events = _walk(info, t_ns, energy_j)
    return Counter(t_ns[keep], half_ns[keep], (energy_j + shift)[keep], tuple(events))


def _sparse(info: MeterInfo, waits_s: NDArray[np.float64]) -> bool:
    """Whether a counter might have begun anew between two readings and not be seen to."""
    longest_s = float(np.max(waits_s, initial=0.0))
    return info.range_j is not None and longest_s * highest_w(info) >= info.range_j


def _walk(
    info: MeterInfo, t_ns: NDArray[np.int64], energy_j: NDArray[np.float64]
) -> tuple[list[int], NDArray[np.float64], list[tuple[int, str]]]:
    """Which readings to keep, what to add to each, and what happened."""
    walk = _Walk(info, t_ns, energy_j)
    for i in range(1, len(t_ns)):
        walk.take(i)
    return walk.keep, walk.shift, walk.events


class _Walk:
    """Goes through readings that are not all as they should be, one by one."""

    def __init__(
        self, info: MeterInfo, t_ns: NDArray[np.int64], energy_j: NDArray[np.float64]
    ) -> None:
        self.info, self.t_ns, self.energy_j = info, t_ns, energy_j
        self.limit_w = highest_w(info)
        self.keep, self.shift = [0], np.zeros(len(t_ns))
        self.events: list[tuple[int, str]] = []
        self.changed = 0
        self.before_jump = -1

    def take(self, i: int) -> None:
        """Go on to a reading."""
        last = self.keep[-1]
        step = float(self.energy_j[i] - self.energy_j[last])
        self.shift[i] = self.shift[last]
        if step < 0 and not self._fell(i, last):
            return
        if step > 0 and step > self._could_j(i, SILENT_S):
            self.events.append((len(self.keep), "jump"))
            self.before_jump = last
        elif step >= 0 and self._unseen(i, last):
            self.events.append((len(self.keep), "unseen_wrap"))
        self.changed = i if step else self.changed
        self.keep.append(i)

    def _could_j(self, i: int, least_s: float = 0.0) -> float:
        """More than can have been used since the last change."""
        since = min(self.changed, i - 1)
        return self.limit_w * max(float(self.t_ns[i] - self.t_ns[since]) / NS_PER_S, least_s)

    def _unseen(self, i: int, last: int) -> bool:
        wait_s = float(self.t_ns[i] - self.t_ns[last]) / NS_PER_S
        return self.info.range_j is not None and self.limit_w * wait_s >= self.info.range_j

    def _fell(self, i: int, last: int) -> bool:
        """Deal with a counter that is lower than before; False if the reading is to be left out."""
        recent = self.before_jump >= 0 and i - self.before_jump <= RECOVERY
        if recent and self.energy_j[i] >= self.energy_j[self.before_jump]:
            while self.keep[-1] != self.before_jump:  # what was above was never used
                self.keep.pop()
            self.events = [
                (at, "spike" if at == len(self.keep) else what) for at, what in self.events
            ]
            self.shift[i], self.before_jump = self.shift[self.before_jump], -1
            return True
        what = _fall(self.info, self.energy_j[i], self.energy_j[last], self._could_j(i))
        if what == "backwards" and self._told_late(i, last):
            self.events.append((len(self.keep), "stale"))
            return False
        fall_j = float(self.energy_j[last] - self.energy_j[i])
        self.shift[i] += (self.info.range_j or 0.0) if what == "wrap" else fall_j
        unseen = what == "wrap" and self._unseen(i, last)
        self.events.append((len(self.keep), "unseen_wrap" if unseen else what))
        self.before_jump = -1
        return True

    def _told_late(self, i: int, last: int) -> bool:
        """Whether a value was there before, and is overtaken at once: it is an old one."""
        begin = int(np.searchsorted(self.t_ns, self.t_ns[i] - 10 * NS_PER_S))
        known = np.any(self.energy_j[begin:i] == self.energy_j[i])
        soon = self.energy_j[i + 1 : i + 1 + RECOVERY]
        return bool(known and np.any(soon >= self.energy_j[last]))


def _fall(info: MeterInfo, now_j: float, before_j: float, could_j: float) -> str:
    range_j = info.range_j or 0.0
    if before_j - now_j > range_j / 2 and 0 <= now_j - before_j + range_j <= could_j:
        return "wrap"
    return "reset" if now_j <= 0.1 * before_j else "backwards"


@dataclass(frozen=True)
class Ticks:
    """Changes of a counter.

    Attributes
    ----------
    begin_ns, end_ns : int arrays (K,)
        Between which the counter came to show a value: after the last read that did not show it,
        before the first that did. The first has no beginning.
    energy_j : array (K,)
    tick_s : float or None
        Median time between changes; None if it did not change twice.
    """

    begin_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    energy_j: NDArray[np.float64]
    tick_s: float | None

    @property
    def at_ns(self) -> NDArray[np.float64]:
        """Likeliest time of each change (K,); that of the first is unknown, and is its end."""
        middle = (self.begin_ns + self.end_ns) / 2
        middle[:1] = self.end_ns[:1]
        return middle


def ticks_of(counter: Counter) -> Ticks:
    """When a counter changed."""
    changed = 1 + np.flatnonzero(np.diff(counter.energy_j))
    seen = np.concatenate(([0], changed)) if len(counter) else changed
    begin_ns = counter.t_ns[changed - 1] - counter.half_ns[changed - 1]
    end_ns = counter.t_ns[seen] + counter.half_ns[seen]
    first = np.full(len(seen) - len(changed), -FAR_NS, np.int64)
    tick_s = float(np.median(np.diff(end_ns[1:]))) / NS_PER_S if len(changed) > 1 else None
    return Ticks(np.concatenate((first, begin_ns)), end_ns, counter.energy_j[seen], tick_s)


@dataclass(frozen=True)
class Moment:
    """Energy up to a moment, as a counter tells it.

    Attributes
    ----------
    low_j, high_j : float or None
        What the counter had shown before, and what it came to show after; None if it was not
        looked at before or did not change after.
    value_j : float
        Interpolated between the changes.
    first, last : int
        Ticks that the bounds are of.
    """

    low_j: float | None
    high_j: float | None
    value_j: float
    first: int
    last: int


def moment(ticks: Ticks, t_ns: int, lag_s: float) -> Moment:
    """Energy up to a moment, and its hard bounds."""
    lag_ns = round(lag_s * NS_PER_S)
    first = int(np.searchsorted(ticks.end_ns, t_ns, "right")) - 1
    last = int(np.searchsorted(ticks.begin_ns - lag_ns, t_ns, "left"))
    low = float(ticks.energy_j[first]) if first >= 0 else None
    high = float(ticks.energy_j[last]) if last < len(ticks.energy_j) else None
    value = float(_interpolate(ticks, t_ns + lag_ns))
    floor = -np.inf if low is None else low
    return Moment(low, high, min(max(value, floor), np.inf if high is None else high), first, last)


def _interpolate(ticks: Ticks, t_ns: int) -> float:
    """Energy by straight lines through the changes, prolonged by one before and one after."""
    at_ns, energy_j = ticks.at_ns[1:], ticks.energy_j[1:]
    if len(at_ns) < 2:
        return float(ticks.energy_j[-1])
    i = int(np.clip(np.searchsorted(at_ns, t_ns) - 1, 0, len(at_ns) - 2))
    slope = (energy_j[i + 1] - energy_j[i]) / (at_ns[i + 1] - at_ns[i])
    return float(energy_j[i] + slope * (t_ns - at_ns[i]))


def highest_power_w(ticks: Ticks) -> float | None:
    """Highest mean power between two changes."""
    if len(ticks.energy_j) < 3:
        return None
    return float(np.max(np.diff(ticks.energy_j[1:]) / np.diff(ticks.at_ns[1:]))) * NS_PER_S
