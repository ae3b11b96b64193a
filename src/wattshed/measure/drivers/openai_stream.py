"""What OpenAI-compatible servers stream, and what it says of tokens and times.

Servers differ: usage comes in the last chunk, in each, elsewhere or not at all; some end without
``[DONE]``; some put several tokens in a chunk. All of it is read here, without any input or output.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from wattshed.errors import EngineError
from wattshed.records import Generation

MESSAGE_LENGTH = 300


class Details(msgspec.Struct):
    """Of the tokens of a prompt."""

    cached_tokens: int | None = None


class Usage(msgspec.Struct):
    """Tokens, as the server counts them."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: Details | None = None
    energy: Any = None


class Timings(msgspec.Struct):
    """Tokens, as llama.cpp counts them: `prompt_n` leaves out those from its cache."""

    prompt_n: int | None = None
    cache_n: int | None = None
    predicted_n: int | None = None


class Choice(msgspec.Struct):
    """A piece of the answer."""

    text: str | None = None
    finish_reason: str | None = None


class Elsewhere(msgspec.Struct):
    """Where Groq keeps its usage."""

    usage: Usage | None = None


class Chunk(msgspec.Struct):
    """One event of a stream, or a whole answer."""

    choices: list[Choice] | None = None
    usage: Usage | None = None
    timings: Timings | None = None
    x_groq: Elsewhere | None = None
    error: Any = None


class _Told(msgspec.Struct):
    message: str = ""


class _Error(msgspec.Struct):
    """The shapes in which servers tell errors."""

    error: _Told | str | None = None
    message: str | None = None
    detail: Any = None


@dataclass
class Tally:
    """What has been said of one query so far.

    Attributes
    ----------
    arrived_ns : list of int
        When each piece of the answer came.
    counts : list of int
        Tokens in each piece: known where usage comes with each, else 1.
    last_ns : int
        When anything came last.
    input_tokens, output_tokens, cached_tokens : int or None
        As the server counts them; None if it has not said.
    finished : bool
        The server said that the answer is complete.
    whole : bool
        The answer came at once, not as a stream.
    energy : object
        ``usage.energy``, as a gateway words it; None if nobody told it.
    """

    arrived_ns: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    last_ns: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    finished: bool = False
    whole: bool = False
    energy: Any = None

    def add_line(self, line: str, t_ns: int, where: str) -> None:
        """Take in one line of a stream: an event, a comment or nothing.

        Raises
        ------
        EngineError
            If the server tells an error, or something that is no chunk.
        """
        if not line.startswith("data:"):
            return
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            self.finished = True
        elif data:
            self.add(read_chunk(data, where), t_ns)

    def add(self, chunk: Chunk, t_ns: int) -> None:
        """Take in one chunk."""
        self.last_ns = t_ns
        before = self.output_tokens or 0
        said = self._count(chunk)
        more = (self.output_tokens or 0) - before if said else None
        for choice in chunk.choices or ():
            self.finished |= bool(choice.finish_reason)
            if choice.text or self._is_token(choice, more):
                self.arrived_ns.append(t_ns)
                self.counts.append(1 if more is None else more)

    def _is_token(self, choice: Choice, more: int | None) -> bool:
        """Whether a piece without text is a token: half a character, neither beginning nor end.

        A server that counts only in the end counts what has come already.
        """
        if more is not None:
            return 0 < more <= (self.output_tokens or 0) - sum(self.counts)
        return bool(self.arrived_ns) and not choice.finish_reason

    def _count(self, chunk: Chunk) -> bool:
        """Take in the server's counts; whether it counted what the answer has so far."""
        usage = chunk.usage or (chunk.x_groq.usage if chunk.x_groq else None)
        if usage is not None:
            self.input_tokens = _either(usage.prompt_tokens, self.input_tokens)
            self.output_tokens = _either(usage.completion_tokens, self.output_tokens)
            self.energy = self.energy if usage.energy is None else usage.energy
            if usage.prompt_tokens_details is not None:
                self.cached_tokens = usage.prompt_tokens_details.cached_tokens
        if chunk.timings is not None:
            timings = chunk.timings
            if timings.prompt_n is not None:
                self.input_tokens = timings.prompt_n + (timings.cache_n or 0)
            self.cached_tokens = _either(timings.cache_n, self.cached_tokens)
            self.output_tokens = _either(timings.predicted_n, self.output_tokens)
        return usage is not None and usage.completion_tokens is not None

    @property
    def counted(self) -> int:
        """Output tokens, by the server's count or else by the pieces."""
        return _either(self.output_tokens, len(self.arrived_ns)) or 0

    @property
    def ended_ns(self) -> int:
        """When the last token came."""
        return self.arrived_ns[-1] if self.arrived_ns else self.last_ns

    def token_ns(self) -> tuple[int, ...]:
        """When each token came; empty where pieces cannot be told apart into tokens."""
        if len(self.arrived_ns) == self.counted:
            return tuple(self.arrived_ns)
        if sum(self.counts) == self.counted and all(count >= 0 for count in self.counts):
            pairs = zip(self.arrived_ns, self.counts, strict=True)
            return tuple(t_ns for t_ns, count in pairs for _ in range(count))
        return ()


