"""One request on a connection and its answer, as ASGI has them."""

from __future__ import annotations

import asyncio
import http
import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from starlette.types import ASGIApp, Message, Scope

from wattshed.serve.outgoing import Outgoing
from wattshed.serve.reply import ATTENDED, Headers

log = logging.getLogger("wattshed.serve")
MOST_WAITING = 2**16
"""Bytes of a body that wait to be taken, before reading is paused."""
STATUS_LINE = {s.value: f"HTTP/1.1 {s.value} {s.phrase}".encode() for s in http.HTTPStatus}
NO_TEXT = b"\r\n\0"
"""Bytes that no header may hold."""
LEFT: Message = {"type": "http.disconnect"}


class Link(Protocol):
    """The connection of an exchange."""

    loop: asyncio.AbstractEventLoop
    out: Outgoing
    tasks: set[asyncio.Task[None]]
    writable: asyncio.Event | None

    @property
    def first_headers(self) -> Headers:
        """Those of each answer."""
        ...

    def pause_reading(self) -> None:
        """Take no more from the client for now."""
        ...

    def resume_reading(self) -> None:
        """Go on."""
        ...

    def ended(self, exchange: Exchange) -> None:
        """The answer is out."""
        ...


class Exchange:
    """A request and its answer.

    Parameters
    ----------
    link : Link
    scope : Scope
    keep_alive : bool
        Whether the connection is used on after it.
    waits_to_send : bool
        The client sends the body once it is told to go on.

    Attributes
    ----------
    started, complete : bool
        How far the answer is out.
    lost : bool
        The client is gone.
    task : Task
        In which it is answered.
    on_lost : callable or None
        Called when it goes before the answer is complete.
    """

    __slots__ = (
        "_bytes_left",
        "_chunked",
        "_head",
        "_is_head",
        "_is_old",
        "_link",
        "_more",
        "_news",
        "_pieces",
        "_scope",
        "_size",
        "_waiter",
        "_waits_to_send",
        "complete",
        "keep_alive",
        "lost",
        "on_lost",
        "started",
        "task",
    )

    def __init__(
        self, link: Link, scope: Scope, *, keep_alive: bool, waits_to_send: bool = False
    ) -> None:
        self._link, self._scope, self.keep_alive = link, scope, keep_alive
        self._is_head, self._is_old = scope["method"] == "HEAD", scope["http_version"] == "1.0"
        scope["extensions"] = {ATTENDED: self}
        self.on_lost: Callable[[], None] | None = None
        self._waits_to_send = waits_to_send
        self._pieces: list[bytes] = []
        self._size, self._more, self._news = 0, True, False
        self._waiter: asyncio.Future[None] | None = None
        self._head, self._chunked = b"", False
        self._bytes_left: int | None = None  # of a body that ends with the connection
        self.started = self.complete = self.lost = False

    def begin(self, app: ASGIApp) -> None:
        """Have an application answer it, in a task of its own."""
        self.task = self._link.loop.create_task(self._run(app))
        self._link.tasks.add(self.task)

    async def _run(self, app: ASGIApp) -> None:
        try:
            await app(self._scope, self.receive, self.send)
        except Exception:  # whatever it is: told here with its traceback, and the server goes on
            log.exception("a request failed")
        finally:
            self._link.tasks.discard(self.task)
            del self.task, self._scope  # which refer to this: no collector has to find them
            if not self.complete:
                self._link.out.close()  # it must not look whole

    def take(self, piece: bytes) -> None:
        """A part of the body has come."""
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > MOST_WAITING:
            self._link.pause_reading()
        self._wake()

    def take_end(self) -> None:
        """The body is whole."""
        self._more = False
        self._wake()

    def lose(self) -> None:
        """The client is gone."""
        if self.complete:
            return
        self.lost = True
        self._wake()
        if self.on_lost is not None:
            self.on_lost()

    def _wake(self) -> None:
        self._news = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def whole_body(self) -> bytes | None:
        """All of the body, if it is there and was not taken."""
        if self._more or not self._news or self.lost:
            return None
        self._news = False
        return self._take_pieces()

    def _take_pieces(self) -> bytes:
        pieces, self._pieces, self._size = self._pieces, [], 0
        self._link.resume_reading()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def receive(self) -> Message:
        """The next part of the request, or that its client has left; as of ASGI."""
        link = self._link
        if self._waits_to_send and not self.lost:
            self._waits_to_send = False
            link.out.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not (self._news or self.lost or self.complete):
            link.resume_reading()
            self._waiter = link.loop.create_future()
            await self._waiter
        if self.lost or self.complete:
            return LEFT
        self._news = False
        return {"type": "http.request", "body": self._take_pieces(), "more_body": self._more}

    async def send(self, message: Message) -> None:
        """Send the next part of the answer, once the client takes it; as of ASGI.

        Raises
        ------
        RuntimeError
            If the parts make no answer.
        """
        writable = self._link.writable
        if writable is not None:
            await writable.wait()
        if self.lost:
            return
        if not self.started:
            self._start(message["status"], message.get("headers", ()))
        else:
            self._go_on(message.get("body", b""), more=message.get("more_body", False))

    def answer(self, status: int, headers: Headers, body: bytes) -> bool:
        """Send a whole answer, as two messages would; False where one has to wait for the client.

        Raises
        ------
        RuntimeError
            As of `send`.
        """
        if self._link.writable is not None:
            return False
        if not self.lost:
            self._start(status, headers)
            self._go_on(body, more=False)
        return True

    def _start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Make the head, which leaves with the first part of the body, or after a moment."""
        head, length, closes = head_of(status, [*self._link.first_headers, *headers])
        self.started, self._waits_to_send = True, False
        if closes:
            self.keep_alive = False
        if length is not None or status in (204, 304):
            self._bytes_left = length or 0
        elif self._is_old:
            self.keep_alive = False
        else:
            self._chunked = True
            head += b"transfer-encoding: chunked\r\n"
            self._link.loop.call_soon(self._flush)
        if not self.keep_alive and not closes:
            head += b"connection: close\r\n"
        self._head = head + b"\r\n"

    def _flush(self) -> None:
        """Send a head that nothing followed."""
        if self._head and not self.lost:
            head, self._head = self._head, b""
            self._link.out.write(head)

    def _go_on(self, body: bytes, *, more: bool) -> None:
        if self.complete:
            raise RuntimeError("the answer is complete, and nothing can follow it")
        head, self._head = self._head, b""
        if self._is_head:
            out = head
        elif self._chunked:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            out = head + chunk + (b"" if more else b"0\r\n\r\n")
        else:
            self._count(len(body), more=more)
            out = head + body
        self._link.out.write(out)
        if not more:
            self.complete = True
            self._wake()
            self._link.ended(self)

    def _count(self, size: int, *, more: bool) -> None:
        """Keep to the length that was announced: what follows would be the next answer."""
        if self._bytes_left is None:
            return
        self._bytes_left -= size
        if self._bytes_left < 0 or (self._bytes_left and not more):
            raise RuntimeError("the body is not as long as its content-length")


def head_of(status: int, headers: Headers) -> tuple[bytes, int | None, bool]:
    """Status line and headers; with the length of the body, and whether the connection ends.

    Raises
    ------
    RuntimeError
        If a header is none.
    """
    lines = [STATUS_LINE[status], *map(b": ".join, headers)]
    head = b"\r\n".join(lines)
    # A value that ends a line would be a header of its maker's.
    if len(head) - len(head.translate(None, NO_TEXT)) != 2 * (len(lines) - 1):
        raise RuntimeError("a header of the answer holds what ends a line")
    known = dict(headers)
    length = known.get(b"content-length")
    closes = b"close" in known.get(b"connection", b"").lower()
    return head + b"\r\n", None if length is None else int(length), closes
