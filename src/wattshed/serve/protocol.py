"""HTTP/1.1 on one connection: uvicorn's, with errors in OpenAI's words and an end to waiting."""

from __future__ import annotations

import asyncio
from typing import cast

import httptools
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from wattshed.serve.one_write import OneWrite
from wattshed.serve.refused import RefusedError
from wattshed.serve.reply import Headers

UPGRADE = (b"upgrade", b"http2-settings")
"""Headers of an offer to speak another protocol, and what Connection says of them."""


class GatewayProtocol(HttpToolsProtocol):
    """What uvicorn refuses is told as the API tells errors, and two doubts are ruled out.

    Headers after the last chunk of a body are no headers of the request. An offer to upgrade, which
    clients in Java make with each first request, is passed over, as RFC 9110 (7.8) has it: the
    parser would leave its body unread, and take it for the next request.

    Attributes
    ----------
    headers_s : float
        How long a new connection may say nothing, and how long the headers of a request may take.
        Whoever opens connections and leaves them is let go of; uvicorn would wait for ever.
    headers_bytes : int
        About as long as they may be; uvicorn would read on.
    """

    headers_s = 60.0
    headers_bytes = 2**20

    _due: asyncio.TimerHandle | None = None
    _in_headers = False
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(cast("asyncio.Transport", OneWrite(transport, self.loop)))
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """There is nothing to wait for."""
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; wait for headers that are not whole."""
        self._unset_keepalive_if_required()
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self.send_400_response("this is no HTTP request that can be read in one way only")
        if self._in_headers:  # most requests are whole, and need neither bound nor timer
            self._bound(len(data))

    def _feed(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as offered:
                # The same again, without the offer, and then what follows it.
                data = self._head_without_upgrade() + data[offered.args[0] :]
                self.parser = httptools.HttpRequestParser(self)

    def _head_without_upgrade(self) -> bytes:
        """The request line and headers that were read.

        Raises
        ------
        HttpParserError
            Of a method that is itself an upgrade.
        """
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        if method == b"CONNECT":
            raise httptools.HttpParserError("this is no proxy")
        line = method + b" " + self.url + b" HTTP/" + version + b"\r\n"
        return line + b"".join(b"%s: %s\r\n" % h for h in without_upgrade(self.headers)) + b"\r\n"

    def on_message_begin(self) -> None:
        """A request begins."""
        self._in_headers = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, unless it comes after the body."""
        if self._in_headers:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The headers are whole."""
        self._in_headers, self._head_bytes = False, 0
        self._wait_no_more()
        if not self.parser.should_upgrade():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is whole."""
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        self._refuse(RefusedError(400, msg, "invalid_http"))

    @property
    def _answering(self) -> bool:
        """Whether an answer to an earlier request of the connection is on its way."""
        cycle: RequestResponseCycle | None = self.cycle  # there is none before the first
        return cycle is not None and not cycle.response_complete

    def _bound(self, new_bytes: int) -> None:
        """Let headers that are not whole grow neither for ever nor without end."""
        self._head_bytes += new_bytes
        if self._head_bytes > self.headers_bytes:
            message = f"the headers are longer than {self.headers_bytes} bytes"
            self._refuse(RefusedError(431, message, "headers_too_large"))
        elif self._due is None:
            self._wait()

    def _wait(self) -> None:
        self._due = self.loop.call_later(self.headers_s, self._give_up)

    def _wait_no_more(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _give_up(self) -> None:
        self._due = None
        if self._in_headers and not self._answering:
            message = f"the headers were not there after {self.headers_s:g} s"
            self._refuse(RefusedError(408, message, "request_timeout"))
        else:
            self.transport.close()

    def _refuse(self, refused: RefusedError) -> None:
        if self.transport.is_closing():
            return
        if self._answering and self.cycle.response_started:  # this would come out inside of it
            self.transport.close()
            return
        body = refused.body
        headers = [
            *self.server_state.default_headers,
            *refused.headers,
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        head = STATUS_LINE[refused.status] + b"".join(b"%s: %s\r\n" % pair for pair in headers)
        self.transport.write(head + b"\r\n" + body)
        self.transport.close()


def without_upgrade(headers: Headers) -> Headers:
    """Headers without an offer to speak another protocol."""
    kept = []
    for name, value in headers:
        if name == b"connection":
            words = [word.strip() for word in value.split(b",")]
            kept.append((name, b", ".join(w for w in words if w.lower() not in UPGRADE)))
        elif name not in UPGRADE:
            kept.append((name, value))
    return kept