def _either(first: int | None, second: int | None) -> int | None:
    return second if first is None else first


def read_chunk(data: str | bytes, where: str) -> Chunk:
    """One chunk of a stream, or a whole answer.

    Raises
    ------
    EngineError
    """
    cure = "give the base URL of an OpenAI-compatible server, such as http://HOST:8000/v1"
    try:
        chunk = msgspec.json.decode(data, type=Chunk, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EngineError(where, f"sent no chunk of a completion: {error}", cure) from None
    if chunk.error is not None:
        message = error_message(data)
        raise EngineError(where, f"failed while it answered: {message}", cure_of(message))
    return chunk


def error_message(body: str | bytes) -> str:
    """What a server says went wrong, in one line."""
    text = body.decode(errors="replace") if isinstance(body, bytes) else body
    try:
        found = msgspec.json.decode(text, type=_Error)
    except msgspec.DecodeError:
        found = _Error()
    told = found.error.message if isinstance(found.error, _Told) else found.error
    detail = found.detail if isinstance(found.detail, str) else ""
    line = " ".join((told or found.message or detail or text).split())
    return line if len(line) <= MESSAGE_LENGTH else f"{line[:MESSAGE_LENGTH]}..."


def cure_of(message: str) -> str:
    """What to do about what an engine says."""
    low = message.lower()
    if "vocab" in low:
        return "give token_ids=LOW-HIGH, within the model's vocabulary"
    if "context" in low or "max_tokens" in low:
        return "ask for fewer tokens, or start the engine with a longer context"
    return "look into the engine's log"


def check_answered(tally: Tally, output_tokens: int, where: str) -> None:
    """Refuse an answer that is empty, or was cut off.

    Raises
    ------
    EngineError
    """
    if not tally.counted:
        raise EngineError(
            where,
            "answered 200 with no token",
            "look into the engine's log (llama-cpp-python: start it with --interrupt_requests"
            " false)",
        )
    if tally.counted < output_tokens and not tally.finished:
        raise EngineError(
            where,
            f"broke off after {tally.counted} of {output_tokens} tokens, without saying why",
            "look into the engine's log",
        )


def generation_of(
    tallies: list[Tally], begun_ns: int, input_tokens: int, output_tokens: int
) -> Generation:
    """What a batch of equal queries came to.

    Parameters
    ----------
    tallies : list of Tally
        One for each query.
    begun_ns : int
    input_tokens, output_tokens : int
        As asked for.

    Returns
    -------
    Generation
        Tokens are the mean over the batch, rounded, where its queries differ. Flags:
        ``counted_here`` (the server did not count), ``fewer_tokens``, ``other_input`` (the prompt
        has another length than asked for), ``uneven`` (queries differ), ``cached_prefix`` (part
        of a prompt came from a cache), ``chunks_not_tokens`` (later tokens have no times).
    """
    outputs = [tally.counted for tally in tallies]
    inputs = [t.input_tokens for t in tallies if t.input_tokens is not None] or [input_tokens]
    first = tallies[0]
    times = () if first.whole else first.token_ns()
    if first.whole or not first.arrived_ns:
        first_ns = None
    else:
        first_ns = times[0] if times else first.arrived_ns[0]
    found = {
        "counted_here": any(t.output_tokens is None or t.input_tokens is None for t in tallies),
        "fewer_tokens": min(outputs) < output_tokens,
        "other_input": any(count != input_tokens for count in inputs),
        "uneven": len(set(outputs)) > 1 or len(set(inputs)) > 1,
        "cached_prefix": any((t.cached_tokens or 0) > 0 for t in tallies),
        "chunks_not_tokens": not first.whole and not times,
    }
    return Generation(
        round(sum(inputs) / len(inputs)),
        round(sum(outputs) / len(outputs)),
        len(tallies),
        begun_ns,
        max(tally.ended_ns for tally in tallies),
        first_ns,
        times[1:],
        tuple(flag for flag, holds in found.items() if holds),
    )
