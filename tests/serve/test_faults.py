"""What clients get when engines fail, and what engines get when clients leave."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from wattshed.serve.settings import Settings

CHAT = "/v1/chat/completions"
ASK = {"model": "llama", "messages": [{"role": "user", "content": "hello there"}]}
STREAMED = {**ASK, "stream": True}
HTTP = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0), timeout=30)
USAGE = b'"usage":{"prompt_tokens":3,"completion_tokens":1}'
GOOD = b'{"choices":[{"message":{"content":"good"}}],' + USAGE + b"}"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
TOKEN = b'data: {"choices":[{"delta":{"content":"good"}}]}\n\n'
END = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}],' + USAGE + b"}\n\n"
DONE = b"data: [DONE]\n\n"
Answer = Callable[[socket.socket], None]


def whole(body: bytes, status: bytes = b"200 OK", *headers: bytes) -> Answer:
    head = [b"HTTP/1.1 " + status, b"content-length: %d" % len(body), *headers]
    return says(b"\r\n".join(head) + b"\r\n\r\n" + body)


def says(*pieces: bytes) -> Answer:
    def answer(connection: socket.socket) -> None:
        connection.sendall(b"".join(pieces))

    return answer


def says_in_time(*pieces: bytes) -> Answer:
    """So slowly that each piece is read alone."""

    def answer(connection: socket.socket) -> None:
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(0.1)

    return answer


def hangs(*pieces: bytes) -> Answer:
    """Says something, and then nothing until the other side closes."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(b"".join(pieces))
        connection.settimeout(20)
        if connection.recv(1) == b"":
            raise OSError("closed")

    return answer


def resets(*pieces: bytes) -> Answer:
    """Dies: the connection is reset."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(b"".join(pieces))
        connection.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00" + b"\x00" * 4
        )
        connection.close()

    return answer


def half_closes(*pieces: bytes) -> Answer:
    """Says something, and that nothing follows, but goes on listening."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(b"".join(pieces))
        connection.shutdown(socket.SHUT_WR)
        if connection.recv(1) == b"":
            raise OSError("closed")

    return answer


def chats_for_ever(connection: socket.socket) -> None:
    """Says that it lives, again and again, and nothing else."""
    connection.sendall(HEAD)
    while True:
        connection.sendall(b": ping\n\n")
        time.sleep(0.05)


GOOD_STREAM = says(HEAD, TOKEN, END, DONE)
BEFORE_THE_FIRST_BYTE = {
    "dies at once": resets(),
    "dies after headers": resets(HEAD),
    "hangs": hangs(),
    "hangs after headers": hangs(HEAD),
    "hangs after a comment": hangs(HEAD, b": ping\n\n"),
    "only comments": chats_for_ever,
    "half-closes at once": half_closes(),
    "half-closes after headers": half_closes(HEAD),
    "empty stream": says(HEAD),
    "only DONE": says(HEAD, DONE),
    "garbage": says(HEAD, b"<html>what?</html>\n\n"),
    "half JSON": says(HEAD, b'data: {"choices":\n\n'),
    "an error event": says(HEAD, b'data: {"error":{"message":"no memory"}}\n\n'),
    "status 500": whole(b"oops", b"500 Internal Server Error"),
    "status 302": whole(b"", b"302 Found", b"location: http://127.0.0.1:1/"),
    "status 401": whole(b"", b"401 Unauthorized"),
    "busy": whole(b"", b"503 Service Unavailable"),
    "not HTTP": says(b"\x00\x01\x02 what\r\n\r\n"),
}


@pytest.mark.parametrize("fault", BEFORE_THE_FIRST_BYTE)
def test_before_the_first_byte_another_endpoint_answers(
    live: Callable[..., Any], raw_engine: Callable[..., Any], fault: str
) -> None:
    bad = raw_engine(BEFORE_THE_FIRST_BYTE[fault])
    started = live(bad.url, raw_engine(GOOD_STREAM).url, first_byte_s=0.3)
    found = HTTP.post(started.url + CHAT, json=STREAMED)
    assert (found.status_code, found.headers["x-wattshed-endpoint"]) == (200, "h100-tp8/0")
    assert found.content.startswith(TOKEN)
    (row,) = started.rows()
    assert (row["outcome"], row["endpoint"], list(row["tried"])) == (
        "served",
        "h100-tp8/0",
        ["a100-tp8/0"],
    )
    assert all(t.account.in_flight == 0 for t in started.gateway.targets)


