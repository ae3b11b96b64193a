"""Simulated engines keep the pace of the simulator."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from msgspec import structs

from wattshed import load_fleet, read_workload
from wattshed.records import Deployment
from wattshed.replicas import engines_of
from wattshed.serve.account import Account
from wattshed.serve.answer import Usage
from wattshed.serve.background import background
from wattshed.serve.body import CHAT, EMBEDDINGS
from wattshed.serve.pace import Pace
from wattshed.serve.receipt import Receipts
from wattshed.serve.simulated import simulated_app
from wattshed.simulate.arrivals import draw_requests
from wattshed.simulate.engine import simulate_requests
from wattshed.simulate.model import Requests


async def play(deployment: Deployment, requests: Requests, speed: float = 1.0) -> np.ndarray:
    """First and last token in seconds of the profile, and the joules of receipts: (4, Q)."""
    pace, account, receipts = Pace(deployment, speed), Account(), Receipts(deployment)
    serving = asyncio.create_task(pace.run())
    loop = asyncio.get_running_loop()

    async def one(q: int) -> tuple[float, ...]:
        await asyncio.sleep(requests.arrival_s[q] / speed)
        used = Usage(int(requests.input_tokens[q]), int(requests.output_tokens[q]))
        job = pace.submit(used.input_tokens, used.output_tokens)
        flight = account.begin(used.input_tokens, loop.time())
        times = []
        for _ in range(job.output_tokens):
            await job.tokens.get()
            account.run(flight, loop.time())
            times.append(loop.time() * speed)
        receipt = receipts.of(used, account.beside(flight, loop.time()))
        account.end(flight, loop.time())
        assert receipt is not None
        return times[0], times[-1], receipt.joules, receipt.idle_joules or 0.0

    found = await asyncio.gather(*(one(q) for q in range(len(requests))))
    serving.cancel()
    return np.array(found).T


DEPLOYMENTS = [
    *load_fleet("mixed-70b").deployments,
    next(d for d in load_fleet("hybrid-2024").deployments if d.name == "a100"),
]


@pytest.mark.parametrize("speed", [1.0, 20.0])
@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: str(d.name))
def test_tokens_come_when_the_simulator_says(
    deployment: Deployment, speed: float, virtually: Callable[[Any], Any]
) -> None:
    alone = structs.replace(deployment, replicas=1, max_input_tokens=None, max_output_tokens=None)
    workload = read_workload("alpaca" if deployment.name == "a100" else "azure-conv-2023")
    requests = draw_requests(workload, 60, 0.05 if deployment.name == "a100" else 4.0, seed=2)
    engines = engines_of([alone], requests.input_tokens, requests.output_tokens)
    expected = simulate_requests(engines, requests)
    first_s, last_s, _, _ = virtually(play(alone, requests, speed))
    np.testing.assert_allclose(first_s, expected.first_token_s, rtol=1e-6)
    np.testing.assert_allclose(last_s, expected.finish_s, rtol=1e-6)


@pytest.mark.parametrize("rate", [0.5, 4.0])
@pytest.mark.parametrize("deployment", DEPLOYMENTS[:3], ids=lambda d: str(d.name))
def test_receipts_add_up_to_the_energy_of_the_simulator(
    deployment: Deployment, rate: float, virtually: Callable[[Any], Any]
) -> None:
    """What the gateway knows, tokens and who ran beside, against every step that was taken."""
    alone = structs.replace(deployment, replicas=1)
    requests = draw_requests(read_workload("azure-conv-2023"), 150, rate, seed=2)
    engines = engines_of([alone], requests.input_tokens, requests.output_tokens)
    expected = simulate_requests(engines, requests)
    _, _, joules, idle_joules = virtually(play(alone, requests))
    dynamic = expected.prefill_energy_j + expected.decode_energy_j
    assert joules.sum() == pytest.approx(dynamic.sum(), rel=0.03)
    assert idle_joules.sum() == pytest.approx(expected.static_energy_j.sum(), rel=0.03)


def test_a_simulated_engine_refuses_what_it_cannot_read() -> None:
    with background(simulated_app(DEPLOYMENTS[0])) as url:
        for path in (CHAT, EMBEDDINGS):
            found = httpx.post(url + path, content=b"{")
            assert (found.status_code, found.json()["error"]["code"]) == (400, "invalid_json")
