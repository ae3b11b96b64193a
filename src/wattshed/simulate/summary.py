"""One simulation in figures: latency, attainment, energy by whom, by state and by deployment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wattshed.engines.model import Array
from wattshed.fleet import DEFAULT_CLASS, Fleet, Slo
from wattshed.impact import impact_of
from wattshed.records import (
    ClassResult,
    DeploymentResult,
    Distribution,
    Impact,
    Latency,
    SimulatedEnergy,
    SimulatedPolicy,
    Stack,
)
from wattshed.simulate.budgeting import stated_accuracy
from wattshed.simulate.external import endpoint_names
from wattshed.simulate.gaps import Gaps
from wattshed.simulate.layout import FATES, QUERY, SERVED, SERVING, STATES, WAITING
from wattshed.simulate.model import Requests
from wattshed.simulate.policies import Promises
from wattshed.simulate.result import Simulation

UNKNOWN = Latency(None, None, None, None, None)
POINTS = 201
"""Of a distribution, for a picture."""
SHOWN_REPLICAS = 64
"""More than these are not drawn one by one."""


class Outcome(Protocol):
    """What became of requests (Q), simulated or live; see `Simulation`."""

    @property
    def requests(self) -> Requests:
        """As they came."""

    @property
    def partial(self) -> bool:
        """Whether it was stopped before its end."""

    @property
    def fate(self) -> NDArray[np.integer]:
        """See `FATES`."""

    @property
    def served(self) -> NDArray[np.bool_]:
        """Which were served."""

    @property
    def ttft_s(self) -> Array:
        """To the first token."""

    @property
    def tpot_s(self) -> Array:
        """Mean between tokens."""

    @property
    def longest_gap_s(self) -> Array:
        """Longest between tokens."""

    @property
    def e2e_s(self) -> Array:
        """To the last token."""

    @property
    def dynamic_energy_j(self) -> Array:
        """What each adds."""


def summarise(  # noqa: PLR0913 - what is found, and how it came about
    found: Simulation,
    fleet: Fleet,
    promises: Promises,
    *,
    controller: str = "pinned",
    name: str = "",
    settings: dict[str, str] | None = None,
    modelled: Sequence[str] = (),
    series: bool = True,
) -> SimulatedPolicy:
    """Figures of one replication; see `SimulatedPolicy`. Without `series`, only these."""
    by_mean, by_token = attained(found, promises)
    kept = by_token if promises.every_token else by_mean
    served, tokens = found.served, found.requests.output_tokens
    count, end_s = int(served.sum()), max(found.end_s, 1e-300)
    fates = np.bincount(found.fate, minlength=len(FATES))
    energy = energy_of(found)
    net_j = energy.requests_dynamic
    total_tokens = max(int(tokens[served].sum()), 1)
    judged = judged_of(found)
    limited = judged.any() and np.isfinite([promises.ttft_s, promises.tbt_s, _e2e(promises)]).any()
    return SimulatedPolicy(
        name or found.policy,
        controller,
        settings or {},
        1,
        len(found.requests),
        count,
        len(found.requests) - count,
        found.rejected,
        found.lost,
        int(fates[0]),
        int(found.retries.sum()),
        int(found.preemptions.sum()),
        found.end_s,
        count / end_s,
        float(kept.sum()) / end_s,
        float(tokens[served].sum()) / end_s,
        latency_of(found.ttft_s[served]),
        latency_of_gaps(all_gaps(found), found),
        latency_of(found.tpot_s[served]),
        latency_of(found.e2e_s[served]),
        float(kept[judged].mean()) if limited else None,
        float(by_token[judged].mean()) if limited else None,
        classes_of(found, fleet.slo, kept),
        energy,
        {s: float(found.energy_j[:, i].sum()) for i, s in enumerate(STATES)},
        energy.total / max(count, 1),
        energy.total / total_tokens,
        net_j / max(count, 1),
        net_j / total_tokens,
        abs(found.imbalance),
        deployments_of(found, fleet),
        impacts_of(found, fleet),
        list(modelled),
        {},
        accuracy=accuracy_among(found, fleet),
        partial=found.partial,
        stack=stack_of(found, fleet) if series else None,
        cdf=distributions_of(found) if series else {},
    )


def judged_of(found: Outcome) -> NDArray[np.bool_]:
    """Requests (Q,) of which it is known what became of them: if it was stopped, not of all."""
    return np.asarray(found.fate != WAITING) if found.partial else np.ones(len(found.fate), bool)


def attained(found: Outcome, promises: Promises) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which requests (Q,) were served within their limits: by TPOT, and token by token.

    What is not known of a request, such as the first token of some one-query deployments, does
    not count against it.
    """
    with np.errstate(invalid="ignore"):
        in_time = found.served & ~(found.ttft_s > promises.ttft_s)
        in_time &= ~(found.e2e_s > _e2e(promises))
        mean = in_time & ~(found.tpot_s > promises.tbt_s)
        every = in_time & ~(found.longest_gap_s > promises.tbt_s)
    return mean, every


