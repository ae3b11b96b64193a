"""A machine whose power is known: what simulated engines draw from, and simulated meters read."""

from __future__ import annotations

from bisect import bisect_right

from wattshed.measure.clock import NS_PER_S


class Plant:
    """Power over time, and its exact integral.

    Power is constant between changes. An engine writes down what it will draw before it lets the
    time pass; a meter may ask at any moment up to then.

    Parameters
    ----------
    idle_power_w : float
        While nobody draws more.
    """

    def __init__(self, idle_power_w: float) -> None:
        self.idle_power_w = idle_power_w
        self._begin_ns: list[int] = [0]
        self._power_w: list[float] = [idle_power_w]
        self._energy_j: list[float] = [0.0]

    def draw(self, begin_ns: int, end_ns: int, power_w: float) -> None:
        """Draw `power_w` in all, from one moment to another; later than all draws so far."""
        if end_ns <= begin_ns:
            return
        self._turn(begin_ns, power_w)
        self._turn(end_ns, self.idle_power_w)

    def _turn(self, at_ns: int, power_w: float) -> None:
        last = self._begin_ns[-1]
        if at_ns < last:
            raise ValueError(f"draws must be in order of time: {at_ns} ns comes before {last} ns")
        self._energy_j.append(self.energy_j(at_ns))
        self._begin_ns.append(at_ns)
        self._power_w.append(power_w)

    def forget(self, until_ns: int) -> None:
        """Let go of draws before a moment, of which nobody will ask again."""
        i = bisect_right(self._begin_ns, until_ns) - 1
        if i > 0:
            for known in (self._begin_ns, self._power_w, self._energy_j):
                del known[:i]

    def power_w(self, at_ns: int) -> float:
        """Power at a moment."""
        return self._power_w[bisect_right(self._begin_ns, at_ns) - 1]

    def energy_j(self, at_ns: int) -> float:
        """Energy from 0 ns to a moment."""
        i = bisect_right(self._begin_ns, at_ns) - 1
        return self._energy_j[i] + self._power_w[i] * (at_ns - self._begin_ns[i]) / NS_PER_S

    def mean_power_w(self, begin_ns: int, end_ns: int) -> float:
        """Mean power between two moments."""
        if end_ns <= begin_ns:
            return self.power_w(begin_ns)
        return (self.energy_j(end_ns) - self.energy_j(begin_ns)) * NS_PER_S / (end_ns - begin_ns)
