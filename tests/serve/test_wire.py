"""The client that asks engines: HTTP/1.1 on real sockets, with servers that say what they like."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from wattshed.fleet import load_fleet
from wattshed.records import Upstream
from wattshed.serve.connections import KEPT_S, place_of
from wattshed.serve.outgoing import Departures
from wattshed.serve.refused import RefusedError
from wattshed.serve.reply import passed_headers
from wattshed.serve.target import Target
from wattshed.serve.timers import timers
from wattshed.serve.upstream import Pool
from wattshed.serve.upstream_error import UpstreamError
from wattshed.serve.wire import LONGEST_HEAD, MOST_UNREAD, Connection

DEPLOYMENT = load_fleet("mixed-70b").deployments[0]
PATH = "/v1/chat/completions"
OK = b"HTTP/1.1 200 OK\r\n"
WHOLE = OK + b"content-length: 5\r\n\r\nhello"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Engine:
    """Answers each request with the next of some answers, the last one again and again.

    Attributes
    ----------
    requests : list of bytes
    talks : list of int
        On the how manieth connection each request came.
    connections : int
    """

    def __init__(self, *answers: bytes | Answer, reads_body: bool = True) -> None:
        self.answers, self.reads_body = list(answers), reads_body
        self.requests: list[bytes] = []
        self.talks: list[int] = []
        self.connections = 0
        self.ended = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, self.connections = self.connections, self.connections + 1
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    await self._one(number, reader, writer)
        finally:
            self.ended.set()
            writer.close()

    async def _one(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        assert length is not None
        body = await reader.readexactly(int(length[1])) if self.reads_body else b""
        self.requests.append(head + body)
        self.talks.append(number)
        answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
        if callable(answer):
            await answer(reader, writer)
        else:
            writer.write(answer)
            await writer.drain()


def then_close(data: bytes) -> Answer:
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        raise ConnectionError

    return answer


@asynccontextmanager
async def asked(
    engine: Engine, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None, **upstream: Any
) -> AsyncIterator[tuple[Pool, Target]]:
    """A pool, and an engine that it can ask; nothing is left open at the end."""
    server = await asyncio.start_server(engine.serve, host, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    named = f"[{host}]" if ":" in host else host
    pool = Pool()
    try:
        yield pool, target_of(f"http{'s' if tls else ''}://{named}:{port}", **upstream)
    finally:
        await pool.close()
        assert len(pool.connections) == 0
        server.close()


def target_of(url: str, key: str | None = None, **upstream: Any) -> Target:
    return Target("a100-tp8/0", DEPLOYMENT, Upstream([url], **upstream), url, key)


async def post(
    pool: Pool, target: Target, body: bytes = b"{}", seconds: float = 9.0, **headers: str
) -> Connection:
    return await pool.post(target, PATH, body, headers, seconds)


def alone(kept: list[Connection]) -> Connection:
    """A connection that no pool has made."""
    departures = Departures(asyncio.get_running_loop())
    return Connection(timers(), departures, kept.append, lambda _: None)


async def read(answer: Connection, seconds: float = 9.0) -> bytes:
    found = b""
    while part := await answer.part(lambda: seconds):
        found += part
    return found


async def whole(pool: Pool, target: Target, **asks: Any) -> bytes:
    """The body of an answer, after which its connection is given back."""
    answer = await post(pool, target, **asks)
    try:
        return await read(answer)
    finally:
        answer.close()


@pytest.fixture(params=["uvloop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Run something in an event loop of each kind that the gateway may have."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def runs(what: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(what)

    return runs


Run = Callable[[Coroutine[Any, Any, Any]], Any]


def test_what_is_sent(run: Run) -> None:
    async def scene() -> None:
        engine = Engine(WHOLE)
        async with asked(engine) as (pool, target):
            port = target.url.rpartition(":")[2].encode()
            below = target_of(f"{target.url}/a/%7eü/", key="sk-1")
            await whole(pool, below, body=b"{...}", traceparent="00-\xe9")
        (sent,) = engine.requests
        assert sent == (
            b"POST /a/%7e%C3%BC/v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:" + port + b"\r\n"
            b"traceparent: 00-\xe9\r\nauthorization: Bearer sk-1\r\ncontent-length: 5\r\n\r\n{...}"
        )

    run(scene())


@pytest.mark.parametrize(
    ("url", "host", "address"),
    [
        ("http://engine", "engine", ("engine", 80, False)),
        ("https://engine", "engine", ("engine", 443, True)),
        ("http://engine:80", "engine", ("engine", 80, False)),
        ("https://engine:80", "engine:80", ("engine", 80, True)),
        ("http://[::1]:8000", "[::1]:8000", ("::1", 8000, False)),
    ],
)
def test_hosts_are_named_as_in_their_urls(
    url: str, host: str, address: tuple[str, int, bool]
) -> None:
    place = place_of(url)
    found = (place.address.host, place.address.port, place.address.secure)
    assert (place.host, found) == (host, address)


@pytest.mark.parametrize("value", ["a\r\nx: y", "a\nb", "a\rb", "a\0b", "\u20ac"])
def test_no_header_becomes_two(value: str) -> None:
    async def scene() -> None:
        engine = Engine(WHOLE)
        async with asked(engine) as (pool, target):
            with pytest.raises(RefusedError):
                await post(pool, target, traceparent=value)
            assert engine.connections == 0

    asyncio.run(scene())


@pytest.mark.parametrize("host", ["localhost", "::1"])
def test_names_and_long_addresses_are_reached(run: Run, host: str) -> None:
    async def scene() -> None:
        engine = Engine(WHOLE)
        async with asked(engine, host) as (pool, target):
            assert await whole(pool, target) == b"hello"

    run(scene())


# Connections that are kept


def test_the_connection_that_was_used_last_is_used_again(run: Run) -> None:
    async def scene() -> None:
        engine = Engine(WHOLE)
        async with asked(engine) as (pool, target):
            first, second = await post(pool, target), await post(pool, target)
            await read(first)
            await read(second)
            first.close()
            second.close()
            for _ in range(3):
                await whole(pool, target_of(f"{target.url}/second"))
            assert len(pool.connections) == 2
        assert engine.talks == [0, 1, 1, 1, 1]

    run(scene())


def test_idle_connections_are_closed_in_time(virtually: Run) -> None:
    async def scene() -> None:
        engine = Engine(WHOLE)
        async with asked(engine) as (pool, target):
            first, second = await post(pool, target), await post(pool, target)
            for answer in (first, second):
                await read(answer)
            first.close()
            await asyncio.sleep(KEPT_S / 2)
            second.close()
            assert len(pool.connections) == 2
            await asyncio.sleep(KEPT_S * 0.6)
            assert len(pool.connections) == 1
            await asyncio.sleep(KEPT_S * 0.5)
            assert len(pool.connections) == 0
            await whole(pool, target)
        assert engine.talks == [0, 1, 2]

    virtually(scene())


@pytest.mark.parametrize("last", [b"", b"x", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"])
def test_what_an_engine_closed_or_spoke_on_while_idle_is_not_used(run: Run, last: bytes) -> None:
    async def scene() -> None:
        idle = asyncio.Event()

        async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(WHOLE)
            await idle.wait()
            if not last:
                raise ConnectionError
            writer.write(last)

        engine = Engine(answer, WHOLE)
        async with asked(engine) as (pool, target):
            assert await whole(pool, target) == b"hello"
            idle.set()
            while len(pool.connections):
                await asyncio.sleep(0)
            assert await whole(pool, target) == b"hello"
        assert engine.talks == [0, 1]

    run(scene())


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"content-length: 5\r\nconnection: close\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        WHOLE + WHOLE,
        WHOLE + b"HT",
        WHOLE + b"\0",
        CHUNKED + b"5\r\nhello\r\n0\r\n\r\n" + b"GET /",
    ],
)
def test_what_may_be_followed_by_something_else_is_used_once(run: Run, answer: bytes) -> None:
    async def scene() -> None:
        engine = Engine(answer)
        async with asked(engine) as (pool, target):
            for _ in range(3):
                assert await whole(pool, target) == b"hello"
                await engine.ended.wait()
        assert engine.talks == [0, 1, 2]

    run(scene())


def test_a_second_answer_that_comes_before_the_first_is_closed_is_nobodys(run: Run) -> None:
    async def scene() -> None:
        async with asked(Engine(WHOLE)) as (pool, target):
            answer = await post(pool, target)
            assert await read(answer) == b"hello"
            answer.data_received(WHOLE)
            answer.close()
            assert answer.closed

    run(scene())


@pytest.mark.parametrize(
    ("before", "last", "stale"),
    [(0, b"", False), (1, b"", True), (1, b"HTTP/1.1 2", False), (1, b"\0", False)],
)
def test_a_connection_was_stale_if_it_was_idle_and_brings_nothing(
    run: Run, before: int, last: bytes, stale: bool
) -> None:
    async def scene() -> None:
        engine = Engine(*[WHOLE] * before, then_close(last))
        async with asked(engine) as (pool, target):
            for _ in range(before):
                await whole(pool, target)
            with pytest.raises(UpstreamError, match=r"^broke off$") as found:
                await post(pool, target)
            assert found.value.stale == stale

    run(scene())


def test_all_are_closed_with_the_pool_and_who_waits_is_told(run: Run) -> None:
    async def scene() -> None:
        engine = Engine(WHOLE, CHUNKED)
        async with asked(engine) as (pool, target):
            idle, busy = await post(pool, target), await post(pool, target)
            await read(idle)
            idle.close()
            waiting = asyncio.create_task(read(busy))
            await asyncio.sleep(0)
            await pool.close()
            assert (idle.closed, busy.closed, len(pool.connections)) == (True, True, 0)
            with pytest.raises(UpstreamError, match=r"^broke off$"):
                await waiting
            busy.close()
            with pytest.raises(UpstreamError, match=r"^broke off$"):
                await post(pool, target)

    run(scene())


def test_an_engine_that_hangs_up_at_once_is_not_waited_for(run: Run) -> None:
    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def scene() -> None:
        pool, server = Pool(), await asyncio.start_server(hang_up, "127.0.0.1")
        target = target_of(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        for _ in range(20):
            with pytest.raises(UpstreamError, match=r"^broke off$") as found:
                await post(pool, target)
            assert not found.value.stale
        await pool.close()
        server.close()
        closed = alone([])
        closed.connection_made(Silent())
        closed.connection_lost(None)
        with pytest.raises(UpstreamError, match=r"^broke off$"):
            await closed.ask(b"", b"", 9.0)

    run(scene())


# Answers


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (WHOLE, 200, b"hello"),
        (OK + b"content-length: 0\r\n\r\n", 200, b""),
        (CHUNKED + b"2\r\nhe\r\n3;a=b\r\nllo\r\n0\r\n\r\n", 200, b"hello"),
        (CHUNKED + b"5\r\nhello\r\n0\r\nx-late: 1\r\n\r\n", 200, b"hello"),
        (b"HTTP/1.1 100 Continue\r\nx-soon: 1\r\n\r\n" + WHOLE, 200, b"hello"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" * 2 + WHOLE, 200, b"hello"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", 304, b""),
        (
            OK + b"upgrade: h2c\r\nconnection: upgrade\r\ncontent-length: 5\r\n\r\nhello",
            200,
            b"hello",
        ),
    ],
)
def test_answers_are_read_to_their_end_and_no_further(
    run: Run, answer: bytes, status: int, body: bytes
) -> None:
    async def scene() -> None:
        engine = Engine(answer)
        async with asked(engine) as (pool, target):
            for _ in range(2):
                found = await post(pool, target)
                assert (found.status, await read(found)) == (status, body)
                assert found.whole
                assert not found.header(b"x-late")
                assert not found.header(b"x-soon")
                found.close()
        assert engine.talks == [0, 0]

    run(scene())


def test_headers_are_told_as_they_came(run: Run) -> None:
    async def scene() -> None:
        head = (
            OK
            + b"X-A: b\r\nX-Empty:\r\nContent-Type: Text/Event-Stream ; charset=x\r\nx-A: \xe9\r\n"
        )
        async with asked(Engine(head + b"content-length: 0\r\n\r\n")) as (pool, target):
            answer = await post(pool, target)
            assert answer.headers == [
                (b"x-a", b"b"),
                (b"x-empty", b""),
                (b"content-type", b"Text/Event-Stream ; charset=x"),
                (b"x-a", b"\xe9"),
                (b"content-length", b"0"),
            ]
            assert (answer.header(b"x-a"), answer.header(b"x-b")) == (b"b", b"")
            assert answer.media_type == b"text/event-stream"
            answer.close()

    run(scene())


def test_headers_of_one_connection_and_of_the_gateway_do_not_go_on() -> None:
    passed = [(b"content-type", b"application/json"), (b"x-a", b"1"), (b"x-a", b"2")]
    others = [
        (b"connection", b"close, X-Once"),
        (b"x-once", b"1"),
        (b"transfer-encoding", b"chunked"),
        (b"keep-alive", b"timeout=5"),
        (b"content-length", b"3"),
        (b"set-cookie", b"a=b"),
        (b"server", b"x"),
        (b"x-energy-joules", b"1"),
        (b"x-wattshed-endpoint", b"x"),
    ]
    assert passed_headers([*others, *passed]) == passed
    assert passed_headers([*passed, *others]) == passed


def test_an_answer_may_end_with_its_connection(run: Run) -> None:
    async def scene() -> None:
        engine = Engine(then_close(OK + b"\r\nhel" + b"lo"))
        async with asked(engine) as (pool, target):
            assert await whole(pool, target) == b"hello"
            assert await whole(pool, target) == b"hello"
        assert engine.talks == [0, 1]

    run(scene())


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nothing of the kind\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        OK + b"content-length: 2\r\ncontent-length: 3\r\n\r\nabc",
        OK + b"content-length: +2\r\n\r\nab",
        OK + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        OK + b"x y: 1\r\ncontent-length: 0\r\n\r\n",
        OK + b"x : 1\r\ncontent-length: 0\r\n\r\n",
        OK + b"x: a\r\n b\r\ncontent-length: 0\r\n\r\n",
        OK + b"x: \0\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n" + WHOLE,
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + WHOLE,
        b"HTTP/1.1 100 Continue\r\n\r\n",
        OK + b"content-length: 6\r\n\r\nhello",
        CHUNKED,
        CHUNKED + b"5\r\nhello\r\n",
        CHUNKED + b"5\r\nhello\r\n0\r\nx: y\r\n",
        CHUNKED + b"5\r\nhellooo",
        CHUNKED + b"fffffffffffffffff\r\n",
        OK + b"transfer-encoding: gzip\r\n\r\nhello",
        OK + b"x: " + b"y" * LONGEST_HEAD + b"\r\ncontent-length: 0\r\n\r\n",
        OK + b"x: " + b"y" * (2 * LONGEST_HEAD),
        CHUNKED + b"0\r\nx: " + b"y" * (2 * LONGEST_HEAD),
        b"HTTP/1.1 100 Continue\r\n\r\n" * 8000,
    ],
)
def test_what_is_cut_short_or_read_in_two_ways_broke_off(run: Run, answer: bytes) -> None:
    async def scene() -> None:
        engine = Engine(then_close(answer))
        async with asked(engine) as (pool, target):
            with pytest.raises(UpstreamError, match=r"^broke off$") as found:
                await whole(pool, target)
            assert (found.value.stale, found.value.late) == (False, False)

    run(scene())


def test_what_came_before_an_end_that_is_none_is_told_first(run: Run) -> None:
    async def scene() -> None:
        async with asked(Engine(then_close(CHUNKED + b"5\r\nhello\r\n"))) as (pool, target):
            answer = await post(pool, target)
            while not answer.closed:
                await asyncio.sleep(0)
            assert await answer.part(lambda: 9.0) == b"hello"
            for _ in range(2):
                with pytest.raises(UpstreamError, match=r"^broke off$"):
                    await answer.part(lambda: 9.0)
            answer.close()

    run(scene())


def test_an_answer_that_is_not_taken_stops_its_engine(run: Run) -> None:
    size, piece = 64 * 2**20, bytes(2**16)

    async def scene() -> None:
        sent = 0

        async def pour(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            writer.write(OK + b"content-length: %d\r\n\r\n" % size)
            while sent < size:
                writer.write(piece)
                sent += len(piece)
                await writer.drain()

        async with asked(Engine(pour)) as (pool, target):
            answer, before = await post(pool, target), -1
            while sent > before:  # until nothing moves any more
                before = sent
                await asyncio.sleep(0.02)
            assert sent < size / 2  # what the system holds
            taken = len(await answer.part(lambda: 9.0))
            assert taken < MOST_UNREAD + 2**20
            while part := await answer.part(lambda: 9.0):
                taken += len(part)
            assert taken == size
            answer.close()

    run(scene())


# Requests


def test_a_long_body_is_taken_by_a_slow_engine(run: Run) -> None:
    async def scene() -> None:
        engine = Engine(WHOLE)
        body = json.dumps(["x" * 99] * 100_000).encode()
        async with asked(engine) as (pool, target):
            assert await whole(pool, target, body=body) == b"hello"
            assert await whole(pool, target) == b"hello"
        assert engine.requests[0].endswith(b"\r\n\r\n" + body)
        assert engine.talks == [0, 0]

    run(scene())


def test_an_engine_may_answer_before_it_has_read_all(run: Run) -> None:
    refusal = b"HTTP/1.1 413 Too Large\r\ncontent-length: 4\r\n\r\nlong"

    async def scene() -> None:
        engine = Engine(refusal, reads_body=False)
        async with asked(engine) as (pool, target):
            answer = await post(pool, target, body=bytes(64 * 2**20))
            assert (answer.status, await read(answer)) == (413, b"long")
            answer.close()
            assert answer.closed

    run(scene())


# Time


def test_how_long_is_waited(run: Run) -> None:
    async def never(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        assert await reader.read() == b""  # it is let go of

    async def begins(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + b"5\r\nhello\r\n")
        await never(reader, writer)

    async def scene() -> None:
        engine = Engine(never, begins)
        async with asked(engine) as (pool, target):
            with pytest.raises(UpstreamError, match=r"^did not answer in time$") as found:
                await post(pool, target, seconds=0.02)
            assert found.value.late
            answer = await post(pool, target)
            assert await answer.part(lambda: 9.0) == b"hello"
            with pytest.raises(UpstreamError, match=r"^did not answer in time$") as found:
                await answer.part(lambda: 0.02)
            assert found.value.late
            answer.close()
            await engine.ended.wait()

    run(scene())


def test_who_was_called_off_leaves_no_limit_behind(virtually: Run) -> None:
    async def scene() -> None:
        connection = alone([])
        connection.connection_made(Silent())
        begun = connection.ask(b"", b"", 9.0)
        connection.data_received(CHUNKED)
        await begun
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connection.part(lambda: 1.0), 0.5)
        asyncio.get_running_loop().call_later(2.0, connection.data_received, b"2\r\nhi\r\n")
        assert await connection.part(lambda: 9.0) == b"hi"
        connection.close()

    virtually(scene())


def test_who_stops_reading_or_waiting_lets_go_of_the_engine(run: Run) -> None:
    async def scene() -> None:
        begun = asyncio.Event()

        async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            begun.set()
            writer.write(OK if len(engine.requests) == 1 else CHUNKED)
            await reader.read()

        engine = Engine(hear)
        async with asked(engine) as (pool, target):
            waiting = asyncio.create_task(post(pool, target))
            await begun.wait()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await engine.ended.wait()
            engine.ended.clear()
            (await post(pool, target)).close()
            await engine.ended.wait()

    run(scene())


def test_who_cannot_be_reached(run: Run) -> None:
    async def scene() -> None:
        pool = Pool()
        with socket.create_server(("127.0.0.1", 0)) as closed:
            nobody = f"127.0.0.1:{closed.getsockname()[1]}"
        for url in (f"http://{nobody}", f"https://{nobody}", "http://a..b", "http://a:99999"):
            with pytest.raises(UpstreamError, match=r"^cannot be reached$") as found:
                await post(pool, target_of(url))
            assert found.value.detail
        with socket.create_server(("127.0.0.1", 0)) as silent:  # it shakes no hands
            url = f"https://127.0.0.1:{silent.getsockname()[1]}"
            with pytest.raises(UpstreamError, match=r"^cannot be reached in time$"):
                await post(pool, target_of(url, connect_s=0.05))
        await pool.close()

    run(scene())


# Certificates


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Of localhost, with its key."""
    folder = tmp_path_factory.mktemp("certificate")
    key, made = folder / "key.pem", folder / "made.pem"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(made)]
    subprocess.run(["openssl", *words.split(), *names, *files], check=True, capture_output=True)
    return made, key


