"""A request on its way through the gateway, and the row that it leaves behind."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from wattshed.fleet import DEFAULT_CLASS, Slo
from wattshed.records import Request
from wattshed.serve.answer import Usage
from wattshed.serve.body import Ask
from wattshed.serve.decide import Choice
from wattshed.serve.keys import Holder
from wattshed.serve.receipt import Receipt
from wattshed.serve.setup import Setup
from wattshed.serve.target import Target


@dataclass(eq=False)
class Newcomer:
    """A request before it is known whether it is one that can be served.

    Attributes
    ----------
    arrived_at : float
        Seconds since 1970.
    holder : Holder or None
        Whose key it came with.
    model : str or None
        That it asks for; None until its body was read.
    """

    path: str
    headers: Mapping[str, str]
    arrived_at: float
    holder: Holder | None = None
    model: str | None = None

    @property
    def tenant(self) -> str:
        """Whom it is charged to; empty where nobody is."""
        return self.holder.tenant if self.holder else ""


@dataclass(eq=False)
class Call:
    """A request, and what became of it.

    Attributes
    ----------
    arrived_at : float
        Seconds since 1970, for people; all other times are on a clock that never jumps.
    route : Hashable
        Requests whose answers are alike in length.
    setup : Setup
        Of its arrival.
    candidates : list of Target
    tried : dict
        Endpoints that failed it, with the reason.
    token_s : list of (float, int) or None
        When tokens came and how many, for who meters the endpoint.
    simulated : bool
        Whether the engine says that it is.
    outcome : str
        ``served``, ``refused`` by the engine, ``rejected`` by the gateway, ``failed``, ``broken``
        after the first byte, or ``left`` by its client.
    reason : str or None
        Code of the error that the gateway answered with.
    """

    id: str
    ask: Ask
    request: Request
    route: Hashable
    setup: Setup
    candidates: list[Target]
    arrived_at: float
    forward: dict[str, str] = field(default_factory=dict)
    holder: Holder | None = None
    tried: dict[str, str] = field(default_factory=dict)
    stale: set[str] = field(default_factory=set)
    target: Target | None = None
    choice: Choice | None = None
    weighed: dict[str, Any] = field(default_factory=dict)
    sent_s: float | None = None
    first_s: float | None = None
    last_s: float | None = None
    end_s: float | None = None
    used: Usage | None = None
    receipt: Receipt | None = None
    token_s: list[tuple[float, int]] | None = None
    simulated: bool = False
    outcome: str = "failed"
    reason: str | None = None
    status: int = 0

    @property
    def arrival_s(self) -> float:
        """On the clock of the gateway."""
        return self.request.arrival_s

    def since(self, at_s: float | None) -> float | None:
        """Seconds from its arrival."""
        return None if at_s is None else at_s - self.arrival_s


def kept(call: Call) -> bool | None:
    """Whether the latency that its class, or its deadline, promises was kept.

    None where nothing is promised, or what is promised was not seen: the first token of an answer
    that was not streamed.
    """
    slo = call.setup.fleet.slo
    promise = slo.get(call.request.slo_class, slo.get(DEFAULT_CLASS, Slo()))
    limits = [
        (promise.ttft_s, call.since(call.first_s)),
        (promise.tbt_s, mean_gap_s(call)),
        (promise.e2e_s, call.since(call.end_s)),
        (call.request.deadline_s, call.since(call.end_s)),
    ]
    stated = [(limit, value) for limit, value in limits if limit is not None]
    if not stated or any(value is None for _, value in stated):
        return None
    return all(value is not None and value <= limit for limit, value in stated)


def mean_gap_s(call: Call) -> float | None:
    """Mean time between tokens, where they were seen."""
    if call.first_s is None or call.last_s is None or call.used is None:
        return None
    return (call.last_s - call.first_s) / max(1, call.used.output_tokens - 1)


def candidates_of(call: Call) -> dict[str, Any]:
    """What was weighed, with what the policy predicted of each endpoint, where it tells."""
    tell = call.choice.tell if call.choice and call.target else None
    return {**call.weighed, "told": tell()} if tell else call.weighed


def row_of(call: Call) -> dict[str, Any]:
    """The row of the ledger."""
    request, used, receipt, choice = call.request, call.used, call.receipt, call.choice
    shadow = choice.shadow if choice else None
    energy = receipt.words() if receipt else {}
    return {
        "id": call.id,
        "arrived_at": call.arrived_at,
        "sent_s": call.since(call.sent_s),
        "first_s": call.since(call.first_s),
        "end_s": call.since(call.end_s),
        "tenant": request.tenant,
        "path": call.ask.path,
        "model": call.ask.model,
        "slo_class": request.slo_class,
        "deadline_s": request.deadline_s,
        "policy": choice.policy if choice else None,
        "endpoint": call.target.name if call.target else None,
        "deployment": call.target.deployment.name if call.target else None,
        "shadow_endpoint": shadow.endpoint if shadow else None,
        "candidates": msgspec.json.encode(candidates_of(call)).decode(),
        "tried": msgspec.json.encode(call.tried).decode(),
        "input_estimate": request.input_tokens,
        "expected_output_tokens": request.expected_output_tokens,
        "late_output_tokens": request.late_output_tokens,
        "input_tokens": used.input_tokens if used else None,
        "output_tokens": used.output_tokens if used else None,
        "tokens_counted": used.counted if used else None,
        "joules": energy.get("joules"),
        "idle_joules": energy.get("idle_joules"),
        "low_joules": energy.get("low"),
        "high_joules": energy.get("high"),
        "energy_method": energy.get("method"),
        "boundary": energy.get("boundary"),
        "extrapolated": receipt.extrapolated if receipt else None,
        "kept": kept(call),
        "outcome": call.outcome,
        "status": call.status,
        "energy_weight": request.energy_weight,
        "greenest": request.greenest,
        "arm": choice.arm if choice else None,
        "reason": call.reason,
        "stands_for": None,
    }
