"""What Prometheus is told, what of it is documented, and what the Grafana dashboard asks for."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from wattshed.fleet import load_fleet
from wattshed.records import Upstream
from wattshed.serve.background import background
from wattshed.serve.counting import AT_ONCE
from wattshed.serve.decide import Decider
from wattshed.serve.gateway import Gateway
from wattshed.serve.ledger import Ledger
from wattshed.serve.metrics import SECONDS, Metrics
from wattshed.serve.recent import Ended
from wattshed.serve.record_metrics import QUEUE_SECONDS, RecordMetrics
from wattshed.serve.simulated import simulated_app

ROOT = Path(__file__).parent.parent.parent
CHAT = "/v1/chat/completions"
NAME = re.compile(r"\b(?:wattshed|gen_ai|process)_\w+")
LABELS = {"gen_ai_token_type"}


async def broken(scope: Any, receive: Any, send: Any) -> None:
    """An engine that is well until it is asked something."""
    status = 500 if scope["method"] == "POST" else 200
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body"})


@pytest.fixture
def told(live: Callable[..., Any]) -> tuple[dict[str, list[Any]], list[dict[str, Any]]]:
    """All samples by name after some requests, and the rows of the ledger."""
    with background(simulated_app(load_fleet("mixed-70b").deployments[0], 200.0)) as engine:
        started = live(engine, broken, decider={"shadow": "least-loaded"})
        ask = {"model": "llama", "messages": [{"role": "user", "content": "hello"}]}
        for body in (ask, *({**ask, "stream": True, "max_tokens": n} for n in (1, 5, 9))):
            with httpx.Client() as http:
                http.post(started.url + CHAT, json=body, headers={"x-wattshed-class": "quick"})
        with httpx.Client() as http:
            text = http.get(started.url + "/metrics").text
        rows = started.rows()
    samples: dict[str, list[Any]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append(sample)
    return samples, rows


def test_metrics_add_up_to_the_ledger(told: Any) -> None:
    samples, rows = told

    def value(name: str, **labels: str) -> float:
        found = [s.value for s in samples[name] if labels.items() <= s.labels.items()]
        return float(sum(found))

    streams = [row for row in rows if row["first_s"] is not None]
    assert len(rows) == 4
    assert len(streams) == 3
    assert value("wattshed_request_generation_tokens_sum") == sum(r["output_tokens"] for r in rows)
    assert value("wattshed_request_prompt_tokens_sum") == sum(r["input_tokens"] for r in rows)
    assert value("gen_ai_server_time_per_output_token_seconds_count") == 2
    per_token = [(r["joules"] + r["idle_joules"]) / r["output_tokens"] for r in rows]
    assert value("wattshed_joules_per_output_token_sum") == pytest.approx(sum(per_token))
    waited = sum(r["sent_s"] for r in rows)
    assert value("wattshed_request_queue_time_seconds_sum") == pytest.approx(waited)
    chosen = sum(r["candidates"]["joules"][r["deployment"]] for r in rows)
    counted = value("wattshed_predicted_joules_total", where="chosen", policy="round-robin")
    assert counted == pytest.approx(chosen)
    assert value("wattshed_policy_active", policy="round-robin") == 1
    assert value("wattshed_failed_tries_total") == sum(len(r["tried"]) for r in rows) > 0


def test_metrics_are_documented_and_there_for_grafana(told: Any) -> None:
    samples, _ = told
    page = (ROOT / "docs/how-to/serve.md").read_text()
    families = {re.sub("_(bucket|sum|count|created)$", "", name) for name in samples}
    missing = sorted(n for n in families if not n.startswith("process_") and n not in page)
    assert missing == []
    dashboard = json.loads((ROOT / "examples/grafana/wattshed.json").read_text())
    asked = [t["expr"] for panel in dashboard["panels"] for t in panel["targets"]]
    asked += [v["query"] for v in dashboard["templating"]["list"] if v["type"] == "query"]
    names = {name for text in asked for name in NAME.findall(text)} - LABELS
    assert len(names) > 15
    assert sorted(names - set(samples)) == []
    for text in asked:
        for name, labels in re.findall(r"((?:wattshed|gen_ai|process)_\w+)\{([^}]*)\}", text):
            there = {"job"}.union(*(s.labels for s in samples[name]))
            assert set(re.findall(r"(\w+)=~?", labels)) <= there, text
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


@settings(max_examples=25)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 500) | st.none()), max_size=1200))
def test_histograms_are_those_of_the_library(found: list[tuple[str, float | None]]) -> None:
    own, other = CollectorRegistry(), CollectorRegistry()
    metrics, name = RecordMetrics(own), "wattshed_request_queue_time_seconds"
    text = "From arrival to the last time that it was sent to an endpoint."
    chart = Histogram(name, text, ("endpoint",), buckets=QUEUE_SECONDS, registry=other)
    for endpoint, seconds in found:
        metrics.observe(Ended(1.0, endpoint, "", "served", sent_s=seconds))
        if seconds is not None:
            chart.labels(endpoint).observe(seconds)

    def samples(registry: CollectorRegistry) -> dict[Any, float]:
        families = [f for f in registry.collect() if f.name == name]
        every = [s for family in families for s in family.samples]
        return {
            (s.name, *sorted(s.labels.items())): s.value
            for s in every
            if not s.name.endswith("_created")
        }

    assert samples(own) == pytest.approx(samples(other))


SEVEN = (
    "wattshed_requests",
    "gen_ai_client_token_usage",
    "wattshed_energy_joules",
    "wattshed_promises",
    "wattshed_failed_tries",
    "gen_ai_server_time_to_first_token_seconds",
    "gen_ai_server_request_duration_seconds",
)
"""Counted at each request, by `Metrics`."""


class OneByOne:
    """What `Metrics` counts, by the library: a child for each series, and a call for each count."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ends, said = ("endpoint",), ("endpoint", "kind", "method", "boundary")

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, (*ends, *labels), registry=self.registry)

        def histogram(name: str, text: str) -> Histogram:
            return Histogram(name, text, ends, buckets=SECONDS, registry=self.registry)

        self.requests = counter(SEVEN[0], "Requests by what became of them.", "outcome")
        self.tokens = counter(SEVEN[1], "Tokens.", "gen_ai_token_type")
        self.joules = counter(SEVEN[2], "Energy of requests.", *said[1:])
        self.kept = counter(SEVEN[3], "Requests by whether their SLO was kept.", "kept")
        self.tried = counter(SEVEN[4], "Requests that an endpoint failed.")
        self.first = histogram(SEVEN[5], "From arrival, where it is streamed.")
        self.whole = histogram(SEVEN[6], "From arrival to the end.")

    def observe(self, r: Ended) -> None:
        self.requests.labels(r.endpoint, r.outcome).inc()
        for endpoint in r.tried:
            self.tried.labels(endpoint).inc()
        if r.input_tokens is not None:
            self.tokens.labels(r.endpoint, "input").inc(r.input_tokens)
            self.tokens.labels(r.endpoint, "output").inc(r.output_tokens or 0)
        if r.joules is not None and not r.watched:
            said = (r.method, r.boundary)
            self.joules.labels(r.endpoint, "dynamic", *said).inc(max(0.0, r.joules))
            if r.idle_joules is not None:
                self.joules.labels(r.endpoint, "idle", *said).inc(r.idle_joules)
        if r.kept is not None:
            self.kept.labels(r.endpoint, str(r.kept).lower()).inc()
        for chart, seconds in ((self.first, r.first_s), (self.whole, r.whole_s)):
            if seconds is not None:
                chart.labels(r.endpoint).observe(seconds)


