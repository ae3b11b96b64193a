"""A gateway on loopback in front of the two simulated engines of the demo."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from wattshed.cli import main
from wattshed.serve.app import gateway_app
from wattshed.serve.background import background
from wattshed.serve.decide import Decider
from wattshed.serve.demo import demo_fleet
from wattshed.serve.gateway import Gateway
from wattshed.serve.ledger import Ledger
from wattshed.simulate.model import Requests

SPEED = 50.0


@dataclass
class Live:
    url: str
    ledger: Path

    def rows(self, count: int) -> list[tuple[str, float]]:
        """Id and energy of requests in order of arrival, once so many are written."""
        query = "select id, joules + idle_joules from requests order by arrived_at"
        with closing(sqlite3.connect(self.ledger)) as connection:
            while True:
                found = connection.execute(query).fetchall()
                if len(found) >= count:
                    return found
                time.sleep(0.005)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Live]:
    """Round robin between two engines that are 50 times as fast as their profiles."""
    path = tmp_path / "ledger.sqlite"
    with ExitStack() as stack:
        fleet = stack.enter_context(demo_fleet(SPEED))
        ledger = Ledger(f"sqlite:///{path}", interval_s=0.005)
        made = Gateway(fleet, Decider(fleet, "round-robin"), ledger)
        yield Live(stack.enter_context(background(gateway_app(made))), path)


@pytest.fixture
def requests() -> Requests:
    """Twelve in six seconds, of all lengths."""
    arrival = np.arange(12) * 0.5
    return Requests(arrival, np.arange(1, 13) * 40, np.tile([2, 9, 1, 30], 3))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main, ["replay", *map(str, arguments)])


@pytest.fixture
def workload(tmp_path: Path, requests: Requests) -> Path:
    """The requests as a file."""
    path = tmp_path / "workload.csv"
    rows = zip(requests.arrival_s, requests.input_tokens, requests.output_tokens, strict=True)
    lines = ["arrival_s,input_tokens,output_tokens", *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path
