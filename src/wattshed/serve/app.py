"""The gateway as an ASGI application: its paths, its health, and its start and end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from wattshed.serve.body import PATHS
from wattshed.serve.dashboard import Dashboard
from wattshed.serve.decide import Decider
from wattshed.serve.gateway import Gateway
from wattshed.serve.logs import about
from wattshed.serve.metrics import Metrics
from wattshed.serve.near import asked_from_here
from wattshed.serve.openapi import openapi
from wattshed.serve.recent import Recent
from wattshed.serve.record_metrics import RecordMetrics
from wattshed.serve.refused import RefusedError, error_body
from wattshed.serve.reload import Reloader, reload_when_due
from wattshed.serve.scraping import scrape_for_ever
from wattshed.serve.whole import Wholes

log = logging.getLogger("wattshed.serve")


def gateway_app(gateway: Gateway, reloader: Reloader | None = None) -> Starlette:
    """The application of a gateway, which may follow its fleet file; its end drains the ledger."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await gateway.open()
        tasks = [asyncio.create_task(work) for work in chores(gateway)]
        if reloader is not None:
            tasks.append(asyncio.create_task(reload_when_due(gateway, reloader)))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await gateway.close()
            lost = await asyncio.to_thread(gateway.ledger.close)
            if lost:
                log.error("the ledger could not be written: %d rows are lost", lost)

    pages, recent = Pages(gateway), Recent()
    gateway.observers.append(recent.observe)
    recent.followers += [pages.observe, RecordMetrics(pages.registry).observe]
    gateway.metering.observers.append(Wholes(recent).observe)
    app = Application(
        gateway,
        routes=[
            *(Route(path, gateway, methods=["POST"]) for path in PATHS),
            Route("/v1/models", pages.models),
            Route("/health", pages.health),
            Route("/ready", pages.ready),
            Route("/metrics", pages.metrics),
            Route("/openapi.json", describe),
            *Dashboard(gateway, recent).routes,
        ],
        exception_handlers={HTTPException: _refused, Exception: _broken},
        lifespan=lifespan,
    )
    # A path with one slash too many would be sent to wherever the header Host says.
    app.router.redirect_slashes = False
    return app


class Application(Starlette):
    """An application whose requests for answers pass by its routes and its middleware.

    Parameters
    ----------
    gateway : Gateway
    settings
        Of `Starlette`.
    """

    def __init__(self, gateway: Gateway, **settings: Any) -> None:
        super().__init__(**settings)
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in PATHS:
            await self._gateway(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


class Pages:
    """What is asked of the gateway itself."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway, self._metrics = gateway, Metrics(gateway)
        self.observe = self._metrics.observe

    @property
    def registry(self) -> CollectorRegistry:
        """Where metrics are exposed."""
        return self._metrics.registry

    async def models(self, request: Request) -> Response:
        """The models that somebody may ask for."""
        try:
            holder = self._gateway.identify(request.headers)
        except RefusedError as refused:
            return _error(refused)
        names = self._gateway.targets.models
        return _json(200, model_list([n for n in names if holder is None or holder.allows(n)]))

    async def health(self, _: Request) -> Response:
        """The process lives."""
        return _json(200, {"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """Whether it can serve."""
        found = readiness(self._gateway)
        shown = found if may_look(self._gateway, request) else {"ready": found["ready"]}
        return _json(200 if found["ready"] else 503, shown)

    async def metrics(self, request: Request) -> Response:
        """For Prometheus."""
        if not may_look(self._gateway, request):
            message = "metrics need an API key from other machines"
            return _error(RefusedError(403, message, "key_required"))
        return Response(self._metrics.text(), media_type=CONTENT_TYPE_LATEST)


async def describe(_: Request) -> Response:
    """What may be asked, for tools."""
    return _json(200, openapi())


def chores(gateway: Gateway) -> list[Coroutine[None, None, None]]:
    """What a gateway does besides serving, for ever."""
    every_s = gateway.settings.scrape_s
    return [
        probe(gateway),
        settle_for_ever(gateway),
        scrape_for_ever(lambda: gateway.targets, gateway.pool, gateway.clock, every_s),
    ]


async def settle_for_ever(gateway: Gateway) -> None:
    """Write each second what was only counted in the one before."""
    while True:
        await asyncio.sleep(1.0)
        gateway.door.settle(gateway.clock())


async def probe(gateway: Gateway) -> None:
    """Look at the health of every endpoint, again and again."""
    seconds = gateway.settings.probe_s

    async def look() -> None:
        targets = list(gateway.targets)
        found = await asyncio.gather(*(gateway.pool.healthy(t, seconds) for t in targets))
        for target, answered in zip(targets, found, strict=True):
            # An engine that serves may be too busy to say so; if it dies, its requests tell.
            up = answered or (target.up and target.account.in_flight > 0)
            if up != target.up:
                fields = about(endpoint=target.name, up=up)
                log.warning("%s is %s", target.name, "up" if up else "down", extra=fields)
            if up and not target.up:
                target.breaker.worked()
                gateway.waiting.wake(gateway.targets.models)
            target.up = up

    while True:
        await look()
        await asyncio.sleep(seconds)


def readiness(gateway: Gateway) -> dict[str, object]:
    """Whether requests can be served, and what is in the way."""
    now = gateway.clock()
    endpoints = {t.name: t.usable(now) for t in gateway.targets}
    error = gateway.ledger.error
    return {
        "ready": any(endpoints.values()) and error is None,
        "endpoints": endpoints,
        "policy": gateway.decider.active,
        "canary": canary_words(gateway.decider),
        "ledger": error or "ok",
        "ledger_backlog": gateway.ledger.backlog,
        "waiting": gateway.waiting.waiting,
    }


def canary_words(decider: Decider) -> dict[str, object] | None:
    """The policy on trial, and whether it is: the kill switch ends it, too."""
    trial = decider.canary
    if trial is None:
        return None
    return {"policy": trial.policy, "share": trial.share, "active": not decider.is_off}


def may_look(gateway: Gateway, request: Request) -> bool:
    """Whether somebody may see the state of the gateway: with a key, or from this machine."""
    if gateway.settings.loopback and asked_from_here(request.headers):
        return True
    try:
        return gateway.identify(request.headers) is not None
    except RefusedError:
        return False


def model_list(names: list[str]) -> dict[str, object]:
    """The models, in OpenAI's words."""
    each = {"object": "model", "created": 0, "owned_by": "wattshed"}
    return {"object": "list", "data": [{"id": name, **each} for name in names]}


def _json(status: int, content: object) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")


def _error(refused: RefusedError) -> Response:
    headers = {name.decode(): value.decode() for name, value in refused.headers}
    return Response(refused.body, refused.status, headers)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    body = error_body(error.status_code, error.detail, None)
    return Response(body, error.status_code, error.headers, "application/json")


async def _broken(_: Request, error: Exception) -> Response:
    body = error_body(500, f"the gateway failed: {type(error).__name__}", "internal_error")
    return Response(body, 500, media_type="application/json")