@pytest.mark.parametrize(
    "body", [b"", b"not JSON", b"[1]", b'{"a":', b'{"usage": {"prompt_tokens":3'], ids=str
)
def test_a_broken_answer_is_asked_for_elsewhere(
    live: Callable[..., Any], raw_engine: Callable[..., Any], body: bytes
) -> None:
    started = live(raw_engine(whole(body)).url, raw_engine(whole(GOOD)).url)
    found = HTTP.post(started.url + CHAT, json=ASK)
    assert found.json()["choices"] == [{"message": {"content": "good"}}]


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (resets(), 502, "upstream_failed"),
        (hangs(), 504, "upstream_failed"),
        (whole(b"", b"500 no"), 502, "upstream_failed"),
        (whole(b"", b"429 later", b"retry-after: 7"), 503, "upstream_busy"),
    ],
)
def test_where_nobody_else_can_the_client_is_told(
    live: Callable[..., Any],
    raw_engine: Callable[..., Any],
    answer: Answer,
    status: int,
    code: str,
) -> None:
    started = live(raw_engine(answer).url, first_byte_s=0.2)
    found = HTTP.post(started.url + CHAT, json=ASK)
    assert (found.status_code, found.json()["error"]["code"]) == (status, code)
    if code == "upstream_busy":
        assert found.headers["retry-after"] == "7"
    (row,) = started.rows()
    assert (row["outcome"], row["status"], row["joules"]) == ("failed", status, None)


def test_clients_are_not_told_addresses(live: Callable[..., Any]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        started = live(f"http://127.0.0.1:{port}")
        found = HTTP.post(started.url + CHAT, json=ASK)
    assert found.status_code in (502, 503)  # the look at its health may have come first
    assert str(port) not in found.text


def test_a_connection_that_was_closed_while_idle_costs_nothing(
    live: Callable[..., Any], raw_engine: Callable[..., Any]
) -> None:
    """The engine says keep-alive, and closes: the same endpoint is asked again, on a new one."""
    started = live(raw_engine(whole(GOOD)).url)
    for _ in range(20):
        assert HTTP.post(started.url + CHAT, json=ASK).status_code == 200
    assert {len(row["tried"]) for row in started.rows()} == {0}


def test_a_dead_endpoint_is_left_alone_and_tried_again(
    live: Callable[..., Any], raw_engine: Callable[..., Any]
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        started = live(f"http://127.0.0.1:{port}", raw_engine(whole(GOOD)).url)
        for _ in range(12):
            assert HTTP.post(started.url + CHAT, json=ASK).status_code == 200
    assert HTTP.get(started.url + "/ready").json()["endpoints"]["a100-tp8/0"] is False
    tried = [list(row["tried"]) for row in started.rows()]
    assert tried[-1] == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (resets(HEAD, TOKEN), "a100-tp8/0"),
        (says(HEAD, TOKEN), "ended its stream before its answer"),
        (half_closes(HEAD, TOKEN), "ended its stream before its answer"),
        (says_in_time(HEAD, TOKEN, b'data: {"choi'), "not JSON"),
        (says_in_time(HEAD, TOKEN, b"garbage\n\n"), "no event"),
        (hangs(HEAD, TOKEN), "did not answer in time"),
    ],
)
def test_after_the_first_byte_nobody_else_answers(
    live: Callable[..., Any], raw_engine: Callable[..., Any], answer: Answer, words: str
) -> None:
    other = raw_engine(GOOD_STREAM)
    started = live(raw_engine(answer).url, other.url, idle_s=0.2)
    found = HTTP.post(started.url + CHAT, json=STREAMED)
    assert found.status_code == 200
    assert found.content.startswith(TOKEN)
    last = found.content.removeprefix(TOKEN)
    assert last.startswith(b"data: ")
    error = json.loads(last[6:])["error"]
    assert (error["type"], error["code"]) == ("upstream_error", "upstream_broke")
    assert words in error["message"]
    assert other.requests == []
    (row,) = started.rows()
    assert (row["outcome"], row["status"]) == ("broken", 200)
    assert (row["output_tokens"], row["tokens_counted"]) == (
        1,
        1,
    )  # it has cost energy all the same
    assert row["joules"] > 0


def test_errors_of_the_client_are_the_engines_own(
    live: Callable[..., Any], raw_engine: Callable[..., Any]
) -> None:
    own = b'{"error":{"message":"too long","type":"x","param":null,"code":null}}'
    bare = b'{"detail":[{"msg":"extra fields"}]}'
    engine = raw_engine(
        whole(own, b"400 Bad Request"), whole(bare, b"422 Unprocessable Entity"), whole(GOOD)
    )
    started = live(engine.url)
    found = [HTTP.post(started.url + CHAT, json=ASK) for _ in range(3)]
    assert [f.status_code for f in found] == [400, 422, 200]
    assert found[0].content == own
    assert "extra fields" in found[1].json()["error"]["message"]
    assert [row["outcome"] for row in started.rows()] == ["refused", "refused", "served"]


