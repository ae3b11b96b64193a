"""Traces for OpenTelemetry: a span for each request, and one below it for each try at an endpoint.

Engines get the trace in ``traceparent`` and can add their own spans. No prompt, no answer and no
key is in a span. Imported only where traces are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from wattshed import __version__
from wattshed.errors import ParameterError
from wattshed.serve.body import CHAT, COMPLETIONS, EMBEDDINGS
from wattshed.serve.call import Call
from wattshed.serve.gateway import Gateway
from wattshed.serve.target import Target
from wattshed.serve.upstream_error import UpstreamError

OPERATIONS = {CHAT: "chat", COMPLETIONS: "text_completion", EMBEDDINGS: "embeddings"}
"""``gen_ai.operation.name`` by path; others have the last part of theirs."""
SEND_S = 5.0
"""How long a collector may take."""


class Traces:
    """Makes the spans of a gateway, and sends them from a thread of its own.

    Parameters
    ----------
    url : str
        Of an OTLP collector over HTTP, such as ``http://127.0.0.1:4318``.

    Raises
    ------
    ParameterError
        If it is no address.
    """

    def __init__(self, url: str) -> None:
        if not _is_address(url):
            cure = "give the address of a collector, such as http://127.0.0.1:4318"
            raise ParameterError("--otlp", f"{url!r} is no address", cure)
        exporter = OTLPSpanExporter(f"{url.rstrip('/')}/v1/traces", timeout=SEND_S)
        ours = Resource({"service.name": "wattshed", "service.version": __version__})
        # What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say goes before it.
        resource = Resource.create().merge(ours).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("wattshed.serve", __version__)
        self._words = TraceContextTextMapPropagator()
        self._open: dict[Call, Span] = {}

    def follow(self, gateway: Gateway) -> None:
        """Trace what a gateway serves from now on."""
        gateway.trying = self.trying
        gateway.observers.append(self.finish)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()

    @contextmanager
    def trying(self, call: Call, target: Target) -> Iterator[None]:
        """The span of a try; the engine is told of it."""
        root = self._open.get(call) or self._begin(call)
        context = trace.set_span_in_context(root)
        span = self._tracer.start_span(
            f"try {target.name}", context, SpanKind.CLIENT, attributes=_place(target)
        )
        self._words.inject(call.forward, trace.set_span_in_context(span))
        try:
            yield
        except UpstreamError as error:
            span.set_attribute("error.type", _kind(error))
            span.set_status(Status(StatusCode.ERROR, error.reason))
            raise
        finally:
            span.end()

    def finish(self, call: Call) -> None:
        """End the span of a request."""
        span = self._open.pop(call, None) or self._begin(call)
        self._open.pop(call, None)
        span.set_attributes({k: v for k, v in attributes(call).items() if v is not None})
        if call.outcome not in ("served", "left"):
            span.set_attribute("error.type", call.outcome)
            span.set_status(Status(StatusCode.ERROR, call.outcome))
        span.end(_ns(call.arrived_at + (call.since(call.end_s) or 0.0)))

    def _begin(self, call: Call) -> Span:
        name = f"{_operation(call)} {call.ask.model}"
        span = self._tracer.start_span(
            name,
            self._words.extract(call.forward),
            SpanKind.SERVER,
            start_time=_ns(call.arrived_at),
        )
        self._open[call] = span
        return span


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no number, or too large
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def attributes(call: Call) -> dict[str, Any]:
    """What the span of a request says; None where it is not known."""
    request, used, choice = call.request, call.used, call.choice
    energy = call.receipt.words() if call.receipt else {}
    shadow = choice.shadow if choice else None
    return {
        "gen_ai.operation.name": _operation(call),
        "gen_ai.request.model": call.ask.model,
        "gen_ai.request.max_tokens": call.ask.max_tokens,
        "gen_ai.usage.input_tokens": used.input_tokens if used else None,
        "gen_ai.usage.output_tokens": used.output_tokens if used else None,
        "http.response.status_code": call.status,
        "wattshed.request.id": call.id,
        "wattshed.outcome": call.outcome,
        "wattshed.policy": choice.policy if choice else None,
        "wattshed.endpoint": call.target.name if call.target else None,
        "wattshed.shadow.endpoint": shadow.endpoint if shadow else None,
        "wattshed.tenant": request.tenant or None,
        "wattshed.slo.class": request.slo_class or None,
        "wattshed.slo.kept": call.kept if call.outcome == "served" else None,
        "wattshed.time_to_first_token_s": call.since(call.first_s),
        **{f"wattshed.energy.{name}": value for name, value in energy.items()},
        "wattshed.simulated": call.simulated or None,
    }


def _operation(call: Call) -> str:
    return OPERATIONS.get(call.ask.path, call.ask.path.rpartition("/")[2])


def _place(target: Target) -> dict[str, Any]:
    parts = urlsplit(target.url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    found = {"wattshed.endpoint": target.name, "gen_ai.request.model": target.engine_model()}
    return {**found, "server.address": parts.hostname or "", "server.port": port}


def _kind(error: UpstreamError) -> str:
    """Few words, for charts."""
    if error.busy:
        return "busy"
    return "timeout" if error.late else "upstream"


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
