"""An engine that needs no GPU: it answers nonsense, as fast as a profile says a real one would.

Every answer says that it is simulated: ``system_fingerprint`` is ``simulated``, and a header is.
"""

from __future__ import annotations

import asyncio
import math
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from wattshed.records import Deployment
from wattshed.serve.body import CHAT, COMPLETIONS, EMBEDDINGS, Ask, read_ask
from wattshed.serve.pace import Job, Pace
from wattshed.serve.refused import RefusedError

POWER = "/power"
"""Page of its meter."""
HEADERS = {"x-simulated": "wattshed"}
WORDS = ("water", "runs", "down", "where", "the", "ridge", "lets", "it")
BYTES_PER_TOKEN = 4
SHORTEST, LONGEST = 16, 512
"""Tokens of answers that nothing limits: spread evenly over their logarithms, by the prompt."""


@dataclass(frozen=True)
class Dialect:
    """How an engine speaks.

    Attributes
    ----------
    usage : str
        ``last``: in an event of its own; ``finish``: with the last token; ``never`` in streams.
    done : bool
        Whether streams end with ``[DONE]``.
    """

    usage: str = "last"
    done: bool = True


class SimulatedEngine:
    """Answers in the words of OpenAI, at the pace of a deployment."""

    def __init__(self, deployment: Deployment, speed: float, dialect: Dialect) -> None:
        self.pace = Pace(deployment, speed)
        self.model, self._dialect = deployment.profile.model, dialect

    async def generate(self, request: Request) -> Response:
        """Chat and completions."""
        ask = read_ask(request.url.path, await request.body())
        job = self.pace.submit(prompt_tokens(ask), answer_tokens(ask))
        if ask.stream:
            events = self._events(ask, job)
            return StreamingResponse(events, headers=HEADERS, media_type="text/event-stream")
        try:
            words = [word(await job.tokens.get()) for _ in range(job.output_tokens)]
        finally:
            job.left = True
        return _json({**self._head(ask, ""), **whole(ask, "".join(words)), **usage(job)})

    async def embed(self, request: Request) -> Response:
        """Embeddings: one number, after the prompt was processed."""
        ask = read_ask(EMBEDDINGS, await request.body())
        job = self.pace.submit(prompt_tokens(ask), 1)
        await job.tokens.get()
        data = [{"object": "embedding", "index": 0, "embedding": [0.0]}]
        tokens = {"prompt_tokens": job.input_tokens, "total_tokens": job.input_tokens}
        return _json({"object": "list", "model": ask.model, "data": data, "usage": tokens})

    async def models(self, _: Request) -> Response:
        """The one model."""
        return _json({"object": "list", "data": [{"id": self.model, "object": "model"}]})

    async def _events(self, ask: Ask, job: Job) -> AsyncIterator[bytes]:
        head = self._head(ask, ".chunk")
        try:
            for number in range(job.output_tokens):
                await job.tokens.get()
                last = number + 1 == job.output_tokens
                with_usage = last and self._dialect.usage == "finish"
                yield event(
                    {**head, **part(ask, number, last), **(usage(job) if with_usage else {})}
                )
            if ask.wants_usage and self._dialect.usage == "last":
                yield event({**head, "choices": [], **usage(job)})
            if self._dialect.done:
                yield b"data: [DONE]\n\n"
        finally:
            job.left = True

    def _head(self, ask: Ask, kind: str) -> dict[str, Any]:
        name = "chat.completion" + kind if ask.path == CHAT else "text_completion"
        return {
            "id": f"sim-{time.monotonic_ns():x}",
            "object": name,
            "created": int(time.time()),
            "model": self.model,
            "system_fingerprint": "simulated",
        }


def metrics_page(engine: SimulatedEngine) -> bytes:
    """How busy it is, in the words of vLLM."""
    registry = CollectorRegistry()
    for name, (text, value) in engine.pace.load().items():
        gauge = Gauge(f"vllm:{name}", text, ("model_name", "engine"), registry=registry)
        gauge.labels(engine.model, "0").set(value)
    return generate_latest(registry)


