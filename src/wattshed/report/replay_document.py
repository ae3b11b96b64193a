"""Compose a report from a replay: what a client saw of a gateway, beside what else there is."""

from __future__ import annotations

from collections.abc import Sequence

from wattshed import __version__
from wattshed.records import (
    ComparedFigure,
    Comparison,
    Provenance,
    ReplayedPolicy,
    ReplayResults,
    SimulatedPolicy,
)
from wattshed.report.document import Cell, Document, Section, Table
from wattshed.report.simulation_charts import distinct_slugs, latency_curves
from wattshed.report.simulation_tables import classes_table, kept, latency_table, percent
from wattshed.report.text import format_number
from wattshed.units import kwh

STOPPED = "Stopped before its end: the figures are those of the requests that were sent until then."
LATE_S = 0.01
"""Lag from which on the client is said to be too slow."""
SHOWN = (
    "duration_s",
    "attainment",
    "ttft_s.p50",
    "ttft_s.p99",
    "tbt_s.p50",
    "e2e_s.p50",
    "e2e_s.p99",
    "energy_j.requests_dynamic",
    "energy_j.requests_static",
    "energy_per_request_j",
    "net_energy_per_request_j",
)
"""Of the figures that are compared, those for a terminal."""


def replay_document(
    found: ReplayResults,
    beside: Sequence[SimulatedPolicy | ReplayedPolicy],
    sources: list[Provenance],
    command: str,
    seed: int,
) -> Document:
    """Report of a replay.

    Parameters
    ----------
    found : ReplayResults
    beside : sequence of SimulatedPolicy or ReplayedPolicy
        Contenders of other runs, whose distributions are drawn, too.
    """
    return Document(
        title=f"{found.workload} replayed against {found.policies[0].label}",
        abstract=headline(found),
        sections=replay_sections(found, beside),
        sources=sources,
        created_by=f"wattshed {__version__}",
        command=command,
        seed=seed,
    )


def replay_sections(
    found: ReplayResults, beside: Sequence[SimulatedPolicy | ReplayedPolicy]
) -> list[Section]:
    """Everything that a replay found, as the sections of a report."""
    policy = found.policies[0]
    curves = latency_curves([policy, *beside], "As the client saw it; others as they say.")
    return [
        Section("How it went", [_setting(found)], tables=[summary_table(found)]),
        *_comparisons(found),
        Section(
            "Energy",
            ["As the answers told it (usage.energy), and what a fleet's idle power adds to it."],
            tables=[energy_table(found)],
        ),
        Section(
            "Latency and promises",
            tables=[latency_table(found), *([classes_table(found)] if policy.classes else [])],
            charts=[*curves],
        ),
        Section("Who served what", tables=[deployments_table(found), *_errors(found)]),
        Section("What is not known", tables=[unknown_table(found)]),
        Section("What to know of these figures", [_sentence(each) for each in caveats(found)]),
    ]


def headline(found: ReplayResults) -> str:
    """The replay in a few sentences."""
    p = found.policies[0]
    stopped = [STOPPED] if found.partial else []
    served = f"{p.completed:,} of {p.requests:,} requests were served"
    promised = "" if p.attainment is None else f", {100 * p.attainment:.4g} % within their promises"
    net = p.net_energy_per_request_j
    energy = "" if net is None else f" They added {format_number(net)} J each."
    return " ".join(
        [*stopped, f"{served}{promised}.{energy}", *(s.sentence for s in found.savings)]
    )


def caveats(found: ReplayResults) -> list[str]:
    """What a reader has to know."""
    p = found.policies[0]
    notes = [*found.notes]
    if p.lag_s.p99 is not None and p.lag_s.p99 > LATE_S:
        notes.append(
            f"this client could not keep up: it sent requests up to {p.lag_s.max:.3g} s late"
            f" (p99 {p.lag_s.p99:.3g} s), and latencies count from when they were due"
        )
    if p.other_lengths:
        notes.append(
            f"{p.other_lengths} answers have other numbers of tokens than asked for, as the server"
            " counts"
        )
    notes += [f"{count} failed: {reason}" for reason, count in p.errors.items()]
    return notes + [note for each in found.comparisons for note in each.notes]