@pytest.fixture
def tls(certificate: tuple[Path, Path]) -> Iterator[tuple[ssl.SSLContext, list[str | None]]]:
    """How a server shows it, and the names that it was asked for."""
    context, asked_for = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), list[str | None]()
    context.load_cert_chain(*certificate)
    context.sni_callback = lambda _socket, name, _context: asked_for.append(name)
    yield context, asked_for
    context.sni_callback = None


def test_engines_are_asked_over_tls(
    run: Run,
    certificate: tuple[Path, Path],
    tls: tuple[ssl.SSLContext, list[str | None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))

    async def scene() -> None:
        engine = Engine(WHOLE, CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", then_close(OK + b"\r\nhello"))
        async with asked(engine, "localhost", tls[0]) as (pool, target):
            for _ in range(3):
                assert await whole(pool, target, body=bytes(2**20)) == b"hello"
            by_number = target_of(target.url.replace("localhost", "127.0.0.1"))
            assert await whole(pool, by_number) == b"hello"
        assert engine.talks == [0, 0, 0, 1]
        assert tls[1][0] == "localhost"

    run(scene())


@pytest.mark.parametrize(("trusted", "host"), [(False, "localhost"), (True, "127.0.0.2")])
def test_a_certificate_that_proves_nothing_is_refused(
    run: Run,
    certificate: tuple[Path, Path],
    tls: tuple[ssl.SSLContext, list[str | None]],
    monkeypatch: pytest.MonkeyPatch,
    trusted: bool,
    host: str,
) -> None:
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))

    async def scene() -> None:
        engine = Engine(WHOLE)
        async with asked(engine, host, tls[0]) as (pool, target):
            with pytest.raises(UpstreamError, match=r"^cannot be reached$") as found:
                await post(pool, target)
            assert "certificate" in found.value.detail.lower()
        assert engine.requests == []

    run(scene())