def made_up(number: int) -> list[Ended]:
    """Requests of all kinds; sums of their figures are exact in any order."""
    draw = random.Random(1)

    def one() -> Ended:
        endpoint, outcome = draw.choice(["a/0", "a/1", "b/0", ""]), draw.choice(["served", "left"])
        has_receipt, streamed = draw.random() < 0.8, draw.random() < 0.5
        return Ended(
            1.0,
            endpoint,
            "frugal",
            outcome,
            first_s=draw.randrange(4096) / 64 if streamed else None,
            whole_s=draw.randrange(4096) / 16,
            input_tokens=draw.randrange(3) if has_receipt else None,
            output_tokens=draw.randrange(3) if has_receipt else None,
            joules=draw.randrange(-64, 640) / 64 if has_receipt else None,
            idle_joules=draw.randrange(64) / 64 if has_receipt and endpoint != "a/1" else None,
            method="modelled" if has_receipt else "",
            boundary="host" if has_receipt else "",
            kept=draw.choice([True, False, None]) if outcome == "served" else None,
            tried=tuple(draw.sample(["a/0", "b/0"], draw.choice([0, 0, 1, 2]))),
            watched=endpoint == "b/0",
        )

    return [one() for _ in range(number)]


OF_SEVEN = re.compile(
    rf"(?:# (?:HELP|TYPE) )?(?:{'|'.join(SEVEN)})(?:_(?:total|bucket|count|sum|created))?[ {{]"
)


def lines(registry: CollectorRegistry) -> list[str]:
    """The page about `SEVEN`, but for when counting began: that it was in this century."""
    found = filter(OF_SEVEN.match, generate_latest(registry).decode().splitlines())
    return [re.sub(r"(_created\{.*) 1\.\d+e\+09$", r"\1 now", line) for line in found]


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    fleet = load_fleet("mixed-70b")
    upstream = Upstream(urls=["http://127.0.0.1:9"], models=["llama"])
    one = structs.replace(fleet.deployments[0], upstream=upstream, replicas=1)
    fleet = structs.replace(fleet, deployments=[one])
    with closing(Ledger(f"sqlite:///{tmp_path}/l.sqlite")) as ledger:
        yield Gateway(fleet, Decider(fleet), ledger)


@pytest.mark.parametrize("number", [0, 1, AT_ONCE, 2 * AT_ONCE + 17])
def test_the_page_is_that_of_the_library_and_never_stale(gateway: Gateway, number: int) -> None:
    """Line by line: names, texts, types, labels, order and values."""
    metrics, reference = Metrics(gateway), OneByOne()
    for record in made_up(number):
        metrics.observe(record)
        reference.observe(record)
    assert lines(metrics.registry) == lines(reference.registry)
    (last,) = made_up(1)
    metrics.observe(last)  # a single one is seen at once
    reference.observe(last)
    assert lines(metrics.registry) == lines(reference.registry)
