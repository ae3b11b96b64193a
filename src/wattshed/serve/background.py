"""An application served on loopback by a thread of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from wattshed.errors import EngineError
from wattshed.serve.protocol import GatewayProtocol

BACKLOG = 4096
"""Connections that may wait to be taken."""


def listening(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A socket that listens; port 0 takes a free one.

    Raises
    ------
    EngineError
        If the address is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, because asyncio sends small pieces at once only on sockets that say they are TCP's.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(BACKLOG)  # from now on connections wait until they are taken
    except OSError as error:
        bound.close()
        place, found = f"{host}:{port}", f"cannot be served: {error.strerror}"
        raise EngineError(place, found, "choose another --host or --port") from None
    return bound


@contextmanager
def background(
    app: ASGIApp, grace_s: int = 1, http: type[GatewayProtocol] = GatewayProtocol
) -> Iterator[str]:
    """Serve an application until the end of the block; gives its address."""
    bound = listening()
    config = uvicorn.Config(
        app,
        http=http,
        ws="none",
        log_level="warning",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=grace_s,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([bound],), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(grace_s + 10)
        bound.close()
