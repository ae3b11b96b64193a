"""Metered energy of a window, split among the requests that were there: pure functions of values.

What the meter said, less the floor that idle replicas draw, falls to requests by weights: what each
made its engine do. The floor falls to those who were there, equally at each moment; to nobody where
nobody was. What cannot be given to anybody is said to be unattributed, never hidden:

    sum of dynamic + sum of idle parts + idle + unattributed = metered, exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Window:
    """Energy between two moments, by a meter.

    Attributes
    ----------
    begin_s, end_s : float
    energy_j : float
    low_j, high_j : float or None
        Bounds of the energy; None where they are not known.
    """

    begin_s: float
    end_s: float
    energy_j: float
    low_j: float | None = None
    high_j: float | None = None


@dataclass(frozen=True)
class Resident:
    """A request at an endpoint.

    Attributes
    ----------
    endpoint : str
    begin_s, end_s : float
        When it came and left; inf while it is there.
    begins, ends, weights : arrays (P,)
        Its work in pieces: spread evenly from one moment to another, or all at one moment.
    """

    endpoint: str
    begin_s: float
    end_s: float
    begins: Array
    ends: Array
    weights: Array


@dataclass(frozen=True)
class Share:
    """What falls to a request.

    Attributes
    ----------
    joules, idle_joules : float
        By its work, and of the floor.
    low_j, high_j : float or None
        Bounds of `joules` that follow from those of the window; that the weights are right is
        taken for granted.
    """

    joules: float
    idle_joules: float
    low_j: float | None
    high_j: float | None


@dataclass(frozen=True)
class Shares:
    """A window that was split.

    Attributes
    ----------
    parts : list of Share
        Of each resident.
    idle_j : dict of float
        Floor of each endpoint while nobody was there.
    unattributed_j : float
        Above the floor, with nobody who worked; or below it, then negative.
    """

    parts: list[Share]
    idle_j: dict[str, float]
    unattributed_j: float


def attribute(window: Window, residents: Sequence[Resident], idle_w: Mapping[str, float]) -> Shares:
    """Split the energy of a window.

    Parameters
    ----------
    window : Window
    residents : sequence of Resident
        All who were there at any time of it.
    idle_w : mapping
        Power of each endpoint that the meter covers while it is idle with its model loaded.
    """
    work = np.array([work_in(window, resident) for resident in residents])
    total = float(work.sum())
    floor_j = sum(idle_w.values()) * (window.end_s - window.begin_s)
    above_j = window.energy_j - floor_j
    given = above_j >= 0 and total > 0
    parts = work / total if total > 0 else np.zeros(len(residents))
    joules = (above_j if given else 0.0) * parts
    low_j, high_j = _above(window.low_j, floor_j), _above(window.high_j, floor_j)
    own_j, empty_j = _floors(window, residents, idle_w)
    shares = [
        Share(
            joule,
            idle,
            low_j if low_j is None else low_j * p,
            high_j if high_j is None else high_j * p,
        )
        for joule, idle, p in zip(joules.tolist(), own_j.tolist(), parts.tolist(), strict=True)
    ]
    return Shares(shares, empty_j, 0.0 if given else above_j)


def _above(bound_j: float | None, floor_j: float) -> float | None:
    """A bound of what is above the floor: work takes no less than nothing."""
    return None if bound_j is None else max(0.0, bound_j - floor_j)


def work_in(window: Window, resident: Resident) -> float:
    """Weight of a resident in a window."""
    begins, ends = resident.begins, resident.ends
    seconds = ends - begins
    inside = np.minimum(ends, window.end_s) - np.maximum(begins, window.begin_s)
    at_once = seconds <= 0
    part = np.clip(inside, 0.0, None) / np.where(at_once, 1.0, seconds)
    there = (begins >= window.begin_s) & (begins < window.end_s)
    return float(np.where(at_once, there, part) @ resident.weights)


def _floors(
    window: Window, residents: Sequence[Resident], idle_w: Mapping[str, float]
) -> tuple[Array, dict[str, float]]:
    """The floor of those who were there (N,), and of each endpoint while nobody was."""
    own_j, empty_j = np.zeros(len(residents)), {}
    for endpoint, power_w in idle_w.items():
        those = [i for i, resident in enumerate(residents) if resident.endpoint == endpoint]
        begins = np.array([residents[i].begin_s for i in those])
        ends = np.array([residents[i].end_s for i in those])
        seconds, empty_s = shared_seconds(window, begins, ends)
        own_j[those] = power_w * seconds
        empty_j[endpoint] = power_w * empty_s
    return own_j, empty_j


def shared_seconds(window: Window, begins: Array, ends: Array) -> tuple[Array, float]:
    """Time of a window, split equally at each moment among those (N,) who are there; the rest."""
    begins = np.clip(begins, window.begin_s, window.end_s)
    ends = np.clip(ends, window.begin_s, window.end_s)
    times = np.unique(np.concatenate((begins, ends, [window.begin_s, window.end_s])))
    first, last = np.searchsorted(times, begins), np.searchsorted(times, ends)
    came = np.bincount(first, minlength=len(times)) - np.bincount(last, minlength=len(times))
    there, seconds = np.cumsum(came)[:-1], np.diff(times)
    each = np.where(there > 0, seconds / np.maximum(there, 1), 0.0)
    sums = np.concatenate(([0.0], np.cumsum(each)))
    return sums[last] - sums[first], float(seconds[there == 0].sum())
