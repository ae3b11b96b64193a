"""Replications together: means with intervals, and savings paired by replication."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from msgspec import structs

from wattshed.engines.model import Array
from wattshed.records import (
    ClassResult,
    DeploymentResult,
    Impact,
    Interval,
    Latency,
    Saving,
    SimulatedEnergy,
    SimulatedPolicy,
)
from wattshed.units import JOULES_PER_KWH

NEAR = 0.005
"""Attainments that differ by no more are equal."""

FIGURES: dict[str, Callable[[SimulatedPolicy], float | None]] = {
    "attainment": lambda p: p.attainment,
    "energy_per_request_j": lambda p: p.energy_per_request_j,
    "energy_per_output_token_j": lambda p: p.energy_per_output_token_j,
    "ttft_p99_s": lambda p: p.ttft_s.p99,
    "tbt_p99_s": lambda p: p.tbt_s.p99,
    "goodput_per_s": lambda p: p.goodput_per_s,
    "accuracy": lambda p: p.accuracy,
    "gap": lambda p: p.gap,
}
"""Figures that get an interval."""


def average(runs: Sequence[SimulatedPolicy]) -> SimulatedPolicy:
    """Means over replications, with 95 % intervals of Student's t; series of the first."""
    first = runs[0]
    if len(runs) == 1:
        return first
    counts = ("requests", "completed", "failed", "rejected", "lost", "unfinished", "retries")
    means = {
        name: _mean([getattr(run, name) for run in runs])
        for name in first.__struct_fields__
        if isinstance(getattr(first, name), float)
    }
    means["balance_error"] = max(run.balance_error for run in runs)
    means |= {
        name: round(float(np.mean([getattr(run, name) for run in runs])))
        for name in (*counts, "preemptions")
    }
    return structs.replace(
        first,
        **means,
        replications=len(runs),
        ttft_s=_latency([run.ttft_s for run in runs]),
        tbt_s=_latency([run.tbt_s for run in runs]),
        tpot_s=_latency([run.tpot_s for run in runs]),
        e2e_s=_latency([run.e2e_s for run in runs]),
        energy_j=_energy([run.energy_j for run in runs]),
        energy_by_state_j={
            state: float(np.mean([run.energy_by_state_j[state] for run in runs]))
            for state in first.energy_by_state_j
        },
        classes=[_class(of_name) for of_name in _by_name(runs)],
        impacts={site: _impact([run.impacts[site] for run in runs]) for site in first.impacts},
        deployments=[
            _deployment([run.deployments[k] for run in runs]) for k in range(len(first.deployments))
        ],
        intervals=intervals_of(runs),
        partial=any(run.partial for run in runs),
    )


def intervals_of(runs: Sequence[SimulatedPolicy]) -> dict[str, Interval]:
    """Intervals of the mean over replications, by figure; those that are not known are left out."""
    found = {}
    for name, figure in FIGURES.items():
        values = [value for run in runs if (value := figure(run)) is not None]
        if len(values) == len(runs) > 1:
            found[name] = interval_of(np.array(values))
    return found


def interval_of(values: Array) -> Interval:
    """95 % interval of the mean of independent replications (R,)."""
    from scipy.special import stdtrit

    half = float(stdtrit(len(values) - 1, 0.975) * values.std(ddof=1) / np.sqrt(len(values)))
    mean = float(values.mean())
    return Interval(mean - half, mean + half, f"Student's t over {len(values)} replications")


def compare(found: Sequence[Sequence[SimulatedPolicy]], target: float) -> list[Saving]:
    """Each contender against the first, and against the best static clocks.

    Of these, that under the policy of the first contender and that under its own. Who served
    nothing has no energy per request, and is compared with nobody.
    """
    pairs = [(ours, found[0]) for ours in found[1:]]
    for theirs in found[1:]:
        if "clock" not in theirs[0].settings:
            continue
        general = theirs[0].name == found[0][0].name
        pairs += [
            (ours, theirs)
            for ours in found[1:]
            if "clock" not in ours[0].settings and (general or ours[0].name == theirs[0].name)
        ]
    return [saving_of(*pair, target) for pair in pairs if all(map(_served, pair))]


def _served(runs: Sequence[SimulatedPolicy]) -> bool:
    """Whether something was served in each replication."""
    return all(run.completed > 0 for run in runs)


