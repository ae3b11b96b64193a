"""A connection to an engine: HTTP/1.1 on a transport of the event loop, parsed by httptools.

It carries one request at a time. What cannot be read in one way only ends it: the engine that
answers so may have been made to, and the rest would be taken for the answer to somebody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import lru_cache
from typing import cast

import httptools

from wattshed.serve.outgoing import Departures, Outgoing
from wattshed.serve.timers import Timer, Timers
from wattshed.serve.upstream_error import UpstreamError

LONGEST_HEAD = 64 * 1024
"""Bytes of the headers of an answer; also of what may come without any byte of its body."""
MOST_UNREAD = 256 * 1024
"""Bytes of a body that may wait; then nothing is read until they are taken."""
SHORT_BODY = 64 * 1024
"""Bytes that are cheaper to copy behind the head than to send on their own."""


class Connection(asyncio.Protocol):
    """One connection, and the answer that is being read from it.

    Parameters
    ----------
    timers : Timers
    departures : Departures
        Of all requests to engines.
    keep : callable
        Takes the connection when it can carry another request.
    gone : callable
        Told when it is closed.

    Attributes
    ----------
    status : int
        Of the answer; 0 until its headers are whole.
    headers : list of (bytes, bytes)
        Of the answer, names in lower case.
    reused : bool
        Whether it was idle before this request: its engine may have closed it meanwhile.
    idle_since_s : float
        On the clock of the loop.
    closed : bool
        Whether the engine, or this side, has closed it.
    """

    __slots__ = (
        "_departures",
        "_error",
        "_expecting",
        "_gone",
        "_heard",
        "_keep",
        "_keeps_alive",
        "_out",
        "_parser",
        "_paused",
        "_pieces",
        "_silent_bytes",
        "_timer",
        "_timers",
        "_transport",
        "_unread_bytes",
        "_waiter",
        "_whole",
        "closed",
        "headers",
        "idle_since_s",
        "reused",
        "status",
    )

    def __init__(
        self,
        timers: Timers,
        departures: Departures,
        keep: Callable[[Connection], None],
        gone: Callable[[Connection], None],
    ) -> None:
        self._timers, self._departures, self._keep, self._gone = timers, departures, keep, gone
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[None] | None = None
        self._timer: Timer
        self.headers: list[tuple[bytes, bytes]]
        self._pieces: list[bytes]
        self._error: UpstreamError | None
        self._expecting = self._paused = self.closed = False
        self.idle_since_s, self.reused = 0.0, False

    def ask(self, head: bytes, body: bytes, seconds: float) -> asyncio.Future[None]:
        """Send a request; its answer has begun when what is returned is done.

        All of it is given to the transport, which holds what the engine does not take yet: no more
        than the body, which is in memory anyway.

        Raises
        ------
        UpstreamError
            If the connection is closed already; and from what is returned, if the answer has not
            begun after so many seconds, or does not.
        """
        if self.closed:
            raise _broken("closed by the engine", stale=self.reused)
        self.status, self.headers, self._pieces, self._error = 0, [], [], None
        self._unread_bytes = self._silent_bytes = 0
        self._whole = self._keeps_alive = self._heard = False
        self._expecting = True
        if len(body) <= SHORT_BODY:
            self._out.write(head + body)
        else:
            self._out.write(head)
            self._out.write(body)
        return self._wait(seconds)

    async def part(self, seconds: Callable[[], float]) -> bytes:
        """What has come of the body since; empty at its end.

        Parameters
        ----------
        seconds : callable
            Longest time to wait for it, where nothing is there.

        Raises
        ------
        UpstreamError
            If it broke off, or nothing came in time.
        """
        if self._expecting and not self._pieces:
            await self._wait(seconds())
        if self._error is not None and not self._pieces:
            raise self._error
        return self.take()

    def take(self) -> bytes:
        """What is there of the body, without waiting."""
        pieces, self._pieces, self._unread_bytes = self._pieces, [], 0
        if self._paused and not self.closed:
            self._paused = False
            self._transport.resume_reading()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    @property
    def whole(self) -> bool:
        """Whether all of the answer is there, taken or not."""
        return self._whole

    def header(self, name: bytes) -> bytes:
        """The first header of a name in lower case; empty where there is none."""
        for found, value in self.headers:
            if found == name:
                return value
        return b""

    @property
    def media_type(self) -> bytes:
        """Of the answer, in lower case and without parameters."""
        return _media_type(self.header(b"content-type"))

    def close(self) -> None:
        """End the request: the connection is kept for another, or closed where it cannot be.

        An answer that was not whole is not waited for: the engine stops working on it.
        """
        reusable = (
            self._whole
            and self._keeps_alive
            and not (self.closed or self._paused or self._transport.is_closing())
            and not self._out.unsent  # it answered before it had read all
        )
        if reusable:
            self._keep(self)
        else:
            self.drop()

    def drop(self) -> None:
        """Close it at once; who waits for it is told."""
        self.closed = True
        self._out.drop()
        if self._expecting:
            self._fail(_broken("closed by the gateway"))
        else:
            self._transport.abort()

    def _wait(self, seconds: float) -> asyncio.Future[None]:
        """Until something has come, or nothing more will: which is an error if there is one."""
        if self._waiter is not None:  # of somebody who was cancelled
            self._timer.cancel()
        self._timer = self._timers.later(seconds, self._too_late)
        waiter = self._waiter = self._timers.loop.create_future()
        return waiter

    def _wake(self, error: UpstreamError | None = None) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is None:
            return
        self._timer.cancel()
        if waiter.done():
            return
        if error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(error)

    def _too_late(self) -> None:
        self._fail(UpstreamError("did not answer in time", late=True))

    def _fail(self, error: UpstreamError) -> None:
        self._error, self._expecting = error, False
        self._wake(error)
        self.drop()

    # What the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._transport = cast("asyncio.Transport", transport)
        self._out = Outgoing(self._transport, self._departures)

    def data_received(self, data: bytes) -> None:
        """Read on."""
        if not self._expecting:  # nobody asked for this
            self.drop()
            return
        self._heard = True
        self._silent_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._keeps_alive = False
            if not self._whole:
                self._fail(_broken(error.__context__ or error))
            return
        if self._silent_bytes > LONGEST_HEAD and not self._whole:
            self._fail(_broken("headers without an end"))

    def eof_received(self) -> None:
        """The engine sends no more: the transport is closed."""
        self.closed = True

    def connection_lost(self, error: Exception | None) -> None:
        """It is closed: what ends with its connection is whole now."""
        self.closed = True
        self._out.drop()
        self._gone(self)
        del self._parser  # which refers to this
        if not self._expecting:
            return
        if self.status and error is None and not self._tells_its_end():
            self._whole, self._expecting = True, False
            self._wake()
        else:
            stale = self.reused and not self._heard
            self._fail(_broken(error or "closed by the engine", stale=stale))

    def _tells_its_end(self) -> bool:
        return bool(self.header(b"content-length") or self.header(b"transfer-encoding"))

    # What the parser tells

    def on_message_begin(self) -> None:
        """Refuse an answer that nobody asked for."""
        if self._whole:
            raise httptools.HttpParserError("a second answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, unless it comes after the body."""
        if not self.status:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The answer begins, if it is not an interim one."""
        status = self._parser.get_status_code()
        if status == 101:
            raise httptools.HttpParserError("another protocol")
        if status < 200:
            self.headers = []
            return
        if self._silent_bytes > LONGEST_HEAD and _size(self.headers) > LONGEST_HEAD:
            raise httptools.HttpParserError("headers that are too long")
        self.status = status
        self._wake()

    def on_body(self, data: bytes) -> None:
        """Keep a piece of the body until it is taken."""
        self._pieces.append(data)
        self._silent_bytes = 0
        self._unread_bytes += len(data)
        if self._unread_bytes > MOST_UNREAD and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        if self._waiter is not None:
            self._wake()

    def on_message_complete(self) -> None:
        """The answer is whole, if it was not an interim one."""
        if self.status:
            self._keeps_alive = self._parser.should_keep_alive()
            self._whole, self._expecting = True, False
            if self._waiter is not None:
                self._wake()


@lru_cache(maxsize=64)
def _media_type(value: bytes) -> bytes:
    return value.partition(b";")[0].strip().lower()


def _size(headers: list[tuple[bytes, bytes]]) -> int:
    return sum(len(name) + len(value) for name, value in headers)


def _broken(why: BaseException | str, *, stale: bool = False) -> UpstreamError:
    detail = why if isinstance(why, str) else f"{type(why).__name__}: {why}"
    return UpstreamError("broke off", detail=detail, stale=stale)
