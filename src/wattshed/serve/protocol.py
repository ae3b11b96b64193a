"""HTTP/1.1 on one connection: uvicorn's, with errors in OpenAI's words and an end to waiting."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from wattshed.serve.refused import RefusedError


class GatewayProtocol(HttpToolsProtocol):
    """What uvicorn refuses is told as the API tells errors, and two doubts are ruled out.

    Headers after the last chunk of a body are no headers of the request. A request for an upgrade,
    whose body is not read, is the last of its connection: what follows is no other request.

    Attributes
    ----------
    headers_s : float
        How long a new connection may say nothing, and how long the headers of a request may take.
        Whoever opens connections and leaves them is let go of; uvicorn would wait for ever.
    """

    headers_s = 60.0

    _due: asyncio.TimerHandle | None = None
    _in_headers = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """There is nothing to wait for."""
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; wait for headers that are not whole."""
        super().data_received(data)
        if self._in_headers and self._due is None:  # most requests are whole, and need no timer
            self._wait()

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
        self._in_headers = False
        self._wait_no_more()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        self._refuse(RefusedError(400, msg, "invalid_http"))

    def _unsupported_upgrade_warning(self) -> None:
        self.cycle.keep_alive = False

    @property
    def _answering(self) -> bool:
        """Whether an answer to an earlier request of the connection is on its way."""
        cycle: RequestResponseCycle | None = self.cycle  # there is none before the first
        return cycle is not None and not cycle.response_complete

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
