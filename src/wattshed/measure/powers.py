"""Power readings: energy by their integral, and how far it can be from the truth.

A reading says what power was at one moment, or its mean over the last second; what ran in between
is bounded by the readings around.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wattshed.measure.clock import NS_PER_S
from wattshed.measure.signs import highest_w
from wattshed.measure.trace import Series
from wattshed.records import MeterInfo

Array = NDArray[np.float64]
SPIKE = 3.0
"""A single reading that is so many times all others nearby is none of power."""
OFFSETS = 25
"""Where a row of means may begin: so many places are tried for the best bounds."""


@dataclass(frozen=True)
class Power:
    """Power readings in order of time, spikes left out.

    Attributes
    ----------
    t_ns : int array (N,)
    power_w : array (N,)
    spikes_ns : int array
        When readings were left out.
    update_s : float
        Time between new values: documented, or else as seen.
    poll_s : float
        Median time between readings.
    """

    t_ns: NDArray[np.int64]
    power_w: Array
    spikes_ns: NDArray[np.int64]
    update_s: float
    poll_s: float

    def __len__(self) -> int:
        return len(self.t_ns)


def power_of(info: MeterInfo, series: Series) -> Power:
    """Power readings, cleaned."""
    said = np.flatnonzero(~np.isnan(series.power_w))
    t_ns, power_w = series.t_ns[said], series.power_w[said]
    odd = spikes(info, power_w)
    t_ns, spikes_ns, power_w = t_ns[~odd], t_ns[odd], power_w[~odd]
    poll_s = float(np.median(np.diff(t_ns))) / NS_PER_S if len(t_ns) > 1 else 0.0
    return Power(t_ns, power_w, spikes_ns, _update_s(info, t_ns, power_w, poll_s), poll_s)


def spikes(info: MeterInfo, power_w: Array) -> NDArray[np.bool_]:
    """Single readings that no hardware of this scope could draw while those around are sane."""
    if len(power_w) < 5:
        return np.zeros(len(power_w), bool)
    usual = float(np.quantile(power_w, 0.99, method="lower"))
    high = power_w > highest_w(info)
    return high & (power_w > SPIKE * usual) & (usual <= highest_w(info))


def _update_s(info: MeterInfo, t_ns: NDArray[np.int64], power_w: Array, poll_s: float) -> float:
    if info.update_period_s is not None:
        return info.update_period_s
    changed_ns = t_ns[1:][np.diff(power_w) != 0]
    if len(changed_ns) < 3:
        return poll_s
    return float(np.quantile(np.diff(changed_ns), 0.1)) / NS_PER_S


@dataclass(frozen=True)
class Integral:
    """Energy between two moments from power readings.

    Attributes
    ----------
    value_j, low_j, high_j : float
    coverage : float
        Part of the time that lies between readings near enough to each other.
    """

    value_j: float
    low_j: float
    high_j: float
    coverage: float


def instantaneous(power: Power, t0_ns: int, t1_ns: int, delay_s: float) -> Integral:
    """Trapezoids, between the lowest and the highest readings around each.

    Parameters
    ----------
    power : Power
        Two readings at least.
    t0_ns, t1_ns : int
    delay_s : float
        How old a value may be, besides the time between new ones.
    """
    from scipy.ndimage import maximum_filter1d, minimum_filter1d

    reach_s = power.update_s + delay_s
    n = 2 * int(np.ceil(reach_s / power.poll_s)) + 1 if power.poll_s > 0 else 1
    low_w = minimum_filter1d(power.power_w, n, mode="nearest")
    high_w = maximum_filter1d(power.power_w, n, mode="nearest")
    waits_s = np.diff(power.t_ns) / NS_PER_S
    far = waits_s > _longest_wait_s(power)
    low_w, high_w = np.minimum(low_w[:-1], low_w[1:]), np.maximum(high_w[:-1], high_w[1:])
    middle_w = (power.power_w[:-1] + power.power_w[1:]) / 2
    low_w = np.where(far, 0.0, low_w)
    high_w = np.where(far, np.max(power.power_w), high_w)
    near = np.where(far, 0.0, 1.0)

    def between(rate: Array) -> float:
        sums = np.concatenate(([0.0], np.cumsum(rate * waits_s)))
        ends = np.interp([t0_ns, t1_ns], power.t_ns, sums)
        return float(ends[1] - ends[0])

    length_s = max((t1_ns - t0_ns) / NS_PER_S, 1e-9)
    coverage = min(1.0, between(near) / length_s)
    return Integral(between(middle_w), between(low_w), between(high_w), coverage)


def _longest_wait_s(power: Power) -> float:
    return 5 * max(power.poll_s, power.update_s) + 0.02


def averaged(
    power: Power, t0_ns: int, t1_ns: int, averaging_s: float, delay_s: float
) -> Integral | None:
    """Energy from trailing means: rows of means that fit into the window, or cover it.

    A mean over the last A seconds, times A, is the energy of those A seconds. As many as fit one
    after another into the window bound its energy from below; as few as cover it, from above.

    Parameters
    ----------
    power : Power
    t0_ns, t1_ns : int
    averaging_s : float
    delay_s : float
        How old a value may be, besides the time between new ones.

    Returns
    -------
    Integral or None
        None if means come so rarely that no row of them is sure to cover anything.
    """
    span = averaging_s * NS_PER_S
    old = (power.update_s + power.poll_s + delay_s) * NS_PER_S
    if span <= 2 * old:
        return None
    window = t1_ns - t0_ns
    fit = int(window // (span + old))
    ends = t0_ns + np.arange(1.0, fit + 1) * (span + old)
    low_j = float(np.max(_rows(power, ends, window - fit * (span + old), averaging_s)))
    cover = int(np.ceil(max(window + old - span, 0) / (span - old))) + 1
    ends = t1_ns + old - np.arange(float(cover)) * (span - old)
    spare = span + (cover - 1) * (span - old) - window - old
    spare = min(spare, max(0.0, float(power.t_ns[-1]) - t1_ns - old))  # no reading is later
    high_j = max(low_j, float(np.min(_rows(power, ends, spare, averaging_s))))
    unseen_s = max(0.0, t1_ns + old - float(power.t_ns[-1])) / NS_PER_S
    high_j += unseen_s * float(np.max(power.power_w))  # a guess, where the trace ends too soon
    half = round(span / 2)
    centred = instantaneous(power, t0_ns + half, t1_ns + half, 0.0)
    return Integral(min(max(centred.value_j, low_j), high_j), low_j, high_j, centred.coverage)


def _rows(power: Power, ends: Array, spare: float, averaging_s: float) -> Array:
    """Energy of rows of means that end at `ends`, or up to `spare` later: (OFFSETS,)."""
    at = (ends[None, :] + np.linspace(0.0, spare, OFFSETS)[:, None]).astype(np.int64)
    found = np.clip(np.searchsorted(power.t_ns, at, "right") - 1, 0, len(power) - 1)
    rows: Array = averaging_s * power.power_w[found].sum(axis=1)
    return rows
