"""The dashboard: a page that needs nothing else, and the two addresses that it asks.

The page holds no data, so that everybody may load it. What it shows needs a key, unless only this
machine can reach the gateway; the browser sends it as a header, never in an address.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from functools import cache
from importlib.resources import files

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from wattshed import __version__
from wattshed.errors import FileError, ParameterError
from wattshed.serve.gateway import Gateway
from wattshed.serve.near import asked_from_here
from wattshed.serve.recent import Ended, Metered, Recent, with_meters
from wattshed.serve.refused import RefusedError
from wattshed.serve.search import MOST_ROWS, find_requests
from wattshed.serve.shown import EndpointNow, Scene
from wattshed.serve.state import state_of

KEPT_S = 0.9
"""How long a state is shown before it is computed again, however many look at it."""
HEADERS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


class Dashboard:
    """Answers those who look.

    Parameters
    ----------
    gateway : Gateway
    recent : Recent
        What it has served lately.
    """

    def __init__(self, gateway: Gateway, recent: Recent) -> None:
        self._gateway, self._recent = gateway, recent
        self._began_s = gateway.clock()
        self._state, self._until_s = b"", self._began_s
        self._computing, self._searching = asyncio.Lock(), asyncio.Lock()
        self.routes = [
            Route("/ui", self.page),
            Route("/ui/state", self.state),
            Route("/ui/requests", self.requests),
        ]

    async def page(self, _: Request) -> Response:
        """The page."""
        text, policy = page()
        headers = {**HEADERS, "content-security-policy": policy, "x-frame-options": "DENY"}
        return Response(text, headers=headers, media_type="text/html")

    async def state(self, request: Request) -> Response:
        """Figures of now; see `wattshed.serve.shown.State`."""
        try:
            tenant_of(self._gateway, request)
        except RefusedError as refused:
            return _refuse(refused)
        async with self._computing:
            now_s = self._gateway.clock()
            if now_s >= self._until_s:
                recent = self._recent
                known = recent.records(), recent.metered(), recent.overflows
                self._state = await asyncio.to_thread(encoded, self._scene(now_s), *known, now_s)
                self._until_s = now_s + KEPT_S
        return _json(self._state)

    async def requests(self, request: Request) -> Response:
        """Rows of the ledger; a key sees those of its tenant."""
        asked = request.query_params
        try:
            own = tenant_of(self._gateway, request)
            tenant = own if own is not None else asked.get("tenant") or None
            most = _number(asked.get("limit", "50"))
            async with self._searching:  # one at a time: the gateway has better to do
                rows = await asyncio.to_thread(
                    find_requests,
                    self._gateway.ledger.url,
                    prefix=asked.get("id", ""),
                    tenant=tenant,
                    endpoint=asked.get("endpoint", ""),
                    most=most,
                )
        except RefusedError as refused:
            return _refuse(refused)
        except FileError as error:
            return _refuse(RefusedError(503, str(error), "ledger_unreadable"))
        except ParameterError as error:
            return _refuse(RefusedError(504, str(error), "search_too_long"))
        return _json(msgspec.json.encode({"requests": rows}))

    def _scene(self, now_s: float) -> Scene:
        gateway = self._gateway
        error, decider = gateway.ledger.error, gateway.decider
        endpoints = []
        for target in gateway.targets:
            state = target.own(now_s)
            endpoints.append(
                EndpointNow(
                    target.name,
                    target.deployment.name,
                    target.deployment.profile.model,
                    target.up,
                    target.usable(now_s),
                    state.running,
                    state.waiting,
                    target.upstream.max_in_flight,
                    target.name in self._recent.simulated,
                )
            )
        return Scene(
            version=__version__,
            up_s=now_s - self._began_s,
            ready=error is None and any(e.usable for e in endpoints),
            policy=decider.active,
            switched_off=decider.is_off,
            shadow=decider.shadow,
            queue=gateway.waiting.waiting,
            ledger=error or "ok",
            ledger_backlog=gateway.ledger.backlog,
            endpoints=endpoints,
        )


def encoded(
    scene: Scene,
    records: list[Ended],
    metered: dict[str, Metered],
    cut: bool,
    now_s: float,
) -> bytes:
    """The state, as it is sent."""
    return msgspec.json.encode(state_of(scene, with_meters(records, metered), now_s, cut=cut))


def tenant_of(gateway: Gateway, request: Request) -> str | None:
    """Whose requests somebody may see: his own for a key, all (None) from this machine.

    Raises
    ------
    RefusedError
    """
    if gateway.settings.loopback and asked_from_here(request.headers):
        return None
    holder = gateway.identify(request.headers)
    if holder is None:
        message = "the dashboard needs an API key from other machines; start with --keys"
        raise RefusedError(403, message, "no_keys")
    return holder.tenant


@cache
def page() -> tuple[str, str]:
    """The page, and the policy of contents that lets nothing run but its own script and style."""
    folder = files("wattshed.serve") / "ui"
    text, style, script = (
        (folder / name).read_text(encoding="utf-8")
        for name in ("page.html", "style.css", "script.js")
    )
    rules = [
        "default-src 'none'",
        f"style-src '{_digest(style)}'",
        f"script-src '{_digest(script)}'",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
    whole = text.replace("/*STYLE*/", style).replace("/*SCRIPT*/", script)
    return whole, "; ".join(rules)


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _number(text: str) -> int:
    """How many rows.

    Raises
    ------
    RefusedError
    """
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    if not 0 < number <= MOST_ROWS:
        message = f"limit: {text[:40]!r}; give a number from 1 to {MOST_ROWS}"
        raise RefusedError(400, message, "invalid_value", param="limit")
    return number


def _json(content: bytes) -> Response:
    return Response(content, headers=HEADERS, media_type="application/json")


def _refuse(refused: RefusedError) -> Response:
    return Response(refused.body, refused.status, HEADERS, "application/json")