def test_a_slow_engine_is_waited_for_as_long_as_it_says_something(
    live: Callable[..., Any], raw_engine: Callable[..., Any]
) -> None:
    engine = raw_engine(says_in_time(HEAD, TOKEN[:9], TOKEN[9:], TOKEN, TOKEN, END, DONE))
    started = live(engine.url, first_byte_s=5, idle_s=0.5)  # a pause is 0.1 s, all of them 0.6
    found = HTTP.post(started.url + CHAT, json=STREAMED)
    assert found.content.startswith(TOKEN * 3)
    assert found.content.endswith(DONE)
    (row,) = started.rows()
    assert (row["outcome"], row["output_tokens"]) == ("served", 1)  # as its usage says
    assert row["end_s"] - row["first_s"] > 0.3


# ------------------------------------------------------------------ clients


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.mark.parametrize("pieces", [(), (HEAD, TOKEN)])
@pytest.mark.parametrize("ask", [ASK, STREAMED], ids=["whole", "stream"])
def test_a_client_that_leaves_cancels_its_request(
    live: Callable[..., Any],
    raw_engine: Callable[..., Any],
    ask: dict[str, Any],
    pieces: tuple[bytes, ...],
) -> None:
    engine = raw_engine(hangs(*pieces))
    started = live(engine.url)
    with pytest.raises(httpx.ReadTimeout):
        HTTP.post(started.url + CHAT, json=ask, timeout=0.3)
    wait_for(engine.gone.is_set)
    wait_for(lambda: bool(started.rows()))
    (row,) = started.rows()
    assert row["outcome"] == "left"
    (target,) = started.gateway.targets
    assert target.account.in_flight == 0
    assert target.breaker.allows(0.0)


def test_a_client_that_half_closes_has_left(
    live: Callable[..., Any], raw_engine: Callable[..., Any]
) -> None:
    """Who says that nothing follows is not told from who is gone: no engine works for it."""
    engine = raw_engine(hangs(HEAD, TOKEN))
    started = live(engine.url)
    host, port = started.url.removeprefix("http://").split(":")
    body = json.dumps(STREAMED).encode()
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        head = b"POST %s HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n"
        connection.sendall(head % (CHAT.encode(), len(body)) + body)
        assert connection.recv(20).startswith(b"HTTP/1.1 200")
        connection.shutdown(socket.SHUT_WR)
        wait_for(engine.gone.is_set)
    wait_for(lambda: bool(started.rows()))
    assert [row["outcome"] for row in started.rows()] == ["left"]


def test_a_slow_client_slows_the_engine_down(
    live: Callable[..., Any], raw_engine: Callable[..., Any]
) -> None:
    """40 MB do not fit into the buffers on the way: the engine has to wait for the client."""
    sent = []

    def pours(connection: socket.socket) -> None:
        connection.sendall(HEAD)
        event = TOKEN.replace(b"good", b"x" * 99_900)
        for _ in range(400):
            connection.sendall(event)
            sent.append(len(event))
        connection.sendall(END)

    started = live(raw_engine(pours).url)
    with HTTP.stream("POST", started.url + CHAT, json=STREAMED) as answer:
        pieces = answer.iter_raw()
        got = len(next(pieces))
        wait_for(lambda: len(sent) > 0)
        last = -1
        while last != len(sent):
            last = len(sent)
            time.sleep(0.2)
        assert sum(sent) < 30e6
        got += sum(map(len, pieces))
    assert got > sum(sent) == 400 * sent[0]


def test_a_client_that_takes_nothing_any_more_is_given_up(
    live: Callable[..., Any], raw_engine: Callable[..., Any]
) -> None:
    def pours(connection: socket.socket) -> None:
        connection.sendall(HEAD)
        while True:
            connection.sendall(TOKEN.replace(b"good", b"x" * 99_900))

    engine = raw_engine(pours)
    started = live(engine.url, settings=Settings(stall_s=0.3))
    with HTTP.stream("POST", started.url + CHAT, json=STREAMED) as answer:
        next(answer.iter_raw())
        wait_for(engine.gone.is_set)
        wait_for(lambda: bool(started.rows()))
    (row,) = started.rows()
    assert row["outcome"] == "left"
    assert row["joules"] > 0


