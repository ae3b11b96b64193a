"""Meters that share an answer: a library or a server is asked once per round for all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from wattshed.measure.clock import NS_PER_S, Clock
from wattshed.measure.meter import PolledMeter
from wattshed.records import MeterInfo, Reading

T = TypeVar("T")
Flags = tuple[str, ...]
Said = tuple[float | None, float | None, Flags]
"""Energy in J, power in W, and flags; what is not known is None."""

NO_DATA: Flags = ("no_data",)
NOT_PERMITTED: Flags = ("not_permitted",)

MAX_AGE_S = 0.005
"""An answer that is older is not handed to the next meter of the round: it is asked for anew."""


@dataclass(frozen=True)
class Answer(Generic[T]):
    """What a source answered, and when.

    Attributes
    ----------
    value : T or None
        None where it did not answer; then `flags` says why.
    flags : tuple of str
    t_ns, t_wall_s, read_s
        See `Reading`.
    """

    value: T | None
    flags: Flags
    t_ns: int
    t_wall_s: float
    read_s: float


class Shared(Generic[T]):
    """A source that several meters read.

    Parameters
    ----------
    ask : callable
        Returns what it answers, or None and flags; it does not raise.
    clock : Clock
    """

    def __init__(self, ask: Callable[[], tuple[T | None, Flags]], clock: Clock) -> None:
        self._ask, self.clock = ask, clock
        self._answer: Answer[T] | None = None

    def answer(self, taken: Answer[T] | None) -> Answer[T]:
        """Answer of this round; a new one for whom has `taken` the last one already."""
        last = self._answer
        if last is None or last is taken or self._age_s(last) > MAX_AGE_S:
            last = self._answer = self._fetch()
        return last

    def _age_s(self, answer: Answer[T]) -> float:
        return (self.clock.mono_ns() - answer.t_ns) / NS_PER_S - answer.read_s / 2

    def _fetch(self) -> Answer[T]:
        before, wall = self.clock.mono_ns(), self.clock.wall_s()
        value, flags = self._ask()
        after = self.clock.mono_ns()
        middle = before + (after - before) // 2
        return Answer(value, flags, middle, wall, (after - before) / NS_PER_S)


class SharedMeter(PolledMeter, Generic[T]):
    """One component of a shared source; its readings have the times of the answer.

    Parameters
    ----------
    info : MeterInfo
    shared : Shared
    pick : callable
        What an answer says of the component.
    """

    def __init__(self, info: MeterInfo, shared: Shared[T], pick: Callable[[T], Said]) -> None:
        super().__init__(info, shared.clock)
        self._shared, self._pick = shared, pick
        self._taken: Answer[T] | None = None

    def ask(self) -> Said:
        """See `PolledMeter`."""
        return self._said(self._take())

    def read(self) -> Reading:
        """See `Meter`."""
        answer = self._take()
        energy_j, power_w, flags = self._said(answer)
        return Reading(answer.t_ns, answer.t_wall_s, energy_j, power_w, answer.read_s, flags)

    def _take(self) -> Answer[T]:
        self._taken = self._shared.answer(self._taken)
        return self._taken

    def _said(self, answer: Answer[T]) -> Said:
        if answer.value is None:
            return None, None, answer.flags
        return self._pick(answer.value)
