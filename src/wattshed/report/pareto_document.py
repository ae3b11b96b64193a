"""Compose a report from the fronts of a workload: what can be bought, and for how much."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from wattshed import __version__
from wattshed.records import FrontPoint, Pareto, Provenance, RulePoint
from wattshed.report.document import Cell, Chart, Document, Map, Section, Series, Table
from wattshed.report.text import format_number
from wattshed.units import kwh

_LEFT_OUT_BEYOND = 2.0  # spans of the front above its highest energy
_LEAST_SPAN = 0.02  # of the front's energy, where the front is flat
_MEASURES = {"query-mean": "a mean over queries", "token-weighted": "a mean weighted with tokens"}


def pareto_document(
    found: Pareto, workload: str, sources: list[Provenance], command: str, seed: int
) -> Document:
    """Report of the fronts of a workload.

    Parameters
    ----------
    found : Pareto
        From `wattshed.plan.pareto.find_pareto`.
    workload : str
        Its name.
    """
    return Document(
        title=f"What a slower answer saves: {workload}",
        abstract=pareto_verdict(found),
        sections=pareto_sections(found),
        sources=sources,
        created_by=f"wattshed {__version__}",
        command=command,
        seed=seed,
    )


def pareto_sections(found: Pareto) -> list[Section]:
    """Everything that the fronts hold, as the sections of a report."""
    sections = [
        Section(
            "Energy against runtime",
            [_front_text(found), _gap_text(found)],
            tables=[offers_table(found), front_table(found)],
            charts=front_charts(found),
        ),
        Section(
            "Simpler rules",
            [
                "How much more energy each rule takes than the front at the rule's own mean"
                " runtime. Best thresholds are those of least energy."
            ],
            tables=[rules_table(found)],
        ),
    ]
    if found.accuracy_points:
        sections.append(
            Section(
                "Energy against accuracy",
                [_accuracy_text(found)],
                tables=[accuracy_table(found)],
                charts=[accuracy_chart(found)],
            )
        )
    if found.warnings:
        sections.append(Section("Warnings", [f"{text}." for text in found.warnings]))
    return sections


# ---------------------------------------------------------------- tables


def offers_table(found: Pareto) -> Table:
    """The ends, the knees and the cheapest plan within some runtime budgets."""
    rows = [
        _row("fastest", found.points[0], found),
        *(
            _row(f"within {b.runtime_factor:g} x the fastest", b.point, found)
            for b in found.budgets
        ),
        _row("knee: far from the chord", found.knee.distance, found),
        _row("knee: 1 % for 1 %", found.knee.marginal, found),
        _row("least energy", found.points[-1], found),
    ]
    columns = ["plan", "mean runtime (s)", "x fastest", "energy (kWh)", "saving (%)"]
    return Table(
        "pareto-offers",
        "Plans on the front of energy and runtime",
        [*columns, "next second saves (J per query)", "λ"],
        [row for row in rows if row],
        note=_offers_note(found),
    )


def front_table(found: Pareto) -> Table:
    """The points of the front, as many as were kept."""
    rows: list[list[Cell]] = [
        [p.runtime_s_mean, kwh(p.energy_j), p.price_j_per_s, p.energy_weight] for p in found.points
    ]
    return Table(
        "pareto-front",
        "Supported points",
        ["mean runtime (s)", "energy (kWh)", "next second saves (J per query)", "λ"],
        rows,
        note=_kept(len(found.points), found.total_points),
    )


def rules_table(found: Pareto) -> Table:
    """Simpler rules and their distance above the front."""
    rows: list[list[Cell]] = [
        [r.name, r.runtime_s_mean, kwh(r.energy_j), r.excess_pct] for r in found.baselines
    ]
    columns = ["rule", "mean runtime (s)", "energy (kWh)", "above the front (%)"]
    return Table("pareto-rules", "Simpler rules against the front", columns, rows)


def accuracy_table(found: Pareto) -> Table:
    """The points of the accuracy front, as many as were kept."""
    points = found.accuracy_points or []
    rows: list[list[Cell]] = [
        [p.accuracy, kwh(p.energy_j), p.price_j_per_point, p.zeta] for p in points
    ]
    return Table(
        "accuracy-front",
        "Supported points of energy and accuracy",
        ["accuracy", "energy (kWh)", "next point saves (J per query)", "ζ"],
        rows,
        note=_kept(len(points), found.total_accuracy_points or 0),
    )


def _row(name: str, point: FrontPoint | None, found: Pareto) -> list[Cell]:
    """One plan; nothing where there is none."""
    if point is None:
        return []
    fastest = found.points[0]
    return [
        name,
        point.runtime_s_mean,
        point.runtime_s_mean / fastest.runtime_s_mean,
        kwh(point.energy_j),
        100 * (1 - point.energy_j / fastest.energy_j),
        point.price_j_per_s,
        point.energy_weight,
    ]


# ---------------------------------------------------------------- charts


def front_charts(found: Pareto) -> list[Chart | Map]:
    """The front and the rules near it; and with the study's thresholds, if these are far."""
    near = [r for r in found.baselines if r.energy_j <= _limit(found)]
    wide = [r for r in found.baselines if r in near or r.name.startswith("T_")]
    charts: list[Chart | Map] = [_front_chart(found, near, "pareto")]
    return charts if wide == near else [*charts, _front_chart(found, wide, "pareto-study-rules")]


