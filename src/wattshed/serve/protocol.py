"""HTTP/1.1 on one connection, with errors in OpenAI's words and an end to waiting.

uvicorn runs the server and httptools reads. Why what lies between is ours: decision 13.
"""

from __future__ import annotations

import asyncio
import math
import urllib.parse
from collections import deque
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

import httptools

from wattshed.serve.body import PATHS
from wattshed.serve.exchange import Exchange, head_of
from wattshed.serve.outgoing import Departures, Outgoing
from wattshed.serve.refused import RefusedError
from wattshed.serve.reply import Headers

if TYPE_CHECKING:
    import uvicorn
    from uvicorn.server import ServerState

ASGI = {"version": "3.0", "spec_version": "2.3"}
CONTINUE = b"100-continue"
MOST_WAITING = 16
"""Requests of a connection that wait for the answer to the one before."""
UPGRADE = (b"upgrade", b"http2-settings")
"""Headers of an offer to speak another protocol, and what Connection says of them."""
USUAL: dict[bytes, dict[str, Any]] = {
    path.encode(): {"path": path, "raw_path": path.encode(), "query_string": b""} for path in PATHS
}


class GatewayProtocol(asyncio.Protocol):
    """HTTP/1.1 of a server of uvicorn's, for an application that it runs.

    Headers after the last chunk of a body are no headers of the request. An offer to upgrade, which
    clients in Java make with each first request, is passed over, as RFC 9110 (7.8) has it: the
    parser would leave its body unread, and take it for the next request.

    Parameters
    ----------
    config : uvicorn.Config
    server_state : ServerState
        Of the server: its connections and tasks.
    app_state : dict
        Of the application's lifespan.

    Attributes
    ----------
    headers_s : float
        How long a new connection may say nothing, and how long the headers of a request may take.
        Whoever opens connections and leaves them is let go of.
    headers_bytes : int
        About as long as they may be.
    keep_alive_s : float
        How long a connection may be idle between requests.
    """

    headers_s = 60.0
    headers_bytes = 2**20
    keep_alive_s = 5.0

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._app = config.loaded_app
        self._server, self._app_state = server_state, app_state
        self.loop = _loop or asyncio.get_running_loop()
        self.tasks = server_state.tasks
        self.writable: asyncio.Event | None = None
        self._paused = False
        self._new_parser()
        self._waiting: deque[Exchange] = deque()
        self._answered: Exchange | None = None
        self._read: Exchange | None = None
        self._in_headers, self._head_bytes = False, 0
        self._bell: asyncio.TimerHandle | None = None
        self._due_s = math.inf

    def _new_parser(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        # What follows a request that is to be the last one is left alone: no error comes of it.
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)

    @property
    def first_headers(self) -> Headers:
        """Headers of each answer."""
        return self._server.default_headers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a request."""
        self.transport = cast("asyncio.Transport", transport)
        self.out = Outgoing(self.transport, _departures(self.loop))
        self._server.connections.add(cast("Any", self))
        self._scope: dict[str, Any] = {
            "type": "http",
            "asgi": ASGI,
            "root_path": "",
            "server": _address(transport, "sockname"),
            "client": _address(transport, "peername"),
            "scheme": "https" if transport.get_extra_info("sslcontext") else "http",
        }
        self._expect(self.headers_s)

    def eof_received(self) -> None:
        """The client says no more: the transport closes, behind what waits."""
        self.out.flush()

    def connection_lost(self, _error: Exception | None) -> None:
        """There is nobody to answer."""
        self._server.connections.discard(cast("Any", self))
        self.out.drop()
        if self._bell is not None:
            self._bell.cancel()
        self.resume_writing()
        for exchange in (self._answered, *self._waiting):
            if exchange is not None:
                exchange.lose()

    def shutdown(self) -> None:
        """End the connection, once what it asked for is answered."""
        if self._answered is None:
            self.out.close()
        else:
            last = self._waiting[-1] if self._waiting else self._answered
            last.keep_alive = False

    def pause_writing(self) -> None:
        """The client is slow."""
        self.writable = asyncio.Event()

    def resume_writing(self) -> None:
        """It has caught up, or is gone."""
        if self.writable is not None:
            self.writable.set()
            self.writable = None

    def pause_reading(self) -> None:
        """Take no more for now."""
        self._paused = True
        self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on, unless too many requests wait already."""
        if self._paused and len(self._waiting) < MOST_WAITING:
            self._paused = False
            self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Read on; wait for headers that are not whole."""
        try:
            self._feed(data)
        except httptools.HttpParserError:
            message = "this is no HTTP request that can be read in one way only"
            self._refuse(RefusedError(400, message, "invalid_http"))
        if self._in_headers:  # most requests are whole, and need neither bound nor timer
            self._bound(len(data))

    def _feed(self, data: bytes) -> None:
        while data:
            try:
                self._parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as offered:
                # The same again, without the offer, and then what follows it.
                data = self._head_without_upgrade() + data[offered.args[0] :]
                self._new_parser()

    def _head_without_upgrade(self) -> bytes:
        """The request line and headers that were read.

        Raises
        ------
        HttpParserError
            Of a method that is itself an upgrade.
        """
        method, version = self._parser.get_method(), self._parser.get_http_version().encode()
        if method == b"CONNECT":
            raise httptools.HttpParserError("this is no proxy")
        line = method + b" " + self._url + b" HTTP/" + version + b"\r\n"
        return line + b"".join(b"%s: %s\r\n" % h for h in without_upgrade(self._headers)) + b"\r\n"

    def on_message_begin(self) -> None:
        """A request begins."""
        self._in_headers, self._waits_to_send = True, False
        self._url = b""
        self._headers: Headers = []

    def on_url(self, url: bytes) -> None:
        """Take the target of a request, or a part of it."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, unless it comes after the body."""
        if self._in_headers:
            name = name.lower()
            self._headers.append((name, value))
            if name == b"expect":
                self._waits_to_send = value.lower() == CONTINUE

    def on_headers_complete(self) -> None:
        """The headers are whole: somebody can begin to answer."""
        parser = self._parser
        self._in_headers, self._head_bytes, self._due_s = False, 0, math.inf
        if parser.should_upgrade():
            return
        version, scope = parser.get_http_version(), self._scope.copy()
        scope["http_version"], scope["method"] = version, parser.get_method().decode("ascii")
        scope["headers"], scope["state"] = self._headers, self._app_state.copy()
        scope.update(_parts_of(self._url))
        exchange = self._read = Exchange(
            self,
            scope,
            keep_alive=version != "1.0" and parser.should_keep_alive(),
            waits_to_send=self._waits_to_send,
        )
        if self._answered is None:
            self._answer(exchange)
        else:
            self._waiting.append(exchange)
            if len(self._waiting) >= MOST_WAITING:
                self.pause_reading()

    def _answer(self, exchange: Exchange) -> None:
        self._answered = exchange
        exchange.begin(self._app)

    def on_body(self, body: bytes) -> None:
        """Pass on a part of the body, unless the answer did without."""
        exchange = self._read
        if exchange is not None and not exchange.complete:
            exchange.take(body)

    def on_message_complete(self) -> None:
        """The body is whole."""
        exchange, self._read = self._read, None
        if exchange is not None:
            exchange.take_end()

    def ended(self, exchange: Exchange) -> None:
        """An answer is out: the next one may begin."""
        self._server.total_requests += 1
        self._answered = None
        if self.transport.is_closing():
            return
        if not exchange.keep_alive:
            self.out.close()
            return
        if self._waiting:
            self._answer(self._waiting.popleft())
        else:
            self._expect(self.headers_s if self._in_headers else self.keep_alive_s)
        self.resume_reading()

    def _bound(self, new_bytes: int) -> None:
        """Let headers that are not whole grow neither for ever nor without end."""
        if not self._head_bytes and self._answered is None:
            self._expect(self.headers_s)
        self._head_bytes += new_bytes
        if self._head_bytes > self.headers_bytes:
            message = f"the headers are longer than {self.headers_bytes} bytes"
            self._refuse(RefusedError(431, message, "headers_too_large"))

    def _expect(self, seconds: float) -> None:
        """Have the client say something, and all of it, within some time.

        One timer goes on through many requests, and looks when it rings whether one is late.
        """
        self._due_s = self.loop.time() + seconds
        if self._bell is None or self._due_s < self._bell.when():
            self._set_bell()

    def _set_bell(self) -> None:
        if self._bell is not None:
            self._bell.cancel()
        self._bell = self.loop.call_at(self._due_s, self._ring)

    def _ring(self) -> None:
        self._bell = None
        if self._due_s == math.inf:
            return
        if self.loop.time() < self._due_s:
            self._set_bell()
        elif self._in_headers:
            message = f"the headers were not there after {self.headers_s:g} s"
            self._refuse(RefusedError(408, message, "request_timeout"))
        else:
            self.out.close()

    def _refuse(self, refused: RefusedError) -> None:
        if self.transport.is_closing():
            return
        if self._answered is not None and self._answered.started:  # it would come out inside of it
            self.out.close()
            return
        body = refused.body
        ours = (b"content-length", b"%d" % len(body)), (b"connection", b"close")
        head, _, _ = head_of(refused.status, [*self.first_headers, *refused.headers, *ours])
        self.out.write(head + b"\r\n" + body)
        self.out.close()


def _departures(loop: asyncio.AbstractEventLoop) -> Departures:
    """Of all clients of a loop."""
    found = _OF.get(loop)
    if found is None:
        found = _OF[loop] = Departures(loop)
    return found


_OF: WeakKeyDictionary[asyncio.AbstractEventLoop, Departures] = WeakKeyDictionary()


def _parts_of(url: bytes) -> dict[str, Any]:
    """Path and query of the target of a request, as of ASGI.

    Raises
    ------
    HttpParserInvalidURLError, UnicodeDecodeError
    """
    if url in USUAL:
        return USUAL[url]
    found = httptools.parse_url(url)
    path = urllib.parse.unquote(found.path.decode("ascii"))
    return {"path": path, "raw_path": found.path, "query_string": found.query or b""}


def _address(transport: asyncio.BaseTransport, name: str) -> tuple[str, int] | None:
    found = transport.get_extra_info(name)
    return (str(found[0]), int(found[1])) if isinstance(found, tuple) else None


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
