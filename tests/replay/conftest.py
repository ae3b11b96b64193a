"""A gateway on loopback in front of the two simulated engines of the demo."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from click.testing import CliRunner, Result
from msgspec import structs
from starlette.types import ASGIApp

from wattshed.cli import main
from wattshed.fleet import Fleet
from wattshed.records import Upstream
from wattshed.replay.door import Door
from wattshed.replay.outcome import Replay
from wattshed.replay.send import replaying
from wattshed.serve.app import gateway_app
from wattshed.serve.background import background, listening
from wattshed.serve.decide import Decider
from wattshed.serve.demo import demo_fleet
from wattshed.serve.gateway import Gateway
from wattshed.serve.ledger import Ledger
from wattshed.serve.lengths import LengthPredictor
from wattshed.serve.simulated import simulated_app
from wattshed.simulate.model import Requests

SPEED = 50.0


@dataclass
class Live:
    url: str
    ledger: Path

    def joules(self, ids: Collection[str]) -> dict[str, float]:
        """Energy of requests by their ids, once all of them are written."""
        query = "select id, joules + idle_joules from requests"
        with closing(sqlite3.connect(self.ledger)) as connection:
            while True:
                found = dict(connection.execute(query).fetchall())
                if set(ids) <= set(found):
                    return {each: found[each] for each in ids}
                time.sleep(0.005)


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Round robin between two engines that are 50 times as fast as their profiles."""
    path = tmp_path_factory.mktemp("gateway") / "ledger.sqlite"
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


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    """Serve an application in the loop that runs."""
    with contextlib.closing(listening()) as bound:
        config = uvicorn.Config(app, log_level="warning", access_log=False)
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[bound]))
        try:
            yield f"http://127.0.0.1:{bound.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


async def _live(
    requests: Requests, fleet: Fleet, policy: str, ledger: Path, lengths: LengthPredictor | None
) -> Replay:
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        urls = [
            await stack.enter_async_context(serving(simulated_app(d))) for d in fleet.deployments
        ]
        deployments = [
            structs.replace(d, upstream=Upstream([url]))
            for d, url in zip(fleet.deployments, urls, strict=True)
        ]
        live = structs.replace(fleet, deployments=deployments)
        gateway = Gateway(
            live,
            Decider(live, policy),
            Ledger(f"sqlite:///{ledger}"),
            lengths=lengths,
            clock=loop.time,
        )
        url = await stack.enter_async_context(serving(gateway_app(gateway)))
        return await replaying(requests, Door(url))


@pytest.fixture
def replay_at_once(tmp_path: Path, virtual_loop: Callable[..., Any]) -> Callable[..., Replay]:
    """A live replay over real sockets, in one event loop whose time passes at once."""

    def live(
        requests: Requests,
        fleet: Fleet,
        policy: str,
        ledger: str = "ledger.sqlite",
        lengths: LengthPredictor | None = None,
    ) -> Replay:
        with asyncio.Runner(loop_factory=partial(virtual_loop, 1000.0)) as runner:
            return runner.run(_live(requests, fleet, policy, tmp_path / ledger, lengths))

    return live
