"""What is read of requests, and what engines are told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattshed.serve.body import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, engine_body, read_ask
from wattshed.serve.refused import RefusedError

MESSAGES = [{"role": "user", "content": "hello"}]


def ask(path: str = CHAT, **fields: Any) -> Any:
    body = {"model": "m", **({"messages": MESSAGES} if path == CHAT else {}), **fields}
    return read_ask(path, json.dumps(body).encode())


def test_what_decides_is_read() -> None:
    found = ask(stream=True, stream_options={"include_usage": True}, max_tokens=7)
    assert (found.model, found.stream, found.wants_usage, found.max_tokens) == ("m", True, True, 7)
    assert ask(max_tokens=9, max_completion_tokens=5).max_tokens == 5
    assert ask(RESPONSES, input="hello", max_output_tokens=3).max_tokens == 3
    assert ask(max_tokens=-1).max_tokens is None
    assert not ask(EMBEDDINGS, input="hello", stream=True).stream


def test_prompts_that_are_tokens_are_counted() -> None:
    assert ask(COMPLETIONS, prompt=[5, 6, 7]).prompt_tokens == 3
    assert ask(EMBEDDINGS, input=[[5, 6, 7], [8]]).prompt_tokens == 4
    assert ask(COMPLETIONS, prompt=["5 apples"]).prompt_tokens is None


def test_pictures_are_not_text() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 9999}}
    content = [{"type": "text", "text": "what is this?"}, picture]
    assert ask(messages=[{"role": "user", "content": content}]).text_bytes == len("what is this?")


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "not JSON"),
        (b"{", 400, "not JSON"),
        (b"[1]", 400, "object"),
        (b'{"messages": []}', 400, "model"),
        (b'{"model": "m"}', 400, "messages: missing"),
        (b'{"model": "m", "messages": [], "stream": "yes"}', 400, "stream"),
        (b'{"model": 3, "messages": []}', 400, "model"),
        (b'{"model": "\xff", "messages": []}', 400, "not JSON"),
        (b'{"model": "m", "messages": ' + b"[" * 100_000, 400, "not JSON"),
    ],
)
def test_what_cannot_be_read_is_refused(body: bytes, status: int, words: str) -> None:
    with pytest.raises(RefusedError, match=words) as refused:
        read_ask(CHAT, body)
    assert refused.value.status == status
    assert set(json.loads(refused.value.body)["error"]) == {"message", "type", "param", "code"}


def test_unknown_fields_travel_byte_for_byte() -> None:
    odd = b'{ "seed": 1e2, "big": 123456789012345678901234567890, "x": "\\u0041\\/" }'
    body = b'{"model": "m", "messages": [], "odd": ' + odd + b"}"
    assert odd in engine_body(read_ask(CHAT, body), "m", [])


def test_engines_are_told_their_name_and_asked_for_usage() -> None:
    found = ask(stream=True, stream_options={"chunk": 5}, metadata={"a": "b"})
    told = json.loads(engine_body(found, "engine/m", ["metadata"]))
    assert told["model"] == "engine/m"
    assert told["stream_options"] == {"chunk": 5, "include_usage": True}
    assert "metadata" not in told
    assert "stream_options" not in json.loads(engine_body(found, "m", ["stream_options"]))
    assert "stream_options" not in json.loads(engine_body(ask(), "m", []))


def test_a_name_that_occurs_twice_reaches_the_engine_once() -> None:
    body = b'{"model": "cheap", "messages": [1], "model": "dear", "messages": [2, 2]}'
    found = read_ask(CHAT, body)
    told = engine_body(found, found.model, [])
    assert found.model == "dear"
    assert told.count(b'"messages"') == told.count(b'"model"') == 1
    assert json.loads(told)["messages"] == [2, 2]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_no_body_makes_the_gateway_stumble(fields: dict[str, Any]) -> None:
    body = json.dumps({"model": "m", "messages": MESSAGES, **fields}).encode()
    try:
        told = json.loads(engine_body(read_ask(CHAT, body), "m", []))
    except RefusedError:
        return
    for name in set(fields) - {"model", "stream_options"}:
        assert told[name] == fields[name]