def test_a_body_that_does_not_come_is_not_waited_for(
    live: Callable[..., Any], raw_engine: Callable[..., Any]
) -> None:
    started = live(raw_engine(whole(GOOD)).url, settings=Settings(stall_s=0.2))
    host, port = started.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"POST " + CHAT.encode() + b" HTTP/1.1\r\nhost: a\r\n")
        connection.sendall(b"content-length: 10\r\n\r\n{")
        found = connection.recv(65536)
    assert found.startswith(b"HTTP/1.1 408 ")
    assert b'"timeout_error"' in found


# ------------------------------------------------------------------ limits


def test_full_endpoints_make_requests_wait_and_then_refuse(
    live: Callable[..., Any], raw_engine: Callable[..., Any]
) -> None:
    release = threading.Event()

    def waits(connection: socket.socket) -> None:
        release.wait(20)
        whole(GOOD, b"200 OK", b"connection: close")(connection)

    settings = Settings(seats=1, queue_s=20)
    started = live(raw_engine(waits).url, settings=settings, max_in_flight=1)
    found: list[httpx.Response] = []
    clients = [
        threading.Thread(target=lambda: found.append(HTTP.post(started.url + CHAT, json=ASK)))
        for _ in range(2)
    ]
    (target,) = started.gateway.targets
    clients[0].start()
    wait_for(lambda: target.account.in_flight == 1)
    clients[1].start()
    wait_for(lambda: started.gateway.waiting.waiting == 1)
    refused = HTTP.post(started.url + CHAT, json=ASK)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
    assert int(refused.headers["retry-after"]) >= 1
    release.set()
    for client in clients:
        client.join()
    assert [f.status_code for f in found] == [200, 200]


def test_nobody_waits_for_an_endpoint_that_is_gone(
    live: Callable[..., Any], raw_engine: Callable[..., Any]
) -> None:
    """Each of those that wait is told when its turn comes, and passes its turn on."""
    release = threading.Event()

    def waits(connection: socket.socket) -> None:
        release.wait(20)
        whole(GOOD)(connection)

    limits = Settings(queue_s=60, probe_s=60)  # nobody looks at its health meanwhile
    started = live(raw_engine(waits).url, settings=limits, max_in_flight=1)
    (target,) = started.gateway.targets
    found: list[int] = []
    clients = [
        threading.Thread(
            target=lambda: found.append(HTTP.post(started.url + CHAT, json=ASK).status_code)
        )
        for _ in range(4)
    ]
    clients[0].start()
    wait_for(lambda: target.account.in_flight == 1)
    for client in clients[1:]:
        client.start()
    wait_for(lambda: started.gateway.waiting.waiting == 3)
    target.up = False
    release.set()
    for client in clients:
        client.join(20)
    assert sorted(found) == [200, 503, 503, 503]


def test_who_waits_too_long_is_told(
    live: Callable[..., Any], raw_engine: Callable[..., Any]
) -> None:
    started = live(
        raw_engine(hangs()).url, settings=Settings(queue_s=0.2), max_in_flight=1, first_byte_s=2
    )
    (target,) = started.gateway.targets
    first = threading.Thread(target=lambda: HTTP.post(started.url + CHAT, json=ASK))
    first.start()
    wait_for(lambda: target.account.in_flight == 1)
    late = HTTP.post(started.url + CHAT, json=ASK)
    assert (late.status_code, late.json()["error"]["code"]) == (503, "queue_timeout")
    assert "retry-after" in late.headers
    due = HTTP.post(started.url + CHAT, json=ASK, headers={"x-wattshed-deadline": "0.1"})
    assert (due.status_code, due.json()["error"]["code"]) in (
        (504, "deadline"),
        (400, "unservable"),
    )
    first.join()


# ------------------------------------------------------------------ what must not get through


def speak(url: str, data: bytes) -> bytes:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        found = b""
        while piece := connection.recv(65536):
            found += piece
    return found


@pytest.mark.parametrize(
    "headers",
    [
        b"content-length: 5\r\ncontent-length: 60",
        b"content-length: 5, 60",
        b"content-length: 60\r\ntransfer-encoding: chunked",
        b"content-length: +60",
        b"transfer-encoding: chunked\r\ntransfer-encoding: identity",
        b"transfer-encoding: xchunked",
    ],
)
def test_smuggled_bodies_do_not_reach_an_engine(
    live: Callable[..., Any], raw_engine: Callable[..., Any], headers: bytes
) -> None:
    engine = raw_engine(whole(GOOD))
    started = live(engine.url)
    smuggled = b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"
    body = b'{"model":"llama","messages":[]}' + smuggled
    head = b"POST " + CHAT.encode() + b" HTTP/1.1\r\nhost: a\r\n" + headers + b"\r\n\r\n"
    found = speak(started.url, head + body)
    assert not found or b" 400 " in found.split(b"\r\n")[0]
    assert engine.requests == []