def summary_table(found: ReplayResults) -> Table:
    """What was kept, and what it needed."""
    rows: list[list[Cell]] = [
        [
            p.label,
            p.completed,
            p.failed,
            kept(p, p.attainment),
            p.ttft_s.p50,
            p.ttft_s.p99,
            p.tbt_s.p99,
            p.e2e_s.p50,
            p.energy_per_request_j,
            p.net_energy_per_request_j,
            p.lag_s.p99,
            p.lag_s.max,
        ]
        for p in found.policies
    ]
    columns = ["contender", "served", "failed", "attainment (%)", "TTFT p50 (s)", "TTFT p99 (s)"]
    columns += ["TBT p99 (s)", "E2E p50 (s)", "gross (J/request)", "net (J/request)"]
    return Table(
        "summary",
        "Replay",
        [*columns, "lag p99 (s)", "lag max (s)"],
        rows,
        note="Net: what requests added, as their answers told. Gross: with all idle power of the"
        " fleet from the first arrival to the last answer. Lag: how late requests were sent.",
    )


def energy_table(found: ReplayResults) -> Table:
    """Energy by whom it is charged to, and by which method it was found."""
    rows: list[list[Cell]] = [
        [
            p.label,
            _kwh(p.energy_j.total),
            _kwh(p.energy_j.requests_dynamic),
            _kwh(p.energy_j.requests_static),
            _kwh(p.energy_j.idle),
            p.receipts,
            ", ".join(p.methods) or None,
            ", ".join(p.boundaries) or None,
        ]
        for p in found.policies
    ]
    columns = ["contender", "total (kWh)", "dynamic (kWh)", "static (kWh)", "idle (kWh)"]
    return Table(
        "energy",
        "Energy by whom it is charged to",
        [*columns, "receipts", "method", "boundary"],
        rows,
        note="Dynamic: what requests added. Static: their share of the idle power of replicas that"
        " served. Idle: derived from the idle power of the fleet.",
    )


def _kwh(energy_j: float | None) -> float | None:
    return None if energy_j is None else kwh(energy_j)


def deployments_table(found: ReplayResults) -> Table:
    """Requests and energy of each deployment."""
    rows: list[list[Cell]] = [
        [d.name, d.replicas, d.requests, d.output_tokens, percent(d.busy), _kwh(d.energy_j)]
        for p in found.policies
        for d in p.deployments
    ]
    columns = ["deployment", "replicas", "requests", "output tokens", "busy (%)", "energy (kWh)"]
    return Table("deployments", "Who served what", columns, rows)


def _errors(found: ReplayResults) -> list[Table]:
    rows: list[list[Cell]] = [
        [reason, count] for p in found.policies for reason, count in p.errors.items()
    ]
    return [Table("errors", "Why requests failed", ["reason", "requests"], rows)] if rows else []


def unknown_table(found: ReplayResults) -> Table:
    """Figures of simulations that a client has not, and why."""
    rows: list[list[Cell]] = [
        [name, why] for p in found.policies for name, why in p.unknown.items()
    ]
    return Table("unknown", "Figures that a client cannot know", ["figure", "why"], rows)


def comparison_tables(found: ReplayResults, *, short: bool = False) -> list[Table]:
    """A replay beside other runs, figure by figure."""
    slugs = distinct_slugs([f"compared-{each.other}" for each in found.comparisons])
    return [
        _comparison_table(each, slug, short)
        for each, slug in zip(found.comparisons, slugs, strict=True)
    ]


def _comparison_table(each: Comparison, slug: str, short: bool) -> Table:
    rows: list[list[Cell]] = [
        [figure.name, figure.replayed, figure.other, percent(figure.difference)]
        for figure in each.figures
        if (not short or figure.name in SHOWN) and _told(figure)
    ]
    return Table(
        slug,
        f"{each.contender} beside {each.other} of {each.source}",
        ["figure", each.contender, each.other, "difference (%)"],
        rows,
        note="In seconds, joules and tokens. Difference: relative to the other.",
    )


def _told(figure: ComparedFigure) -> bool:
    return figure.replayed is not None or figure.other is not None


def _comparisons(found: ReplayResults) -> list[Section]:
    if not found.comparisons:
        return []
    sentences = [saving.sentence for saving in found.savings]
    return [Section("Beside other runs", sentences, tables=comparison_tables(found))]


def _setting(found: ReplayResults) -> str:
    return (
        f"{found.requests:,} requests, {format_number(found.rate_per_s)} per second on average"
        f" ({found.arrivals}), were sent when they were due. Latencies count from then."
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")
