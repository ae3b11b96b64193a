"""What can be wrong with a simulated meter, and the parts of it that make it so."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Literal

import numpy as np

from wattshed.measure.clock import NS_PER_S
from wattshed.measure.plant import Plant


@dataclass(frozen=True)
class Faults:
    """Faults of a meter; moments are counted in seconds from its opening.

    Attributes
    ----------
    tick_s, jitter_s : float
        Time between new values of the counter, and its standard deviation; 0 changes always.
    power_tick_s : float
        Time between new values of power.
    averaging_s : float
        Power is a mean over the time before.
    duty, duty_period_s, duty_phase_s : float
        The sensor looks at this part of each period only, and takes it for the whole.
    step_j : float
        The counter shows whole multiples of it.
    gain : float
        Relative error of counter and power.
    lag_s : float
        Values are so old when they are published.
    range_j : float
        The counter begins anew at it; 0 never.
    reset_at_s, backwards_at_s, frozen_at_s, denied_at_s, module_at_s : float or None
        When the counter begins anew, steps back by `backwards_j`, stops (power, too), may no
        longer be read, or counts a whole module, which draws `module_w` more.
    zero : bool
        Always 0.
    near_zero : bool
        A ten-thousandth of what is drawn.
    unsupported : {"", "energy", "power", "both"}
        ``energy``, ``power`` or ``both`` are not given.
    gap_every_s, gap_s : float
        Every so often, nothing can be read for so long.
    stale_s : float
        Values are fetched again only after so long.
    late_s : float
        A value is up to so old, each by chance, and does not say so.
    out_of_order : float
        Part of the readings that come late, and say of which moment they are.
    wall_step_at_s : float or None
    wall_step_s : float
        The wall clock steps by so much.
    slices : int
        So many meters repeat the same counter.
    spike_every : int
        One reading in so many is nonsense; 0 none.
    counter_factor : float
        What the counter shows, as a multiple of what it should.
    unit_factor : float
        The same for counter and power: 1000 for millijoules taken for joules.
    read_s : float
        How long a read takes.
    documented : bool
        Whether the maker tells of tick, averaging, step, gain, lag and range. He never tells of
        the others.
    """

    tick_s: float = 0.0
    jitter_s: float = 0.0
    power_tick_s: float = 0.0
    averaging_s: float = 0.0
    duty: float = 1.0
    duty_period_s: float = 0.1
    duty_phase_s: float = 0.0
    step_j: float = 0.0
    gain: float = 0.0
    lag_s: float = 0.0
    range_j: float = 0.0
    reset_at_s: float | None = None
    backwards_at_s: float | None = None
    backwards_j: float = 200.0
    frozen_at_s: float | None = None
    denied_at_s: float | None = None
    module_at_s: float | None = None
    module_w: float = 150.0
    zero: bool = False
    near_zero: bool = False
    unsupported: Literal["", "energy", "power", "both"] = ""
    gap_every_s: float = 0.0
    gap_s: float = 0.5
    stale_s: float = 0.0
    late_s: float = 0.0
    out_of_order: float = 0.0
    wall_step_at_s: float | None = None
    wall_step_s: float = 30.0
    slices: int = 1
    spike_every: int = 0
    counter_factor: float = 1.0
    unit_factor: float = 1.0
    read_s: float = 0.0
    documented: bool = True


NONE = Faults()


class Ticks:
    """When values are published anew.

    Parameters
    ----------
    begin_ns : int
        A tick has been before it.
    tick_s, jitter_s : float
        Mean and standard deviation of the time between ticks; 0 is always.
    seed : SeedSequence
    """

    def __init__(
        self, begin_ns: int, tick_s: float, jitter_s: float, seed: np.random.SeedSequence
    ) -> None:
        self._tick_s, self._jitter_s = tick_s, jitter_s
        self._random = np.random.default_rng(seed)
        self._at_ns = [begin_ns - round(tick_s * self._random.random() * NS_PER_S)]

    def before(self, at_ns: int) -> int:
        """The last at or before a moment; the first there is for one before it."""
        if self._tick_s <= 0:
            return at_ns
        while self._at_ns[-1] <= at_ns:
            step_s = self._tick_s + self._jitter_s * self._random.standard_normal()
            self._at_ns.append(self._at_ns[-1] + round(max(step_s, self._tick_s / 10) * NS_PER_S))
        return self._at_ns[max(0, bisect_right(self._at_ns, at_ns) - 1)]


class PartTime:
    """A sensor that looks during a part of each period, and holds what it saw until the next.

    Parameters
    ----------
    plant : Plant
    begin_ns : int
        It has looked once before.
    faults : Faults
        Its duty, period and phase.
    """

    def __init__(self, plant: Plant, begin_ns: int, faults: Faults) -> None:
        self._plant = plant
        self._period_ns = round(faults.duty_period_s * NS_PER_S)
        self._look_ns = round(faults.duty * faults.duty_period_s * NS_PER_S)
        phase_ns = round(faults.duty_phase_s * NS_PER_S)
        self._origin_ns = begin_ns - self._period_ns + phase_ns % self._period_ns
        self._seen_w: list[float] = []
        self._sums_j = [0.0]

    def _look(self, at_ns: int) -> int:
        """Index of the last look that had ended at a moment."""
        last = max(0, (at_ns - self._origin_ns - self._look_ns) // self._period_ns)
        while len(self._seen_w) <= last:
            begin = max(0, self._origin_ns + len(self._seen_w) * self._period_ns)
            end = max(1, begin + self._look_ns)
            self._seen_w.append(self._plant.mean_power_w(begin, end))
            held_j = self._seen_w[-1] * self._period_ns / NS_PER_S
            self._sums_j.append(self._sums_j[-1] + held_j)
        return last

    def power_w(self, at_ns: int) -> float:
        """What was seen last."""
        return self._seen_w[self._look(at_ns)]

    def energy_j(self, at_ns: int) -> float:
        """As if all the time had been as what was seen."""
        last = self._look(at_ns)
        since_ns = at_ns - self._origin_ns - self._look_ns - last * self._period_ns
        return self._sums_j[last] + self._seen_w[last] * max(0, since_ns) / NS_PER_S
