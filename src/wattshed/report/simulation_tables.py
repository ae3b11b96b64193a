"""Tables of simulated contenders: select from the records, and name units."""

from __future__ import annotations

import math
from collections.abc import Callable

from wattshed.records import (
    Interval,
    Latency,
    ReplayedPolicy,
    ReplayResults,
    Saving,
    SimulatedPolicy,
    SimulationResults,
)
from wattshed.report.document import Cell, Table
from wattshed.report.text import DASH, format_number
from wattshed.units import kwh

CONTENDER = "contender"
ACCURACY, SETTINGS = "accuracy (%)", "settings"
LATENCIES = {"TTFT": "ttft_s", "TBT": "tbt_s", "TPOT": "tpot_s", "E2E": "e2e_s"}
INTERVALS = "95 % intervals over the replications."


def summary_table(found: SimulationResults) -> Table:
    """The short view for a terminal: what each contender keeps, and what it needs."""
    repeated = found.replications > 1
    interval = ["interval"] if repeated else []
    columns = [CONTENDER, "attainment (%)", "TTFT p50 (s)", "TTFT p99 (s)", "TBT p99 (s)"]
    columns += ["energy (J/request)", *interval, "energy (J/output token)", *interval]
    extras = {name: cell for name, cell in _extras(found).items() if name != SETTINGS}
    rows = [
        [*_summary(p, repeated), *(cell(p) for cell in extras.values())] for p in found.policies
    ]
    return Table(
        "summary",
        "Contenders",
        [*columns, "idle (%)", "above bound (%)", *extras],
        rows,
        note=INTERVALS if repeated else "",
    )


def _extras(found: SimulationResults) -> dict[str, Callable[[SimulatedPolicy], Cell]]:
    """Columns that not all tables need."""
    extras: dict[str, Callable[[SimulatedPolicy], Cell]] = {}
    if any(p.accuracy is not None for p in found.policies):
        extras[ACCURACY] = lambda p: percent(p.accuracy)
    if any(p.settings for p in found.policies):
        extras[SETTINGS] = _settings
    return extras


def _summary(p: SimulatedPolicy, repeated: bool) -> list[Cell]:
    def shown(field: str) -> list[Cell]:
        return [per(p, field), *([_range(p.intervals.get(field))] if repeated else [])]

    return [
        p.label,
        kept(p, p.attainment),
        p.ttft_s.p50,
        p.ttft_s.p99,
        p.tbt_s.p99,
        *shown("energy_per_request_j"),
        *shown("energy_per_output_token_j"),
        percent(idle_part(p)),
        percent(p.gap),
    ]


def contenders_table(found: SimulationResults) -> Table:
    """What each contender keeps, and what it needs."""
    columns = [CONTENDER, "attainment (%)", "with every token (%)", "TTFT p99 (s)", "TBT p99 (s)"]
    columns += ["energy (J/request)", "energy (J/output token)", "idle (%)", "above bound (%)"]
    extras = _extras(found)
    rows: list[list[Cell]] = [
        [
            p.label,
            kept(p, p.attainment),
            kept(p, p.attainment_every_token),
            p.ttft_s.p99,
            p.tbt_s.p99,
            per(p, "energy_per_request_j"),
            per(p, "energy_per_output_token_j"),
            percent(idle_part(p)),
            percent(p.gap),
            *(cell(p) for cell in extras.values()),
        ]
        for p in found.policies
    ]
    return Table(
        "contenders",
        "What each contender keeps, and what it needs",
        [*columns, *extras],
        rows,
        note="With every token: the longest time between the tokens of a request is held against"
        " the limit, not their mean (TPOT). Idle: part of all energy. Bound: no schedule of the"
        " same requests on these replicas needs less.",
    )


def latency_table(found: SimulationResults | ReplayResults) -> Table:
    """Means and quantiles of all latencies."""
    rows: list[list[Cell]] = [
        [p.label, name, each.mean, each.p50, each.p90, each.p99, each.max]
        for name, field in LATENCIES.items()
        for p in found.policies
        for each in [getattr(p, field)]
    ]
    columns = [CONTENDER, "latency", "mean (s)", "p50 (s)", "p90 (s)", "p99 (s)", "max (s)"]
    return Table(
        "latency",
        "Latency",
        columns,
        rows,
        note="TTFT: to the first token. TBT: between two tokens, all of them. TPOT: mean time"
        " between the tokens of a request. E2E: to the last token.",
    )


def classes_table(found: SimulationResults | ReplayResults) -> Table:
    """Each SLO class of each contender."""
    rows: list[list[Cell]] = [
        [
            p.label,
            c.name,
            c.requests,
            c.completed,
            kept(p, c.attainment),
            *_against(c.ttft_s, c.ttft_limit_s),
            *_against(c.tpot_s, c.tbt_limit_s),
            *_against(c.e2e_s, c.e2e_limit_s),
            c.dynamic_energy_per_request_j,
        ]
        for p in found.policies
        for c in p.classes
    ]
    columns = [CONTENDER, "class", "requests", "served", "attainment (%)"]
    columns += [f"{n} {what}" for n in ("TTFT", "TPOT", "E2E") for what in ("p99 (s)", "limit (s)")]
    columns += ["dynamic energy (J/request)"]
    return Table("classes", "SLO classes", columns, rows)


