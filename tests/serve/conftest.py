"""A gateway on loopback in front of engines that a test makes up."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import socket
import socketserver
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from starlette.types import ASGIApp

from wattshed.fleet import Fleet, load_fleet
from wattshed.records import Upstream
from wattshed.serve.app import gateway_app
from wattshed.serve.background import background
from wattshed.serve.decide import Decider
from wattshed.serve.gateway import Gateway
from wattshed.serve.keys import Keys
from wattshed.serve.ledger import Ledger
from wattshed.serve.settings import Settings

NAMES = ("a100-tp8", "h100-tp8", "h100-tp4")


@dataclass
class Live:
    """A gateway that serves."""

    url: str
    gateway: Gateway
    ledger: Path

    def rows(self) -> list[dict[str, Any]]:
        """The ledger, in order of arrival, once all is committed."""
        time.sleep(0.01)  # an answer is out a moment before its row
        while self.gateway.ledger.backlog:
            time.sleep(0.005)
        return read_ledger(self.ledger)


def read_ledger(path: Path) -> list[dict[str, Any]]:
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    try:
        found = connection.execute("select * from requests order by arrived_at").fetchall()
    finally:
        connection.close()
    rows = [dict(row) for row in found]
    for row in rows:
        row["candidates"], row["tried"] = json.loads(row["candidates"]), json.loads(row["tried"])
    return rows


@pytest.fixture
def fleet_of() -> Callable[..., Fleet]:
    """Deployments of the built-in fleet, one replica each, at the given addresses."""

    def build(urls: list[str], **upstream: Any) -> Fleet:
        known = {d.name: d for d in load_fleet("mixed-70b").deployments}
        keys = {"models": ["llama"], **upstream}
        made = [
            structs.replace(known[name], replicas=1, upstream=Upstream([url], **keys))
            for name, url in zip(NAMES, urls, strict=False)
        ]
        return Fleet("made-up", made, {"quick": load_fleet("mixed-70b").slo["default"]})

    return build


@pytest.fixture
def live(tmp_path: Path, fleet_of: Callable[..., Fleet]) -> Iterator[Callable[..., Live]]:
    """Start engines and a gateway in front of them; all end with the test."""
    with ExitStack() as stack:

        def start(
            *engines: ASGIApp | str,
            policy: str = "round-robin",
            settings: Settings | None = None,
            decider: dict[str, Any] | None = None,
            keys: Keys | None = None,
            **upstream: Any,
        ) -> Live:
            urls = [
                e if isinstance(e, str) else stack.enter_context(background(e)) for e in engines
            ]
            fleet = fleet_of(urls, **upstream)
            path = tmp_path / "ledger.sqlite"
            ledger = Ledger(f"sqlite:///{path}", interval_s=0.005)
            decides = Decider(fleet, policy, **(decider or {}))
            gateway = Gateway(fleet, decides, ledger, settings, keys=keys)
            return Live(stack.enter_context(background(gateway_app(gateway))), gateway, path)

        yield start


class RawEngine:
    """An engine of bytes: each request is answered by the next of some functions of a socket."""

    def __init__(self, *answers: Callable[[socket.socket], None]) -> None:
        self.answers = list(answers)
        self.requests: list[bytes] = []
        self.gone = threading.Event()
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                request = read_request(self.request)
                if request.startswith(b"GET /health"):
                    self.request.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                    return
                outer.requests.append(request)
                answer = outer.answers[min(len(outer.requests), len(outer.answers)) - 1]
                try:
                    answer(self.request)
                except OSError:
                    outer.gone.set()

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def read_request(connection: socket.socket) -> bytes:
    """Headers and body of one request."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return data
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    while length and len(body) < int(length[1]):
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


@pytest.fixture
def raw_engine() -> Iterator[Callable[..., RawEngine]]:
    made: list[RawEngine] = []

    def build(*answers: Callable[[socket.socket], None]) -> RawEngine:
        made.append(RawEngine(*answers))
        return made[-1]

    yield build
    for engine in made:
        engine.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[str], str, str]]]:
    """Start the command; gives its process, the line that it prints, and its address."""
    running: list[subprocess.Popen[str]] = []

    def serve(*options: str) -> tuple[subprocess.Popen[str], str, str]:
        command = [sys.executable, "-m", "wattshed", "serve", "--port", "0", *options]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
        )
        running.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.stderr and process.stderr.read()
        return process, line, shlex.split(line)[1].removesuffix("/v1/chat/completions")

    yield serve
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def virtually(virtual_loop: Callable[[], Any]) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Run something in an event loop whose time passes at once."""

    def run(what: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=virtual_loop) as runner:
            return runner.run(what)

    return run
