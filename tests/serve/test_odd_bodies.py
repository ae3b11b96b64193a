"""Bodies that somebody made to break a reader: each is refused or served, never a failure."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

CHAT = "/v1/chat/completions"
GOOD = b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}'
DEEP = b"[" * 100_000


def ask(**fields: bytes) -> bytes:
    known = {"model": b'"llama"', "messages": b'[{"role":"user","content":"x"}]', **fields}
    return b"{" + b",".join(b'"%s":%s' % (k.encode(), v) for k, v in known.items()) + b"}"


REFUSED = {
    "nothing": b"",
    "NUL": b"\x00",
    "no object": b'"model"',
    "not UTF-8": ask(messages=b'"\xff\xfe"').replace(b"llama", b"lla\xffma"),
    "UTF-16": ask().decode().encode("utf-16"),
    "half a surrogate": ask(model=b'"\\ud800"'),
    "cut off": ask()[:-1],
    "more after it": ask() + b"{}",
    "a comment": b"/* */" + ask(),
    "no number": ask(max_tokens=b"NaN"),
    "infinite": ask(max_tokens=b"1e999"),
    "too large a number": ask(max_tokens=b"9" * 4000),
    "a fraction": ask(max_tokens=b"1.5"),
    "a word for a number": ask(max_tokens=b'"5"'),
    "a number for a word": ask(model=b"5"),
    "a list for an object": ask(stream_options=b"[]"),
    "a number for yes": ask(stream=b"1"),
    "no messages": ask(messages=b"null"),
    "an unknown model": ask(model=b'"../../etc/passwd\\u0000"'),
    "too deep": ask(x=DEEP + b"]" * 100_000),
    "too deep and cut off": ask(messages=DEEP),
    "too deep in an option": ask(
        stream=b"true", stream_options=b'{"x":' * 50_000 + b"1" + b"}" * 50_000
    ),
    "too deep a picture": ask(messages=DEEP + b'"image_url"' + b"]" * 100_000),
    "too deep a prompt of tokens": ask(messages=DEEP + b"1" + b"]" * 100_000),
}
SERVED = {
    "a model named twice": ask(x=b'1,"model":"auto"'),
    "tokens of the largest size": ask(max_tokens=b"9223372036854775807"),
    "fewer than none": ask(max_tokens=b"-5"),
    "messages that are none": ask(messages=b"5"),
    "empty names": ask(**{"": b"1"}),
    "other characters": ask(messages='"\u2028\U0001f30a\\u0000"'.encode()),
    "numbers that no float holds": ask(x=b"1" * 4000),
}


@pytest.fixture
def url(live: Callable[..., Any], raw_engine: Callable[..., Any]) -> str:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(GOOD)
    started = live(raw_engine(lambda connection: connection.sendall(head + GOOD)).url)
    found: str = started.url
    return found


def test_what_cannot_be_read_is_refused_in_openai_s_shape(url: str) -> None:
    with httpx.Client(base_url=url, timeout=30) as http:
        for name, body in REFUSED.items():
            found = http.post(CHAT, content=body)
            assert found.status_code in (400, 404), (name, found.text)
            assert set(found.json()["error"]) == {"message", "type", "param", "code"}, name
            assert len(found.content) < 2000, name


def test_what_can_be_read_is_served(url: str) -> None:
    with httpx.Client(base_url=url, timeout=30) as http:
        for name, body in SERVED.items():
            found = http.post(CHAT, content=body)
            assert found.status_code == 200, (name, found.text)
            assert json.loads(found.content)["usage"]["energy"]["joules"] > 0
