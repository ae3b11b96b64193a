"""The clock that meters, engines and campaigns read: the machine's, or one that a test moves."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable
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

    def repeat(self, seconds: float, action: Callable[[], None]) -> Callable[[], None]:
        """Have something done again and again, until what is returned is called."""
        ...


class SystemClock:
    """The machine's; what repeats does so in a thread of its own."""

    def mono_ns(self) -> int:
        """See `Clock`."""
        return time.monotonic_ns()

    def wall_s(self) -> float:
        """See `Clock`."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """See `Clock`."""
        time.sleep(seconds)

    def repeat(self, seconds: float, action: Callable[[], None]) -> Callable[[], None]:
        """See `Clock`; what is returned waits for the last repetition to end."""
        stop = threading.Event()

        def run() -> None:
            while not stop.wait(seconds):
                action()

        thread = threading.Thread(target=run, name="wattshed-repeat", daemon=True)
        thread.start()

        def end() -> None:
            stop.set()
            thread.join()

        return end


SYSTEM_CLOCK = SystemClock()


class VirtualClock:
    """A clock that stands still until somebody sleeps: for simulated meters and engines.

    What repeats is done while somebody sleeps, at its times, in order; so a campaign of hours
    takes seconds, and takes the same each time.

    Parameters
    ----------
    now_ns : int
    epoch_s : float
        Wall clock at 0 ns.
    """

    def __init__(self, now_ns: int = 0, epoch_s: float = 1_700_000_000.0) -> None:
        self.now_ns, self.epoch_s = now_ns, epoch_s
        self._due: list[tuple[int, int, int, Callable[[], None]]] = []
        self._count = 0

    def mono_ns(self) -> int:
        """See `Clock`."""
        return self.now_ns

    def wall_s(self) -> float:
        """See `Clock`."""
        return self.epoch_s + self.now_ns / NS_PER_S

    def sleep(self, seconds: float) -> None:
        """Let time pass at once, and what is due in it be done."""
        until = self.now_ns + max(0, round(seconds * NS_PER_S))
        while self._due and self._due[0][0] <= until:
            at, number, step, action = heapq.heappop(self._due)
            self.now_ns = max(self.now_ns, at)
            heapq.heappush(self._due, (at + step, number, step, action))
            action()
        self.now_ns = max(self.now_ns, until)

    def repeat(self, seconds: float, action: Callable[[], None]) -> Callable[[], None]:
        """See `Clock`."""
        step = max(1, round(seconds * NS_PER_S))
        self._count += 1
        number = self._count
        heapq.heappush(self._due, (self.now_ns + step, number, step, action))

        def end() -> None:
            self._due = [entry for entry in self._due if entry[1] != number]
            heapq.heapify(self._due)

        return end