def saving_of(
    ours: Sequence[SimulatedPolicy], theirs: Sequence[SimulatedPolicy], target: float
) -> Saving:
    """Energy per request of one contender against another, replication by replication.

    Parameters
    ----------
    ours, theirs : sequence of SimulatedPolicy
        Of the same requests, in the same order; one that was stopped may have fewer.
    target : float
        Attainment at which both count as equal, whatever lies above it.
    """
    pairs = list(zip(ours, theirs, strict=False))
    savings = np.array([1 - a.energy_per_request_j / b.energy_per_request_j for a, b in pairs])
    mine, other = (_mean([run.attainment for run in runs]) for runs in zip(*pairs, strict=True))
    difference = 0.0 if mine is None or other is None else mine - other
    reached = mine is None or other is None or min(mine, other) >= target
    equal = reached or abs(difference) <= NEAR
    interval = interval_of(savings) if len(savings) > 1 else None
    saving = float(savings.mean())
    sentence = sentence_of(ours[0].label, theirs[0].label, saving, interval, equal, difference)
    return Saving(
        ours[0].label, theirs[0].label, saving, interval, float(difference), bool(equal), sentence
    )


def sentence_of(
    ours: str,
    theirs: str,
    saving: float,
    interval: Interval | None,
    equal: bool,
    difference: float,
    energy: str = "energy per request",
) -> str:
    """A saving in words, e.g. why it is no saving."""
    less = "less" if saving >= 0 else "more"
    text = f"{ours} needs {abs(saving):.1%} {less} {energy} than {theirs}"
    if interval is not None:
        ends = sorted(abs(end) if _one_sided(interval) else end for end in _ends(interval, saving))
        text += f" (95 %: {ends[0]:.1%} to {ends[1]:.1%})"
        if interval.low <= 0 <= interval.high:
            text += ", which is not significant"
    if equal:
        return f"{text}, at equal attainment."
    word = "more" if difference > 0 else "fewer"
    points = f"{abs(difference) * 100:.1f} points {word}"
    return f"{text}, but keeps {points} of the promises: not a saving at equal attainment."


def _one_sided(interval: Interval) -> bool:
    return interval.low * interval.high > 0


def _ends(interval: Interval, saving: float) -> tuple[float, float]:
    """Of the saving, or of what is needed more."""
    return (interval.low, interval.high) if saving >= 0 else (-interval.high, -interval.low)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


def _latency(found: Sequence[Latency]) -> Latency:
    return Latency(*(_mean([getattr(one, q) for one in found]) for q in Latency.__struct_fields__))


def _energy(found: Sequence[SimulatedEnergy]) -> SimulatedEnergy:
    fields = SimulatedEnergy.__struct_fields__
    return SimulatedEnergy(*(float(np.mean([getattr(e, name) for e in found])) for name in fields))


def _by_name(runs: Sequence[SimulatedPolicy]) -> list[list[ClassResult]]:
    """Results of each class, of the replications in which there were such requests."""
    found: dict[str, list[ClassResult]] = {}
    for run in runs:
        for one in run.classes:
            found.setdefault(one.name, []).append(one)
    return list(found.values())


def _class(found: Sequence[ClassResult]) -> ClassResult:
    return structs.replace(
        found[0],
        requests=round(float(np.mean([one.requests for one in found]))),
        completed=round(float(np.mean([one.completed for one in found]))),
        attainment=_mean([one.attainment for one in found]),
        ttft_s=_latency([one.ttft_s for one in found]),
        tpot_s=_latency([one.tpot_s for one in found]),
        e2e_s=_latency([one.e2e_s for one in found]),
        dynamic_energy_per_request_j=_mean([one.dynamic_energy_per_request_j for one in found]),
    )


def _impact(found: Sequence[Impact]) -> Impact:
    """Means; the intensity of a carbon signal is that over the energy of all."""
    names = [name for name, value in structs.asdict(found[0]).items() if isinstance(value, float)]
    mean = structs.replace(
        found[0], **{name: float(np.mean([getattr(one, name) for one in found])) for name in names}
    )
    if mean.carbon_g is None or not mean.energy_facility_j:
        return mean
    intensity = mean.carbon_g / (mean.energy_facility_j / JOULES_PER_KWH)
    factors = [
        structs.replace(factor, value=intensity) if factor.name == "carbon_signal" else factor
        for factor in mean.factors
    ]
    return structs.replace(mean, factors=tuple(factors))


def _deployment(found: Sequence[DeploymentResult]) -> DeploymentResult:
    def mean(name: str) -> float:
        return float(np.mean([getattr(one, name) for one in found]))

    return structs.replace(
        found[0],
        requests=round(mean("requests")),
        output_tokens=round(mean("output_tokens")),
        energy_j=mean("energy_j"),
        busy=mean("busy"),
        power_w=mean("power_w"),
    )
