"""A request on its way through the gateway, and the row that it leaves behind."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import msgspec
from msgspec.structs import astuple

from wattshed.fleet import DEFAULT_CLASS, Slo
from wattshed.records import Request, Told
from wattshed.serve.answer import Usage
from wattshed.serve.body import Ask
from wattshed.serve.decide import Choice
from wattshed.serve.keys import Holder
from wattshed.serve.receipt import Receipt
from wattshed.serve.setup import Setup
from wattshed.serve.target import Target

_json = msgspec.json.Encoder().encode
NOT_COUNTED = (None,) * len(Usage.__struct_fields__)
NO_ENERGY = (None,) * len(Receipt.__struct_fields__)


class Newcomer(msgspec.Struct, eq=False):
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


class Weighed(msgspec.Struct, gc=False):
    """What was known at a decision: as JSON, the column `candidates` of the ledger.

    Attributes
    ----------
    costs : dict
        See `Decision`.
    joules, runtime_s : dict
        Predicted, by deployment.
    load : dict
        Requests that run and wait at each endpoint that was open.
    told : Told or UNSET
        What the policy predicted of each endpoint, where it tells.
    """

    costs: dict[str, float]
    joules: dict[str, float]
    runtime_s: dict[str, float]
    load: dict[str, tuple[int, int]]
    told: Told | msgspec.UnsetType = msgspec.UNSET


class Call(msgspec.Struct, eq=False):
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
    weighed : Weighed or None
        None until an endpoint is found.
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
    kept : bool or None
        See `kept`; known once the call has ended.
    """

    id: str
    ask: Ask
    request: Request
    route: Hashable
    setup: Setup
    candidates: list[Target]
    arrived_at: float
    forward: dict[str, str] = {}
    holder: Holder | None = None
    tried: dict[str, str] = {}
    stale: frozenset[str] = frozenset()
    target: Target | None = None
    choice: Choice | None = None
    weighed: Weighed | None = None
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
    kept: bool | None = None

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
    slo, deadline_s = call.setup.fleet.slo, call.request.deadline_s
    if not slo and deadline_s is None:
        return None
    promise = slo.get(call.request.slo_class, slo.get(DEFAULT_CLASS, Slo()))
    limits = [
        (promise.ttft_s, call.since(call.first_s)),
        (promise.tbt_s, mean_gap_s(call)),
        (promise.e2e_s, call.since(call.end_s)),
        (deadline_s, call.since(call.end_s)),
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


def candidates_of(call: Call) -> str:
    """What was weighed, with what the policy predicted of each endpoint, where it tells."""
    weighed, choice = call.weighed, call.choice
    if weighed is None:
        return "{}"
    if choice is not None and choice.tell is not None:
        weighed.told = choice.tell()
    return _json(weighed).decode()


def row_of(call: Call) -> tuple[Any, ...]:
    """The row of the ledger: what its table `requests` has, in the order of its columns."""
    request, choice, target = call.request, call.choice, call.target
    ask, first_s, began_s = call.ask, call.first_s, request.arrival_s
    shadow = choice.shadow if choice else None
    used = NOT_COUNTED if call.used is None else astuple(call.used)
    energy = NO_ENERGY if call.receipt is None else astuple(call.receipt)
    return (
        call.id,
        call.arrived_at,
        None if call.sent_s is None else call.sent_s - began_s,
        None if first_s is None else first_s - began_s,
        None if call.end_s is None else call.end_s - began_s,
        request.tenant,
        ask.path,
        ask.model,
        request.slo_class,
        request.deadline_s,
        choice.policy if choice else None,
        target.name if target else None,
        target.deployment.name if target else None,
        shadow.endpoint if shadow else None,
        candidates_of(call),
        _json(call.tried).decode() if call.tried else "{}",
        request.input_tokens,
        request.expected_output_tokens,
        request.late_output_tokens,
        *used,  # input_tokens, output_tokens, tokens_counted
        *energy,  # joules, idle, low, high, energy_method, boundary, extrapolated
        call.kept,
        call.outcome,
        call.status,
        request.energy_weight,
        request.greenest,
        choice.arm if choice else None,
        call.reason,
        None,  # stands_for
    )
