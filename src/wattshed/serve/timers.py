"""Time limits that nearly always are called off: many of them share one timer of the event loop.

A request sets half a dozen limits of seconds, and ends in milliseconds. Each timer of a loop costs
more than the rest of what they do; here a limit is an entry in a dict that is taken out again.
"""

from __future__ import annotations

import asyncio
import math
import types
from collections.abc import Awaitable, Callable, Generator
from functools import lru_cache
from types import TracebackType
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

T = TypeVar("T")


class Timer:
    """Something that is called once, unless it is called off before.

    Parameters
    ----------
    due_s : float
        On the clock of the loop.
    call : callable
    among : dict
        Those that take as long.
    """

    __slots__ = ("_among", "call", "due_s")

    def __init__(self, due_s: float, call: Callable[[], object], among: dict[Timer, None]) -> None:
        self.due_s, self.call, self._among = due_s, call, among
        among[self] = None

    def cancel(self) -> None:
        """Call it off."""
        self._among.pop(self, None)


class Timers:
    """The timers of an event loop. They ring at most 1 % late, and never early.

    Those that take equally long are due in the order in which they were set, so that only the first
    of each duration has to be looked at. Durations are rounded up to three digits to be equal.

    Parameters
    ----------
    loop : AbstractEventLoop
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._lasting: dict[float, dict[Timer, None]] = {}
        self._bell: asyncio.TimerHandle | None = None
        self._bell_s = math.inf

    def later(self, seconds: float, call: Callable[[], object]) -> Timer:
        """Have something called after some seconds."""
        lasting = rounded_up(seconds)
        timer = Timer(self.loop.time() + lasting, call, self._lasting.setdefault(lasting, {}))
        if timer.due_s < self._bell_s:
            self._set_bell(timer.due_s)
        return timer

    def _set_bell(self, at_s: float) -> None:
        if self._bell is not None:
            self._bell.cancel()
        self._bell, self._bell_s = self.loop.call_at(at_s, self._ring), at_s

    def _ring(self) -> None:
        self._bell, self._bell_s = None, math.inf
        now_s = self.loop.time()
        for lasting, those in list(self._lasting.items()):
            while those and (first := next(iter(those))).due_s <= now_s:
                first.cancel()
                first.call()
            if not those:
                del self._lasting[lasting]
        rest = [next(iter(those)).due_s for those in self._lasting.values() if those]
        if rest and min(rest) < self._bell_s:
            self._set_bell(min(rest))


class Within:
    """A time limit for what the running task does in a block, as `asyncio.timeout` sets it.

    Raises
    ------
    TimeoutError
        At the end of the block, if it took longer; what was awaited in it was cancelled.
    """

    __slots__ = ("_before", "_over", "_seconds", "_task", "_timer")

    def __init__(self, seconds: float) -> None:
        self._seconds, self._over = seconds, False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task, self._before = task, task.cancelling()
        self._timer = timers().later(max(0.0, self._seconds), self._end)

    def _end(self) -> None:
        self._over = True
        self._task.cancel()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        # Somebody else may have cancelled the task, too: that is not for us to undo.
        ours = self._over and self._task.uncancel() <= self._before
        if ours and kind is asyncio.CancelledError:
            raise TimeoutError from error


@types.coroutine
def within(seconds: float, work: Awaitable[T]) -> Generator[Any, Any, T]:
    """What some work gives, which may take so long; what need not wait sets no limit.

    Raises
    ------
    TimeoutError
    """
    steps = work.__await__()
    try:
        awaited = next(steps)
    except StopIteration as ended:
        return cast("T", ended.value)
    with Within(seconds):
        return (yield from _go_on(steps, awaited))


def _go_on(steps: Generator[Any, Any, T], awaited: Any) -> Generator[Any, Any, T]:
    """The rest of some work that waits for something: as ``yield from``, from its second step."""
    try:
        while True:
            try:
                yield awaited
            except BaseException as error:  # noqa: BLE001 - it is the work's to take
                awaited = steps.throw(error)
            else:
                awaited = next(steps)
    except StopIteration as ended:
        return cast("T", ended.value)


@lru_cache(maxsize=1024)
def rounded_up(seconds: float) -> float:
    """The next larger number with three digits."""
    if seconds <= 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(seconds)) - 2)
    return math.ceil(seconds / unit * (1 - 1e-12)) * unit


def timers() -> Timers:
    """The timers of the running loop."""
    loop = asyncio.get_running_loop()
    found = _OF.get(loop)
    if found is None:
        found = _OF[loop] = Timers(loop)
    return found


_OF: WeakKeyDictionary[asyncio.AbstractEventLoop, Timers] = WeakKeyDictionary()
