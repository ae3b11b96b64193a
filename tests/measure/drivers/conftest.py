"""Servers on loopback that speak the interface of OpenAI in the dialects of engines."""

from __future__ import annotations

import itertools
import json
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from wattshed.measure.driver import open_driver

VOCABULARY = 1024
Engine = Callable[[list[int], int], Iterator[int]]


def count_up(prompt: list[int], n: int) -> Iterator[int]:
    """An engine without a model: the next token is the last and one."""
    return itertools.islice(itertools.count(prompt[-1] + 1), n)


@dataclass
class Server:
    """How a server behaves, and what it was asked.

    `usage` is where it counts tokens: ``last`` (chunk of its own), ``finish`` (chunk with the
    reason), ``each``, ``groq``, ``timings`` or ``never``.
    """

    engine: Engine = count_up
    usage: str = "last"
    done: bool = True
    refuses: tuple[str, ...] = ()
    names_it: bool = True
    text_only: bool = False
    bos: int = 1
    per_chunk: int = 1
    stop_after: int = 10**9
    cut_after: int | None = None
    silent: bool = False
    as_json: bool = False
    reasons: bool = True
    cached: int = 0
    in_stream: str = ""
    status: int = 200
    message: str = "no"
    key: str = ""
    encoding: str = ""
    models: tuple[str, ...] = ("tiny",)
    stuck: threading.Event | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)

    def refusal(self, body: dict[str, Any]) -> str | None:
        wrong = [name for name in self.refuses if name in body | (body.get("stream_options") or {})]
        if self.text_only and not isinstance(body["prompt"], str):
            wrong.append("prompt")
        if not wrong:
            return None
        return f"fields not known: {wrong}" if self.names_it else "bad request"

    def tokens_of(self, prompt: str | list[int]) -> list[int]:
        """A tokenizer in which long words are two tokens."""
        if isinstance(prompt, list):
            return prompt
        pieces = [piece for word in prompt.split() for piece in (word[:4], word[4:]) if piece]
        return [1] * self.bos + [zlib.crc32(piece.encode()) % VOCABULARY for piece in pieces]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Any

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.not_allowed():
            return
        models = [{"id": name, "owned_by": "testing"} for name in self.server.told.models]
        self.whole(200, {"object": "list", "data": models})

    def do_POST(self) -> None:
        told: Server = self.server.told
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        told.asked.append(body)
        if told.stuck is not None:
            told.stuck.wait(10)
        if self.not_allowed():
            return
        if self.path != "/v1/completions" or body["model"] not in told.models:
            self.whole(404, {"detail": "Not Found"})
        elif told.status != 200:
            self.whole(told.status, {"error": {"message": told.message}})
        elif (refusal := told.refusal(body)) is not None:
            self.whole(422, {"detail": refusal})
        else:
            self.complete(told, body)

    def not_allowed(self) -> bool:
        given, key = self.headers.get("Authorization"), self.server.told.key
        if not key or given == f"Bearer {key}":
            return False
        self.whole(401, {"error": {"message": f"bad key {given}"}})
        return True

    def complete(self, told: Server, body: dict[str, Any]) -> None:
        prompt = told.tokens_of(body["prompt"])
        n = min(body["max_tokens"], told.stop_after)
        usage = {
            "prompt_tokens": len(prompt),
            "completion_tokens": n,
            "prompt_tokens_details": {"cached_tokens": told.cached},
        }
        if not body.get("stream") or told.as_json:
            list(told.engine(prompt, n))
            choices = [{"text": "all of it", "finish_reason": "length"}]
            found = {"choices": choices} | ({} if told.usage == "never" else {"usage": usage})
            self.whole(200, found)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in [] if told.silent else self.events(told, prompt, n, usage):
            self.piece(f"data: {json.dumps(event)}\n\n")
        if told.cut_after is not None:
            self.close_connection = True
            return
        self.piece(": a comment\n\n" + ("data: [DONE]\n\n" if told.done else ""))
        self.wfile.write(b"0\r\n\r\n")

    def events(
        self, told: Server, prompt: list[int], n: int, usage: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        made = 0
        tokens = told.engine(prompt, n)
        while group := list(itertools.islice(tokens, told.per_chunk)):
            if told.cut_after is not None and made >= told.cut_after:
                return
            made += len(group)
            event: dict[str, Any] = {"choices": [{"text": "".join(f" {t}" for t in group)}]}
            if told.usage == "each":
                event["usage"] = usage | {"completion_tokens": made}
            yield event
        if told.in_stream:
            yield {"error": {"message": told.in_stream}}
        last: dict[str, Any] = {"choices": [{"text": "", "finish_reason": "length"}]}
        if told.usage == "finish":
            last["usage"] = usage
        if told.usage == "groq":
            last["x_groq"] = {"usage": usage}
        if told.usage == "timings":
            cached = {"prompt_n": len(prompt) - told.cached, "cache_n": told.cached}
            last["timings"] = cached | {"predicted_n": n}
        if told.reasons:
            yield last
        if told.usage == "last":
            yield {"choices": [], "usage": usage}

    def piece(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def whole(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if self.server.told.encoding:
            self.send_header("Content-Encoding", self.server.told.encoding)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class Listener(ThreadingHTTPServer):
    """One that a batch may reach at once."""

    request_queue_size = 64
    daemon_threads = True
    told: Server

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # the client hung up
            super().handle_error(request, client_address)


@pytest.fixture
def serve() -> Iterator[Callable[..., tuple[Server, str]]]:
    """Start a server that behaves as told; the address to open it with."""
    running: list[Listener] = []

    def start(**behaviour: Any) -> tuple[Server, str]:
        server = Listener(("127.0.0.1", 0), Handler)
        server.told = Server(**behaviour)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        running.append(server)
        return server.told, f"openai:http://127.0.0.1:{server.server_port}/v1"

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.fixture
def real_engine() -> Iterator[Engine]:
    """A model with random weights that computes each token."""
    model: Any = open_driver("transformers:llama-1m", {"device": "cpu", "seed": "5"})
    turn = threading.Lock()

    def engine(prompt: list[int], n: int) -> Iterator[int]:
        tokens = list(prompt)
        for _ in range(n):
            with turn:
                made, _ = model.complete(np.array([tokens]), 1)
            tokens.append(int(made[0, 0]))
            yield tokens[-1]

    yield engine
    model.close()
