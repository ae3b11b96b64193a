"""Meters of known truth: they read a `Plant`, with the faults that real meters have."""

from __future__ import annotations

import math
from dataclasses import asdict, fields
from math import floor
from typing import TypeVar

import msgspec
import numpy as np

from wattshed.errors import ParameterError
from wattshed.measure.clock import NS_PER_S, Clock
from wattshed.measure.health import look_at
from wattshed.measure.meter import Meter
from wattshed.measure.meters.faults import NONE, Faults, PartTime, Ticks
from wattshed.measure.plant import Plant
from wattshed.records import Health, MeterInfo, Reading

__all__ = ["Faults", "SimulatedMeter", "SquareWave", "meters_for", "open_meters"]

SPIKE_J, SPIKE_W = 1e7, 1e6
"""What a spike adds to the counter, and shows as power."""
LARGEST = 1e9
RANGES = {
    "duty": (1e-3, 1.0),
    "duty_period_s": (1e-3, LARGEST),
    "period_s": (1e-3, LARGEST),
    "slices": (1, 64),
    "gain": (-0.9, LARGEST),
    "wall_step_s": (-LARGEST, LARGEST),
}
"""Of numbers in arguments that are not from 0 to `LARGEST`."""
T = TypeVar("T")


class SimulatedMeter:
    """A meter of a plant, whose info states what a maker would.

    Parameters
    ----------
    plant : Plant
    clock : Clock
    faults : Faults
    seed : int
        Of ticks, and of what happens by chance.
    id : str
    """

    def __init__(
        self,
        plant: Plant,
        clock: Clock,
        faults: Faults = NONE,
        seed: int = 0,
        id: str = "simulated:0",
    ) -> None:
        self.plant, self.clock, self.faults = plant, clock, faults
        self._opened_ns = clock.mono_ns()
        ticks, chance = np.random.SeedSequence(seed).spawn(2)
        self._random = np.random.default_rng(chance)
        self._tick = Ticks(self._opened_ns, faults.tick_s, faults.jitter_s, ticks)
        self._power_tick = Ticks(self._opened_ns, faults.power_tick_s, 0.0, ticks)
        self._sensor = PartTime(plant, self._opened_ns, faults) if faults.duty < 1 else plant
        self._count = 0
        self._info = _info(faults, id)

    @property
    def info(self) -> MeterInfo:
        """See `Meter`."""
        return self._info

    def probe(self) -> Health:
        """See `Meter`."""
        return look_at(self, self.clock)

    def read(self) -> Reading:
        """See `Meter`."""
        f, now_ns = self.faults, self.clock.mono_ns()
        self._count += 1
        at_ns, stamp_ns, wall_s = self._times(now_ns)
        if self._since(f.denied_at_s, now_ns):
            return Reading(stamp_ns, wall_s, read_s=f.read_s, flags=("not_permitted",))
        if self._in_gap(now_ns) or f.unsupported == "both":
            return Reading(stamp_ns, wall_s, read_s=f.read_s, flags=("no_data",))
        flags = ("scope_widened",) if self._since(f.module_at_s, at_ns) else ()
        at_ns = max(self._opened_ns, self._told_ns(at_ns))
        energy_j, power_w = self._energy_j(at_ns), self._power_w(at_ns)
        if f.spike_every and self._count % f.spike_every == 0:
            energy_j, power_w = energy_j + SPIKE_J, SPIKE_W
        energy = None if f.unsupported == "energy" else energy_j
        power = None if f.unsupported == "power" else power_w
        return Reading(stamp_ns, wall_s, energy, power, f.read_s, flags)

    def _times(self, now_ns: int) -> tuple[int, int, float]:
        """Moment that is looked at, and both clocks as the reading will say they were."""
        f, wall_s = self.faults, self.clock.wall_s()
        wall_s += f.wall_step_s if self._since(f.wall_step_at_s, now_ns) else 0.0
        back_ns = 0
        if f.out_of_order and self._random.random() < f.out_of_order:
            back_ns = round(0.02 * self._random.random() * NS_PER_S)
        at_ns = now_ns - back_ns - round(f.read_s * self._random.random() * NS_PER_S)
        stamp_ns = now_ns - back_ns - round(f.read_s / 2 * NS_PER_S)
        return at_ns, stamp_ns, wall_s - back_ns / NS_PER_S

    def _since(self, at_s: float | None, now_ns: int) -> bool:
        return at_s is not None and now_ns - self._opened_ns >= at_s * NS_PER_S

    def _in_gap(self, now_ns: int) -> bool:
        f = self.faults
        return f.gap_every_s > 0 and self._seconds(now_ns) % f.gap_every_s > f.gap_every_s - f.gap_s

    def _seconds(self, now_ns: int) -> float:
        return (now_ns - self._opened_ns) / NS_PER_S

    def _told_ns(self, at_ns: int) -> int:
        """Moment whose values are told: an earlier one, if something holds them."""
        f = self.faults
        if f.stale_s:
            hold = round(f.stale_s * NS_PER_S)
            at_ns -= (at_ns - self._opened_ns) % hold
        if f.late_s:
            at_ns -= round(f.late_s * self._random.random() * NS_PER_S)
        if self._since(f.frozen_at_s, at_ns) and f.frozen_at_s is not None:
            at_ns = self._opened_ns + round(f.frozen_at_s * NS_PER_S)
        return at_ns

    # ------------------------------------------------------------ what it says

    def _energy_j(self, at_ns: int) -> float:
        f = self.faults
        at_ns = self._tick.before(at_ns)
        shown = self._true_j(at_ns)
        if f.reset_at_s is not None and self._since(f.reset_at_s, at_ns):
            shown -= self._true_j(self._opened_ns + round(f.reset_at_s * NS_PER_S))
        if self._since(f.backwards_at_s, at_ns):
            shown -= f.backwards_j
        shown *= f.counter_factor * self._factor()
        shown = floor(shown / f.step_j) * f.step_j if f.step_j else shown
        return shown % f.range_j if f.range_j else shown

    def _true_j(self, at_ns: int) -> float:
        """Before the counter gets it: late, sensed in part, of more than it should be."""
        f, at_ns = self.faults, self._lagged_ns(at_ns)
        more_j = 0.0
        if f.module_at_s is not None and self._since(f.module_at_s, at_ns):
            more_j = f.module_w * (self._seconds(at_ns) - f.module_at_s)
        return more_j + self._sensor.energy_j(at_ns)

    def _power_w(self, at_ns: int) -> float:
        f = self.faults
        at_ns = self._lagged_ns(self._power_tick.before(at_ns))
        if f.averaging_s:
            begin_ns = max(0, at_ns - round(f.averaging_s * NS_PER_S))
            power_w = self.plant.mean_power_w(begin_ns, at_ns)
        else:
            power_w = self._sensor.power_w(at_ns)
        power_w += f.module_w if self._since(f.module_at_s, at_ns) else 0.0
        return power_w * self._factor()

    def _lagged_ns(self, at_ns: int) -> int:
        return max(0, at_ns - round(self.faults.lag_s * NS_PER_S))

    def _factor(self) -> float:
        f = self.faults
        return (
            (1 + f.gain) * f.unit_factor * (0.0 if f.zero else 1.0) * (1e-4 if f.near_zero else 1)
        )


