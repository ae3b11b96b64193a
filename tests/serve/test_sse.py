"""Streams in the dialects of engines: what the client gets, and what the gateway knows of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattshed.serve.answer import Usage
from wattshed.serve.sse import LONGEST_EVENT, GarbageError, StreamReader

DONE = b"data: [DONE]\n\n"


def event(end: bytes = b"\n\n", **fields: Any) -> bytes:
    return b"data: " + json.dumps({"id": "c", "model": "m", **fields}).encode() + end


def token(text: str, finish: str | None = None, **fields: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return event(choices=[choice], **fields)


USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
ROLE = event(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}}])
BODY = ROLE + token("a", usage=None) + token("b") + token("", "stop")
LAST = event(choices=[], usage=USAGE)


def reader(wants_usage: bool = True) -> StreamReader:
    return StreamReader(wants_usage, lambda used: b'{"joules":%.1f}' % (used.output_tokens / 2), 7)


def read(found: StreamReader, data: bytes) -> bytes:
    return found.feed(data) + found.end()


def energy_in(out: bytes) -> list[Any]:
    data = [line[6:] for line in out.splitlines() if line[:6] == b"data: " and line[6:7] != b"["]
    usages = [json.loads(line).get("usage") for line in data]
    return [usage["energy"] for usage in usages if usage]


def test_the_last_chunk_gets_energy_and_nothing_else_changes() -> None:
    found = reader()
    out = read(found, BODY + LAST + DONE)
    assert out == BODY + LAST.replace(b"11}}", b'11,"energy":{"joules":1.0}}}') + DONE
    assert (found.usage, found.tokens, found.finished) == (Usage(9, 2), 2, True)


def test_usage_that_the_client_did_not_ask_for_is_kept_from_it() -> None:
    found = reader(wants_usage=False)
    assert read(found, BODY + LAST + DONE) == BODY + DONE
    assert found.used == Usage(9, 2)


def test_usage_in_the_finish_chunk_without_done() -> None:
    found = reader()
    out = read(found, token("a") + token("b", "stop", usage=USAGE))
    assert energy_in(out) == [{"joules": 1.0}]
    assert found.finished
    assert out.count(b"prompt_tokens") == 1


@pytest.mark.parametrize("end", [DONE, b""])
def test_missing_usage_is_counted_and_marked(end: bytes) -> None:
    found = reader()
    out = read(found, BODY + end)
    assert out.startswith(BODY)
    assert out.endswith(end)
    last = json.loads(out[len(BODY) + 6 :].split(b"\n")[0])
    assert last["choices"] == []
    assert last["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": 2,
        "total_tokens": 9,
        "estimated": True,
        "energy": {"joules": 1.0},
    }
    assert found.used == Usage(7, 2, counted=True)
    assert read(reader(wants_usage=False), BODY + end) == BODY + end


def test_tokens_of_completions_tools_and_reasoning_count() -> None:
    found = reader()
    read(
        found,
        event(choices=[{"text": "a"}])
        + event(choices=[{"delta": {"reasoning_content": "hm"}}])
        + event(choices=[{"delta": {"tool_calls": [{"index": 0}]}}])
        + event(choices=[{"delta": {"content": None}}])
        + event(choices=[{"text": ""}]),
    )
    assert found.tokens == 3
    assert not found.finished


def test_the_last_event_of_a_response_gets_energy_and_nothing_else_changes() -> None:
    delta = b'event: response.output_text.delta\ndata: {"type": "response.output_text.delta"}\n\n'
    usage = {"input_tokens": 5, "output_tokens": 1}
    begun = {"type": "response.in_progress", "response": {"id": "r", "usage": usage}}
    text = {"usage": usage, "text": json.dumps({"response": {"usage": usage}})}
    response = {"id": "r", "output": [text], "usage": usage, "object": "response"}
    done = {"type": "response.completed", "sequence_number": 3, "response": response}
    first = delta + b"event: response.in_progress\ndata: " + json.dumps(begun).encode() + b"\n\n"
    last = b"event: response.completed\r\ndata: " + json.dumps(done).encode() + b"\r\n\r\n"
    old = b'"output_tokens": 1}, "object"'
    assert last.count(old) == 1
    found = reader()
    out = read(found, first + last)
    new = b'"output_tokens": 1,"energy":{"joules":0.5}}, "object"'
    assert out == first + last.replace(old, new)
    assert (found.used, found.tokens, found.finished) == (Usage(5, 1), 1, True)


@pytest.mark.parametrize("kind", ["response.incomplete", "response.failed"])
def test_a_response_that_ends_early_gets_energy_where_its_usage_is_known(kind: str) -> None:
    usage = b'{"input_tokens":5,"output_tokens":2}'
    known = b'data: {"response":{"usage":' + usage + b'},"type":"' + kind.encode() + b'"}\n\n'
    assert read(reader(), known) == known.replace(b"2}", b'2,"energy":{"joules":1.0}}')
    unknown = known.replace(usage, b"null")
    assert read(reader(), unknown) == unknown


def test_comments_and_unknown_dialects_pass() -> None:
    body = b": ping\n\n" + b'data: {"choices": "odd"}\n\n' + b"event: x\nid: 3\n\n" + b"\n\n"
    found = reader()
    assert read(found, body) == body
    assert found.begun


def test_an_error_of_the_engine_is_seen() -> None:
    found = reader()
    body = event(error={"message": "out of memory"})
    assert read(found, body) == body
    assert json.loads(found.error) == {"message": "out of memory"}


@pytest.mark.parametrize(
    "body",
    [
        b"data: {half\n\n",
        b"<html>Bad Gateway</html>\n\n",
        b'data: {"choices": []',
        b"data: \xff\xfe\n\n",
    ],
)
def test_garbage_is_refused(body: bytes) -> None:
    with pytest.raises(GarbageError):
        read(reader(), body)


def test_what_came_before_garbage_is_not_lost() -> None:
    with pytest.raises(GarbageError) as refused:
        reader().feed(ROLE + token("a") + b"garbage\n\n")
    assert refused.value.before == ROLE + token("a")


def test_an_event_that_does_not_end_is_refused() -> None:
    found = reader()
    found.feed(b"x" * LONGEST_EVENT)
    with pytest.raises(GarbageError, match="more than"):
        found.feed(b"x")


@given(
    st.lists(st.integers(1, 40), max_size=40),
    st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r"]),
    st.booleans(),
)
def test_it_does_not_matter_how_bytes_are_cut(
    cuts: list[int], end: bytes, wants_usage: bool
) -> None:
    body = (BODY + LAST + DONE).replace(b"\n\n", end)
    found, out, at = reader(wants_usage), b"", 0
    for cut in cuts:
        out += found.feed(body[at : at + cut])
        at += cut
    out += found.feed(body[at:]) + found.end()
    assert out == read(reader(wants_usage), body)
