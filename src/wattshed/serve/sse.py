"""Streams of server-sent events, read without I/O: what goes on to the client, and what it was."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from wattshed.errors import WattshedError
from wattshed.serve.answer import Usage, put_energy, put_energy_inside, read_usage

EVENT_END = re.compile(rb"\n\r?\n|\r\r")
LONGEST_EVENT = 4 * 2**20
"""Bytes; longer ones are no events of a language model."""
EMPTY = (b'""', b"null", b"[]", b"{}")


class GarbageError(WattshedError):
    """An engine sent something that is not a stream of events with JSON.

    Attributes
    ----------
    before : bytes
        What the client gets of the events before it.
    """

    before = b""


class Splitter:
    """Cuts bytes into events, each with the empty line at its end.

    Attributes
    ----------
    rest : bytes
        What has no end yet.
    """

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Events that are complete with these bytes.

        Raises
        ------
        GarbageError
            If an event does not end.
        """
        seen, start = max(0, len(self.rest) - 3), 0
        data = self.rest + data
        for end in _ends(data, seen):
            yield data[start:end]
            start = end
        self.rest = data[start:]
        if len(self.rest) > LONGEST_EVENT:
            raise GarbageError(f"an event of more than {LONGEST_EVENT} bytes")


def _ends(data: bytes, seen: int) -> Iterator[int]:
    """Where events end; the first bytes were looked at before."""
    if b"\r" in data:
        for found in EVENT_END.finditer(data, seen):
            yield found.end()
        return
    place = data.find(b"\n\n", seen)
    while place >= 0:
        yield place + 2
        place = data.find(b"\n\n", place + 2)


class _Choice(msgspec.Struct):
    delta: dict[str, msgspec.Raw] | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Response(msgspec.Struct):
    usage: msgspec.Raw = msgspec.Raw(b"")


class _Chunk(msgspec.Struct):
    id: str | int | None = None
    model: str | None = None
    object: str | None = None
    created: float | None = None
    type: str | None = None
    delta: str | dict[str, Any] | None = None
    choices: list[_Choice] | None = None
    usage: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")
    response: _Response | None = None


_CHUNK = msgspec.json.Decoder(_Chunk)
_ENDS = {"response.completed", "response.incomplete", "response.failed"}
Energy = Callable[[Usage], bytes]
"""The receipt for tokens in JSON; empty where there is none."""
Put = Callable[[bytes, bytes], bytes]
"""Adds energy to a document."""