def _against(latency: Latency, limit_s: float | None) -> list[Cell]:
    return [latency.p99, limit_s]


def energy_table(found: SimulationResults) -> Table:
    """Energy by whom it is charged to, and the bound."""
    rows: list[list[Cell]] = [
        [
            p.label,
            kwh(p.energy_j.total),
            kwh(p.energy_j.requests_dynamic),
            kwh(p.energy_j.requests_static),
            kwh(p.energy_j.idle),
            kwh(p.energy_j.transitions),
            None if p.bound_j is None else kwh(p.bound_j),
            percent(p.gap),
            known(p.balance_error),
        ]
        for p in found.policies
    ]
    columns = [CONTENDER, "total (kWh)", "dynamic (kWh)", "static (kWh)", "idle (kWh)"]
    columns += ["transitions (kWh)", "bound (kWh)", "above bound (%)", "balance error"]
    return Table(
        "energy",
        "Energy by whom it is charged to",
        columns,
        rows,
        note="Dynamic: what requests add to the steps they are in. Static: the power of these steps"
        " that is there whatever is in them. Idle: of replicas with nothing to do, asleep or off."
        " Bound: no schedule of the same requests on these replicas needs less. Balance error:"
        " energy by request and state less the integral of power, relative to it.",
    )


def per_request_table(found: SimulationResults) -> Table:
    """Energy per request and per output token, gross and net."""
    repeated = found.replications > 1
    columns = [CONTENDER]
    for of in ("request", "output token"):
        ends = [f"low (J/{of})", f"high (J/{of})"] if repeated else []
        columns += [f"gross (J/{of})", *ends, f"net (J/{of})"]
    return Table(
        "energy-per-request",
        "Energy per request and per output token served",
        columns,
        [_per_request(p, repeated) for p in found.policies],
        note="Gross: all energy. Net: without idling and transitions, and without the static part"
        f" of steps. {_why(repeated)}",
    )


def _per_request(p: SimulatedPolicy, repeated: bool) -> list[Cell]:
    row: list[Cell] = [p.label]
    for field in ("energy_per_request_j", "energy_per_output_token_j"):
        ends = _ends(p.intervals.get(field)) if repeated else []
        row += [per(p, field), *ends, per(p, f"net_{field}")]
    return row


def states_table(found: SimulationResults) -> Table:
    """Energy by what replicas did."""
    drawn = [s for p in found.policies for s, energy_j in p.energy_by_state_j.items() if energy_j]
    states = list(dict.fromkeys(drawn))
    rows: list[list[Cell]] = [
        [p.label, *(kwh(p.energy_by_state_j.get(state, 0.0)) for state in states)]
        for p in found.policies
    ]
    columns = [CONTENDER, *(f"{state} (kWh)" for state in states)]
    return Table("energy-by-state", "Energy by what replicas did", columns, rows)


def savings_table(found: SimulationResults) -> Table:
    """Each contender against the baselines."""
    repeated = found.replications > 1
    rows: list[list[Cell]] = [
        [
            s.contender,
            s.baseline,
            known(100 * s.saving),
            *([part and known(100 * part) for part in _ends(s.interval)] if repeated else []),
            known(100 * s.attainment_difference),
            "yes" if s.equal_attainment else "no",
        ]
        for s in comparable(found)
    ]
    ends = ["low (%)", "high (%)"] if repeated else []
    columns = [CONTENDER, "against", "saving (%)", *ends, "attainment difference (points)"]
    return Table(
        "savings",
        "Savings of energy per request",
        [*columns, "equal attainment"],
        rows,
        note="A saving counts only at equal attainment; a negative saving is a loss."
        f" {_why(repeated)}",
    )


# ---------------------------------------------------------------- cells


def _settings(p: SimulatedPolicy) -> str:
    """What was found for a contender, or given to it."""
    return ", ".join(f"{name} {value}" for name, value in p.settings.items())


def per(p: SimulatedPolicy, field: str) -> float | None:
    """Energy per request or token; None where none was served."""
    value: float = getattr(p, field)
    return known(value) if p.completed else None


def known(value: float | None) -> float | None:
    """A number, or None where there is none."""
    return None if value is None or not math.isfinite(value) else value


def percent(part: float | None) -> float | None:
    """A part in percent."""
    return None if part is None else known(100 * part)


def kept(p: SimulatedPolicy | ReplayedPolicy, attainment: float | None) -> float | None:
    """Promises kept, in percent; None where a contender was stopped and had yet to keep some."""
    return None if p.partial else percent(attainment)


def comparable(found: SimulationResults) -> list[Saving]:
    """Savings of contenders that came to their end, against others that did."""
    whole = {p.label for p in found.policies if not p.partial}
    return [s for s in found.savings if {s.contender, s.baseline} <= whole]


def idle_part(p: SimulatedPolicy) -> float | None:
    """Idle energy as a part of all energy."""
    return p.energy_j.idle / p.energy_j.total if p.energy_j.total else None


def _range(interval: Interval | None) -> str:
    if interval is None:
        return DASH
    return f"{format_number(interval.low)} to {format_number(interval.high)}"


def _why(repeated: bool) -> str:
    return INTERVALS if repeated else "No intervals: one replication."


def _ends(interval: Interval | None) -> list[float | None]:
    return [interval.low, interval.high] if interval else [None, None]
