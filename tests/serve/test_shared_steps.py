"""Receipts against the simulator, where prompts are processed in the steps of those who decode."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from wattshed.fleet import load_fleet
from wattshed.records import Deployment
from wattshed.replicas import engines_of
from wattshed.serve.account import Account, Flight
from wattshed.serve.answer import Usage
from wattshed.serve.receipt import Receipt, Receipts
from wattshed.simulate.arrivals import draw_requests
from wattshed.simulate.engine import simulate_requests
from wattshed.simulate.result import Simulation
from wattshed.workload.table import read_workload


def receipts_of(deployment: Deployment, found: Simulation) -> Iterator[Receipt]:
    """What a gateway tells of requests that one replica served as the simulator says."""
    account, receipts = Account(), Receipts(deployment)
    requests, flights = found.requests, dict[int, Flight]()
    times = (requests.arrival_s, found.first_token_s, found.finish_s)
    events = [(t, kind, q) for kind, column in enumerate(times) for q, t in enumerate(column)]
    for now_s, kind, q in sorted(events):
        m, n = int(requests.input_tokens[q]), int(requests.output_tokens[q])
        if kind == 0:
            flights[q] = account.begin(m, now_s)
        elif kind == 1:
            account.run(flights[q], now_s)
        else:
            beside = account.beside(flights[q], now_s)
            receipt = receipts.of(Usage(m, n), beside, flights[q].joined)
            account.end(flights[q], now_s)
            assert receipt is not None
            yield receipt


@pytest.mark.parametrize("workload", ["azure-conv-2023", "azure-code-2023"])
@pytest.mark.parametrize("deployment", load_fleet("demo-70b").deployments, ids=lambda d: d.name)
def test_receipts_add_up_where_prompts_are_most_of_the_work(
    deployment: Deployment, workload: str
) -> None:
    """Tokens are not told here, as of answers that are not streamed: a mean over time has to do."""
    requests = draw_requests(read_workload(workload), 100, 2.0, seed=3)
    engines = engines_of([deployment], requests.input_tokens, requests.output_tokens)
    found = simulate_requests(engines, requests)
    told = list(receipts_of(deployment, found))
    joules = sum(receipt.joules for receipt in told)
    idle_joules = sum(receipt.idle_joules or 0.0 for receipt in told)
    assert joules == pytest.approx(found.dynamic_energy_j.sum(), rel=0.03)
    assert idle_joules == pytest.approx(found.static_energy_j.sum(), rel=0.03)
