"""Ask engines how busy they are, again and again, beside the requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from prometheus_client.core import GaugeMetricFamily, Metric

from wattshed.serve.engine_load import Most, others_of, read_load
from wattshed.serve.target import Target
from wattshed.serve.upstream import Pool
from wattshed.serve.upstream_error import UpstreamError

log = logging.getLogger("wattshed.serve")
PATIENCE_S = 1.0
"""Shortest time that an engine is given to answer."""


async def scrape_for_ever(
    targets: Callable[[], Iterable[Target]], pool: Pool, clock: Callable[[], float], every_s: float
) -> None:
    """Scrape all endpoints whose fleet file says where; each in its own time, none waits long."""
    while True:
        asked = [t for t in targets() if t.upstream.metrics]
        await asyncio.gather(*(scrape(t, pool, clock, max(PATIENCE_S, every_s)) for t in asked))
        await asyncio.sleep(every_s)


async def scrape(target: Target, pool: Pool, clock: Callable[[], float], seconds: float) -> None:
    """Ask an engine for its load, and keep what it has besides ours.

    What fails leaves what is known, until that is too old. It is logged once, and once when the
    engine answers again.
    """
    scraped = target.scraped
    try:
        load = read_load(await pool.metrics_page(target, seconds))
    except (UpstreamError, ValueError) as error:
        if scraped.error is None:
            log.warning(
                "%s: its metrics cannot be read (%s %s); until they can, decisions rest on what"
                " was sent to it from here",
                target.name,
                error,
                getattr(error, "detail", ""),
            )
        scraped.error = str(error)
        scraped.before = Most(*target.account.take_most())
        return
    if scraped.error is not None:
        log.warning("%s: its metrics can be read again", target.name)
    now, latest = clock(), Most(*target.account.take_most())
    most = Most(*map(max, zip(scraped.before, latest, strict=True)))
    scraped.error, scraped.load, scraped.before = None, load, latest
    scraped.others = others_of(load, target.own(now), most, target.kv_tokens, now)


def engine_gauges(targets: Iterable[Target], now_s: float) -> Iterable[Metric]:
    """What engines told, and how long ago, of those that are asked."""
    age = GaugeMetricFamily(
        "wattshed_engine_scrape_age_seconds",
        "Since an engine told its load; +Inf if it never did.",
        labels=["endpoint"],
    )
    running = GaugeMetricFamily(
        "wattshed_engine_requests_running", "As the engine told last.", labels=["endpoint"]
    )
    waiting = GaugeMetricFamily(
        "wattshed_engine_requests_waiting", "As the engine told last.", labels=["endpoint"]
    )
    for target in targets:
        if target.upstream.metrics:
            age.add_metric([target.name], target.scraped.age_s(now_s))
            if target.scraped.load is not None:
                running.add_metric([target.name], target.scraped.load.running)
                waiting.add_metric([target.name], target.scraped.load.waiting)
    return age, running, waiting