def _info(f: Faults, id: str) -> MeterInfo:
    known = f if f.documented else NONE
    return MeterInfo(
        id=id,
        source="simulated",
        kind="power" if f.unsupported == "energy" else "counter",
        scope="gpu",
        covers=(f"{id.partition('/')[0]}",),
        vendor="wattshed",
        model="simulated",
        resolution_j=known.step_j or None,
        update_period_s=known.tick_s or None,
        averaging_s=known.averaging_s,
        rel_error=abs(known.gain),
        rel_error_source="simulated" if known.gain else "",
        range_j=known.range_j or None,
        lag_s=known.lag_s,
        note="simulated: its energy was used by no machine",
    )


class SquareWave(Plant):
    """A machine that draws high and low power in turn, for ever: for demonstrations.

    Parameters
    ----------
    low_w, high_w : float
    period_s : float
        Half of it is high.
    """

    def __init__(self, low_w: float = 250.0, high_w: float = 700.0, period_s: float = 0.8) -> None:
        super().__init__(low_w)
        self._high_w, self._half_ns = high_w, round(period_s / 2 * NS_PER_S)

    def power_w(self, at_ns: int) -> float:
        """See `Plant`."""
        return self.idle_power_w if (at_ns // self._half_ns) % 2 else self._high_w

    def energy_j(self, at_ns: int) -> float:
        """See `Plant`."""
        halves, rest = divmod(at_ns, self._half_ns)
        high_ns = (halves + 1) // 2 * self._half_ns + (rest if halves % 2 == 0 else 0)
        return (at_ns * self.idle_power_w + high_ns * (self._high_w - self.idle_power_w)) / NS_PER_S


class Ripple(SquareWave):
    """A square wave with a sine on it, of another period: power that never comes round again.

    A sensor that looks part of the time only is not caught by a load as regular as itself.

    Parameters
    ----------
    low_w, high_w : float
        Least and most power.
    period_s : float
        Of the square wave.
    """

    def __init__(self, low_w: float, high_w: float, period_s: float) -> None:
        self._swing_w = 0.1 * (high_w - low_w)
        super().__init__(low_w + self._swing_w, high_w - self._swing_w, period_s)
        self._turn_ns = period_s * NS_PER_S * (math.sqrt(5.0) - 1.0) / (4.0 * math.pi)

    def power_w(self, at_ns: int) -> float:
        """See `Plant`."""
        return super().power_w(at_ns) + self._swing_w * math.sin(at_ns / self._turn_ns)

    def energy_j(self, at_ns: int) -> float:
        """See `Plant`."""
        more = 1.0 - math.cos(at_ns / self._turn_ns)
        return super().energy_j(at_ns) + self._swing_w * self._turn_ns / NS_PER_S * more


def meters_for(
    plant: Plant, clock: Clock, faults: Faults = NONE, seed: int = 0, id: str = "simulated:0"
) -> list[Meter]:
    """Meters that read a plant: one, or as many slices as the faults ask for.

    Parameters
    ----------
    plant : Plant
    clock : Clock
        That of the engine that draws from the plant.
    faults : Faults
    seed : int
    id : str
    """
    if faults.slices == 1:
        return [SimulatedMeter(plant, clock, faults, seed, id)]
    return [SimulatedMeter(plant, clock, faults, seed, f"{id}/{i}") for i in range(faults.slices)]


class _Load(msgspec.Struct, frozen=True):
    """What of an argument is of the plant, not of the meter."""

    low_w: float = 250.0
    high_w: float = 700.0
    period_s: float = 0.8
    seed: int = 0


def open_meters(argument: str, clock: Clock, plant: Plant | None = None) -> list[Meter]:
    """Meters of a machine whose power goes up and down: ``FAULT=VALUE,...``.

    Besides the fields of `Faults`, ``low_w``, ``high_w`` and ``period_s`` of its load may be given,
    and the ``seed``. Without a tick, it is 0.1 s, as that of many counters is.

    Parameters
    ----------
    argument : str
    clock : Clock
    plant : Plant, optional
        What they read instead: that of a simulated engine. Its load is its own.

    Raises
    ------
    ParameterError
        If a fault is unknown, or its value is none.
    """
    given = dict(_pair(text) for text in argument.split(",") if text)
    load_names = _Load.__struct_fields__
    load = _converted({name: given[name] for name in given if name in load_names}, _Load)
    given = {"tick_s": "0.1"} | {name: given[name] for name in given if name not in load_names}
    known = [field.name for field in fields(Faults)]
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ParameterError(
            "meter simulated",
            f"fault {unknown[0]!r} is unknown",
            f"use some of {', '.join([*known, *load_names])}",
        )
    faults = _converted(given, Faults)
    _refuse_impossible(faults, load)
    plant = plant or Ripple(load.low_w, load.high_w, load.period_s)
    return meters_for(plant, clock, faults, load.seed)


def _refuse_impossible(faults: Faults, load: _Load) -> None:
    for name, value in {**asdict(faults), **msgspec.structs.asdict(load)}.items():
        low, high = RANGES.get(name, (0.0, LARGEST))
        if isinstance(value, int | float) and not low <= value <= high:
            raise ParameterError(
                "meter simulated", f"{name}={value:g}", f"give a number from {low:g} to {high:g}"
            )


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ParameterError("meter simulated", f"{text!r} has no value", "give FAULT=VALUE,...")
    return name.strip(), value.strip()


def _converted(given: dict[str, str], kind: type[T]) -> T:
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise ParameterError(
            "meter simulated", str(error), "give numbers, true or false, in seconds and joules"
        ) from None
