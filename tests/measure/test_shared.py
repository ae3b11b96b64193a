"""Meters that share an answer: one question per round, and the time of the answer."""

from __future__ import annotations

from wattshed.measure.clock import VirtualClock
from wattshed.measure.shared import MAX_AGE_S, Flags, Shared, SharedMeter
from wattshed.records import MeterInfo


class Source:
    """Answers how often it was asked, which takes it 2 ms; or not at all."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock, self.asked, self.is_gone = clock, 0, False

    def ask(self) -> tuple[int | None, Flags]:
        self.clock.sleep(0.002)
        self.asked += 1
        return (None, ("no_data",)) if self.is_gone else (self.asked, ())


def meters_of(source: Source) -> list[SharedMeter[int]]:
    shared = Shared(source.ask, source.clock)
    infos = [MeterInfo(f"shared:{n}", "shared", "counter", "gpu", (f"{n}",)) for n in range(3)]
    return [SharedMeter(info, shared, lambda count: (float(count), None, ())) for info in infos]


def test_each_round_asks_once_however_soon_the_next_one_comes() -> None:
    source = Source(VirtualClock())
    meters = meters_of(source)
    rounds = [[meter.read().energy_j for meter in meters] for _ in range(3)]
    assert rounds == [[1.0] * 3, [2.0] * 3, [3.0] * 3]


def test_a_reading_has_the_time_of_the_answer() -> None:
    source = Source(VirtualClock())
    first, second, _ = meters_of(source)
    before = first.read()
    source.clock.sleep(MAX_AGE_S / 2)
    assert second.read() == before
    assert (before.t_ns, before.read_s) == (1_000_000, 0.002)


def test_an_answer_that_is_too_old_is_not_handed_on() -> None:
    source = Source(VirtualClock())
    first, second, third = meters_of(source)
    first.read()
    source.clock.sleep(MAX_AGE_S * 1.1)
    assert (second.read().energy_j, third.read().energy_j) == (2.0, 2.0)


def test_a_source_that_does_not_answer_is_not_asked_again_in_the_round() -> None:
    source = Source(VirtualClock())
    meters = meters_of(source)
    source.is_gone = True
    readings = [meter.read() for meter in meters]
    assert [(reading.energy_j, reading.flags) for reading in readings] == [(None, ("no_data",))] * 3
    assert source.asked == 1
