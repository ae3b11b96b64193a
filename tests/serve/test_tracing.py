"""Traces, as a collector gets them."""

from __future__ import annotations

import gzip
import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from wattshed.errors import ParameterError
from wattshed.fleet import load_fleet
from wattshed.serve.keys import KeyEntry, Keys
from wattshed.serve.simulated import simulated_app
from wattshed.serve.tracing import Traces

CHAT = "/v1/chat/completions"
KEY, PROMPT = "a-long-and-random-key", "what nobody else may read"
ASK = {"model": "llama", "max_tokens": 3, "messages": [{"role": "user", "content": PROMPT}]}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(ThreadingHTTPServer):
    """Takes OTLP over HTTP."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                body = self.rfile.read(int(self.headers["content-length"]))
                zipped = self.headers.get("content-encoding") == "gzip"
                bodies.append(gzip.decompress(body) if zipped else body)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    def spans(self) -> list[Any]:
        """All spans that came, in the order of their starts."""
        requests = [ExportTraceServiceRequest.FromString(body) for body in self.bodies]
        scopes = [s for r in requests for each in r.resource_spans for s in each.scope_spans]
        found = [span for scope in scopes for span in scope.spans]
        return sorted(found, key=lambda span: (span.start_time_unix_nano, span.kind))


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def heard(app: Any, headers: list[dict[str, str]]) -> Any:
    """An engine whose requests' headers are kept."""

    async def listen(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            headers.append({k.decode(): v.decode() for k, v in scope["headers"]})
        await app(scope, receive, send)

    return listen


async def broken(scope: Any, receive: Any, send: Any) -> None:
    """An engine that is well until it is asked something."""
    status = 500 if scope["method"] == "POST" else 200
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body"})


def words(span: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}


def test_a_request_is_a_span_and_each_try_one_below_it(
    live: Callable[..., Any], collector: Collector
) -> None:
    seen: list[dict[str, str]] = []
    good = simulated_app(load_fleet("mixed-70b").deployments[1], 200.0)
    keys = Keys([KeyEntry("team-a", hashlib.sha256(KEY.encode()).hexdigest())])
    started = live(broken, heard(good, seen), keys=keys)
    traces = Traces(f"http://127.0.0.1:{collector.server_port}/")
    traces.follow(started.gateway)
    headers = {"authorization": f"Bearer {KEY}", "traceparent": f"00-{TRACE}-{PARENT}-01"}
    with httpx.Client() as http:
        answer = http.post(started.url + CHAT, json=ASK, headers=headers)
    assert answer.status_code == 200
    (row,) = started.rows()
    traces.close()
    root, failed, worked = collector.spans()
    assert {span.trace_id.hex() for span in (root, failed, worked)} == {TRACE}
    assert root.parent_span_id.hex() == PARENT
    assert failed.parent_span_id == worked.parent_span_id == root.span_id
    (header,) = seen
    assert header["traceparent"] == f"00-{TRACE}-{worked.span_id.hex()}-01"
    assert (root.name, failed.name, worked.name) == (
        "chat llama",
        "try a100-tp8/0",
        "try h100-tp8/0",
    )
    assert root.start_time_unix_nano <= failed.start_time_unix_nano
    took_s = (root.end_time_unix_nano - root.start_time_unix_nano) / 1e9
    assert took_s == pytest.approx(row["end_s"], abs=1e-5)
    said = words(root)
    for name, column in (
        ("gen_ai.usage.input_tokens", "input_tokens"),
        ("gen_ai.usage.output_tokens", "output_tokens"),
        ("gen_ai.request.model", "model"),
        ("wattshed.request.id", "id"),
        ("wattshed.endpoint", "endpoint"),
        ("wattshed.tenant", "tenant"),
        ("wattshed.energy.joules", "joules"),
        ("wattshed.energy.method", "energy_method"),
        ("wattshed.energy.boundary", "boundary"),
    ):
        assert said[name] == row[column]
    assert said["gen_ai.operation.name"] == "chat"
    assert said["wattshed.simulated"] is True
    assert root.status.code == worked.status.code == 0
    assert (failed.status.code, words(failed)["error.type"]) == (2, "upstream")
    sent = b"".join(collector.bodies)
    for secret in (PROMPT, KEY, "water"):
        assert secret.encode() not in sent


def test_a_request_that_fails_is_a_span_with_an_error(
    live: Callable[..., Any], collector: Collector
) -> None:
    started = live(broken)
    traces = Traces(f"http://127.0.0.1:{collector.server_port}")
    traces.follow(started.gateway)
    with httpx.Client() as http:
        assert http.post(started.url + CHAT, json=ASK).status_code == 502
    started.rows()
    traces.close()
    root, failed = collector.spans()
    assert root.parent_span_id == b""
    assert failed.parent_span_id == root.span_id
    assert (root.status.code, words(root)["error.type"]) == (2, "failed")
    assert words(root)["http.response.status_code"] == 502


@pytest.mark.parametrize(
    "url", ["localhost:4318", "ftp://host", "http://", "http://a:b", "http://a:70000", "http://["]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ParameterError, match=f"--otlp: '{re.escape(url)}' is no address; give"):
        Traces(url)
