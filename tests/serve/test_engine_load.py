"""What engines tell of their load, and what the gateway makes of it."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from wattshed.fleet import load_fleet
from wattshed.records import Endpoint, Upstream
from wattshed.serve.background import background
from wattshed.serve.engine_load import EngineLoad, Most, Others, merged, others_of, read_load
from wattshed.serve.scraping import scrape
from wattshed.serve.settings import Settings
from wattshed.serve.simulated import simulated_app
from wattshed.serve.target import Target
from wattshed.serve.upstream import LONGEST_PAGE, Pool

CHAT = "/v1/chat/completions"
DEPLOYMENT = load_fleet("mixed-70b").deployments[0]
VLLM = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 2.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="m"} 4.0
vllm:num_requests_waiting{engine="1",model_name="m"} 0.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.5
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.25
# TYPE vllm:e2e_request_latency_seconds histogram
vllm:e2e_request_latency_seconds_bucket{le="0.3"} nonsense
"""
SGLANG = """\
sglang:num_running_reqs{model_name="m",tp_rank="0",dp_rank="0"} 3.0
sglang:num_running_reqs{model_name="m",tp_rank="1",dp_rank="0"} 3.0
sglang:num_running_reqs{model_name="m",tp_rank="2",dp_rank="1"} 1.0
sglang:num_queue_reqs{model_name="m",tp_rank="0",dp_rank="0"} 2.0
sglang:token_usage{model_name="m",tp_rank="0",dp_rank="0"} 0.28
"""


@pytest.mark.parametrize(
    ("page", "load"),
    [
        (VLLM, EngineLoad("vLLM", 5, 4, 0.375)),
        (
            "vllm:num_requests_running 1\nvllm:num_requests_waiting 0\n"
            "vllm:gpu_cache_usage_perc 0.1\n",
            EngineLoad("vLLM", 1, 0, 0.1),
        ),
        # Ranks of tensor parallelism work on the same requests, those of data parallelism do not.
        (SGLANG, EngineLoad("SGLang", 4, 2, 0.28)),
        (
            "# TYPE llamacpp:requests_processing gauge\nllamacpp:requests_processing 1\n"
            "llamacpp:requests_deferred 2\n",
            EngineLoad("llama.cpp", 1, 2, None),
        ),
        (
            'trtllm_num_requests_running{x="y"} 6\ntrtllm_num_requests_waiting_total 1\n'
            "trtllm_kv_cache_utilization 0.75\n",
            EngineLoad("TensorRT-LLM", 6, 1, 0.75),
        ),
    ],
)
def test_pages_of_engines_are_read(page: str, load: EngineLoad) -> None:
    assert read_load(page) == load


