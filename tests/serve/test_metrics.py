"""What Prometheus is told, what of it is documented, and what the Grafana dashboard asks for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.parser import text_string_to_metric_families

from wattshed.fleet import load_fleet
from wattshed.serve.background import background
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
