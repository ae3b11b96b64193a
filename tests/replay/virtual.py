"""Client, gateway and engines over real sockets, in one event loop whose time passes at once."""

from __future__ import annotations

import asyncio
import contextlib
import selectors
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import uvicorn
from msgspec import structs
from starlette.types import ASGIApp

from wattshed.fleet import Fleet
from wattshed.records import Upstream
from wattshed.replay.outcome import Replay
from wattshed.replay.send import Door, replaying
from wattshed.serve.app import gateway_app
from wattshed.serve.background import listening
from wattshed.serve.decide import Decider
from wattshed.serve.gateway import Gateway
from wattshed.serve.ledger import Ledger
from wattshed.serve.lengths import LengthPredictor
from wattshed.serve.simulated import simulated_app
from wattshed.simulate.model import Requests


class NoWait(selectors.DefaultSelector):
    """Time passes at once when there is nothing else to do."""

    now_s = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if not found and timeout:
            self.now_s += float(timeout)
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on a clock of its own."""

    def __init__(self) -> None:
        self.clock = NoWait()
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.now_s


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


def replay_at_once(
    requests: Requests,
    fleet: Fleet,
    policy: str,
    ledger: Path,
    lengths: LengthPredictor | None = None,
) -> Replay:
    """A live replay of which all but its time is real."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(_live(requests, fleet, policy, ledger, lengths))