class StreamReader:
    """Reads the stream of an engine, and says what the client is to get of it.

    Parameters
    ----------
    wants_usage : bool
        Whether the client asked for usage; the event with nothing else is kept from it otherwise.
    energy : callable
        Called when usage is known.
    input_tokens : int
        Estimate, for engines that do not tell.

    Attributes
    ----------
    tokens : int
        Events with a token in them so far.
    begun, finished : bool
        Whether there was an event with data, and whether the answer is whole.
    usage : Usage or None
        As the engine said it.
    error : bytes
        That the engine sent as an event.
    """

    def __init__(self, wants_usage: bool, energy: Energy, input_tokens: int) -> None:
        self.wants_usage, self._energy, self._input_tokens = wants_usage, energy, input_tokens
        self._splitter = Splitter()
        self._head: dict[str, Any] = {}
        self.tokens, self.begun, self.finished = 0, False, False
        self.usage: Usage | None = None
        self.error = b""
        self._told = False

    def feed(self, data: bytes) -> bytes:
        """What the client gets for bytes of the engine.

        Raises
        ------
        GarbageError
        """
        out: list[bytes] = []
        try:
            out.extend(map(self._event, self._splitter.feed(data)))
        except GarbageError as error:
            error.before = b"".join(out)
            raise
        return b"".join(out)

    def end(self) -> bytes:
        """What the client gets when the engine has closed its stream.

        Raises
        ------
        GarbageError
            If it closed in the middle of an event.
        """
        rest = self._splitter.rest
        last = self._event(rest) if rest.strip() else b""
        return last + (self._own_usage() if self.finished else b"")

    @property
    def used(self) -> Usage:
        """Usage by the engine, or by what was counted."""
        return self.usage or Usage(self._input_tokens, self.tokens, counted=True)

    def _event(self, event: bytes) -> bytes:
        data = _data_of(event)
        if data is None:
            return event  # a comment, such as a ping
        if data == b"[DONE]":
            self.finished = True
            return self._own_usage() + event
        self.begun = True
        try:
            chunk = _CHUNK.decode(data)
        except msgspec.ValidationError:
            return event  # of a dialect that we do not know, but JSON
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise GarbageError(f"an event that is not JSON: {error}") from None
        return self._chunk(chunk, event, data)

    def _chunk(self, chunk: _Chunk, event: bytes, data: bytes) -> bytes:
        choices = chunk.choices or []
        self._head = self._head or _head_of(chunk)
        self.tokens += any(map(_has_token, choices)) or _is_delta(chunk)
        ends = any(choice.finish_reason for choice in choices)
        self.finished |= ends or chunk.type in _ENDS
        error = bytes(chunk.error)
        self.error = error if error not in (b"", b"null") else self.error
        if chunk.response is not None:
            return self._response(chunk.response, event, data)
        usage = read_usage(bytes(chunk.usage))
        if usage is None:
            return event
        self.usage = usage
        if not choices and not self.wants_usage and chunk.type is None:
            return b""
        return self._with_energy(event, data) if ends or not choices else event

    def _response(self, response: _Response, event: bytes, data: bytes) -> bytes:
        """The last event of a stream of the Responses API tells the usage."""
        usage = read_usage(bytes(response.usage))
        if usage is None:
            return event
        self.usage = usage
        return self._with_energy(event, data, put_energy_inside) if self.finished else event

    def _with_energy(self, event: bytes, data: bytes, put: Put = put_energy) -> bytes:
        energy = self._energy(self.used)
        self._told = True
        # Data of several lines stays as it is: nobody sends any.
        return event.replace(data, put(data, energy), 1) if energy else event

    def _own_usage(self) -> bytes:
        """The last event of an engine that does not send it, if the client asked for it."""
        if self._told or not self.wants_usage or self.usage is not None or not self._head:
            return b""
        self._told = True
        chunk = {**self._head, "choices": [], "usage": usage_words(self.used, self._energy)}
        return b"data: " + msgspec.json.encode(chunk) + b"\n\n"


def usage_words(used: Usage, energy: Energy) -> dict[str, Any]:
    """Usage in the words of chat completions, marked where the gateway counted."""
    found: dict[str, Any] = {
        "prompt_tokens": used.input_tokens,
        "completion_tokens": used.output_tokens,
        "total_tokens": used.input_tokens + used.output_tokens,
    }
    if used.counted:
        found["estimated"] = True
    receipt = energy(used)
    return {**found, "energy": msgspec.Raw(receipt)} if receipt else found


def _data_of(event: bytes) -> bytes | None:
    """The data of an event; None without any."""
    if event.startswith(b"data:") and event.find(b"\n") == len(event) - 2 and b"\r" not in event:
        return event[5:].removeprefix(b" ").rstrip()
    lines = [line[5:].removeprefix(b" ") for line in event.splitlines() if line[:5] == b"data:"]
    if not lines:
        text = event.lstrip()
        if text[:1] in (b"", b":") or text.startswith((b"event:", b"id:", b"retry:")):
            return None
        raise GarbageError(f"no event: {bytes(text[:60])!r}")
    return lines[0].rstrip() if len(lines) == 1 else b"\n".join(lines)


def _head_of(chunk: _Chunk) -> dict[str, Any]:
    if chunk.choices is None:
        return {}
    created = None if chunk.created is None else int(chunk.created)
    return {"id": chunk.id, "object": chunk.object, "created": created, "model": chunk.model}


def _has_token(choice: _Choice) -> bool:
    if choice.text:
        return True
    delta = choice.delta or {}
    return any(name != "role" and bytes(value) not in EMPTY for name, value in delta.items())


def _is_delta(chunk: _Chunk) -> bool:
    return bool(chunk.type and chunk.type.endswith(".delta"))
