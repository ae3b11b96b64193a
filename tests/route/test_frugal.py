"""What `frugal` weighs, against the rule worked out the plain way, and what it chooses of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from wattshed import load_fleet
from wattshed.engines.model import BatchingDeployment, StepModel
from wattshed.fleet import Fleet, Slo
from wattshed.profiles import predict
from wattshed.records import Endpoint, Profile, Request, Told
from wattshed.replicas import engines_of
from wattshed.route.desk import FIRST
from wattshed.route.frugal import Aim, Frugal

STEPS = load_fleet("mixed-70b")
MIXED = structs.replace(
    STEPS,
    slo={},
    deployments=[
        *(structs.replace(d, sleep_after_s=0.5) for d in STEPS.deployments),
        *load_fleet("hybrid-2024").deployments,
    ],
)
ENGINES = dict(
    zip(
        (d.name for d in MIXED.deployments),
        engines_of(MIXED.deployments, np.ones(1, np.int64), np.ones(1, np.int64)),
        strict=True,
    )
)
PROMISES = {"default": Slo(ttft_s=0.3, tbt_s=0.05), "whole": Slo(e2e_s=5.0)}

ENDPOINTS = st.lists(
    st.builds(
        Endpoint,
        st.integers(0, 10**6).map(str),
        st.sampled_from(sorted(ENGINES)),
        running=st.sampled_from([0, 0, 1, 3, 64]),
        waiting=st.sampled_from([0, 0, 1, 9]),
        context_tokens=st.sampled_from([0, 0, 300, 40_000, 600_000]),
        prompt_tokens=st.sampled_from([0, 0, 800, 20_000]),
        asleep=st.booleans(),
    ),
    min_size=1,
    max_size=9,
    unique_by=lambda e: e.name,
)
REQUESTS = st.lists(
    st.builds(
        Request,
        st.just("r"),
        st.sampled_from([1, 20, 700]),
        st.sampled_from([1.0, 20.5, 211.0]),
        slo_class=st.sampled_from(["", "whole"]),
        late_output_tokens=st.none() | st.just(424.0),
    ),
    min_size=1,
    max_size=3,
)


def seconds(step: StepModel, batch: int, held: float) -> float:
    """Or joules, of a step that decodes."""
    return step.by_batch[batch] + step.per_context_token * held


def prompt(step: StepModel, tokens: int) -> float:
    """Seconds or joules that prompt tokens add to a step."""
    if step.prompt is None:
        return step.per_prompt_token * tokens
    piece = max(int(np.searchsorted(step.prompt.tokens_from, tokens, side="right")) - 1, 0)
    return (
        step.prompt.fixed[piece] + (step.per_prompt_token + step.prompt.per_token[piece]) * tokens
    )


def prompts(step: StepModel, each: float, room: int, tokens: int) -> float:
    """Seconds or joules of as many steps as it takes."""
    whole, left = divmod(tokens, room)
    return whole * (each + prompt(step, room)) + (each + prompt(step, left) if left else 0.0)


def plain(
    e: Endpoint, engine: BatchingDeployment, m: int, n: float, late: float, usual: Any, every: bool
) -> tuple[float, float, float]:
    """Joules, TTFT and TBT, as documented in `latencies_of` and `joules_of`."""
    time, energy, idle_w = engine.time, engine.energy, engine.idle_power_w
    there, held = e.running + e.waiting, e.context_tokens + e.prompt_tokens
    batch, room = min(there + 1, engine.max_batch), max(engine.chunk_tokens - e.running, 1)
    usual_m, usual_n = max(int(usual[0]), 1), max(usual[1], 1.0)
    alone_s = seconds(time, batch, 0.0)
    tbt = seconds(time, batch, held + m + late)
    beside_s = alone_s - (time.saved if batch else 0.0)
    if every:
        tokens = min(max(usual_m, e.prompt_tokens + m), room)
        tbt += max(prompts(time, beside_s, room, tokens) - alone_s, 0.0)
    else:
        steps = math.ceil(usual_m / room)
        more = prompts(time, beside_s, room, usual_m) - steps * alone_s
        tbt += max(more, 0.0) * batch / usual_n
    sleep = engine.sleep if e.asleep else None
    now_s = seconds(time, e.running, e.context_tokens)
    each = now_s - (time.saved if e.running else 0.0)
    ttft = (sleep.ready_s if sleep else 0.0) + prompts(time, each, room, e.prompt_tokens + m)
    ttft += 0.5 * now_s if e.running else 0.0
    over = held + m + late - engine.kv_tokens
    leaving = max(there + 1.0 - engine.max_batch, 0.0)
    if over > 0 and held > 0:
        leaving = max(leaving, over / held * there)
    ttft += (leaving + 2.0 * math.sqrt(leaving)) * usual[1] / max(there, 1) * tbt

    def above(b: int, tokens: float) -> float:
        return seconds(energy, b, tokens) - idle_w * seconds(time, b, tokens)

    more_j = above(batch, held + m + 0.5 * n)
    if there:
        more_j -= above(min(there, engine.max_batch), held)
    step_j = idle_w * time.saved - energy.saved if e.running else above(0, 0.0)
    prompt_j = prompts(energy, step_j, room, m) - idle_w * prompts(time, 0.0, room, m)
    woken_j = 0.0
    if sleep:
        woken_j = sleep.ready_energy_j + sleep.after_s * (idle_w - sleep.power_w)
    return woken_j + prompt_j + max(n - 1.0, 0.0) * more_j, ttft, tbt


def plain_alone(e: Endpoint, fleet: Fleet, m: int, n: float) -> tuple[float, float, float]:
    """The same where queries are served one after the other."""
    deployment = next(d for d in fleet.deployments if d.name == e.deployment)
    assert isinstance(deployment.profile, Profile)
    found = predict(deployment.profile, m, n)
    runtime_s, energy_j = float(found.runtime_s[0]), float(found.energy_j[0])
    first_s = min(float(predict(deployment.profile, m, 1).runtime_s[0]), runtime_s)
    drawn_w = deployment.host_power_w - (deployment.idle_power_w or 0.0)
    ttft_s = (e.running + e.waiting) * runtime_s + first_s
    return energy_j + drawn_w * runtime_s, ttft_s, (runtime_s - first_s) / max(n - 1.0, 1.0)


def best_of(told: Told, loads: list[int], packs: bool) -> str:
    """The first of the best by what was told: those that keep their promises, then the others."""
    limits, late = told.limits_s, max(told.output_tokens - 1.0, 0.0)

    def used(ttft: float, tbt: float) -> float:
        e2e = ttft + late * tbt
        seen = {"ttft": ttft, "tbt": tbt, "e2e": e2e}
        return max((seen[k] / limit for k, limit in limits.items()), default=0.0) / told.usable

    def rank(i: int) -> tuple[float, ...]:
        lateness = used(told.ttft_s[i], told.tbt_s[i])
        if lateness > 1.0:
            return 1.0, lateness
        total = told.joules[i] + told.price_j[i]
        return (0.0, -loads[i]) if packs else (0.0, total, loads[i])

    return told.endpoints[min(range(len(loads)), key=rank)]


@settings(max_examples=60, deadline=None)
@given(endpoints=ENDPOINTS, requests=REQUESTS, packs=st.booleans(), every=st.booleans())
def test_what_is_weighed_is_the_rule_and_the_first_of_the_best_is_chosen(
    endpoints: list[Endpoint], requests: list[Request], packs: bool, every: bool
) -> None:
    policy = Frugal(MIXED, packs=packs, promises=PROMISES, aim=Aim(every_token=every))
    by_name = {e.name: e for e in endpoints}
    usual = (float(requests[0].input_tokens), requests[0].expected_output_tokens)
    for request in requests:
        m, n = request.input_tokens, request.expected_output_tokens
        late = request.late_output_tokens or n
        usual = (usual[0] + (m - usual[0]) / 256, usual[1] + (n - usual[1]) / 256)
        decision = policy.decide(request, endpoints, 0.0)
        if decision.endpoint is None:
            continue
        tell = policy.told()
        assert tell is not None
        told = tell()
        assert told.endpoints == sorted(told.endpoints)
        rows = zip(told.endpoints, told.joules, told.ttft_s, told.tbt_s, strict=True)
        for name, *found in rows:
            e = by_name[name]
            engine = ENGINES[e.deployment]
            expected = (
                plain(e, engine, m, n, late, usual, every)
                if isinstance(engine, BatchingDeployment)
                else plain_alone(e, MIXED, m, n)
            )
            # Joules are small differences of large ones, which round.
            assert found == pytest.approx(expected, rel=1e-12, abs=1e-9)
        loads = [by_name[name].running + by_name[name].waiting for name in told.endpoints]
        assert decision.endpoint == best_of(told, loads, packs)


def test_more_endpoints_than_there_was_room_for() -> None:
    policy = Frugal(MIXED, promises=PROMISES)
    many = [Endpoint(f"e{k:03}", "h100-tp4", running=5) for k in range(2 * FIRST)]
    many[-7] = structs.replace(many[-7], running=0)
    few = [many[-7], many[0]]
    request = Request("r", 100, 50.0)
    before = policy.decide(request, few, 0.0)
    tell = policy.told()
    assert policy.decide(request, many, 0.0).endpoint is not None
    assert policy.decide(request, few, 0.0) == before
    assert tell is not None
    assert tell().endpoints == sorted(e.name for e in few)  # what was found then


def test_what_is_above_the_batch_of_an_engine_waits() -> None:
    """Engines may hold more than their profile was told of; no step is fuller all the same."""
    policy = Frugal(MIXED, promises=PROMISES)
    full = Endpoint("full", "h100-tp4", running=64, waiting=136)
    above = Endpoint("above", "h100-tp4", running=200)
    policy.decide(Request("r", 100, 50.0), [full, above], 0.0)
    tell = policy.told()
    assert tell is not None
    told = tell()
    for column in (told.joules, told.ttft_s, told.tbt_s):
        assert column[0] == column[1]
