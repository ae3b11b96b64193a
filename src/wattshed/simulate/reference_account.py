"""Who pays for a step, and what replicas draw in every state: the plain way."""

from __future__ import annotations

from wattshed.engines.model import (
    BatchingDeployment,
    OneQueryDeployment,
)
from wattshed.simulate.layout import (
    BOOT,
    IDLE,
    OFF,
    QUERY,
    SLEEP,
    WAKE,
)
from wattshed.simulate.reference_parts import Found, Replica, pairs, step_cost


def book(found: Found, replica: Replica, state: int, now: float, joules: float) -> None:
    """What a replica drew since its step began."""
    found.time[replica.number, state] += now - replica.begun_s
    found.energy[replica.number, state] += joules
    replica.begun_s = now


def rest(found: Found, r: Replica, now: float) -> None:
    """What a replica that serves nothing drew until now."""
    since, d = now - r.begun_s, r.deployment
    sleep = d.sleep if isinstance(d, BatchingDeployment) else None
    if r.state == IDLE and sleep and since > sleep.after_s:
        book(found, r, IDLE, r.begun_s + sleep.after_s, d.idle_power_w * sleep.after_s)
        book(found, r, SLEEP, now, sleep.power_w * (since - sleep.after_s))
    elif r.state == IDLE:
        book(found, r, IDLE, now, d.idle_power_w * since)
    elif r.state == WAKE:
        assert sleep is not None
        part = since / sleep.ready_s if sleep.ready_s else 1.0
        book(found, r, WAKE, now, sleep.ready_energy_j * part)
    elif r.state == BOOT:
        part = since / d.boot.ready_s if d.boot.ready_s else 1.0
        book(found, r, BOOT, now, d.boot.ready_energy_j * part)
    else:
        book(found, r, OFF, now, 0.0)


def account(found: Found, r: Replica, seconds: float, part: float) -> None:
    """Share the energy of a step, or of a part of it, among those in it."""
    deployment = r.deployment
    assert isinstance(deployment, BatchingDeployment)
    static = float(deployment.static_power_w or 0.0)
    clock, decoding = deployment.clocks[r.clock], r.decoding
    time, energy, b = clock.time, clock.energy, len(decoding)
    gross = step_cost(energy, decoding, r.chunks)
    for s in [*decoding, *(s for s, _ in r.chunks)]:
        found.static[s.q] += part * static * seconds / (b + len(r.chunks))
    for s in decoding:
        batch = (energy.by_batch[b] - static * time.by_batch[b]) / b
        rate = energy.per_context_token - static * time.per_context_token
        found.decode[s.q] += part * (batch + rate * s.context)
    # All that prompts add is theirs: by token, but for what they attend to.
    pair = energy.per_prompt_pair - static * time.per_prompt_pair
    added = gross - static * seconds
    if b:
        added -= step_cost(energy, decoding, []) - static * step_cost(time, decoding, [])
    added -= pair * sum(pairs(s, take) for s, take in r.chunks)
    tokens = sum(take for _, take in r.chunks)
    for s, take in r.chunks:
        found.prefill[s.q] += part * (added * take / tokens + pair * pairs(s, take))
    book(found, r, r.state, r.begun_s + part * seconds, part * gross)


def account_query(found: Found, r: Replica, part: float) -> None:
    """The energy of a query alone."""
    d, q = r.deployment, r.running[0].q
    assert isinstance(d, OneQueryDeployment)
    static = min(d.idle_power_w * d.runtime_s[q], d.energy_j[q])
    found.static[q] += part * static
    found.decode[q] += part * (d.energy_j[q] - static)
    book(found, r, QUERY, r.begun_s + part * d.runtime_s[q], part * d.energy_j[q])
