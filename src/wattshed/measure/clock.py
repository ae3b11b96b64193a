"""The clock that meters, engines and campaigns read: the machine's, or one that a test moves."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Protocol

NS_PER_S = 1_000_000_000


class Clock(Protocol):
    """Time, and waiting for it to pass."""

    def mono_ns(self) -> int:
        """Nanoseconds since an arbitrary zero; never steps."""
        ...

    def wall_s(self) -> float:
        """Seconds since the epoch; may step."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class SystemClock:
    """The machine's."""

    def mono_ns(self) -> int:
        """See `Clock`."""
        return time.monotonic_ns()

    def wall_s(self) -> float:
        """See `Clock`."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """See `Clock`."""
        time.sleep(seconds)


SYSTEM_CLOCK = SystemClock()


@dataclass
class VirtualClock:
    """A clock that stands still until somebody sleeps: for simulated meters and engines.

    Attributes
    ----------
    now_ns : int
    epoch_s : float
        Wall clock at `now_ns` 0.
    """

    now_ns: int = 0
    epoch_s: float = field(default=1_700_000_000.0)

    def mono_ns(self) -> int:
        """See `Clock`."""
        return self.now_ns

    def wall_s(self) -> float:
        """See `Clock`."""
        return self.epoch_s + self.now_ns / NS_PER_S

    def sleep(self, seconds: float) -> None:
        """Let time pass at once."""
        self.now_ns += max(0, round(seconds * NS_PER_S))
