"""A machine with an engine and a meter whose energies are known."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from wattshed.errors import EngineError
from wattshed.measure.clock import NS_PER_S, VirtualClock
from wattshed.measure.meter import PolledMeter
from wattshed.measure.plant import Plant
from wattshed.records import DriverInfo, Generation, MeterInfo

IDLE_W, BUSY_W = 50.0, 300.0


class Machine:
    """An engine with a runtime that is linear in tokens, at constant power, and its counter."""

    def __init__(self, clock: VirtualClock, cannot: frozenset[int] = frozenset()) -> None:
        self.clock, self.cannot, self.plant = clock, cannot, Plant(IDLE_W)
        self.calls: list[tuple[int, int, int]] = []
        self.interrupt_at: int | None = None
        self.dies_at: int | None = None
        self.info = DriverInfo("lab", "tiny", "made-up 1.0", "made-up", note="random weights")

    @staticmethod
    def runtime_s(m: int, n: int, batch: int = 1) -> float:
        return 0.01 + 1e-4 * m + 0.02 * n * (1 + 0.1 * (batch - 1))

    def generate(self, input_tokens: int, output_tokens: int, batch_size: int = 1) -> Generation:
        if len(self.calls) == self.dies_at:
            raise EngineError("engine", "connection refused", "start it")
        if input_tokens in self.cannot:
            raise EngineError("engine", f"{input_tokens} tokens are too many", "ask for fewer")
        self.calls.append((input_tokens, output_tokens, batch_size))
        begun = self.clock.mono_ns()
        seconds = self.runtime_s(input_tokens, output_tokens, batch_size)
        ended = begun + round(seconds * NS_PER_S)
        self.plant.draw(begun, ended, BUSY_W)
        if len(self.calls) == self.interrupt_at:
            raise KeyboardInterrupt
        self.clock.sleep(seconds)
        return Generation(
            input_tokens, output_tokens, batch_size, begun, ended, flags=("simulated",)
        )

    def close(self) -> None:
        pass

    def meter(self, **settings: object) -> PolledMeter:
        plant = self.plant
        info = MeterInfo(
            **{"id": "m:0", "source": "m", "kind": "counter", "scope": "gpu", "covers": ("gpu-0",)}
            | settings  # type: ignore[arg-type]
        )

        class Counter(PolledMeter):
            def ask(self) -> tuple[float | None, float | None, tuple[str, ...]]:
                return plant.energy_j(self.clock.mono_ns()), None, ()

        return Counter(info, self.clock)


@pytest.fixture
def make_machine() -> Callable[..., Machine]:
    """A machine of its own clock; some input lengths are too long for it."""

    def build(cannot: frozenset[int] = frozenset()) -> Machine:
        return Machine(VirtualClock(), cannot)

    return build