def simulated_app(
    deployment: Deployment, speed: float = 1.0, dialect: Dialect | None = None
) -> Starlette:
    """A simulated engine as an ASGI application; one replica of a deployment."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        engine = SimulatedEngine(deployment, speed, dialect or Dialect())
        app.state.engine = engine
        running = asyncio.create_task(engine.pace.run())
        async with anyio.create_task_group():
            pass  # what streams need is loaded now: the first request would be 70 ms late
        yield
        running.cancel()

    async def generate(request: Request) -> Response:
        return await request.app.state.engine.generate(request)  # type: ignore[no-any-return]

    async def embed(request: Request) -> Response:
        return await request.app.state.engine.embed(request)  # type: ignore[no-any-return]

    async def models(request: Request) -> Response:
        return await request.app.state.engine.models(request)  # type: ignore[no-any-return]

    async def health(_: Request) -> Response:
        return Response()

    async def metrics(request: Request) -> Response:
        page = metrics_page(request.app.state.engine)
        return Response(page, headers=HEADERS, media_type=CONTENT_TYPE_LATEST)

    async def refuse(_: Request, error: Exception) -> Response:
        assert isinstance(error, RefusedError)
        return Response(error.body, error.status, media_type="application/json")

    async def power(request: Request) -> Response:
        return Response(request.app.state.engine.pace.power.page(), media_type="text/plain")

    return Starlette(
        routes=[
            Route(CHAT, generate, methods=["POST"]),
            Route(COMPLETIONS, generate, methods=["POST"]),
            Route(EMBEDDINGS, embed, methods=["POST"]),
            Route("/v1/models", models),
            Route("/health", health),
            Route("/metrics", metrics),
            Route(POWER, power),
        ],
        exception_handlers={RefusedError: refuse},
        lifespan=lifespan,
    )


def prompt_tokens(ask: Ask) -> int:
    """Tokens of a prompt: some of its bytes each."""
    return ask.prompt_tokens or max(1, ask.text_bytes // BYTES_PER_TOKEN)


def answer_tokens(ask: Ask) -> int:
    """Tokens of an answer: the same for the same prompt, no more than it allows."""
    ignores = bytes(ask.fields.get("ignore_eos", b"")) == b"true"
    if ignores and ask.max_tokens:
        return ask.max_tokens
    text = b"".join(bytes(ask.fields.get(name, b"")) for name in ("messages", "prompt"))
    part = zlib.crc32(text) / 2**32
    drawn = round(SHORTEST * math.exp(part * math.log(LONGEST / SHORTEST)))
    return min(drawn, ask.max_tokens or drawn)


def word(number: int) -> str:
    """The text of a token."""
    return WORDS[number % len(WORDS)] + " "


def usage(job: Job) -> dict[str, Any]:
    """Tokens of a request."""
    m, n = job.input_tokens, job.output_tokens
    return {"usage": {"prompt_tokens": m, "completion_tokens": n, "total_tokens": m + n}}


def whole(ask: Ask, text: str) -> dict[str, Any]:
    """An answer at once."""
    said = {"message": {"role": "assistant", "content": text}}
    content = said if ask.path == CHAT else {"text": text}
    return {"choices": [{"index": 0, **content, "finish_reason": "stop", "logprobs": None}]}


def part(ask: Ask, number: int, last: bool) -> dict[str, Any]:
    """One token of an answer."""
    role = {} if number else {"role": "assistant"}
    content: dict[str, Any] = {"text": word(number)}
    if ask.path == CHAT:
        content = {"delta": {**role, "content": word(number)}}
    finish = "stop" if last else None
    return {"choices": [{"index": 0, **content, "finish_reason": finish, "logprobs": None}]}


def event(content: dict[str, Any]) -> bytes:
    """A server-sent event."""
    return b"data: " + msgspec.json.encode(content) + b"\n\n"


def _json(content: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(content), headers=HEADERS, media_type="application/json")