def _front_chart(found: Pareto, rules: list[RulePoint], slug: str) -> Chart:
    """The front, its knees, and some rules."""
    knees = [("chord", found.knee.distance), ("1 % for 1 %", found.knee.marginal)]
    offered = [(name, point) for name, point in knees if point]
    labels = [name for name, _ in offered]
    series = [
        _series("front", found.points, style="line"),
        _series("knees", [point for _, point in offered], labels=labels),
    ]
    if rules:
        series.append(_series("simpler rules", rules, labels=_short([r.name for r in rules])))
    shown = [*(p.runtime_s_mean for p in found.points), *(r.runtime_s_mean for r in rules)]
    hidden = [r.name for r in found.baselines if r not in rules]
    return Chart(
        slug,
        "Energy of the workload against mean runtime of a query, without queueing",
        "mean runtime of a query (s)",
        "energy (kWh)",
        series,
        x_scale="log10" if min(shown) > 0 and max(shown) > 10 * min(shown) else "linear",
        note=f"Beyond the picture: {'; '.join(hidden)}." if hidden else "",
    )


def accuracy_chart(found: Pareto) -> Chart:
    """The accuracy front."""
    points = found.accuracy_points or []
    return Chart(
        "accuracy-front",
        f"Energy of the workload against accuracy, {_MEASURES[found.accuracy_measure]}",
        "accuracy",
        "energy (kWh)",
        [Series("front", [p.accuracy for p in points], [kwh(p.energy_j) for p in points])],
    )


def _series(
    name: str,
    points: Sequence[FrontPoint | RulePoint],
    style: Literal["line", "markers"] = "markers",
    labels: list[str] | None = None,
) -> Series:
    runtimes = [p.runtime_s_mean for p in points]
    return Series(name, runtimes, [kwh(p.energy_j) for p in points], style=style, labels=labels)


def _limit(found: Pareto) -> float:
    """Energy beyond which a rule would squash the front."""
    most, least = found.points[0].energy_j, found.points[-1].energy_j
    return most + _LEFT_OUT_BEYOND * max(most - least, _LEAST_SPAN * most)


def _short(names: list[str]) -> list[str]:
    """Names without their deployments, where that leaves them apart."""
    short = [name.partition(" on ")[0] for name in names]
    return [s if short.count(s) == 1 else name for s, name in zip(short, names, strict=True)]


# ---------------------------------------------------------------- words


def pareto_verdict(found: Pareto) -> str:
    """In plain words: how much can be bought, at which prices."""
    fast, slow = found.points[0], found.points[-1]
    if found.total_points == 1:
        return "One plan is best at both: runtime cannot be traded for energy here."
    saved = 100 * (1 - slow.energy_j / fast.energy_j)
    text = (
        f"From the fastest plan to the one of least energy, {format_number(saved)} % of the energy"
        f" can be saved and the mean query takes"
        f" {format_number(slow.runtime_s_mean / fast.runtime_s_mean)} times as long, without"
        f" queueing. From the fastest plan, one more second of mean runtime would save"
        f" {format_number(fast.price_j_per_s)} J per query"
    )
    if not found.knee.distance:
        return f"{text}."
    knee = found.knee.distance
    return (
        f"{text}; from the knee at {format_number(knee.runtime_s_mean)} s,"
        f" {format_number(knee.price_j_per_s)} J."
    )


def _front_text(found: Pareto) -> str:
    if found.total_points == 1:
        return "The front is one point."
    return (
        f"The front has {found.total_points:,} supported points, each the only optimum for some"
        " price of runtime in joules per second. The line between two neighbours is what mixing"
        " them gives. No assignment lies below it."
    )


def _gap_text(found: Pareto) -> str:
    return (
        "Assignments that are optimal at no price lie between neighbours. Within any runtime"
        f" budget they save at most {format_number(found.gap.step_pct)} % against the cheapest"
        f" supported plan, and at most {format_number(found.gap.query_pct)} % once queries of one"
        " price move one by one."
    )


def _offers_note(found: Pareto) -> str:
    return (
        "Next second: what one more second of mean runtime would save per query from there on."
        f" λ holds for the normalisation {found.normalisation}. Knees are offers."
    )


def _accuracy_text(found: Pareto) -> str:
    text = (
        f"Accuracy is {_MEASURES[found.accuracy_measure]}. A percentage point given up saves"
        " the energy in the column of prices."
    )
    if found.accuracy_measure == "query-mean":
        text += " There is no ζ for this measure: a plan weights accuracy with tokens."
    return text


def _kept(kept: int, total: int) -> str:
    return f"{kept} of {total:,} points." if kept < total else "All points."
