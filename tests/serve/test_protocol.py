"""HTTP/1.1 with clients: however a request comes in pieces, it is answered as one, and in turn."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import httptools
import pytest
import uvicorn
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from wattshed.serve.background import background
from wattshed.serve.protocol import GatewayProtocol
from wattshed.serve.refused import RefusedError
from wattshed.serve.reply import Reply, attended, read_body

HOST = b"Host: a\r\n"
REQUESTS = [
    b"GET /whole HTTP/1.1\r\n" + HOST + b"\r\n",
    b"POST /whole?a=%20b HTTP/1.1\r\n" + HOST + b"content-length: 5\r\n\r\nhello",
    b"POST /parts HTTP/1.1\r\n"
    + HOST
    + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nx-late: 1\r\n\r\n",
    b"GET /parts HTTP/1.1\r\n" + HOST + b"Accept: a\r\naccept: b\r\n\r\n",
    b"HEAD /whole HTTP/1.1\r\n" + HOST + b"\r\n",
]
SAID = [
    ["GET", "/whole", "", "", ["host"]],
    ["POST", "/whole", "a=%20b", "hello", ["host", "content-length"]],
    ["POST", "/parts", "", "abcde", ["host", "transfer-encoding"]],
    ["GET", "/parts", "", "", ["host", "accept", "accept"]],
    None,
]


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Says what it was asked, as a whole or in parts."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    names = [name.decode() for name, _ in scope["headers"]]
    query = scope["query_string"].decode()
    said = json.dumps([scope["method"], scope["path"], query, body.decode(), names]).encode()
    length = [(b"content-length", b"%d" % len(said))] if scope["path"] == "/whole" else []
    await send({"type": "http.response.start", "status": 200, "headers": length})
    for piece in (said[:3], said[3:]):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body"})


class Memory(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.out, self.reads, self.closed = b"", True, False

    def write(self, data: Any) -> None:
        self.out += data

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def is_closing(self) -> bool:
        return self.closed

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def close(self) -> None:
        self.closed = True


def connection_to(app: Any) -> tuple[GatewayProtocol, ServerState, Memory]:
    config = uvicorn.Config(app, log_config=None, ws="none")
    config.load()
    config.loaded_app = app
    state, transport = ServerState(), Memory()
    protocol = GatewayProtocol(config, state, {})
    protocol.connection_made(transport)
    return protocol, state, transport


async def converse(app: Any, pieces: list[bytes]) -> Memory:
    """What a connection answers to some pieces."""
    protocol, state, transport = connection_to(app)
    for piece in pieces:
        protocol.data_received(piece)
        await asyncio.sleep(0)
    for _ in range(50):
        await asyncio.sleep(0)
    protocol.connection_lost(None)
    await asyncio.gather(*state.tasks)
    assert not state.connections
    return transport


class Answers:
    """Reads answers, with the parser that clients use."""

    def __init__(self, data: bytes) -> None:
        self.bodies: list[bytes] = []
        self._parser = httptools.HttpResponseParser(self)
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.bodies.append(b"")

    def on_body(self, body: bytes) -> None:
        self.bodies[-1] += body


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=4), st.data())
def test_pieces_make_no_difference(which: list[int], data: st.DataObject) -> None:
    stream = b"".join(REQUESTS[i] for i in which)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=12)))
    ends = [0, *cuts, len(stream)]
    pieces = [stream[a:b] for a, b in pairwise(ends)]
    found = asyncio.run(converse(echo, pieces))
    assert [json.loads(body) for body in Answers(found.out).bodies] == [SAID[i] for i in which]
    assert not found.closed


def test_a_head_has_no_body() -> None:
    found = asyncio.run(converse(echo, [REQUESTS[4], REQUESTS[0]])).out
    head, _, rest = found.partition(b"\r\n\r\n")
    assert b"content-length: " in head
    assert rest.startswith(b"HTTP/1.1 200 OK\r\n")


def test_an_older_client_reads_until_the_end() -> None:
    found = asyncio.run(converse(echo, [b"GET /parts HTTP/1.0\r\n\r\n"]))
    head, _, body = found.out.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    assert json.loads(body)[1] == "/parts"
    assert found.closed


def test_a_body_is_sent_for() -> None:
    head = b"POST /whole HTTP/1.1\r\n" + HOST + b"expect: 100-Continue\r\ncontent-length: 2\r\n\r\n"
    found = asyncio.run(converse(echo, [head, b"hi"])).out
    assert found.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


def test_a_client_that_left_is_not_told_to_send_its_body() -> None:
    async def scenario() -> bytes:
        protocol, state, transport = connection_to(echo)
        head = b"POST / HTTP/1.1\r\n" + HOST + b"expect: 100-continue\r\ncontent-length: 2\r\n\r\n"
        protocol.data_received(head)
        protocol.connection_lost(None)  # before it is begun to be answered
        await asyncio.wait(state.tasks)
        return transport.out

    assert asyncio.run(scenario()) == b""


def test_the_head_does_not_wait_for_the_body() -> None:
    async def slow(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.Event().wait()

    async def scenario() -> bytes:
        config = uvicorn.Config(slow, log_config=None)
        config.loaded_app = slow
        state, transport = ServerState(), Memory()
        protocol = GatewayProtocol(config, state, {})
        protocol.connection_made(transport)
        protocol.data_received(REQUESTS[0])
        for _ in range(3):
            await asyncio.sleep(0)
        seen = transport.out
        for task in state.tasks:
            task.cancel()
        await asyncio.wait(state.tasks)
        assert transport.closed  # it must not look whole
        return seen

    assert asyncio.run(scenario()).endswith(b"transfer-encoding: chunked\r\n\r\n")


def test_many_requests_at_once_wait_with_the_client() -> None:
    """None of them is taken in from the kernel while sixteen wait for the answer before theirs."""
    begun: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        begun.append(scope)
        while (await receive())["type"] != "http.disconnect":
            pass

    found = asyncio.run(converse(app, [REQUESTS[0]] * 20))
    assert len(begun) == 1
    assert not found.reads


@pytest.mark.parametrize(
    ("headers", "bodies"),
    [
        ([(b"content-length", b"3")], [b"abcd"]),
        ([(b"content-length", b"3")], [b"ab"]),
        ([(b"x", b"a\r\nset-cookie: b")], [b""]),
        ([(b"x", b"a\nb")], [b""]),
        ([(b"x", b"\0")], [b""]),
    ],
)
def test_an_answer_that_is_none_breaks_off(
    headers: list[Any], bodies: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for body in bodies:
            await send({"type": "http.response.body", "body": body})

    found = asyncio.run(converse(app, [REQUESTS[0]]))
    assert found.closed
    assert b"abcd" not in found.out
    assert b"set-cookie" not in found.out
    assert "a request failed" in caplog.text


def test_a_slow_client_is_waited_for() -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(200):
            await send({"type": "http.response.body", "body": b"x" * 2**16, "more_body": True})
            sent.append(2**16)
        await send({"type": "http.response.body"})

    sent: list[int] = []
    with background(app) as url, connected(url) as connection:
        connection.sendall(REQUESTS[0])
        wait_until(lambda: sum(sent) > 0)
        held = -1
        while sum(sent) != held:  # the buffers of both ends fill, and then nothing moves
            held = sum(sent)
            time.sleep(0.1)
        assert held < 200 * 2**16
        got = b""
        while not got.endswith(b"0\r\n\r\n"):
            got += connection.recv(2**20)
    assert got.count(b"x") == 200 * 2**16


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_what_was_sent_leaves_before_a_client_that_says_no_more_is_let_go(
    loop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wattshed.serve.outgoing.FEW", -1)  # all wait for the end of the turn

    async def scenario() -> bytes:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["method"] == "POST":
                theirs.shutdown(socket.SHUT_WR)
            await echo(scope, receive, send)

        config = uvicorn.Config(app, log_config=None, ws="none")
        config.loaded_app = app
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.setblocking(False)
            running = asyncio.get_running_loop()
            protocol = GatewayProtocol(config, ServerState(), {})
            await running.create_connection(lambda: protocol, sock=ours)
            for request in REQUESTS[:2]:
                theirs.send(request)
                found = await asyncio.wait_for(running.sock_recv(theirs, 2**16), 5)
            return found

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(scenario()).startswith(b"HTTP/1.1 200 OK")


def test_an_idle_connection_is_closed_and_a_used_one_kept() -> None:
    class Hasty(GatewayProtocol):
        keep_alive_s = 0.3

    with background(echo, http=Hasty) as url, connected(url) as connection:
        began = time.monotonic()
        for _ in range(4):
            connection.sendall(REQUESTS[0])
            assert connection.recv(2**16).startswith(b"HTTP/1.1 200 OK")
            time.sleep(0.15)
        assert connection.recv(1) == b""
        assert time.monotonic() - began > 0.6


def connected(url: str) -> socket.socket:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return socket.create_connection((parts.hostname, parts.port), timeout=10)


def wait_until(true: Callable[[], bool], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


# Without messages

POSTED = REQUESTS[1]


async def at_once(scope: Any, receive: Any, send: Any) -> None:
    """Says what it was sent, without waiting for the server where it need not."""
    server = attended(scope, receive, send)
    body = await read_body(receive, "0", 100, 9.0, server)
    await Reply(send, 9.0, server).whole(200, [(b"x-a", b"b")], body)


@pytest.mark.parametrize("pieces", [[POSTED], [POSTED[:-3], POSTED[-3:]]])
def test_who_stands_between_sees_all_and_changes_nothing(pieces: list[bytes]) -> None:
    seen = []

    async def between(scope: Any, receive: Any, send: Any) -> None:
        async def hear() -> Any:
            seen.append((await receive())["type"])
            return {"type": "http.request", "body": b"hello", "more_body": False}

        async def say(message: Any) -> None:
            seen.append(message["type"])
            await send(message)

        await at_once(scope, hear, say)

    found = asyncio.run(converse(at_once, pieces))
    assert found.out.startswith(b"HTTP/1.1 200 OK\r\nx-a: b\r\ncontent-length: ")
    assert not found.closed
    assert found.out.endswith(b"\r\n\r\nhello")
    assert asyncio.run(converse(between, pieces)).out == found.out
    assert seen == ["http.request", "http.response.start", "http.response.body"]


def test_a_body_that_is_too_long_is_refused_also_where_it_is_there() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        server = attended(scope, receive, send)
        with pytest.raises(RefusedError, match="longer than 4 bytes"):
            await read_body(receive, "0", 4, 9.0, server)
        await Reply(send, 9.0, server).whole(413, [], b"")

    found = asyncio.run(converse(app, [POSTED]))
    assert found.out.startswith(b"HTTP/1.1 413 ")


def test_an_answer_at_once_waits_for_a_slow_client_all_the_same() -> None:
    async def scenario() -> tuple[bytes, bytes]:
        protocol, state, transport = connection_to(at_once)
        protocol.pause_writing()
        protocol.data_received(POSTED)
        for _ in range(9):
            await asyncio.sleep(0)
        before = transport.out
        protocol.resume_writing()
        await asyncio.gather(*state.tasks)
        protocol.connection_lost(None)
        return before, transport.out

    before, after = asyncio.run(scenario())
    assert before == b""
    assert after.endswith(b"\r\n\r\nhello")
