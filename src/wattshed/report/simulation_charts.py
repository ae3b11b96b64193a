"""Pictures of simulated contenders: energy, power over time, latency, promises."""

from __future__ import annotations

import re
from collections.abc import Sequence

from wattshed.records import (
    Distribution,
    ReplayedPolicy,
    SimulatedPolicy,
    SimulationResults,
    Stack,
)
from wattshed.report.document import Chart, Series
from wattshed.report.simulation_tables import percent
from wattshed.units import SECONDS_PER_HOUR, kw, kwh

PARTS = {
    "requests_dynamic": "dynamic",
    "requests_static": "static",
    "idle": "idle",
    "transitions": "transitions",
}
STATES = ("off", "sleep", "idle", "boot", "wake", "decode", "prefill", "query")
"""From the bottom of a stack to its top; others come above."""
AT_REST = ("idle",)
_FIRST = "Of the first replication."
LATENCIES = {
    "ttft_s": ("TTFT", "Time to first token", "requests", "ttft_limit_s", _FIRST),
    "tbt_s": (
        "TBT",
        "Time between tokens",
        "times between two tokens",
        "tbt_limit_s",
        f"{_FIRST} Requests keep the limit on average unless it is to hold for every token.",
    ),
    "e2e_s": ("E2E", "Time to last token", "requests", "e2e_limit_s", _FIRST),
}
_LONG_H = 2


def energy_chart(found: SimulationResults) -> Chart:
    """Energy of each contender by whom it is charged to, and the bound."""
    places = [float(k) for k in range(len(found.policies))]
    parts = [
        Series(
            name,
            places,
            [kwh(getattr(p.energy_j, key)) for p in found.policies],
            style="stacked bars",
            muted=key in AT_REST,
        )
        for key, name in PARTS.items()
        if any(getattr(p.energy_j, key) for p in found.policies)
    ]
    bounds = [(k, p.bound_j) for k, p in zip(places, found.policies, strict=True)]
    least = [(k, kwh(bound)) for k, bound in bounds if bound is not None]
    if least:
        across, values = zip(*least, strict=True)
        parts.append(Series("least possible", list(across), list(values), style="limits"))
    return Chart(
        "energy-by-part",
        "Energy of each contender by whom it is charged to",
        "",
        "energy (kWh)",
        parts,
        x_ticks=[p.label for p in found.policies],
        horizontal=True,
        note="Line: energy that no schedule of the same requests on these replicas can undercut."
        if least
        else "",
    )


def power_charts(found: SimulationResults) -> list[Chart]:
    """Power of the fleet over time by state, one picture a contender, all to one scale."""
    stacks = [(p, p.stack) for p in found.policies if p.stack is not None]
    states = _states([stack for _, stack in stacks])
    highest = max((_highest_w(stack) for _, stack in stacks), default=0.0)
    end = 1.05 * kw(highest) if highest else None
    slugs = distinct_slugs([p.label for p, _ in stacks])
    return [
        _power_chart(f"power-{slug}", p, stack, states, end)
        for slug, (p, stack) in zip(slugs, stacks, strict=True)
    ]


def _states(stacks: list[Stack]) -> list[str]:
    """States in which any power is drawn, from the bottom to the top."""
    drawn = {state for stack in stacks for state, power in stack.by_state_w.items() if any(power)}
    ordered = [state for state in STATES if state in drawn]
    return [*ordered, *sorted(drawn - set(ordered))]


def _highest_w(stack: Stack) -> float:
    return max(map(sum, zip(*stack.by_state_w.values(), strict=True)), default=0.0)


def _power_chart(
    slug: str, p: SimulatedPolicy, stack: Stack, states: list[str], end: float | None
) -> Chart:
    hours = stack.edges_s[-1] > _LONG_H * SECONDS_PER_HOUR
    unit = SECONDS_PER_HOUR if hours else 1.0
    middles = [(a + b) / 2 / unit for a, b in zip(stack.edges_s, stack.edges_s[1:], strict=False)]
    nothing = [0.0] * len(middles)
    return Chart(
        slug,
        f"Power over time: {p.label}",
        "time (h)" if hours else "time (s)",
        "power of the fleet (kW)",
        [
            Series(
                state,
                middles,
                [kw(w) for w in stack.by_state_w.get(state, nothing)],
                style="stacked areas",
                muted=state in AT_REST,
            )
            for state in states
        ],
        y_end=end,
        note="Means of equal times, of the first replication.",
    )


def latency_charts(found: SimulationResults) -> list[Chart]:
    """Cumulative distributions of the latencies, with the limits of the SLO."""
    return latency_curves(found.policies)


def latency_curves(
    policies: Sequence[SimulatedPolicy | ReplayedPolicy], told: str | None = None
) -> list[Chart]:
    """The same of contenders that were simulated or replayed; `told` is set below instead."""
    charts = []
    for field, (name, title, of, limit, note) in LATENCIES.items():
        curves = [(p.label, p.cdf[field]) for p in policies if field in p.cdf]
        if not curves:
            continue
        charts.append(
            Chart(
                f"{name.lower()}-cdf",
                title,
                f"{name} (s)",
                f"part of {of} (%)",
                [*(_curve(label, cdf) for label, cdf in curves), *_limits(policies[0], limit)],
                x_scale="log10",
                note=note if told is None else told,
            )
        )
    return charts


def _curve(label: str, cdf: Distribution) -> Series:
    return Series(label, list(cdf.value), [100 * part for part in cdf.part], style="line")


def _limits(policy: SimulatedPolicy | ReplayedPolicy, field: str) -> list[Series]:
    """A vertical line for each limit, with the classes that have it."""
    limits: dict[float, list[str]] = {}
    for c in policy.classes:
        value: float | None = getattr(c, field)
        if value is not None:
            limits.setdefault(value, []).append(c.name)
    return [
        Series(
            f"limit {value:g} s ({', '.join(classes)})",
            [value, value],
            [0.0, 100.0],
            style="dashed",
        )
        for value, classes in sorted(limits.items())
    ]


def promises_chart(found: SimulationResults) -> Chart | None:
    """Attainment against energy per request; None where nothing was promised or served."""
    shown = [
        p for p in found.policies if p.attainment is not None and p.completed and not p.partial
    ]
    if not shown:
        return None
    attained = [percent(p.attainment) or 0.0 for p in shown]
    ranges = [p.intervals.get("attainment") for p in shown]
    pairs = list(zip(ranges, attained, strict=True))
    repeated = any(ranges)
    return Chart(
        "attainment-energy",
        "Promises kept against energy per request",
        "energy (J/request)",
        "attainment (%)",
        [
            Series(
                "contenders",
                [p.energy_per_request_j for p in shown],
                attained,
                [100 * r.low if r else a for r, a in pairs] if repeated else None,
                [100 * r.high if r else a for r, a in pairs] if repeated else None,
                style="markers",
                labels=[p.label for p in shown],
            )
        ],
        note="Upper left is better." + (" Lines: 95 % intervals." if repeated else ""),
    )


def distinct_slugs(labels: Sequence[str]) -> list[str]:
    """Parts of file names, one for each label and no two alike, whatever the system.

    >>> distinct_slugs(["frugal + phases:0.5", "frugal + phases/0.5"])
    ['frugal-phases-0.5', 'frugal-phases-0.5-2']
    """
    found: list[str] = []
    for label in labels:
        slug = stem = re.sub(r"[^a-z0-9._]+", "-", label.lower()).strip("-.") or "contender"
        number = 1
        while slug in found:
            number += 1
            slug = f"{stem}-{number}"
        found.append(slug)
    return found
