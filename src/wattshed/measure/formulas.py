"""The energy formulas of the study of hybrid clusters, by name, with what its scripts do instead.

Wilkins, Keshav and Mortier, "Hybrid Heterogeneous Clusters Can Lower the Energy Consumption of LLM
Inference Workloads", e-Energy '24, section 4.2. The published scripts are those of
``grantwilkins/energy-inference``.

Each is a sum over samples i of mean powers P_i times their lengths dt_i. With `begin_s` and
`window_s` = (t0, t1), a sample counts for as long as it overlaps the window. A power that is not
known, within the window, is refused: it is no 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wattshed.errors import ParameterError, TableError
from wattshed.fit.rules import PAUSE_S
from wattshed.units import JOULES_PER_MICROJOULE, JOULES_PER_MILLIJOULE

Floats = NDArray[np.float64]
Window = tuple[float, float]

UNITS = {"J": 1.0, "mJ": JOULES_PER_MILLIJOULE, "uJ": JOULES_PER_MICROJOULE}
PLAUSIBLE_W = (5.0, 5000.0)
"""Mean power of an accelerator under load: a factor of 1000 wide, so that only one unit fits."""
CORES_MISS = "cores_miss_package"
WRONG_UNIT = "wrong_unit"


def overlap_s(begin_s: ArrayLike, dt_s: ArrayLike, window_s: Window) -> Floats:
    """How long each sample (N,) lies within a window.

    Raises
    ------
    ParameterError
        If the window ends before it begins.
    """
    begin, dt = np.asarray(begin_s, float), np.asarray(dt_s, float)
    t0, t1 = window_s
    if not t0 <= t1:
        raise ParameterError("window", f"ends at {t1:g} s, before {t0:g} s", "swap the two")
    inside: Floats = np.minimum(begin + dt, t1) - np.maximum(begin, t0)
    return np.clip(inside, 0.0, None)


def apple_gpu_energy_j(
    gpu_power_w: ArrayLike,
    dt_s: ArrayLike,
    begin_s: ArrayLike | None = None,
    window_s: Window | None = None,
) -> float:
    """E = sum_i P_GPU,i dt_i (section 4.2.2).

    The scripts do the same with the elapsed time that is printed; but the timed call begins with a
    pause of 2 s, and its energy is counted.

    Parameters
    ----------
    gpu_power_w, dt_s : arrays (N,)
    begin_s : array (N,), optional
    window_s : (t0, t1), optional

    Raises
    ------
    TableError, ParameterError
    """
    return _energy_j(np.asarray(gpu_power_w, float), dt_s, begin_s, window_s)


def apple_cpu_energy_j(
    cpu_power_w: ArrayLike,
    alpha: ArrayLike,
    dt_s: ArrayLike,
    begin_s: ArrayLike | None = None,
    window_s: Window | None = None,
) -> float:
    """E = sum_i alpha_i P_CPU,i dt_i (section 4.2.2).

    alpha_i is the energy impact of the process over that of ``ALL_TASKS``. Where several processes
    have the same name, the scripts take the last one only; where a sample does not list it, they
    mix it with the next one.

    Parameters
    ----------
    cpu_power_w, alpha, dt_s : arrays (N,)
    begin_s : array (N,), optional
    window_s : (t0, t1), optional

    Raises
    ------
    TableError, ParameterError
    """
    share = np.asarray(alpha, float) * np.asarray(cpu_power_w, float)
    return _energy_j(share, dt_s, begin_s, window_s)


def rapl_net_energy_j(
    package_power_w: ArrayLike,
    idle_power_w: ArrayLike,
    dt_s: ArrayLike,
    begin_s: ArrayLike | None = None,
    window_s: Window | None = None,
) -> float:
    """E = sum_i [(P_0,i - P_0,idle) + (P_1,i - P_1,idle)] dt_i (section 4.2.3).

    The scripts difference the counters around the call, and take off a constant (33 to 40 W per
    package) times the runtime. Less than 0 is possible, and is left as it is.

    Parameters
    ----------
    package_power_w : array (N, packages)
    idle_power_w : array (packages,)
    dt_s : array (N,)
    begin_s : array (N,), optional
    window_s : (t0, t1), optional

    Raises
    ------
    TableError, ParameterError
    """
    net_w = np.asarray(package_power_w, float) - np.asarray(idle_power_w, float)
    return _energy_j(net_w.sum(axis=1), dt_s, begin_s, window_s)


def uprof_core_energy_j(
    core_power_w: ArrayLike,
    active: Sequence[int] | Sequence[Collection[int]],
    dt_s: ArrayLike,
    begin_s: ArrayLike | None = None,
    window_s: Window | None = None,
) -> float:
    """E = sum over active cores and i of P_core,i dt_i (section 4.2.4).

    Cores are active in a sample if psutil saw the process on them. Core powers leave out most of
    the package: see `core_sum_flags`. The scripts do otherwise: see `uprof_mean_core_energy_j`.

    Parameters
    ----------
    core_power_w : array (N, cores)
    active : sequence of int, or of N collections of int
        Columns: the same for all samples, or of each sample.
    dt_s : array (N,)
    begin_s : array (N,), optional
    window_s : (t0, t1), optional

    Raises
    ------
    TableError, ParameterError
    """
    power_w = np.asarray(core_power_w, float)
    chosen = _chosen(active, power_w.shape)
    return _energy_j(np.where(chosen, power_w, 0.0).sum(axis=1), dt_s, begin_s, window_s)


def uprof_mean_core_energy_j(
    core_power_w: ArrayLike, cores: Sequence[int], runtime_s: float
) -> float:
    """E = sum over fixed cores of their mean power in the whole log, times the runtime.

    What the published scripts do instead of section 4.2.4: two cores per model, written down by
    hand (in the input sweep, two of the three take those of the third), over the whole timechart.

    Parameters
    ----------
    core_power_w : array (N, cores)
    cores : sequence of int
        Columns; one that is named twice counts twice, as there.
    runtime_s : float

    Raises
    ------
    TableError, ParameterError
    """
    power_w = np.asarray(core_power_w, float)
    _chosen(cores, power_w.shape)
    mean_w = power_w[:, list(cores)].mean(axis=0)
    if not np.isfinite(mean_w).all():
        raise TableError("core_power_w", "has powers that are not known", "leave these cores out")
    return float(mean_w.sum()) * runtime_s


def counter_energy_j(start: float, end: float, unit: str) -> float:
    """E = counter at the end - counter at the start (section 4.2.1 prints no formula; its code).

    The counter is that of the whole device, idle included, though the paper says "for a tracked
    process". Published raw files are in mJ on one machine and in uJ on the other: see `unit_flags`.

    Parameters
    ----------
    start, end : float
    unit : {"J", "mJ", "uJ"}

    Raises
    ------
    ParameterError
        If the unit is unknown.
    TableError
        If the counter went back: it was reset.
    """
    if unit not in UNITS:
        raise ParameterError("unit", f"{unit!r} is unknown", f"use one of {', '.join(UNITS)}")
    if not end >= start:
        raise TableError("counter", f"goes back from {start:g} to {end:g}", "leave the run out")
    return (end - start) * UNITS[unit]


def without_pause(window_s: Window, pause_s: float = PAUSE_S) -> Window:
    """Window of a call of the scripts without the pause that each begins with.

    Raises
    ------
    ParameterError
        If nothing is left.
    """
    begin_s, end_s = window_s[0] + pause_s, window_s[1]
    if begin_s >= end_s:
        raise ParameterError(
            "window", f"is {window_s[1] - window_s[0]:g} s long", f"give more than {pause_s:g} s"
        )
    return begin_s, end_s


def plausible_unit(counted: float, runtime_s: float) -> str | None:
    """Unit in which a difference of counters is the energy of one accelerator under load.

    None if there is none.
    """
    low_w, high_w = PLAUSIBLE_W
    for unit, joules in UNITS.items():
        if low_w <= counted * joules / runtime_s < high_w:
            return unit
    return None


def unit_flags(counted: float, runtime_s: float, unit: str) -> tuple[str, ...]:
    """``wrong_unit`` if another unit than the stated one makes sense of a counted difference."""
    return () if plausible_unit(counted, runtime_s) in (None, unit) else (WRONG_UNIT,)


def core_sum_flags(core_power_w: ArrayLike, socket_power_w: ArrayLike) -> tuple[str, ...]:
    """``cores_miss_package`` if all cores together draw less than half of what the sockets do.

    Parameters
    ----------
    core_power_w : array (N, cores)
    socket_power_w : array (N, sockets)
        Without columns if the log has none: then nothing is said.
    """
    cores_w = np.asarray(core_power_w, float).sum()
    sockets_w = np.asarray(socket_power_w, float).sum()
    return (CORES_MISS,) if cores_w < sockets_w / 2 else ()


@dataclass(frozen=True)
class Method:
    """A formula of the study.

    Attributes
    ----------
    function : callable
        Returns an energy in J.
    needs : tuple of str
        Its arguments without those for clipping.
    counts : str
        What its energy is of.
    """

    function: Callable[..., float]
    needs: tuple[str, ...]
    counts: str


METHODS: dict[str, Method] = {
    "apple-gpu": Method(apple_gpu_energy_j, ("gpu_power_w", "dt_s"), "GPU, gross"),
    "apple-cpu": Method(
        apple_cpu_energy_j, ("cpu_power_w", "alpha", "dt_s"), "CPU, share of a process"
    ),
    "rapl-net": Method(
        rapl_net_energy_j, ("package_power_w", "idle_power_w", "dt_s"), "CPU packages, net of idle"
    ),
    "uprof-core": Method(
        uprof_core_energy_j, ("core_power_w", "active", "dt_s"), "CPU cores that were active"
    ),
    "uprof-mean-core": Method(
        uprof_mean_core_energy_j, ("core_power_w", "cores", "runtime_s"), "CPU cores, run average"
    ),
    "counter": Method(counter_energy_j, ("start", "end", "unit"), "GPU, gross"),
}
"""Four boundaries: convert before comparing. None of them counts DRAM."""


def _energy_j(
    power_w: Floats, dt_s: ArrayLike, begin_s: ArrayLike | None, window_s: Window | None
) -> float:
    """Sum of powers times lengths, exactly rounded."""
    lengths_s = np.asarray(dt_s, float)
    if window_s is not None:
        begin = np.cumsum(lengths_s) - lengths_s if begin_s is None else begin_s
        lengths_s = overlap_s(begin, lengths_s, window_s)
    if lengths_s.shape != power_w.shape:
        raise ParameterError(
            "dt_s", f"has {lengths_s.size} samples, powers {power_w.size}", "give one for each"
        )
    unknown = ~np.isfinite(power_w) & (lengths_s > 0)
    if unknown.any():
        raise TableError(
            f"sample {int(np.argmax(unknown))}",
            "its power, or its share, is not known",
            "clip to a window that leaves it out",
        )
    return math.fsum((power_w * lengths_s)[lengths_s > 0])


def _chosen(
    active: Sequence[int] | Sequence[Collection[int]], shape: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Mask (N, cores) of the active cores."""
    fixed = [core for core in active if isinstance(core, int | np.integer)]
    each: list[Collection[int]] = [
        core for core in active if not isinstance(core, int | np.integer)
    ]
    if fixed and each:
        raise ParameterError("active", "has numbers and lists", "give columns, or a list by sample")
    rows = each if each else [fixed] * shape[0]
    if len(rows) != shape[0]:
        raise ParameterError(
            "active", f"has {len(rows)} samples, powers {shape[0]}", "give a list for each"
        )
    mask = np.zeros(shape, bool)
    for i, cores in enumerate(rows):
        beyond = [core for core in cores if not 0 <= core < shape[1]]
        if beyond:
            raise ParameterError("active", f"has core {beyond[0]} of {shape[1]}", "name a column")
        mask[i, list(cores)] = True
    return mask
