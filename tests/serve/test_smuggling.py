"""Nothing that a client writes makes an engine see another request than the gateway read.

Each test speaks raw bytes to a real server; an engine records every byte that arrives.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from wattshed.serve.background import background
from wattshed.serve.protocol import GatewayProtocol

CHAT = b"/v1/chat/completions"
ASK = {"model": "llama", "messages": [{"role": "user", "content": "hello"}]}
BODY = json.dumps(ASK).encode()
HIDDEN = b"POST /v1/completions HTTP/1.1\r\nhost: evil\r\ncontent-length: 2\r\n\r\n{}"
GOOD = b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}'
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(GOOD) + GOOD
SEEN = {b"host", b"content-type", b"content-length"}
"""Headers of a request that an engine sees, besides those that clients may pass on."""


class Recorder:
    """Answers each request on a connection, and keeps every byte."""

    def __init__(self, raw_engine: Callable[..., Any]) -> None:
        self.engine = raw_engine(self._answer)
        self.rest: list[bytes] = []

    def _answer(self, connection: socket.socket) -> None:
        connection.sendall(ANSWER)
        while data := connection.recv(65536):  # the next request of the same connection
            self.rest.append(data)
            connection.sendall(ANSWER)

    def forget(self) -> None:
        self.engine.requests.clear()
        self.rest.clear()

    @property
    def requests(self) -> list[tuple[bytes, dict[bytes, bytes], bytes]]:
        """Request line, headers and body of each; a byte too many or too few fails."""
        found = []
        for raw in [*self.engine.requests, *self.rest]:
            head, _, body = raw.partition(b"\r\n\r\n")
            line, *lines = head.split(b"\r\n")
            headers = {k.lower(): v for k, _, v in (h.partition(b": ") for h in lines)}
            assert len(headers) == len(lines)
            assert int(headers[b"content-length"]) == len(body)
            found.append((line, headers, body))
        return found


@pytest.fixture
def recorder(raw_engine: Callable[..., Any]) -> Recorder:
    return Recorder(raw_engine)


@contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


def speak(url: str, *pieces: bytes) -> bytes:
    """Say something, each piece in a packet of its own, and hear all of the answer."""
    found = b""
    with connected(url) as connection, suppress(ConnectionResetError):
        for data in pieces:
            connection.sendall(data)
        while piece := connection.recv(65536):
            found += piece
    return found


def post(*lines: bytes, body: bytes = b"", path: bytes = CHAT, version: bytes = b"1.1") -> bytes:
    head = [b"POST " + path + b" HTTP/" + version, *lines]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def sized(*lines: bytes, body: bytes = BODY, **settings: Any) -> bytes:
    """A request as it should be, with something added; the connection ends with its answer."""
    length = b"content-length: %d" % len(body)
    return post(b"host: a", b"connection: close", length, *lines, body=body, **settings)


CHUNKED = b"transfer-encoding: chunked"
HOST = b"host: a"
WHOLE = b"%x\r\n" % len(BODY) + BODY + b"\r\n"
REFUSED = {
    "chunks: length too large for 64 bits": post(HOST, CHUNKED, body=b"1" + b"0" * 16 + b"\r\n"),
    "chunks: negative length": post(HOST, CHUNKED, body=b"-1\r\n" + BODY),
    "chunks: hexadecimal prefix": post(HOST, CHUNKED, body=b"0x40\r\n" + BODY),
    "chunks: longer than said": post(HOST, CHUNKED, body=b"3\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunks: LF for CR LF": post(HOST, CHUNKED, body=WHOLE.replace(b"\r\n", b"\n")),
    "chunks: bare CR": post(HOST, CHUNKED, body=WHOLE.replace(b"\r\n", b"\r")),
    "chunks: LF in an extension": post(HOST, CHUNKED, body=b"5;a=\nb\r\nhello\r\n0\r\n\r\n"),
    "chunks: a length after the last": post(
        HOST, CHUNKED, body=WHOLE + b"0\r\ncontent-length: 3\r\n\r\n"
    ),
    "encoding: not the last": post(HOST, b"transfer-encoding: chunked, identity", body=WHOLE),
    "encoding: hidden by a tab": post(HOST, b"transfer-encoding:\x0bchunked", body=WHOLE),
    "encoding: space before the colon": post(HOST, b"transfer-encoding : chunked", body=WHOLE),
    "encoding: of HTTP/1.0, with a length": post(
        HOST, CHUNKED, b"content-length: 0", body=WHOLE, version=b"1.0"
    ),
    "length: negative": post(HOST, b"content-length: -1", body=BODY),
    "length: too large for 64 bits": post(HOST, b"content-length: " + b"9" * 30, body=BODY),
    "length: empty": post(HOST, b"content-length: ", body=BODY),
    "length: two words": post(HOST, b"content-length: 5 5", body=BODY),
    "length: the same twice": post(HOST, b"content-length: 5", b"content-length: 5", body=BODY),
    "header: folded": sized(b"x-request-id: a\r\n b"),
    "header: folded with a tab": sized(b"x-request-id: a\r\n\tcontent-length: 0"),
    "header: bare CR": sized(b"x-request-id: a\rx-hidden: b"),
    "header: NUL": sized(b"x-request-id: a\x00b"),
    "header: no colon": sized(b"x-request-id a"),
    "header: space in the name": sized(b"x request: a"),
    "header: space before the first": post(b" host: a", body=HIDDEN),
    "line: HTTP/0.9": b"POST /v1/chat/completions\r\n\r\n" + HIDDEN,
    "line: a version of its own": sized(version=b"9.9"),
    "line: a space in the path": sized(path=b"/v1/chat/completions /v1/completions"),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


def test_what_can_be_read_in_two_ways_is_refused(
    live: Callable[..., Any], recorder: Recorder
) -> None:
    started = live(recorder.engine.url)
    for name, data in REFUSED.items():
        status, _, rest = speak(started.url, data).partition(b"\r\n")
        head, _, body = rest.partition(b"\r\n\r\n")
        assert status.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 413 ")), name
        assert b"connection: close" in head.lower(), name
        assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}, name
        assert recorder.requests == [], name


LAST = WHOLE + b"0\r\n\r\n"
CLOSE = b"connection: close"
PASSED = {
    "as it should be": sized(),
    "chunks": post(HOST, CLOSE, CHUNKED, body=LAST),
    "chunks: spelled otherwise": post(HOST, CLOSE, b"Transfer-Encoding: CHUNKED", body=LAST),
    "chunks: an extension": post(
        HOST, CLOSE, CHUNKED, body=b"%x;a=b;c\r\n" % len(BODY) + BODY + b"\r\n0;x\r\n\r\n"
    ),
    "chunks: of one byte": post(
        HOST, CLOSE, CHUNKED, body=b"".join(b"1\r\n%c\r\n" % c for c in BODY) + b"0\r\n\r\n"
    ),
    "chunks: headers after the last": post(
        HOST,
        CLOSE,
        CHUNKED,
        body=WHOLE + b"0\r\nx-request-id: late\r\nhost: evil\r\n\r\n",
    ),
    "bytes after the end": sized() + HIDDEN,
    "chunks and bytes after the end": post(HOST, CLOSE, CHUNKED, body=LAST) + HIDDEN,
    "another host": sized(b"host: evil.example"),
    "hosts of proxies": sized(
        b"x-forwarded-host: evil.example",
        b"x-forwarded-for: 1.2.3.4",
        b"forwarded: host=evil.example",
        b"x-forwarded-proto: gopher",
        b"x-original-url: /v1/completions",
        b"x-rewrite-url: /v1/completions",
        b"x-http-method-override: DELETE",
    ),
    "an address in the line": sized(path=b"http://evil.example:9/v1/chat/completions"),
    "a query": sized(path=CHAT + b"?url=http://evil.example&model=x"),
    "a path in other characters": sized(path=b"/v1/chat/completion%73"),
    "hop by hop": sized(
        b"te: trailers",
        b"trailer: x-a",
        b"keep-alive: timeout=9",
        b"proxy-connection: keep-alive",
        b"proxy-authorization: Basic c2VjcmV0",
        b"authorization: Bearer secret",
        b"cookie: secret=1",
        b"content-encoding: br",
        b"content-type: text/plain; boundary=x",
        b"expect: 100-continue",
        b"accept-encoding: gzip",
        b"user-agent: x",
    ),
}


def test_what_passes_arrives_as_one_request_of_the_gateways_own(
    live: Callable[..., Any], recorder: Recorder
) -> None:
    started = live(recorder.engine.url)
    for name, data in PASSED.items():
        found = speak(started.url, data).removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert found.startswith(b"HTTP/1.1 200 "), name
        assert json.loads(found.partition(b"\r\n\r\n")[2])["choices"] == [], name
        ((line, headers, sent),) = recorder.requests
        assert line == b"POST " + CHAT + b" HTTP/1.1", name
        assert set(headers) == SEEN, name
        assert headers[b"host"].decode() == recorder.engine.url.removeprefix("http://"), name
        assert headers[b"content-type"] == b"application/json", name
        assert json.loads(sent) == ASK, name
        recorder.forget()


def test_a_header_that_passes_is_one_header(live: Callable[..., Any], recorder: Recorder) -> None:
    started = live(recorder.engine.url)
    value = b"a: b; \xc3\xa9 \xff%0d%0ax-hidden: 1"
    assert b" 200 " in speak(started.url, sized(b"x-request-id: " + value))
    assert b" 200 " in speak(
        started.url,
        sized(b"x-request-id: r", b"traceparent: t").replace(CLOSE, CLOSE + b", x-request-id"),
    )
    (_, first, _), (_, second, _) = recorder.requests
    assert set(first) == SEEN | {b"x-request-id"}
    assert b"x-hidden: 1" in first[b"x-request-id"]  # as it was: a part of the value
    assert set(second) == SEEN | {b"traceparent"}  # its sender kept the other for this connection


@pytest.mark.parametrize("pieces", [1, 7, 300])
def test_an_offer_to_upgrade_is_passed_over(
    live: Callable[..., Any], recorder: Recorder, pieces: int
) -> None:
    """Its body is a body, also where it looks like a request."""
    started = live(recorder.engine.url)
    asks = [{**ASK, "hidden": HIDDEN.decode()}, {**ASK, "user": "second"}]
    for protocol in (b"h2c", b"websocket", b"TLS/1.0"):
        offer = (
            b"connection: Upgrade, HTTP2-Settings\r\nupgrade: %s\r\nhttp2-settings: AAMAAA"
            % protocol
        )
        bodies = [json.dumps(ask).encode() for ask in asks]
        first = post(HOST, offer, b"content-length: %d" % len(bodies[0]), body=bodies[0])
        data = first + sized(body=bodies[1])
        step = -(-len(data) // pieces)
        found = speak(started.url, *(data[at : at + step] for at in range(0, len(data), step)))
        assert found.count(b"HTTP/1.1 200 OK") == 2
        assert [json.loads(sent) for *_, sent in recorder.requests] == asks
        assert all(set(headers) == SEEN for _, headers, _ in recorder.requests)
        recorder.forget()
    chunked = post(HOST, offer, CHUNKED, body=LAST)
    assert speak(started.url, chunked + chunked + sized()).count(b"HTTP/1.1 200 OK") == 3
    assert [json.loads(sent) for *_, sent in recorder.requests] == [ASK] * 3
    recorder.forget()
    for data in (
        post(HOST, offer, CHUNKED, b"content-length: 5", body=LAST),
        sized().replace(b"POST " + CHAT, b"CONNECT evil.example:80"),
    ):
        assert speak(started.url, data).startswith(b"HTTP/1.1 400 ")
    assert recorder.requests == []


def test_requests_in_one_piece_are_answered_one_by_one(
    live: Callable[..., Any], recorder: Recorder
) -> None:
    other = json.dumps({**ASK, "user": "second"}).encode()
    started = live(recorder.engine.url)
    first = post(HOST, b"content-length: %d" % len(BODY), body=BODY)
    found = speak(started.url, first + sized(body=other))
    assert found.count(b"HTTP/1.1 200 OK") == 2
    assert [json.loads(sent) for *_, sent in recorder.requests] == [ASK, json.loads(other)]


def test_an_error_is_not_told_inside_of_an_answer(
    live: Callable[..., Any], raw_engine: Callable[..., Any]
) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    token = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'

    def begins(connection: socket.socket) -> None:
        connection.sendall(head + token)
        connection.recv(1)  # until the gateway lets go of it

    started = live(raw_engine(begins).url)
    body = json.dumps({**ASK, "stream": True}).encode()
    with connected(started.url) as connection:
        connection.sendall(post(HOST, b"content-length: %d" % len(body), body=body))
        found = b""
        while token not in found:
            found += connection.recv(65536)
        connection.sendall(b"garbage\r\n\r\n")
        with suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                found += piece
    assert b"HTTP/1.1 400" not in found
    assert found.endswith(token + b"\r\n")  # the end of a chunk, and no last one


def test_no_redirection_is_made_up_or_followed(
    live: Callable[..., Any], raw_engine: Callable[..., Any]
) -> None:
    elsewhere = raw_engine(lambda connection: connection.sendall(ANSWER))
    line = b"HTTP/1.1 307 Temporary Redirect\r\ncontent-length: 0\r\n"
    location = b"location: " + elsewhere.url.encode() + CHAT + b"\r\n\r\n"
    engine = raw_engine(lambda connection: connection.sendall(line + location))
    started = live(engine.url)
    found = speak(started.url, sized())
    assert found.startswith(b"HTTP/1.1 502 ")
    assert b"location" not in found.lower()
    for path in (CHAT + b"/", b"//evil.example/v1/models", b"/v1/models/", b"/metrics/"):
        found = speak(started.url, sized(b"host: evil.example", path=path))
        assert found.startswith(b"HTTP/1.1 404 ")
        assert b"evil" not in found
    assert len(engine.requests) == 1
    assert elsewhere.requests == []


def test_who_does_not_go_on_is_let_go_of() -> None:
    class Hasty(GatewayProtocol):
        headers_s = 0.2

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    with background(app) as url:
        for piece in (b"z" * 2**16, b"\r\na: " + b"b" * 2**16):  # one long header, and many
            sent = 0
            with suppress(OSError), connected(url) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nx: ")
                while sent < 2**30:
                    connection.sendall(piece)
                    sent += len(piece)
            assert sent < 2**25  # what is in the buffers of both sides, and no more
    with background(app, http=Hasty) as url:
        assert speak(url, b"") == b""
        late = speak(url, b"GET / HTTP/1.1\r\nx-slow: ")
        assert late.startswith(b"HTTP/1.1 408 ")
        assert b'"timeout_error"' in late
        kept = speak(url, b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HT")
        assert kept.startswith(b"HTTP/1.1 200 ")
        assert b"HTTP/1.1 408 " in kept
