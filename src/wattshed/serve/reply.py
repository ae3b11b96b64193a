"""The answer to a client: an ASGI `send` that knows how far it got, and a client that leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol

from starlette.types import Message, Receive, Scope, Send

from wattshed.serve.refused import RefusedError
from wattshed.serve.timers import Timer, timers, within

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
ATTENDED = "wattshed.attended"
"""Extension of ASGI: a server that tells of a client that leaves, and need not be waited for."""
NO_NAMES = frozenset[bytes]()


class Attended(Protocol):
    """Calls when a client leaves, and knows the task that answers it."""

    task: asyncio.Task[None]
    on_lost: Callable[[], None] | None

    async def receive(self) -> Message:
        """As of ASGI."""
        ...

    async def send(self, message: Message) -> None:
        """As of ASGI."""
        ...

    def whole_body(self) -> bytes | None:
        """All of the body, if it is there and was not taken."""
        ...

    def answer(self, status: int, headers: Headers, body: bytes) -> bool:
        """Send a whole answer without waiting; False, and nothing sent, where one has to wait."""
        ...


class ClientLeftError(Exception):
    """The client went away, or takes nothing any more."""


class Reply:
    """What a client has been sent.

    Parameters
    ----------
    send : Send
    stall_s : float
        Longest time that a client may take nothing while a part is to be sent.
    server : Attended, optional
        Who made `send`, if it offers more.

    Attributes
    ----------
    server : Attended or None
    status : int
        0 before the first byte.
    ended : bool
    """

    def __init__(self, send: Send, stall_s: float = 60.0, server: Attended | None = None) -> None:
        self._send, self._stall_s, self.server = send, stall_s, server
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
        part = {"type": "http.response.body", "body": data, "more_body": True}
        try:
            await within(self._stall_s, self._send(part))
        except TimeoutError:
            raise ClientLeftError from None

    async def end(self, data: bytes = b"") -> None:
        """Send the last part."""
        self.ended = True
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """Send an answer at once."""
        headers = [*headers, (b"content-length", b"%d" % len(body))]
        if self.server is not None:
            self.status = status
            self.ended = self.server.answer(status, headers, body)
        if not self.ended:
            await self.start(status, headers)
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


class Presence:
    """Whether a client is still there: the running task is cancelled when it leaves.

    A server may say so by itself; of others it is asked, but not for answers that are whole after
    `SOON_S`: that would cost more than it saves.

    Parameters
    ----------
    receive : Receive
    reply : Reply

    Attributes
    ----------
    left : bool
        It left before its answer was whole.
    """

    def __init__(self, receive: Receive, reply: Reply) -> None:
        self._receive, self._reply = receive, reply
        self.left = False
        self._watcher: asyncio.Task[None] | None = None
        self._begin: Timer | None = None
        server = reply.server
        if server is not None:
            self._work: asyncio.Task[Any] | None = server.task
            server.on_lost = self._leave
        else:
            self._work = asyncio.current_task()
            self._begin = timers().later(SOON_S, self._look)

    def end(self) -> None:
        """From now on it may go."""
        if self._reply.server is not None:
            self._reply.server.on_lost = None
        if self._begin is not None:
            self._begin.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    def _leave(self) -> None:
        if self._work is not None and not self._reply.ended:
            self.left = True
            self._work.cancel()

    def _look(self) -> None:
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._leave()


def attended(scope: Scope, receive: Receive, send: Send) -> Attended | None:
    """The server of a request, if it offers that.

    None also where somebody stands between, who is to see all that is received and sent.
    """
    found: Attended | None = scope.get("extensions", {}).get(ATTENDED)
    if found is None or found.send != send or found.receive != receive:
        return None
    return found


async def read_body(
    receive: Receive, length: str, limit: int, seconds: float, server: Attended | None = None
) -> bytes:
    """The body of a request.

    Parameters
    ----------
    scope : Scope
    receive : Receive
    length : str
        In bytes, as its headers tell it.
    limit : int
        Most bytes.
    seconds : float
    server : Attended, optional
        Who made `receive`, if it offers more.

    Raises
    ------
    RefusedError
        If it is longer, or not there after so many seconds.
    ClientLeftError
    """
    if not length.isdecimal() or int(length) > limit:
        raise _too_long(limit)
    whole = None if server is None else server.whole_body()
    if whole is not None:
        if len(whole) > limit:
            raise _too_long(limit)
        return whole
    try:
        return await within(seconds, _read_body(receive, limit))
    except TimeoutError:
        message = f"the body was not there after {seconds:g} s"
        raise RefusedError(408, message, "request_timeout") from None


async def _read_body(receive: Receive, limit: int) -> bytes:
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
    passed, dropped = [], NO_NAMES
    for pair in headers:
        name = pair[0]
        if _may_pass(name):
            passed.append(pair)
        elif name == b"connection":
            dropped |= _more_dropped(pair[1])
    return [pair for pair in passed if pair[0] not in dropped] if dropped else passed


@lru_cache(maxsize=256)
def _may_pass(name: bytes) -> bool:
    return name not in NEVER_PASSED and not name.startswith(OURS)


@lru_cache(maxsize=64)
def _more_dropped(connection: bytes) -> frozenset[bytes]:
    """Names in a header Connection, besides those that never pass."""
    return frozenset(token.strip().lower() for token in connection.split(b",")) - NEVER_PASSED