# Any bytes


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runs:
        yield runs


class Silent(asyncio.Transport):
    """A transport without a network."""

    paused = aborted = False

    def write(self, data: Any) -> None:
        pass

    def is_closing(self) -> bool:
        return self.aborted

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


def framed(kind: str, pieces: list[bytes]) -> bytes:
    body = b"".join(pieces)
    if kind == "length":
        return OK + b"X-A: b\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    if kind == "close":
        return OK + b"X-A: b\r\n\r\n" + body
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece)
    return OK + b"X-A: b\r\ntransfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


async def heard(
    segments: list[bytes], *, eager: bool = False, closes: bool = True
) -> tuple[int, bytes, bytes, bool]:
    """What an answer says that comes in segments, and whether its connection was kept."""
    kept: list[Connection] = []
    connection = alone(kept)
    connection.connection_made(Silent())
    asking = asyncio.ensure_future(connection.ask(b"", b"", 9.0))
    await asyncio.sleep(0)
    found = b""
    for segment in segments:
        connection.data_received(segment)
        if eager and connection.status:
            await asking
            if connection._pieces:
                found += await connection.part(lambda: 9.0)
    if closes:
        connection.connection_lost(None)
    await asking
    found += await read(connection)
    connection.close()
    return connection.status, connection.header(b"x-a"), found, kept == [connection]


@given(
    kind=st.sampled_from(["length", "chunked", "close"]),
    pieces=st.lists(st.binary(max_size=20), max_size=5),
    sizes=st.lists(st.integers(1, 60), max_size=20),
    eager=st.booleans(),
)
def test_any_split_gives_the_same_answer(
    runner: asyncio.Runner, kind: str, pieces: list[bytes], sizes: list[int], eager: bool
) -> None:
    data, segments = framed(kind, pieces), list[bytes]()
    for size in sizes:
        segments.append(data[:size])
        data = data[size:]
    segments.append(data)
    what = heard([s for s in segments if s], eager=eager, closes=kind == "close")
    found = runner.run(what)
    assert found == (200, b"b", b"".join(pieces), kind != "close")


@given(data=st.binary(max_size=200), begun=st.booleans())
def test_any_bytes_are_an_answer_or_an_upstream_error(
    runner: asyncio.Runner, data: bytes, begun: bool
) -> None:
    with suppress(UpstreamError):
        runner.run(heard([(OK if begun else b"") + data]))
