"""From the bytes of a request to a call that can be placed, with a forecast of its answer."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Mapping

from wattshed.fleet import Fleet
from wattshed.records import Request
from wattshed.serve.body import read_ask
from wattshed.serve.call import Call, Newcomer
from wattshed.serve.lengths import LengthPredictor
from wattshed.serve.refused import RefusedError
from wattshed.serve.reply import Headers
from wattshed.serve.setup import Setup
from wattshed.serve.target import Target, Targets
from wattshed.serve.tokens import TokenEstimator
from wattshed.serve.wishes import GREENEST, LAMBDA, Wish, read_wish

FORWARDED = frozenset(
    ("x-request-id", "traceparent", "tracestate", "openai-beta", "openai-organization")
)
"""Headers of a request that engines get to see, besides its type. Keys are not among them."""
CLASS, DEADLINE = "x-wattshed-class", "x-wattshed-deadline"
WISHES = frozenset((CLASS, DEADLINE, LAMBDA, GREENEST))
READ = {
    name.encode(): name
    for name in (
        *FORWARDED,
        *WISHES,
        "authorization",
        "connection",
        "content-length",
        "host",
        "origin",
    )
}
"""Headers of a request that say anything to the gateway."""


def read_headers(headers: Headers) -> dict[str, str]:
    """Those that are read; the first where there are several of a name."""
    found = reversed(headers)
    return {READ[name]: value.decode("latin-1") for name, value in found if name in READ}


class Intake:
    """Reads requests, and learns from those that were served.

    Parameters
    ----------
    estimator : TokenEstimator
        Of prompts.
    lengths : LengthPredictor
        Of answers.
    clock : callable
    """

    def __init__(
        self, estimator: TokenEstimator, lengths: LengthPredictor, clock: Callable[[], float]
    ) -> None:
        self.estimator, self._lengths, self._clock = estimator, lengths, clock
        self._prefix, self._numbers = secrets.token_hex(10), itertools.count()

    def new_id(self) -> str:
        """A name that no other request has."""
        return f"{self._prefix}{next(self._numbers):012x}"

    def take_in(self, newcomer: Newcomer, body: bytes, setup: Setup) -> Call:
        """Read a request, and forecast it.

        Raises
        ------
        RefusedError
        """
        ask, headers, holder = read_ask(newcomer.path, body), newcomer.headers, newcomer.holder
        newcomer.model = ask.model
        candidates = _candidates(setup.targets, ask.model)
        if holder is not None:
            holder.check_model(ask.model)
        slo_class, deadline_s, wish = "", None, Wish()
        if not WISHES.isdisjoint(headers):
            slo_class, deadline_s = _slo_class(setup.fleet, headers), _deadline_s(headers)
            wish = read_wish(headers)
        if holder is not None:  # last: what is refused is not charged
            holder.admit(self._clock())
        tenant = newcomer.tenant
        m = ask.prompt_tokens or self.estimator.estimate(ask.model, ask.text_bytes)
        route = (ask.model, tenant, ask.path, ask.stream)
        foreseen = self._lengths.predict(route, m, ask.max_tokens)
        request = Request(
            self.new_id(),
            m,
            foreseen.mean,
            slo_class,
            self._clock(),
            deadline_s,
            ask.max_tokens,
            foreseen.late,
            tenant,
            wish.energy_weight,
            wish.greenest,
        )
        forward = forwarded(headers)
        forward["content-type"] = "application/json"
        came_at = newcomer.arrived_at
        return Call(request.id, ask, request, route, setup, candidates, came_at, forward, holder)

    def learn(self, call: Call) -> None:
        """Compare what was foreseen with what an engine has counted."""
        used, ask = call.used, call.ask
        if call.outcome != "served" or used is None or used.counted:
            return
        self.estimator.observe(ask.model, ask.text_bytes, used.input_tokens)
        if used.output_tokens:
            self._lengths.observe(call.route, used.input_tokens, used.output_tokens)


def forwarded(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers that go on to an engine; not those that the client means for this connection only."""
    found = {name: value for name, value in headers.items() if name in FORWARDED}
    if found and "connection" in headers:
        for name in headers["connection"].split(","):
            found.pop(name.strip().lower(), None)
    return found


def _candidates(targets: Targets, model: str) -> list[Target]:
    found = targets.by_model.get(model)
    if found is None:
        known = ", ".join(targets.models)
        message = f"no model {model!r}; use one of {known}"
        raise RefusedError(404, message, "model_not_found", param="model")
    return found


def _slo_class(fleet: Fleet, headers: Mapping[str, str]) -> str:
    name = headers.get(CLASS, "")
    if name and name not in fleet.slo:
        cure = (
            f"use one of {', '.join(fleet.slo)}"
            if fleet.slo
            else "leave it out: the fleet has no SLO"
        )
        message = f"{CLASS}: no class {name!r}; {cure}"
        raise RefusedError(400, message, "unknown_class", param=CLASS)
    return name


def _deadline_s(headers: Mapping[str, str]) -> float | None:
    text = headers.get(DEADLINE)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e9:
        message = f"{DEADLINE}: {text!r}; give seconds from now, above 0"
        raise RefusedError(400, message, "invalid_value", param=DEADLINE)
    return seconds
