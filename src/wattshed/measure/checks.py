"""What can be wrong with a meter, and how readings show it.

Each check says in one sentence what it found, or nothing. The first that finds something gives a
certificate its reason and its cure: so what explains the others comes first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from wattshed.measure.clock import NS_PER_S
from wattshed.measure.look import Look
from wattshed.measure.signs import (
    SILENT_S,
    SILENT_TICKS,
    highest_w,
    is_silent,
    unlikely,
    wall_stepped,
)
from wattshed.records import MeterStatus

RATIO = 0.1
"""How far counter and power may lie apart, besides what the ends of a look are not sure of."""
UNITS = (1e-6, 1e-3, 1e3, 1e6)
GAP_S = 0.25
LEAST_HELD_S = 0.05
"""Power that is new more often than this follows a load closely enough."""


@dataclass(frozen=True)
class Check:
    """A flag, what finds it, and what to do about it.

    Attributes
    ----------
    flag : str
    finds : function of Look
        The reason in one sentence, or an empty text.
    cure : str
    status : {"missing", "not_permitted", "not_trusted"}
    """

    flag: str
    finds: Callable[[Look], str]
    cure: str
    status: MeterStatus = "not_trusted"


def not_permitted(look: Look) -> str:
    """Reading was refused, from the first or from some moment on."""
    refused = sum("not_permitted" in flags for flags in look.series.flags)
    return f"{refused} of {len(look.series)} readings were not permitted" if refused else ""


def no_data(look: Look) -> str:
    """Neither energy nor power; or no energy from what is an energy counter."""
    if len(look.counter) == 0 and len(look.power) == 0:
        return f"none of {len(look.series)} readings has energy or power"
    if len(look.counter) == 0 and look.info.kind == "counter":
        return "its energy counter is not supported: it gives power only"
    return ""


def zero(look: Look) -> str:
    """Nothing but zeros, or less power than the scope can draw."""
    values = np.concatenate((look.counter.energy_j, look.power.power_w))
    if len(values) and not values.any():
        return "it shows nothing but 0"
    mean_w = look.mean_w
    if mean_w is not None and "zero" in unlikely(look.info, mean_w):
        return f"it shows {mean_w:.3g} W, less than a powered {look.info.scope} draws"
    return ""


def frozen(look: Look) -> str:
    """The counter stands still for longer than its tick, and low power, could explain."""
    if len(look.counter) == 0 or not look.counter.energy_j.any():
        return ""
    ends_ns = np.append(look.ticks.end_ns, look.counter.t_ns[-1])
    silent_s = float(np.max(np.diff(ends_ns), initial=0.0)) / NS_PER_S
    usual_s = SILENT_S if look.ticks.tick_s is None else SILENT_TICKS * look.ticks.tick_s
    if not is_silent(look.info, silent_s, usual_s) or _longest_wait_s(look) > silent_s / 2:
        return ""
    power = "and gives no power to compare with"
    if look.sensed_w is not None:
        power = f"while it shows {look.sensed_w:.3g} W"
        if look.sensed_w * silent_s < (look.info.resolution_j or 0.0):
            return ""
    return f"its counter stood still for {silent_s:.2g} s, {power}"


def _longest_wait_s(look: Look) -> float:
    return float(np.max(np.diff(look.counter.t_ns), initial=0.0)) / NS_PER_S


def _happened(what: str, sentence: str) -> Callable[[Look], str]:
    """A check for what cleaning the counter came upon."""

    def finds(look: Look) -> str:
        at = [i for i, event in look.counter.events if event == what]
        if not at:
            return ""
        seconds = float(look.counter.t_ns[min(at[0], len(look.counter) - 1)] - look.series.t_ns[0])
        return f"{sentence} {len(at)} times, first after {seconds / NS_PER_S:.2g} s"

    return finds


def wrong_unit(look: Look) -> str:
    """More power than the scope can draw, or counter and power a thousand times apart."""
    mean_w, ratio = look.mean_w, look.ratio
    if mean_w is not None and mean_w > highest_w(look.info):
        return f"it shows {mean_w:.3g} W, more than a {look.info.scope} can draw"
    if ratio is not None and any(abs(ratio / unit - 1) < 0.3 for unit in UNITS):
        return f"its counter shows {ratio:.3g} times the energy of its power"
    return ""


def disagrees(look: Look) -> str:
    """Counter and power tell different energies."""
    ratio = look.ratio
    if ratio is None:
        return ""
    changed_s = float(look.ticks.at_ns[-1] - look.ticks.at_ns[1]) / NS_PER_S
    unsure = (look.info.averaging_s + look.power.update_s + look.info.lag_s) / changed_s
    power_w = look.power.power_w
    swing = float(np.max(power_w) - np.min(power_w)) / float(np.mean(power_w))
    if abs(ratio - 1) <= RATIO + min(unsure * swing, 1.0):
        return ""
    return f"its counter shows {ratio:.3g} times the energy of its power"


def spike(look: Look) -> str:
    """Readings, or a jump of the counter, that no hardware of the scope could cause."""
    power = len(look.power.spikes_ns)
    counter = sum(what in ("spike", "jump") for _, what in look.counter.events)
    if not power and not counter:
        return ""
    return f"{power + counter} of its values are more than a {look.info.scope} can draw"


def stale(look: Look) -> str:
    """Old values: told by the meter, by a counter that falls back, or by a slow tick."""
    late = sum("stale" in flags for flags in look.series.flags)
    late += sum(what == "stale" for _, what in look.counter.events)
    if late:
        return f"{late} of {len(look.series)} readings are of an earlier moment"
    tick_s, documented_s = look.ticks.tick_s, look.info.update_period_s
    if tick_s is not None and documented_s and tick_s > 3 * documented_s:
        return f"its counter changes every {tick_s:.2g} s, not every {documented_s:.2g} s"
    return ""


def gap(look: Look) -> str:
    """Readings that are missing."""
    said = ~(np.isnan(look.series.energy_j) & np.isnan(look.series.power_w))
    if not said.any():
        return ""
    times = look.series.t_ns[said]
    waits_s = np.diff(times) / NS_PER_S
    longest_s = float(np.max(waits_s, initial=0.0))
    usual_s = float(np.median(waits_s)) if len(waits_s) else 0.0
    if longest_s <= max(GAP_S, 5 * usual_s):
        return ""
    return f"it gave nothing for {longest_s:.2g} s"


def clock_step(look: Look) -> str:
    """The wall clock went otherwise than the monotonic one."""
    return "the wall clock was set while it was read" if wall_stepped(look.series) else ""


def scope_widened(look: Look) -> str:
    """The meter began to count more than it says."""
    if "scope_widened" not in look.flags:
        return ""
    return f"it counts more than the {look.info.scope} that it is of"


def part_time(look: Look) -> str:
    """Power is held from one look to the next, and a counter, if there is one, adds up just that.

    A sensor that looks at all times would find other energy than such samples do, wherever power
    changes in between; one that agrees with them, tick by tick, has seen no more than they.
    """
    held_s = _held_s(look)
    if held_s is None or look.info.averaging_s > 0:
        return ""
    if len(look.ticks.energy_j) < 6:
        return f"it gives power at moments {held_s:.2g} s apart" if len(look.counter) == 0 else ""
    if look.ticks.tick_s is None or held_s < look.ticks.tick_s / 2 or _left_over(look) > 0.2:
        return ""
    return f"power is looked at once in {held_s:.2g} s, and its counter adds up no more than that"


def _held_s(look: Look) -> float | None:
    """Time between new values of power, if they come regularly, rarely, and all differ."""
    power = look.power
    changed = 1 + np.flatnonzero(np.diff(power.power_w))
    if len(changed) < 6 or len(np.unique(power.power_w[changed])) < 0.5 * len(changed):
        return None
    waits_s = np.diff(power.t_ns[changed]) / NS_PER_S
    held_s = float(np.median(waits_s))
    if held_s < max(4 * power.poll_s, LEAST_HELD_S):
        return None
    beside_s = np.abs(waits_s - held_s * np.maximum(1, np.round(waits_s / held_s)))
    regular = float(np.mean(beside_s <= 2 * power.poll_s + 0.02 * held_s))
    return held_s if regular >= 0.8 else None


def _left_over(look: Look) -> float:
    """Energy per tick beside that of held power, to how the latter differs from tick to tick."""
    at_ns, power = look.ticks.at_ns[1:], look.power
    waits_s = np.diff(power.t_ns) / NS_PER_S
    sums = np.concatenate(([0.0], np.cumsum(power.power_w[:-1] * waits_s)))
    held_j = np.diff(np.interp(at_ns, power.t_ns, sums))
    beside_j = np.diff(look.ticks.energy_j[1:]) - held_j
    usual_j2 = float(np.mean(np.diff(held_j) ** 2))
    return float(np.sqrt(np.mean(beside_j**2) / max(usual_j2, 1e-12)))


CHECKS = (
    Check("not_permitted", not_permitted, "ask for the right to read it", "not_permitted"),
    Check("no_data", no_data, "use another meter, or integrate power", "missing"),
    Check("zero", zero, "update the driver, or use another meter"),
    Check("wrong_unit", wrong_unit, "check the unit that the meter's source gives"),
    Check("frozen", frozen, "restart what provides the counter, or use power readings"),
    Check("stale", stale, "read it more directly, or ask its server to refresh more often"),
    Check("reset", _happened("reset", "its counter began anew"), "look for driver reloads"),
    Check("backwards", _happened("backwards", "its counter went back"), "update the driver"),
    Check(
        "wrap",
        _happened("unseen_wrap", "its counter may have wrapped unseen"),
        "read it more often",
    ),
    Check("spike", spike, "update the driver; windows with such values have none"),
    Check("scope_widened", scope_widened, "compare it with meters of a module only"),
    Check("part_time", part_time, "repeat queries, or measure long windows: bounds are widened"),
    Check("disagrees", disagrees, "compare with another meter, and use the one that agrees"),
    Check("gap", gap, "lighten the load of the machine or the network that it is read over"),
    Check("clock_step", clock_step, "let the clock settle; windows use the monotonic clock"),
)
