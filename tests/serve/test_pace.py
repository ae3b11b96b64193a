"""Simulated engines keep the pace of the simulator."""

from __future__ import annotations

import asyncio
import selectors

import numpy as np
import pytest
from msgspec import structs

from wattshed import load_fleet, read_workload
from wattshed.records import Deployment
from wattshed.replicas import engines_of
from wattshed.serve.pace import Pace
from wattshed.simulate.arrivals import draw_requests
from wattshed.simulate.engine import simulate_requests
from wattshed.simulate.model import Requests


class NoWait(selectors.DefaultSelector):
    """Time passes at once when there is nothing else to do."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if not found and timeout:
            self.now_s += timeout
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on a clock of its own."""

    def __init__(self) -> None:
        self.clock = NoWait()
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.now_s


async def play(deployment: Deployment, requests: Requests, speed: float) -> np.ndarray:
    """First and last token (2, Q) of each request, seconds of the profile."""
    pace = Pace(deployment, speed)
    serving = asyncio.create_task(pace.run())
    loop = asyncio.get_running_loop()

    async def one(q: int) -> tuple[float, float]:
        await asyncio.sleep(requests.arrival_s[q] / speed)
        job = pace.submit(int(requests.input_tokens[q]), int(requests.output_tokens[q]))
        times = []
        for _ in range(job.output_tokens):
            await job.tokens.get()
            times.append(loop.time() * speed)
        return times[0], times[-1]

    found = await asyncio.gather(*(one(q) for q in range(len(requests))))
    serving.cancel()
    return np.array(found).T


DEPLOYMENTS = [
    *load_fleet("mixed-70b").deployments,
    next(d for d in load_fleet("hybrid-2024").deployments if d.name == "a100"),
]


@pytest.mark.parametrize("speed", [1.0, 20.0])
@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: str(d.name))
def test_tokens_come_when_the_simulator_says(deployment: Deployment, speed: float) -> None:
    alone = structs.replace(deployment, replicas=1, max_input_tokens=None, max_output_tokens=None)
    workload = read_workload("alpaca" if deployment.name == "a100" else "azure-conv-2023")
    requests = draw_requests(workload, 60, 0.05 if deployment.name == "a100" else 4.0, seed=2)
    engines = engines_of([alone], requests.input_tokens, requests.output_tokens)
    expected = simulate_requests(engines, requests)
    loop = VirtualLoop()
    try:
        first_s, last_s = loop.run_until_complete(play(alone, requests, speed))
    finally:
        loop.close()
    np.testing.assert_allclose(first_s, expected.first_token_s, rtol=1e-6)
    np.testing.assert_allclose(last_s, expected.finish_s, rtol=1e-6)