def _e2e(promises: Promises) -> Array:
    assert promises.e2e_s is not None
    return promises.e2e_s


def energy_of(found: Simulation) -> SimulatedEnergy:
    """Energy by whom it is charged to."""
    return SimulatedEnergy(
        found.total_energy_j,
        float(found.dynamic_energy_j.sum()),
        float(found.static_energy_j.sum()),
        found.idle_energy_j,
        found.transition_energy_j,
    )


def latency_of(values: Array) -> Latency:
    """Quantiles of times of requests, those that are not known left out."""
    known = values[~np.isnan(values)]
    if not len(known):
        return UNKNOWN
    p50, p90, p99 = np.quantile(known, [0.5, 0.9, 0.99], method="inverted_cdf")
    return Latency(float(known.mean()), float(p50), float(p90), float(p99), float(known.max()))


def all_gaps(found: Simulation) -> Gaps | None:
    """All times between tokens: those of queries served alone, too, at equal distances."""
    gaps, tpot_s = found.gaps, found.tpot_s
    if gaps is None:
        return None
    alone = found.time_s[:, QUERY] > 0
    rows = np.flatnonzero(found.served & alone[found.replica] & np.isfinite(tpot_s))
    return Gaps(
        np.append(gaps.gap_s, tpot_s[rows]),
        np.append(gaps.growth_s, np.zeros(len(rows))),
        np.append(gaps.steps, np.ones(len(rows), np.int32)),
        np.append(gaps.sequences, (found.requests.output_tokens[rows] - 1).astype(np.int32)),
        np.append(gaps.replica, found.replica[rows]),
    )


def latency_of_gaps(gaps: Gaps | None, found: Simulation) -> Latency:
    """Quantiles of all times between tokens; of means by request where no others are known."""
    if gaps is None or not gaps.count:
        return latency_of(found.tpot_s[found.served])
    return Latency(gaps.mean_s, *(gaps.quantile_s(level) for level in (0.5, 0.9, 0.99, 1.0)))


def classes_of(found: Outcome, slo: dict[str, Slo], kept: NDArray[np.bool_]) -> list[ClassResult]:
    """Requests by SLO class."""
    requests = found.requests
    assert requests.group is not None
    return [
        _class_of(found, name, slo, requests.group == g, kept)
        for g, name in enumerate(requests.classes)
        if (requests.group == g).any()
    ]


def _class_of(
    found: Outcome,
    name: str,
    slo: dict[str, Slo],
    inside: NDArray[np.bool_],
    kept: NDArray[np.bool_],
) -> ClassResult:
    promised = slo.get(name, slo.get(DEFAULT_CLASS, Slo()))
    limits = (promised.ttft_s, promised.tbt_s, promised.e2e_s)
    served, judged = inside & found.served, inside & judged_of(found)
    promises = limits != (None, None, None) and bool(judged.any())
    return ClassResult(
        name or DEFAULT_CLASS,
        int(inside.sum()),
        int(served.sum()),
        float(kept[judged].mean()) if promises else None,
        *limits,
        latency_of(found.ttft_s[served]),
        latency_of(found.tpot_s[served]),
        latency_of(found.e2e_s[served]),
        float(found.dynamic_energy_j[served].mean()) if served.any() else None,
    )


def accuracy_among(found: Simulation, fleet: Fleet) -> float | None:
    """Mean accuracy over the requests that were served."""
    stated = np.array([stated_accuracy(each) for each in fleet.deployments], float)
    values = stated[found.deployment[found.replica[found.served]]]
    return float(values.mean()) if len(values) and not np.isnan(values).any() else None


