"""The way back: what an engine answers goes to the client, with the energy in its usage."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from wattshed.serve.account import Flight
from wattshed.serve.answer import Usage, put_energy, put_usage, read_usage, usage_of
from wattshed.serve.body import EMBEDDINGS, RESPONSES, text_bytes_inside
from wattshed.serve.call import Call
from wattshed.serve.receipt import Receipts
from wattshed.serve.refused import error_body
from wattshed.serve.reply import Headers, Reply, passed_headers
from wattshed.serve.sse import GarbageError, StreamReader, usage_words
from wattshed.serve.target import Target
from wattshed.serve.tokens import TokenEstimator
from wattshed.serve.upstream_error import UpstreamError
from wattshed.serve.wire import Connection

LONGEST_ANSWER = 256 * 2**20
"""Bytes of an answer that is not streamed."""
JSON = [(b"content-type", b"application/json")]
Clock = Callable[[], float]


class Relay:
    """One try of a call at one endpoint, once the engine has begun to answer."""

    def __init__(
        self,
        call: Call,
        target: Target,
        flight: Flight,
        reply: Reply,
        receipts: Receipts,
        estimator: TokenEstimator,
        clock: Clock = time.monotonic,
    ) -> None:
        self.call, self.target, self.flight, self.reply = call, target, flight, reply
        self._receipts, self._estimator, self._clock = receipts, estimator, clock

    async def answer(self, response: Connection) -> None:
        """Pass on an answer, streamed or whole.

        Raises
        ------
        UpstreamError
        """
        if response.status >= 400:
            await self._error(response)
        elif response.media_type == b"text/event-stream":
            await self._stream(response)
        else:
            whole = response.take() if response.whole else await self._read(response)
            headers, body = self._completed(response, whole)
            await self.reply.whole(response.status, headers, body)

    async def _error(self, response: Connection) -> None:
        """An error that the client made, in the words of the engine if they are OpenAI's."""
        body = await self._read(response)
        try:
            shaped = "error" in msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        except (msgspec.DecodeError, UnicodeDecodeError):
            shaped = False
        if not shaped:
            text = body[:2000].decode("utf-8", "replace")
            body = error_body(response.status, f"the engine refused the request: {text}", None)
        self.call.outcome = "refused"
        await self.reply.whole(response.status, self._headers(JSON), body)

    def _completed(self, response: Connection, body: bytes) -> tuple[Headers, bytes]:
        """What the client gets for an answer that is not streamed."""
        try:
            raw = usage_of(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UpstreamError(f"sent an answer that is not a JSON object: {error}") from None
        used = read_usage(raw)
        if used is None:
            used = self._counted(body)
            if self.call.ask.path != RESPONSES:
                body = put_usage(body, usage_words(used, self._energy))
        elif energy := self._energy(used):
            body = put_energy(body, energy, raw)
        self._served(used)
        headers, receipt = self._headers(passed_headers(response.headers)), self.call.receipt
        return headers if receipt is None else headers + receipt.headers, body

    async def _stream(self, response: Connection) -> None:
        call = self.call
        reader = StreamReader(call.ask.wants_usage, self._energy, call.request.input_tokens)
        try:
            held = await self._pass_on(reader, response)
            self._refuse_unfinished(reader)
        except BaseException:
            if reader.tokens:  # what was made of it has cost energy all the same
                call.used = reader.used
                self._energy(reader.used)
            raise
        self._served(reader.used)
        if reader.error:
            call.outcome = "broken"
        await self.reply.end(held)

    async def _pass_on(self, reader: StreamReader, response: Connection) -> bytes:
        """Pass on all but the last bytes, which are returned."""
        headers = self._headers(passed_headers(response.headers))
        held = b""
        try:
            while data := await response.part(self._patience):
                held += self._feed(reader, data)
                if not self.reply.started and (reader.begun or reader.finished):
                    self._refuse_early(reader)
                    await self.reply.start(response.status, headers)
                if self.reply.started and held:
                    out, held = held, b""
                    await self.reply.write(out)
            return held + reader.end()
        except GarbageError as error:
            if self.reply.started:
                await self.reply.write(held + error.before)
            raise UpstreamError(f"sent {error}") from None

    def _feed(self, reader: StreamReader, data: bytes) -> bytes:
        """Read a part, and account for its tokens."""
        before = reader.tokens
        out = reader.feed(data)
        new = reader.tokens - before
        if new:
            now = self._clock()
            if self.call.first_s is None:
                self.call.first_s = now
            self.call.last_s = now
            if self.call.token_s is not None:
                self.call.token_s.append((now, new))
            self.target.account.run(self.flight, now)
            self.target.account.grow(self.flight, new)
        return out

    def _refuse_early(self, reader: StreamReader) -> None:
        if reader.error:
            raise UpstreamError(f"sent an error: {reader.error[:500].decode('utf-8', 'replace')}")
        if not reader.begun:
            raise UpstreamError("sent an empty stream")

    def _refuse_unfinished(self, reader: StreamReader) -> None:
        if not reader.begun:
            raise UpstreamError("sent an empty stream")
        if not reader.finished and not reader.error:
            raise UpstreamError("ended its stream before its answer")

    def _patience(self) -> float:
        """Seconds until the next part has to be there."""
        upstream = self.target.upstream
        if self.reply.started:
            return upstream.idle_s
        assert self.call.sent_s is not None
        return self.call.sent_s + upstream.first_byte_s - self._clock()

    async def _read(self, response: Connection) -> bytes:
        pieces, size = [], 0
        while data := await response.part(self._patience):
            pieces.append(data)
            size += len(data)
            if size > LONGEST_ANSWER:
                raise UpstreamError(f"sent more than {LONGEST_ANSWER} bytes")
        return b"".join(pieces)

    def _counted(self, body: bytes) -> Usage:
        """Tokens of an answer whose engine does not tell them."""
        ask = self.call.ask
        n = 0
        if ask.path != EMBEDDINGS:
            n = self._estimator.estimate(ask.model, text_bytes_inside(body))
        return Usage(self.call.request.input_tokens, n, counted=True)

    def _energy(self, used: Usage) -> bytes:
        """Make the receipt; in JSON, empty where there is none."""
        beside = self.target.account.beside(self.flight, self._clock())
        found = self.call.receipt = self._receipts.of(used, beside, self.flight.joined)
        return b"" if found is None else found.json

    def _served(self, used: Usage) -> None:
        self.call.used = used
        if self.call.receipt is None:
            self._energy(used)
        self.call.outcome = "served"

    def _headers(self, headers: Headers) -> Headers:
        return [
            *headers,
            (b"x-wattshed-request", self.call.id.encode()),
            (b"x-wattshed-endpoint", self.target.name.encode("latin-1", "replace")),
        ]
