"""A replay in the figures of a simulation; what a client cannot know is None, and says why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from wattshed.engines.model import Array
from wattshed.fleet import Fleet
from wattshed.records import (
    ClassResult,
    ReplayedDeployment,
    ReplayedEnergy,
    ReplayedPolicy,
)
from wattshed.replay.outcome import LOST, REJECTED, UNFINISHED, Replay
from wattshed.serving import idle_power_w
from wattshed.simulate.policies import Promises
from wattshed.simulate.scenario import limits_of
from wattshed.simulate.summary import (
    attained,
    classes_of,
    distribution_of,
    judged_of,
    latency_of,
)

INSIDE = "happens inside the gateway, which does not tell it"
OFFLINE = "known to simulations only"
NO_FLEET = "no answer tells what idle replicas draw; name the fleet of the gateway with --fleet"
ALWAYS_UNKNOWN = {
    "retries": INSIDE,
    "preemptions": "happens inside the engines, which do not tell it",
    "energy_by_state_j": OFFLINE,
    "energy_j.transitions": "happens inside the engines, which do not tell it",
    "balance_error": "nothing was metered beside the receipts",
    "impacts": "the ledger of the gateway tells them: wattshed report LEDGER --fleet FILE",
    "bound_j": OFFLINE,
    "gap": OFFLINE,
    "accuracy": OFFLINE,
    "stack": OFFLINE,
}


def summarise(
    found: Replay,
    fleet: Fleet | None,
    *,
    name: str,
    settings: Mapping[str, str] | None = None,
    every_token: bool = False,
) -> ReplayedPolicy:
    """Figures of a replay; see `ReplayedPolicy`.

    Parameters
    ----------
    found : Replay
    fleet : Fleet, optional
        The one behind the gateway: its promises, and the idle power of its replicas.
    name : str
        Of the policy.
    """
    promises = promises_of(found, fleet)
    by_mean, by_token = attained(found, promises)
    kept = by_token if every_token else by_mean
    served, judged = found.served, judged_of(found)
    count, end_s = int(served.sum()), max(found.end_s, 1e-300)
    tokens = int(found.requests.output_tokens[served].sum())
    limited = judged.any() and np.isfinite([promises.ttft_s, promises.tbt_s, _e2e(promises)]).any()
    energy, unknown = energy_of(found, fleet)
    fates = np.bincount(found.fate, minlength=4)
    receipts = [r for r, one in zip(found.receipts, served, strict=True) if r and one]
    if not limited:
        nothing = "nothing was promised; name the fleet with --fleet, or limits with --slo"
        unknown |= {"attainment": nothing, "attainment_every_token": nothing}
    return ReplayedPolicy(
        name,
        "live",
        dict(settings or {}),
        1,
        len(found.requests),
        count,
        len(found.requests) - count,
        int(fates[REJECTED]),
        int(fates[LOST]),
        int(fates[UNFINISHED]),
        None,
        None,
        found.end_s,
        count / end_s,
        float(kept.sum()) / end_s,
        tokens / end_s,
        latency_of(found.ttft_s[served]),
        latency_of(found.gap_s if len(found.gap_s) else found.tpot_s[served]),
        latency_of(found.tpot_s[served]),
        latency_of(found.e2e_s[served]),
        float(kept[judged].mean()) if limited else None,
        float(by_token[judged].mean()) if limited else None,
        [_class(one) for one in classes_of(found, fleet.slo if fleet else {}, kept)],
        energy,
        None,
        _over(energy.total, count),
        _over(energy.total, tokens),
        _over(energy.requests_dynamic, count),
        _over(energy.requests_dynamic, tokens),
        None,
        deployments_of(found, fleet),
        None,
        [],
        {},
        partial=found.partial,
        cdf={
            "ttft_s": distribution_of(found.ttft_s[served]),
            "tbt_s": distribution_of(found.gap_s),
            "e2e_s": distribution_of(found.e2e_s[served]),
        },
        unknown={**ALWAYS_UNKNOWN, **unknown},
        lag_s=latency_of(found.lag_s),
        receipts=len(receipts),
        methods=dict(Counter(receipt.method for receipt in receipts)),
        boundaries=dict(Counter(receipt.boundary for receipt in receipts)),
        energy_low_j=_sum(found.low_j[served]),
        energy_high_j=_sum(found.high_j[served]),
        errors=dict(Counter(trip.error for trip in found.trips if trip.error)),
        other_lengths=int(_other_lengths(found).sum()),
    )


def promises_of(found: Replay, fleet: Fleet | None) -> Promises:
    """Limits of the requests; inf where no fleet promises anything."""
    ones = np.ones(len(found.requests))
    ttft_s, tbt_s, e2e_s = limits_of(fleet.slo if fleet else {}, found.requests)
    return Promises(ttft_s, tbt_s, ones, ones, e2e_s)


def _e2e(promises: Promises) -> Array:
    assert promises.e2e_s is not None
    return promises.e2e_s


def energy_of(found: Replay, fleet: Fleet | None) -> tuple[ReplayedEnergy, dict[str, str]]:
    """Energy by whom it is charged to, and why some of it is not known."""
    served = found.served
    without = int(np.isnan(found.dynamic_energy_j[served]).sum())
    if without or not served.any():
        why = f"{without} of {int(served.sum())} answers did not tell their energy (usage.energy)"
        return ReplayedEnergy(None, None, None, None, None), dict.fromkeys(_ENERGIES, why)
    dynamic_j, static_j = (
        _sum(known[~np.isnan(found.dynamic_energy_j)])
        for known in (found.dynamic_energy_j, found.static_energy_j)
    )
    idle_w, why = idle_power_of(fleet)
    if static_j is None:
        why = "some answers did not tell their part of the idle power (idle_joules)"
    if why or static_j is None or dynamic_j is None:
        unknown = dict.fromkeys([name for name in _ENERGIES if "dynamic" not in name], why)
        if static_j is not None:
            del unknown["energy_j.requests_static"]
        return ReplayedEnergy(None, dynamic_j, static_j, None, None), unknown
    drawn_j = sum(idle_w.values()) * found.end_s
    return ReplayedEnergy(dynamic_j + drawn_j, dynamic_j, static_j, drawn_j - static_j, None), {}


_ENERGIES = (
    "energy_j.total",
    "energy_j.requests_dynamic",
    "energy_j.requests_static",
    "energy_j.idle",
    "energy_per_request_j",
    "energy_per_output_token_j",
)


def idle_power_of(fleet: Fleet | None) -> tuple[dict[str, float], str]:
    """Idle power (W) of all replicas of each deployment; or why it is not known."""
    if fleet is None or not fleet.deployments:
        return {}, NO_FLEET
    sleeping = next((d.name for d in fleet.deployments if d.sleep_after_s is not None), None)
    if sleeping is not None:
        return {}, f"replicas of {sleeping} sleep, and do not tell when"
    found = {d.name: idle_power_w(d) for d in fleet.deployments}
    silent = [name for name, power_w in found.items() if power_w is None]
    if silent:
        return {}, f"the idle power of {silent[0]} is not known"
    counts = {d.name: d.replicas for d in fleet.deployments}
    return {name: counts[name] * w for name, w in found.items() if w is not None}, ""


def deployments_of(found: Replay, fleet: Fleet | None) -> list[ReplayedDeployment]:
    """Requests and energy of each deployment, as far as answers name their endpoint."""
    kinds = np.array([_deployment(trip.endpoint) for trip in found.trips], object)
    replicas = {d.name: d.replicas for d in fleet.deployments} if fleet else {}
    names = dict.fromkeys([*replicas, *sorted({str(k) for k in kinds if k is not None})])
    idle_w, _ = idle_power_of(fleet)
    return [
        _served_by(found, name, np.asarray(kinds == name), replicas.get(name), idle_w.get(name))
        for name in names
    ]


def _served_by(
    found: Replay, name: str, mine: NDArray[np.bool_], replicas: int | None, idle_w: float | None
) -> ReplayedDeployment:
    tokens = int(found.requests.output_tokens[mine & found.served].sum())
    dynamic_j = _sum(found.dynamic_energy_j[mine & found.served])
    if idle_w is None or dynamic_j is None or not replicas or not found.end_s:
        return ReplayedDeployment(name, replicas, int(mine.sum()), tokens, None, None, None)
    idle_j = idle_w * found.end_s
    static_j = _sum(found.static_energy_j[mine & found.served])
    busy = None if static_j is None or not idle_j else static_j / idle_j
    energy_j, time_s = dynamic_j + idle_j, replicas * found.end_s
    return ReplayedDeployment(
        name, replicas, int(mine.sum()), tokens, energy_j, busy, energy_j / time_s
    )


def _deployment(endpoint: str | None) -> str | None:
    return None if endpoint is None else endpoint.rpartition("/")[0] or endpoint


def _class(one: ClassResult) -> ClassResult:
    """Without an energy that is not known."""
    energy_j = one.dynamic_energy_per_request_j
    if energy_j is not None and np.isnan(energy_j):
        return structs.replace(one, dynamic_energy_per_request_j=None)
    return one


def _other_lengths(found: Replay) -> Array:
    """Requests (Q,) that were served with other numbers of tokens than asked for."""
    requests = found.requests
    other = np.zeros(len(requests), bool)
    pairs = [
        (found.input_counted, requests.input_tokens),
        (found.output_counted, requests.output_tokens),
    ]
    for counted, wanted in pairs:
        other |= ~np.isnan(counted) & (counted != wanted)
    return np.asarray(other & found.served)


def _sum(values: Array) -> float | None:
    """A sum; None if any of it is not known."""
    total = float(values.sum())
    return None if np.isnan(total) else total


def _over(energy_j: float | None, count: int) -> float | None:
    return None if energy_j is None or not count else energy_j / count
