"""What a simulated engine draws, and the page on which it tells: its meter."""

from __future__ import annotations

import secrets
import time

from wattshed.measure.clock import NS_PER_S
from wattshed.measure.metrics import SIMULATED
from wattshed.measure.plant import Plant

KEPT_NS = NS_PER_S
"""Draws that are over for longer are let go of."""


class Power:
    """Power of a simulated engine over time.

    Parameters
    ----------
    idle_w : float
    speed : float
        How many times faster than its profile the engine is. What work takes above idle stays as
        it is; idle power is drawn in the time that passes.
    """

    def __init__(self, idle_w: float, speed: float) -> None:
        self.plant = Plant(idle_w)
        self._speed, self._last_ns = speed, 0
        self._name = secrets.token_hex(4)

    def draw(self, begin_s: float, end_s: float, joules: float) -> None:
        """Draw what a step takes by its profile, from one moment to another of this clock."""
        begin_ns = max(self._last_ns, round(begin_s * NS_PER_S))
        end_ns = round(end_s * NS_PER_S)
        if end_ns <= begin_ns:
            return
        seconds, idle_w = (end_ns - begin_ns) / NS_PER_S, self.plant.idle_power_w
        above_j = joules - idle_w * seconds * self._speed
        # A fit may have a step draw less than idle; no power is below 0.
        self.plant.draw(begin_ns, end_ns, max(0.0, idle_w + above_j / seconds))
        self.plant.forget(begin_ns - KEPT_NS)
        self._last_ns = end_ns

    def page(self) -> bytes:
        """Energy up to now, as Prometheus reads it."""
        energy_j = self.plant.energy_j(time.monotonic_ns())
        return f'# simulated\n{SIMULATED}{{engine="{self._name}"}} {energy_j!r}\n'.encode()
