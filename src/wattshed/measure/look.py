"""What the readings of a short look come to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wattshed.measure.clock import NS_PER_S
from wattshed.measure.counters import Counter, Ticks, counter_of, ticks_of
from wattshed.measure.powers import Power, instantaneous, power_of
from wattshed.measure.trace import Series
from wattshed.records import MeterInfo


@dataclass(frozen=True)
class Look:
    """What readings of a short look come to; what the checks look at.

    Attributes
    ----------
    info : MeterInfo
    series : Series
    counter : Counter
    ticks : Ticks
    power : Power
    seconds : float
    flags : frozenset of str
        That readings carry.
    """

    info: MeterInfo
    series: Series
    counter: Counter
    ticks: Ticks
    power: Power
    seconds: float
    flags: frozenset[str]

    @property
    def counted_w(self) -> float | None:
        """Mean power by the counter, between its first change seen and its last."""
        if len(self.ticks.energy_j) < 3:
            return None
        at_ns, energy_j = self.ticks.at_ns, self.ticks.energy_j
        return float(energy_j[-1] - energy_j[1]) * NS_PER_S / float(at_ns[-1] - at_ns[1])

    @property
    def sensed_w(self) -> float | None:
        """Mean of the power readings, over the same time if the counter changed."""
        if len(self.power) == 0:
            return None
        if self.counted_w is None or len(self.power) < 2:
            return float(np.mean(self.power.power_w))
        begin, end = (round(float(t)) for t in self.ticks.at_ns[[1, -1]])
        found = instantaneous(self.power, begin, end, 0.0)
        return found.value_j * NS_PER_S / (end - begin)

    @property
    def mean_w(self) -> float | None:
        """Mean power, by the counter if it says."""
        return self.sensed_w if self.counted_w is None else self.counted_w

    @property
    def ratio(self) -> float | None:
        """Energy by the counter over that by power."""
        counted_w, sensed_w = self.counted_w, self.sensed_w
        return counted_w / sensed_w if counted_w is not None and sensed_w else None


def look_of(info: MeterInfo, series: Series) -> Look:
    """What readings come to."""
    counter = counter_of(info, series)
    seconds = float(series.t_ns[-1] - series.t_ns[0]) / NS_PER_S if len(series) else 0.0
    flags = frozenset(flag for one in set(series.flags) for flag in one)
    return Look(info, series, counter, ticks_of(counter), power_of(info, series), seconds, flags)
