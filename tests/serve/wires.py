"""A wire between the gateway and an engine that remembers every byte of both directions."""

from __future__ import annotations

import socket
import socketserver
import threading
from dataclasses import dataclass, field


@dataclass
class Talk:
    """What went over one connection.

    Attributes
    ----------
    left : bool
        Whether the gateway closed it.
    """

    asked: bytearray = field(default_factory=bytearray)
    answered: bytearray = field(default_factory=bytearray)
    left: bool = False


class Wire:
    """Passes bytes on, both ways, as they come."""

    def __init__(self, port: int) -> None:
        self.talks: list[Talk] = []
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                talk = Talk()
                outer.talks.append(talk)
                try:
                    with socket.create_connection(("127.0.0.1", port)) as engine:
                        both_ways(self.request, engine, talk)
                except OSError:
                    return  # the engine is not there: neither is this end

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def clear(self) -> None:
        """Forget what was said; connections stay open."""
        for talk in self.talks:
            talk.asked.clear()
            talk.answered.clear()

    @property
    def posts(self) -> list[Talk]:
        """Connections over which something was asked since, health checks aside."""
        return [talk for talk in self.talks if talk.asked.startswith(b"POST")]

    def body(self) -> bytes:
        """The one body that the engine has sent since, as it was before its transport."""
        (talk,) = self.posts
        head, _, body = bytes(talk.answered).partition(b"\r\n\r\n")
        return dechunked(body) if b"transfer-encoding: chunked" in head.lower() else body

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def both_ways(gateway: socket.socket, engine: socket.socket, talk: Talk) -> None:
    back = threading.Thread(target=pump, args=(engine, gateway, talk.answered))
    back.start()
    pump(gateway, engine, talk.asked)
    talk.left = True
    back.join()


def pump(source: socket.socket, sink: socket.socket, record: bytearray) -> None:
    """Pass on until one side closes; then neither has anybody to talk to."""
    try:
        while data := source.recv(65536):
            record += data
            sink.sendall(data)
    except OSError:
        pass  # reset: it is closed
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            continue  # it already was


def dechunked(body: bytes) -> bytes:
    """The data of a body in chunks (RFC 9112, 7.1)."""
    found = b""
    while True:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            return found
        found, body = found + rest[:length], rest[length + 2 :]
