"""What meters say of some endpoints, window by window. Reading may block: it has its own thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from msgspec import structs

from wattshed.errors import MeterError, ParameterError
from wattshed.measure.clock import NS_PER_S
from wattshed.measure.meter import Meter, open_meters
from wattshed.measure.sums import sum_windows
from wattshed.measure.trace import series_of
from wattshed.measure.windows import energy_of
from wattshed.records import MeterInfo, Reading, WindowEnergy
from wattshed.records.common import Boundary

WINDOW_S = 2.0
"""Length of a window, at least."""
READS = 10
"""Of a window, besides those at its ends."""
CLOSE_S = 0.01
"""Between the reads at the end of a window: its bounds are as wide as what is drawn meanwhile."""
BESIDE = 2
"""Reads on either side of the one that ends a window."""
UPDATES = 2
"""Windows are as long as so many documented refreshes of the meter, at least."""
LONGEST_S = 60.0
"""A meter that is silent for so long has lost what it would have said."""
LATER = 3
"""Reads before the first window, and after each before its energy is told: counters may be late."""
KEPT_S = 5.0
"""Readings before a window that are kept."""
COUNTED: dict[Boundary, tuple[Boundary, ...]] = {
    "accelerator": ("accelerator",),
    "host": ("accelerator", "host"),
    "wall": ("wall",),
}
"""Meters whose sum is what a profile of a boundary is of; one of them at least of that boundary."""
Opener = Callable[[str], list[Meter]]


@dataclass(frozen=True)
class Closed:
    """A window that is over.

    Attributes
    ----------
    begin_ns, end_ns : int
        Monotonic clock.
    began_at, ended_at : float
        Seconds since 1970, for people.
    energy : WindowEnergy
    """

    begin_ns: int
    end_ns: int
    began_at: float
    ended_at: float
    energy: WindowEnergy


class Gauge:
    """Meters that are read as one.

    Parameters
    ----------
    meters : sequence of Meter
        Of components that do not overlap.
    window_s : float

    Attributes
    ----------
    wait_s : float
        When to read again.
    """

    def __init__(self, meters: Sequence[Meter], window_s: float = WINDOW_S) -> None:
        self._meters = tuple(meters)
        self.infos = [meter.info for meter in meters]
        self.window_s = max(window_s, *(UPDATES * (i.update_period_s or 0.0) for i in self.infos))
        self.wait_s, self._near = CLOSE_S, 0
        self._readings: list[list[Reading]] = [[] for _ in meters]
        self._begin_ns: int | None = None
        self._wall_s: float | None = None
        self._over: deque[tuple[int, int]] = deque()

    @property
    def begun(self) -> bool:
        """Whether the first window has."""
        return self._begin_ns is not None

    def read(self, *, last: bool = False) -> None:
        """Read all meters; a window may end with it, and does with the last reading."""
        now = [meter.read() for meter in self._meters]
        for known, reading in zip(self._readings, now, strict=True):
            known.append(reading)
        at_ns = max(reading.t_ns for reading in now)
        if self._wall_s is None:
            self._wall_s = now[0].t_wall_s - now[0].t_ns / NS_PER_S
        said = all(r.energy_j is not None or r.power_w is not None for r in now)
        if self._begin_ns is None:
            self._begin(at_ns, said=said)
            return
        seconds = (at_ns - self._begin_ns) / NS_PER_S
        due = seconds > 0 and seconds >= (self.window_s if said else LONGEST_S)
        self._near += bool(self._near or due)
        if (last or self._near == 1 + BESIDE) and seconds > 0:
            self._over.append((self._begin_ns, at_ns))
            self._begin_ns = at_ns
        if self._near > 2 * BESIDE:
            self._near = 0
        self.wait_s = CLOSE_S if self._near else self.window_s / READS

    def _begin(self, at_ns: int, *, said: bool) -> None:
        """Begin the first window, but not at once: a counter's first value may be of any time."""
        if not said:
            for known in self._readings:
                known.clear()
        elif len(self._readings[0]) >= LATER:
            self._begin_ns, self._near = at_ns, 1 + BESIDE
        self.wait_s = CLOSE_S if said else self.window_s / READS

    def closed(self, *, last: bool = False) -> Iterator[Closed]:
        """Windows whose energy is known by now; with the last reading, as well as it can be."""
        while self._over and (last or self._is_known(self._over[0][1])):
            begin_ns, end_ns = self._over.popleft()
            began_at, ended_at = (
                (self._wall_s or 0.0) + at_ns / NS_PER_S for at_ns in (begin_ns, end_ns)
            )
            energy = self._energy(begin_ns, end_ns)
            yield Closed(begin_ns, end_ns, began_at, ended_at, energy)
            self._forget(end_ns)

    def _is_known(self, end_ns: int) -> bool:
        return all(
            len(known) >= LATER
            and known[-LATER].t_ns > end_ns
            and known[-1].t_ns - end_ns >= info.lag_s * NS_PER_S
            for known, info in zip(self._readings, self.infos, strict=True)
        )

    def _energy(self, begin_ns: int, end_ns: int) -> WindowEnergy:
        found = [
            _energy_of(info, known, begin_ns, end_ns)
            for info, known in zip(self.infos, self._readings, strict=True)
        ]
        if len(found) == 1:
            return found[0]
        try:
            return sum_windows(found, self.infos)
        except ParameterError:  # one of them has come to count what another does
            return structs.replace(found[0], value_j=None, flags=("scope_changed",))

    def _forget(self, until_ns: int) -> None:
        for known, info in zip(self._readings, self.infos, strict=True):
            kept_s = max(KEPT_S, 5 * (info.update_period_s or 0.0), 3 * info.averaging_s)
            early_ns = until_ns - round((kept_s + info.lag_s) * NS_PER_S)
            known[:] = [reading for reading in known if reading.t_ns >= early_ns]


def _energy_of(
    info: MeterInfo, readings: Sequence[Reading], begin_ns: int, end_ns: int
) -> WindowEnergy:
    """Of windows side by side: differences of one counter, which add up to its own."""
    counts = any(reading.energy_j is not None for reading in readings)
    method = "counter-difference" if counts else "auto"
    return energy_of(info, series_of(readings), begin_ns, end_ns, method=method)


def open_gauge(text: str, boundary: Boundary, opener: Opener = open_meters) -> Gauge:
    """Open what covers a boundary among the meters that a text names.

    Raises
    ------
    ParameterError, MeterError
    """
    found = opener(text)
    kept = [
        meter
        for meter in found
        if meter.info.boundary in COUNTED[boundary] and meter.info.scope != "gpu_memory"
    ]
    if all(meter.info.boundary != boundary for meter in kept):
        others = ", ".join(sorted({meter.info.boundary for meter in found}))
        cure = f"name a meter of the boundary of the profile: {boundary}"
        raise MeterError("it", f"measures {others or 'nothing'}", cure)
    gauge = Gauge(kept)
    refuse_overlaps({text: gauge})
    return gauge


def refuse_overlaps(gauges: dict[str, Gauge]) -> None:
    """Refuse meters that count a component twice.

    Raises
    ------
    ParameterError
    """
    seen: dict[str, str] = {}
    for text, gauge in gauges.items():
        for part in (part for info in gauge.infos for part in info.covers):
            if part in seen:
                both = f"{seen[part]} and {text}" if seen[part] != text else text
                cure = "name a meter that counts each component once"
                raise ParameterError("upstream.meters", f"{both} count {part} twice", cure)
            seen[part] = text
