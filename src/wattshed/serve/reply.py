"""The answer to a client: an ASGI `send` that knows how far it got, and a client that leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.types import Receive, Scope, Send

from wattshed.serve.refused import RefusedError
from wattshed.serve.timers import Within, timers

Headers = list[tuple[bytes, bytes]]
HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
"""Headers of one connection, which never go on (RFC 9110, 7.6.1)."""
OWN = frozenset((b"content-length", b"server", b"date", b"set-cookie"))
"""Headers that are made anew."""
NEVER_PASSED = HOP_BY_HOP | OWN
OURS = (b"x-energy-", b"x-wattshed-")
"""What headers begin with that only the gateway gives, also where an engine is a gateway itself."""
SOON_S = 0.02
"""How long nobody looks whether a client is still there."""


class ClientLeftError(Exception):
    """The client went away, or takes nothing any more."""


class Reply:
    """What a client has been sent.

    Parameters
    ----------
    send : Send
    stall_s : float
        Longest time that a client may take nothing while a part is to be sent.

    Attributes
    ----------
    status : int
        0 before the first byte.
    ended : bool
    """

    def __init__(self, send: Send, stall_s: float = 60.0) -> None:
        self._send, self._stall_s = send, stall_s
        self.status, self.ended = 0, False

    @property
    def started(self) -> bool:
        """Whether the first byte is out: from then on nobody else can answer."""
        return self.status > 0

    async def start(self, status: int, headers: Headers) -> None:
        """Send the headers."""
        self.status = status
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, data: bytes) -> None:
        """Send a part; waits while the client is slow.

        Raises
        ------
        ClientLeftError
            If it takes nothing for too long: an engine works for it all the while.
        """
        try:
            with Within(self._stall_s):
                await self._send({"type": "http.response.body", "body": data, "more_body": True})
        except TimeoutError:
            raise ClientLeftError from None

    async def end(self, data: bytes = b"") -> None:
        """Send the last part."""
        self.ended = True
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """Send an answer at once."""
        await self.start(status, [*headers, (b"content-length", b"%d" % len(body))])
        await self.end(body)

    async def refuse(self, refused: RefusedError) -> None:
        """Send an error: as an answer, or as an event where a stream has begun."""
        if self.started:
            await self.end(refused.event)
            return
        headers = refused.headers
        if refused.status in (408, 413):  # do not read the rest
            headers.append((b"connection", b"close"))
        await self.whole(refused.status, headers, refused.body)


@dataclass
class Presence:
    """Whether the client is still there."""

    left: bool = False


@contextmanager
def attended(receive: Receive, reply: Reply) -> Iterator[Presence]:
    """Cancel the running task when the client leaves before its answer is whole.

    Answers that are whole after `SOON_S` are not watched: that would cost more than it saves.
    """
    presence, work = Presence(), asyncio.current_task()
    assert work is not None
    loop, watchers = work.get_loop(), list[asyncio.Task[None]]()

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        if not reply.ended:
            presence.left = True
            work.cancel()

    begin = timers().later(SOON_S, lambda: watchers.append(loop.create_task(watch())))
    try:
        yield presence
    finally:
        begin.cancel()
        for watcher in watchers:
            watcher.cancel()


async def read_body(scope: Scope, receive: Receive, limit: int, seconds: float) -> bytes:
    """The body of a request.

    Raises
    ------
    RefusedError
        If it is longer than `limit` bytes, or not there after `seconds`.
    ClientLeftError
    """
    try:
        with Within(seconds):
            return await _read_body(scope, receive, limit)
    except TimeoutError:
        message = f"the body was not there after {seconds:g} s"
        raise RefusedError(408, message, "request_timeout") from None


async def _read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    if not length.isdigit() or int(length) > limit:
        raise _too_long(limit)
    pieces, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeftError
        piece = message.get("body", b"")
        size += len(piece)
        if size > limit:
            raise _too_long(limit)
        pieces.append(piece)
        more = message.get("more_body", False)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _too_long(limit: int) -> RefusedError:
    return RefusedError(413, f"the body is longer than {limit} bytes", "request_too_large")


def passed_headers(headers: Headers) -> Headers:
    """Headers of an answer, names in lower case, that go on to the client."""
    dropped = NEVER_PASSED
    for name, value in headers:
        if name == b"connection":
            dropped = dropped.union(token.strip().lower() for token in value.split(b","))
    return [pair for pair in headers if pair[0] not in dropped and not pair[0].startswith(OURS)]
