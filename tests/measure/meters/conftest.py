"""Real servers on loopback, and on a Unix socket, that answer as a test tells them."""

from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from wattshed.measure.meter import Meter
from wattshed.records import Reading


@dataclass
class Served:
    """A server: what it answers by path (status, body), what it was asked, and its ways to fail."""

    answers: dict[str, tuple[int, bytes]]
    asked: list[str] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    is_gone: bool = False
    slowness_s: float = 0.0
    url: str = ""


class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


def handler_for(served: Served) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # connections are kept
        wbufsize = -1  # an answer leaves in one piece, which takes 40 ms less

        def do_GET(self) -> None:
            served.asked.append(self.path)
            served.headers.append(dict(self.headers.items()))
            time.sleep(served.slowness_s)
            if served.is_gone:
                self.close_connection = True
                return
            status, body = served.answers.get(self.path.split("?")[0], (404, b"no such page"))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    return Handler


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """Start a server with its answers; with a path, on that Unix socket."""
    stops: list[Callable[[], None]] = []

    def start(answers: dict[str, tuple[int, bytes]], socket: Path | None = None) -> Served:
        served = Served(answers)
        server: socketserver.BaseServer
        if socket is None:
            server = ThreadingHTTPServer(("127.0.0.1", 0), handler_for(served))
            served.url = f"127.0.0.1:{server.server_port}"
        else:
            server = UnixServer(str(socket), handler_for(served))
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        stops.append(stop)
        return served

    yield start
    for stop in stops:
        stop()


@pytest.fixture
def wait_for() -> Callable[[Meter, Callable[[Reading], bool]], Reading]:
    """Read a meter that follows a program until a reading is as it should be."""

    def wait(meter: Meter, holds: Callable[[Reading], bool]) -> Reading:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            reading = meter.read()
            if holds(reading):
                return reading
            time.sleep(0.005)
        raise AssertionError(f"still {meter.read()}")

    return wait
