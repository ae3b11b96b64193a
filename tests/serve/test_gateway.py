"""The gateway between clients and engines: every byte, the energy, the ledger."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import msgspec
import openai
import pytest

from wattshed.fleet import load_fleet
from wattshed.serve.background import background
from wattshed.serve.settings import Settings
from wattshed.serve.simulated import Dialect, simulated_app

DEPLOYMENTS = load_fleet("mixed-70b").deployments
CHAT = "/v1/chat/completions"
ASK = {"model": "llama", "messages": [{"role": "user", "content": "hello there"}]}
SPEED = 200.0
HTTP = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0), timeout=30)
ENERGY = {"joules", "idle_joules", "low", "high", "method", "boundary"}


@pytest.fixture(scope="module")
def engines() -> Iterator[list[str]]:
    """Two unlike simulated engines, of two dialects."""
    dialects = (Dialect(), Dialect("finish", done=False))
    with ExitStack() as stack:
        apps = [simulated_app(d, SPEED, x) for d, x in zip(DEPLOYMENTS, dialects, strict=False)]
        yield [stack.enter_context(background(app)) for app in apps]


@pytest.fixture
def two(live: Callable[..., Any], engines: list[str]) -> Any:
    """A gateway in front of them."""
    return live(*engines)


def http_answer(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    head = [b"HTTP/1.1 " + status, b"content-length: %d" % len(body), *headers]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def answering(*pieces: bytes) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        for piece in pieces:
            connection.sendall(piece)

    return answer


# ------------------------------------------------------------------ the official client


def test_the_official_client_works_unchanged(two: Any) -> None:
    client = openai.OpenAI(base_url=two.url + "/v1", api_key="none", max_retries=0)
    with client:
        assert {m.id for m in client.models.list()} == {"auto", "llama", "wattshed"}
        messages: Any = ASK["messages"]
        for _ in range(2):  # one on each engine
            chat = client.chat.completions.create(model="llama", messages=messages, max_tokens=5)
            assert chat.usage is not None
            assert chat.usage.completion_tokens == 5
            energy = chat.usage.model_extra["energy"]  # type: ignore[index]
            assert set(energy) == ENERGY
            assert energy["joules"] > 0
            assert chat.system_fingerprint == "simulated"
            stream = client.chat.completions.create(
                model="llama",
                messages=messages,
                max_tokens=5,
                stream=True,
                stream_options={"include_usage": True},
            )
            chunks = list(stream)
            text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
            assert text == chat.choices[0].message.content
            told = [c.usage for c in chunks if c.usage]
            assert len(told) == 1
            assert set(told[0].model_extra["energy"]) == ENERGY  # type: ignore[index]
        done = client.completions.create(model="auto", prompt="hello", max_tokens=3)
        assert done.usage is not None
        assert done.usage.completion_tokens == 3
        found = client.embeddings.create(model="llama", input=["hello"], encoding_format="float")
        assert found.usage.prompt_tokens > 0
    rows = two.rows()
    assert len(rows) == 6
    assert {row["endpoint"] for row in rows} == {"a100-tp8/0", "h100-tp8/0"}
    assert {row["outcome"] for row in rows} == {"served"}
    assert all(row["joules"] > 0 for row in rows)


@pytest.mark.anyio
async def test_the_official_asynchronous_client_works(two: Any) -> None:
    messages: Any = ASK["messages"]
    async with openai.AsyncOpenAI(base_url=two.url + "/v1", api_key="none") as client:
        stream = await client.chat.completions.create(
            model="llama", messages=messages, max_tokens=4, stream=True
        )
        chunks = [chunk async for chunk in stream]
    assert sum(bool(c.choices and c.choices[0].delta.content) for c in chunks) == 4
    assert all(c.usage is None for c in chunks)  # nobody asked for it
    (row,) = two.rows()
    assert (row["output_tokens"], row["tokens_counted"]) == (4, 0)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_errors_reach_the_official_client_as_its_exceptions(two: Any) -> None:
    with openai.OpenAI(base_url=two.url + "/v1", api_key="none", max_retries=0) as client:
        messages: Any = ASK["messages"]
        with pytest.raises(openai.NotFoundError, match="use one of auto, llama"):
            client.chat.completions.create(model="gpt-0", messages=messages)
        with pytest.raises(openai.BadRequestError, match="max_tokens"):
            client.chat.completions.create(
                model="llama", messages=messages, extra_body={"max_tokens": "many"}
            )


# ------------------------------------------------------------------ byte for byte

WHOLE = (
    b'{"id" : "x\\u0041", "choices":[ {"logprobs": {"a": 1e-3}, "message":{"content":"hi \\/"}}],'
    b'\n "usage": {"prompt_tokens": 3, "completion_tokens": 2} , "odd": 1.0e2}'
)
STREAM = [
    b": comment\n\n",
    b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\r\n\r\n',
    b'event: x\ndata:{"choices":[{"delta":{"content":"h\xc3\xa9"}, "logprobs":{"t":[1e-3]}}]}\n\n',
    b'data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"name":"f"}}]}}]}\n\n',
    b'data: {"choices":[{"delta":{},"finish_reason":"tool_calls"}],"odd":1.0e2}\n\n',
]
LAST = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"
EVENTS = b"content-type: text/event-stream; charset=utf-8"


def stream_answer(*events: bytes) -> Callable[[socket.socket], None]:
    chunks = [b"%x\r\n%s\r\n" % (len(e), e) for e in events]
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n" + EVENTS + b"\r\n\r\n"
    return answering(head, *chunks, b"0\r\n\r\n")


def test_an_answer_is_the_engines_but_for_its_energy(
    live: Callable[..., Any], raw_engine: Callable[..., Any]
) -> None:
    headers = (b"content-type: application/json", b"x-engine: 7", b"connection: x-hop", b"x-hop: 1")
    of_a_gateway = (b"X-Energy-Joules: 9", b"x-energy-boundary: host", b"X-Wattshed-Request: r")
    engine = raw_engine(answering(http_answer(WHOLE, *headers, *of_a_gateway)))
    started = live(engine.url)
    found = HTTP.post(started.url + CHAT, json=ASK)
    energy = found.json()["usage"]["energy"]
    added = b',"energy":' + msgspec.json.encode(energy)
    assert found.content.replace(added, b"") == WHOLE
    assert found.content.count(added) == 1
    assert float(found.headers["x-energy-joules"]) == pytest.approx(energy["joules"], rel=1e-5)
    assert found.headers["x-energy-method"] == energy["method"] == "modelled"
    assert found.headers["x-engine"] == "7"
    assert "x-hop" not in found.headers
    assert found.headers["x-wattshed-endpoint"] == "a100-tp8/0"
    assert found.headers["x-wattshed-request"] == started.rows()[0]["id"]
    assert "x-energy-boundary" not in found.headers


@pytest.mark.parametrize("asks", [True, False])
def test_a_stream_is_the_engines_but_for_its_energy(
    live: Callable[..., Any], raw_engine: Callable[..., Any], asks: bool
) -> None:
    engine = raw_engine(stream_answer(*STREAM, LAST, DONE))
    started = live(engine.url)
    options = {"stream_options": {"include_usage": True}} if asks else {}
    found = HTTP.post(started.url + CHAT, json={**ASK, "stream": True, **options}).content
    (row,) = started.rows()
    if asks:
        energy = {"joules": row["joules"], "idle_joules": row["idle_joules"]}
        told = json.loads(found.split(DONE)[0].split(b"data: ")[-1])["usage"].pop("energy")
        assert {**told, **energy} == told
        added = b',"energy":' + msgspec.json.encode(told)
        assert found.replace(added, b"") == b"".join([*STREAM, LAST, DONE])
    else:
        assert found == b"".join([*STREAM, DONE])
    assert json.loads(engine.requests[0].split(b"\r\n\r\n")[1])["stream_options"] == {
        "include_usage": True
    }


def test_responses_pass_through_but_for_the_energy(
    live: Callable[..., Any], raw_engine: Callable[..., Any]
) -> None:
    usage = b'{"input_tokens":5,"output_tokens":1}'
    events = [
        b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta"}\n\n',
        b'data: {"type":"response.completed","response":{"usage":' + usage + b"}}\n\n",
    ]
    started = live(raw_engine(stream_answer(*events)).url)
    ask = {"model": "llama", "input": "hello", "stream": True}
    found = HTTP.post(started.url + "/v1/responses", json=ask).content
    (energy,) = re.findall(rb',"energy":({[^}]*})', found)
    assert found.replace(b',"energy":' + energy, b"") == b"".join(events)
    (row,) = started.rows()
    assert json.loads(energy)["joules"] == row["joules"]
    assert (row["input_tokens"], row["output_tokens"], row["outcome"]) == (5, 1, "served")


def test_what_the_engine_is_sent(live: Callable[..., Any], raw_engine: Callable[..., Any]) -> None:
    engine = raw_engine(answering(http_answer(WHOLE)))
    started = live(engine.url, engine_model="org/llama", drops=["metadata"])
    body = json.dumps({**ASK, "metadata": {}, "top_k": 5}).encode()
    secret = {"authorization": "Bearer secret", "cookie": "a=b", "x-request-id": "r1"}
    HTTP.post(started.url + CHAT, content=body, headers={**secret, "te": "trailers"})
    head, _, sent = engine.requests[0].partition(b"\r\n\r\n")
    assert json.loads(sent) == {**ASK, "model": "org/llama", "top_k": 5}
    assert head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    lines = [line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:]]
    assert sorted(lines) == [
        b"content-length",
        b"content-type",
        b"host",
        b"x-request-id",
    ]


def test_missing_usage_is_counted_and_marked(
    live: Callable[..., Any], raw_engine: Callable[..., Any]
) -> None:
    text = b'{"choices":[{"message":{"content":"' + b"word " * 20 + b'"}}]}'
    started = live(raw_engine(answering(http_answer(text)), stream_answer(*STREAM)).url)
    usage = HTTP.post(started.url + CHAT, json=ASK).json()["usage"]
    assert usage["estimated"] is True
    assert usage["completion_tokens"] == 25
    assert usage["energy"]["joules"] > 0
    options = {"stream": True, "stream_options": {"include_usage": True}}
    found = HTTP.post(started.url + CHAT, json={**ASK, **options}).content
    assert found.startswith(b"".join(STREAM))
    last = json.loads(found.removeprefix(b"".join(STREAM))[6:])
    assert (last["usage"]["completion_tokens"], last["usage"]["estimated"]) == (2, True)
    assert [row["tokens_counted"] for row in started.rows()] == [1, 1]


# ------------------------------------------------------------------ decisions and receipts


def test_a_row_tells_why_and_what(two: Any) -> None:
    headers = {"x-wattshed-class": "quick", "x-wattshed-deadline": "100"}
    body = {**ASK, "stream": True, "max_tokens": 6}
    found = HTTP.post(two.url + CHAT, json=body, headers=headers)
    (row,) = two.rows()
    assert row["id"] == found.headers["x-wattshed-request"]
    assert row["endpoint"] == found.headers["x-wattshed-endpoint"]
    assert (row["slo_class"], row["deadline_s"], row["policy"]) == ("quick", 100.0, "round-robin")
    assert (row["expected_output_tokens"], row["late_output_tokens"]) == (6, 6)  # by max_tokens
    assert (row["outcome"], row["status"], row["kept"]) == ("served", 200, 1)
    assert 0 <= row["sent_s"] < row["first_s"] <= row["end_s"]
    assert set(row["candidates"]["joules"]) == {"a100-tp8", "h100-tp8"}
    assert set(row["candidates"]["load"]) == {"a100-tp8/0", "h100-tp8/0"}
    asked = (row["path"], row["model"], row["tenant"], row["input_estimate"] > 0)
    assert asked == (CHAT, ASK["model"], "", True)
    energy = (row["energy_method"], row["boundary"], row["extrapolated"])
    assert energy == ("modelled", "accelerator", 1)  # short: outside what was fitted
    assert row["endpoint"].startswith(row["deployment"])
    rest = ("shadow_endpoint", "energy_weight", "arm", "reason", "stands_for")
    assert [row[name] for name in rest] == [None] * len(rest)
    assert (row["tried"], row["greenest"], row["tokens_counted"]) == ({}, 0, 0)


def test_lengths_and_tokens_are_learned(two: Any) -> None:
    with httpx.Client(base_url=two.url) as client:
        for _ in range(25):
            client.post(CHAT, json={**ASK, "max_tokens": 9})
        client.post(CHAT, json=ASK)
    first, *_, last = two.rows()
    assert first["expected_output_tokens"] == 9
    assert last["expected_output_tokens"] == 9  # without a limit, from what was seen
    assert last["input_estimate"] == last["input_tokens"]


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"x-wattshed-class": "slow"}, "use one of quick"),
        ({"x-wattshed-deadline": "soon"}, "give seconds"),
        ({"x-wattshed-deadline": "-1"}, "give seconds"),
        ({"x-wattshed-deadline": "nan"}, "give seconds"),
    ],
)
def test_wrong_headers_are_refused(two: Any, headers: dict[str, str], words: str) -> None:
    found = HTTP.post(two.url + CHAT, json=ASK, headers=headers)
    assert found.status_code == 400
    assert words in found.json()["error"]["message"]


def test_only_endpoints_of_the_model_are_candidates(
    two: Any,
) -> None:
    targets = two.gateway.targets
    targets.by_model["one"] = targets.by_model["llama"][1:]
    for _ in range(3):
        found = HTTP.post(two.url + CHAT, json={**ASK, "model": "one", "max_tokens": 1})
        assert found.headers["x-wattshed-endpoint"] == "h100-tp8/0"


def test_what_no_endpoint_may_serve_is_refused_with_the_reason(two: Any) -> None:
    headers = {"x-wattshed-deadline": "0.001"}
    found = HTTP.post(two.url + CHAT, json=ASK, headers=headers)
    assert (found.status_code, found.json()["error"]["code"]) == (400, "unservable")
    assert "h100-tp8: takes" in found.json()["error"]["message"]
    (row,) = two.rows()
    assert (row["outcome"], row["endpoint"], row["joules"]) == ("rejected", None, None)
    assert row["reason"] == "unservable"


def test_a_shadow_policy_is_recorded(live: Callable[..., Any], engines: list[str]) -> None:
    started = live(
        *engines,
        policy="single:a100-tp8",
        decider={"shadow": "single:h100-tp8"},
    )
    HTTP.post(started.url + CHAT, json={**ASK, "max_tokens": 1})
    (row,) = started.rows()
    assert (row["endpoint"], row["shadow_endpoint"]) == ("a100-tp8/0", "h100-tp8/0")


# ------------------------------------------------------------------ paths around the answer


def test_health_readiness_and_unknown_paths(two: Any) -> None:
    assert HTTP.get(two.url + "/health").json() == {"status": "ok"}
    ready = HTTP.get(two.url + "/ready")
    assert ready.status_code == 200
    assert ready.json()["endpoints"] == {"a100-tp8/0": True, "h100-tp8/0": True}
    for found, status in (
        (HTTP.get(two.url + "/nowhere"), 404),
        (HTTP.get(two.url + CHAT), 405),
    ):
        assert found.status_code == status
        assert set(found.json()["error"]) == {"message", "type", "param", "code"}


def test_bodies_that_are_too_long_or_broken_are_refused(
    live: Callable[..., Any], engines: list[str]
) -> None:
    started = live(engines[0], settings=Settings(max_body_bytes=1000))
    long = json.dumps({**ASK, "x": "y" * 2000}).encode()
    assert HTTP.post(started.url + CHAT, content=long).status_code == 413
    chunked = HTTP.post(started.url + CHAT, content=iter([long[:900], long[900:]]))
    assert chunked.status_code == 413
    for body in (b"", b"{", b"null", b'{"model": "llama"}'):
        found = HTTP.post(started.url + CHAT, content=body)
        assert (found.status_code, found.json()["error"]["type"]) == (400, "invalid_request_error")
    rows = started.rows()
    assert {(row["outcome"], row["endpoint"]) for row in rows} == {("refused", None)}
    reasons = ["request_too_large"] * 2 + ["invalid_json", "invalid_json", "invalid_value"]
    assert [row["reason"] for row in rows] == [*reasons, "missing_field"]
