"""What hardware can draw, and signs in readings that something else is the matter."""

from __future__ import annotations

import numpy as np

from wattshed.measure.clock import NS_PER_S
from wattshed.measure.trace import Series
from wattshed.records import MeterInfo
from wattshed.records.measure import Scope

LIMIT_W: dict[Scope, float] = {
    "gpu": 4e3,
    "gpu_memory": 1e3,
    "module": 8e3,
    "cpu_package": 2e3,
    "dram": 1e3,
    "soc": 2e3,
    "node": 1e5,
    "wall": 1e6,
}
"""More than any hardware of a scope draws: what implies more is no energy."""

LEAST_W: dict[Scope, float] = {"gpu": 1.0, "module": 1.0, "cpu_package": 0.2, "node": 1.0}
"""Less than what of this scope draws while it is powered; parts of a chip may draw nothing."""

ASLEEP = ("Apple",)
"""Makers whose parts draw next to nothing while nothing runs on them."""

SILENT_TICKS = 5.0
SILENT_S = 0.5
"""A counter that does not change for so many of its ticks, and so long, is called frozen."""
WALL_STEP_S = 0.1


def highest_w(info: MeterInfo) -> float:
    """Power above which nothing that a meter says is believed."""
    return LIMIT_W[info.scope] if info.limit_w is None else info.limit_w


def unlikely(info: MeterInfo, power_w: float) -> set[str]:
    """Whether mean power is more, or less, than what the scope may draw."""
    if power_w > highest_w(info):
        return {"wrong_unit"}
    least_w = 0.0 if info.vendor in ASLEEP else LEAST_W.get(info.scope, 0.0)
    return {"zero"} if power_w < least_w and info.provenance != "modelled" else set()


def is_silent(info: MeterInfo, seconds: float, usual_s: float) -> bool:
    """Whether a counter did not change for longer than low power could explain."""
    by_resolution_s = (info.resolution_j or 0.0) / LEAST_W.get(info.scope, 0.2)
    documented_s = 3 * (info.update_period_s or 0.0)
    return seconds > max(SILENT_S, usual_s, by_resolution_s, documented_s)


def wall_stepped(series: Series) -> bool:
    """Whether the wall clock ran otherwise than the monotonic one."""
    ahead_s = series.t_wall_s - series.t_ns / NS_PER_S
    return bool(np.any(np.abs(np.diff(ahead_s)) > WALL_STEP_S + series.read_s[1:]))