@pytest.mark.parametrize(
    "page",
    [
        "",
        "<html>",
        "node_load1 3\n",
        "vllm:num_requests_running NaN\n",
        "vllm:num_requests_running -1\n",
        'vllm:num_requests_running 1e308\nvllm:num_requests_running{engine="1"} 1e308\n',
        "vllm:num_requests_running{a= 3\n",
        "vllm:num_requests_running many\n",
    ],
)
def test_other_pages_are_refused(page: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- any reason will do
        read_load(page)


def own(running: int = 0, waiting: int = 0, context: int = 0, prompts: int = 0) -> Endpoint:
    return Endpoint("e", "d", running, waiting, context_tokens=context, prompt_tokens=prompts)


def test_what_is_ours_is_not_counted_twice() -> None:
    ours = own(3, 2, 300, 80)
    # The engine takes prompts that it processes as running; none of them is another's.
    for load in (EngineLoad("", 5, 0, 0.3), EngineLoad("", 3, 2, None)):
        assert others_of(load, ours, Most(5, 2), 1000, 7.0) == Others(7.0)
    # Three of ours have just ended, of which the engine still tells.
    assert others_of(EngineLoad("", 6, 2, None), ours, Most(8, 2), None, 7.0) == Others(7.0)


def test_what_others_hold_is_told_by_the_cache_or_taken_to_be_as_ours() -> None:
    ours, none = own(2, 1, 300, 80), Most(0, 0)
    for kv_tokens, held in ((1000, 200), (None, 600)):
        found = others_of(EngineLoad("", 6, 3, 0.5), ours, Most(3, 1), kv_tokens, 7.0)
        assert found == Others(7.0, 4, 2, held, 160)
    assert others_of(EngineLoad("", 6, 3, None), own(), none, 1000, 7.0) == Others(7.0, 6, 3)


@given(*[st.integers(0, 50) for _ in range(4)])
def test_own_and_others_add_up_to_what_the_engine_has(
    running: int, waiting: int, own_running: int, own_waiting: int
) -> None:
    ours = own(own_running, own_waiting)
    most = Most(own_running + own_waiting, own_waiting)
    others = others_of(EngineLoad("", running, waiting, None), ours, most, None, 0.0)
    found = merged(ours, others, 1.0, 5.0)
    assert min(others.running, others.waiting) >= 0
    assert found.running >= ours.running
    assert found.waiting >= ours.waiting
    total = max(running + waiting, own_running + own_waiting)
    assert found.running + found.waiting == total


def test_what_is_old_counts_no_more() -> None:
    ours, others = own(1, 0, 100), Others(10.0, 2, 1, 50, 20)
    assert merged(ours, others, 14.9, 5.0) == own(3, 1, 150, 20)
    assert merged(ours, others, 15.0, 5.0) == ours
    assert merged(ours, None, 15.0, 5.0) == ours


def test_an_engine_of_single_queries_works_on_one_of_them_all() -> None:
    assert merged(own(0, 0), Others(0.0, 1, 1), 1.0, 5.0, alone=True) == own(1, 1)
    assert merged(own(1, 2), Others(0.0, 0, 1), 1.0, 5.0, alone=True) == own(1, 3)


# ------------------------------------------------------------------ engines on loopback


@contextmanager
def foreign_request(url: str) -> Iterator[None]:
    """A request that somebody sends to an engine past the gateway, from its first token on."""
    body = {
        "model": "m",
        "stream": True,
        "max_tokens": 5000,
        "ignore_eos": True,
        "messages": [{"role": "user", "content": "hello"}],
    }
    with httpx.stream("POST", url + CHAT, json=body, timeout=30) as answer:
        pieces = answer.iter_raw()  # closes the connection when it is dropped
        next(pieces)
        yield


def values(url: str, name: str) -> dict[str, float]:
    """Of a metric, by endpoint."""
    lines = httpx.get(url + "/metrics").text.splitlines()
    found = [line.rpartition(" ") for line in lines if line.startswith(name + "{")]
    return {label.split('"')[1]: float(value) for label, _, value in found}


def wait_until(holds: Callable[[], bool]) -> None:
    late_s = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < late_s
        time.sleep(0.01)


def test_traffic_of_others_sends_requests_elsewhere(live: Callable[..., Any]) -> None:
    """Least loaded: without what the engine tells, the first by name would get them all."""
    with (
        background(simulated_app(DEPLOYMENT)) as busy,
        background(simulated_app(DEPLOYMENT)) as free,
        foreign_request(busy),
    ):
        settings = Settings(scrape_s=0.02)
        started = live(busy, free, policy="least-loaded", settings=settings, metrics="/metrics")
        told = "wattshed_engine_requests_running"
        wait_until(lambda: values(started.url, told) == {"a100-tp8/0": 1, "h100-tp8/0": 0})
        assert values(started.url, "wattshed_requests_running")["a100-tp8/0"] == 0
        ages = values(started.url, "wattshed_engine_scrape_age_seconds")
        assert all(0 <= age < 5 for age in ages.values())
        ask = {"model": "llama", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}
        found = httpx.post(started.url + CHAT, json=ask)
        assert found.headers["x-wattshed-endpoint"] == "h100-tp8/0"
        (row,) = started.rows()
        assert row["candidates"]["load"] == {"a100-tp8/0": [1, 0], "h100-tp8/0": [0, 0]}


def engine_of(*pages: Response | None) -> Starlette:
    """An engine whose page of metrics is the next of some; the last for ever."""
    asked = iter(pages)
    last: list[Response | None] = [None]

    async def metrics(_: Request) -> Response:
        last[0] = next(asked, last[0])
        if last[0] is None:
            await asyncio.sleep(0.5)
        return last[0] or Response()

    return Starlette(routes=[Route("/metrics", metrics)])


def scraped(*pages: Response | None) -> Target:
    """A target that was scraped once for each page."""

    async def ask(target: Target) -> None:
        pool = Pool()
        for page in pages:
            await scrape(target, pool, time.monotonic, 0.1 if page is None else 10.0)
        await pool.close()

    with background(engine_of(*pages)) as url:
        upstream = Upstream([url], metrics="/metrics")
        target = Target("a100-tp8/0", DEPLOYMENT, upstream, url)
        asyncio.run(ask(target))
    return target


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (Response("nothing"), "no load of vLLM"),
        (Response(VLLM, status_code=500), "status 500"),
        (Response(VLLM, status_code=302, headers={"location": "/metrics"}), "status 302"),
        (None, "did not answer in time"),
    ],
)
def test_a_failing_scrape_is_logged_once_and_leaves_what_was_known(
    caplog: pytest.LogCaptureFixture, bad: Response | None, words: str
) -> None:
    with caplog.at_level(logging.WARNING, "wattshed.serve"):
        target = scraped(Response(VLLM), bad, bad)
    assert [words in record.message for record in caplog.records] == [True]
    now = time.monotonic()
    assert target.state(now, healthy=True).running == 5
    later = now + target.upstream.metrics_age_s
    assert target.state(later, healthy=True) == target.own(later)
    caplog.clear()
    with caplog.at_level(logging.WARNING, "wattshed.serve"):
        assert scraped(bad, Response(VLLM), Response(VLLM)).scraped.error is None
    assert ["can be read again" in record.message for record in caplog.records] == [False, True]


def test_a_page_that_is_too_long_is_given_up() -> None:
    target = scraped(Response(b"x" * (LONGEST_PAGE + 1)))
    assert target.scraped.error == f"sent more than {LONGEST_PAGE} bytes"
    assert target.scraped.age_s(time.monotonic()) == math.inf
    assert target.state(0.0, healthy=True) == target.own(0.0)


def test_the_key_goes_with_the_question_but_not_to_another_port() -> None:
    heard: list[str | None] = []

    async def metrics(request: Request) -> Response:
        heard.append(request.headers.get("authorization"))
        return Response(VLLM)

    async def ask(*targets: Target) -> None:
        pool = Pool()
        for target in targets:
            await scrape(target, pool, time.monotonic, 10.0)
            assert target.scraped.error is None
        await pool.close()

    with background(Starlette(routes=[Route("/metrics", metrics)])) as url:
        here = Target("a/0", DEPLOYMENT, Upstream([url], metrics="/metrics"), url, "sk-1")
        beside = Upstream(["http://127.0.0.1:1"], metrics=f"{url}/metrics")
        there = Target("a/0", DEPLOYMENT, beside, "http://127.0.0.1:1", "sk-1")
        asyncio.run(ask(here, there))
    assert heard == ["Bearer sk-1", None]