def deployments_of(found: Simulation, fleet: Fleet) -> list[DeploymentResult]:
    """Requests, energy and load of each deployment."""
    results = []
    sent = found.replica >= 0
    kind = found.deployment[found.replica[sent]]
    tokens = np.where(found.fate == SERVED, found.requests.output_tokens, 0)[sent]
    for k, d in enumerate(fleet.deployments):
        mine = found.deployment == k
        energy_j, time_s = float(found.energy_j[mine].sum()), float(found.time_s[mine].sum())
        busy_s = float(found.time_s[mine][:, SERVING].sum())
        results.append(
            DeploymentResult(
                d.name,
                d.replicas,
                int((kind == k).sum()),
                int(tokens[kind == k].sum()),
                energy_j,
                busy_s / max(time_s, 1e-300),
                energy_j / max(time_s, 1e-300),
            )
        )
    return results


def impacts_of(found: Simulation, fleet: Fleet) -> dict[str, Impact]:
    """Carbon, water and cost of each site that the fleet names."""
    impacts = {}
    edges = _until(found)
    energy = _folded(found.timeline.by_replica_j, edges)
    for name, site in fleet.sites.items():
        there = [k for k, d in enumerate(fleet.deployments) if d.site == name]
        mine = np.isin(found.deployment, there)
        if mine.any():
            impacts[name] = impact_of(energy[mine].sum(axis=0), edges, site)
    return impacts


def _until(found: Simulation) -> Array:
    """Edges (B + 1,) of the timeline up to the end."""
    edges = found.timeline.edges_s
    last = max(int(np.searchsorted(edges, found.end_s)), 1)
    return np.append(edges[:last], max(found.end_s, edges[last - 1] + 1e-9))


def _folded(rows_j: Array, edges: Array) -> Array:
    """Energy (rows, B) in these bins; what rounding put behind the last is in the last."""
    last = len(edges) - 1
    energy = rows_j[:, :last].copy()
    energy[:, -1] += rows_j[:, last:].sum(axis=1)
    return energy


def stack_of(found: Simulation, fleet: Fleet) -> Stack:
    """Power over time, by state, and by replica where these are few."""
    edges = _until(found)
    width = np.diff(edges)
    energy = _folded(found.timeline.by_replica_j, edges)
    states = _folded(found.timeline.by_state_j, edges)
    names = endpoint_names_of(fleet)
    few = names if len(names) <= SHOWN_REPLICAS else []
    return Stack(
        edges.tolist(),
        {s: (states[i] / width).tolist() for i, s in enumerate(STATES) if states[i].any()},
        {name: (energy[r] / width).tolist() for r, name in enumerate(few)},
    )


def endpoint_names_of(fleet: Fleet) -> list[str]:
    """Names of all replicas of a fleet."""
    return endpoint_names(fleet.deployments)


def distributions_of(found: Simulation) -> dict[str, Distribution]:
    """Cumulative distributions of TTFT, TBT and E2E."""
    served = found.served
    curves = {
        "ttft_s": distribution_of(found.ttft_s[served]),
        "e2e_s": distribution_of(found.e2e_s[served]),
    }
    gaps = all_gaps(found)
    if gaps is not None and gaps.count:
        curves["tbt_s"] = _distribution_of_gaps(gaps)
    else:
        curves["tbt_s"] = distribution_of(found.tpot_s[served])
    return curves


def _distribution_of_gaps(gaps: Gaps) -> Distribution:
    low, high = gaps.quantile_s(0.0), gaps.quantile_s(1.0)
    at = np.geomspace(max(low, 1e-6), max(high, 2e-6), POINTS)
    return Distribution(at.tolist(), [gaps.at_most(float(value)) / gaps.count for value in at])


def distribution_of(values: Array) -> Distribution:
    """Cumulative distribution of times, those that are not known left out."""
    known = values[~np.isnan(values)]
    if not len(known):
        return Distribution([], [])
    parts = np.linspace(0, 1, POINTS)
    quantiles = np.quantile(known, parts, method="inverted_cdf")
    return Distribution(quantiles.tolist(), parts.tolist())


def rates_of(requests: Requests) -> float:
    """Mean rate of arrivals, 1/s."""
    span = float(requests.arrival_s[-1]) if len(requests) else 0.0
    return len(requests) / span if span > 0 else 0.0
