"""Compose a report from a plan: select, name units, and say what is left out."""

from __future__ import annotations

from wattshed.records import Interval, Plan, Policy
from wattshed.report.document import Cell, Section, Table
from wattshed.report.plan_charts import curve_chart, distinct_optima, sensitivity_chart
from wattshed.report.robust import MINIMISED, robust_section, robust_table
from wattshed.report.text import DASH, format_number
from wattshed.units import human_energy, kwh

SECONDS_PER_HOUR = 3600
PROBABILITY = "P(saves)"


def plan_sections(plan: Plan) -> list[Section]:
    """Everything that a plan holds, as the sections of a report."""
    sections = [
        Section(
            "Recommendation",
            [plan.verdict, _objective(plan)],
            tables=[assignment_table(plan)],
        ),
        Section(
            "Against simpler rules",
            [
                "Rules called best have the best thresholds that they can have at this objective."
                " The saving is what the plan saves against a rule, in percent of the rule's"
                " energy."
            ],
            tables=[baselines_table(plan)],
        ),
    ]
    if plan.robust:
        sections.append(robust_section(plan, plan.robust))
    if plan.prices:
        sections.append(
            Section("What the limits cost", [_limits_text(plan)], tables=[prices_table(plan)])
        )
    if plan.sensitivity:
        sections.append(
            Section(
                "What the saving hangs on",
                ["The plan solved again with one figure changed at a time."],
                tables=[sensitivity_table(plan)],
                charts=[sensitivity_chart(plan)],
            )
        )
    if plan.curve:
        sections.append(
            Section(
                "Energy against runtime",
                [_curve_text(plan)],
                tables=[curve_table(plan)],
                charts=[curve_chart(plan)],
            )
        )
    if plan.warnings:
        sections.append(Section("Warnings", [_sentence(w) for w in plan.warnings]))
    return sections


def plan_summary_tables(plan: Plan) -> list[Table]:
    """The short view for a terminal: assignment, baselines, sensitivity."""
    tables = [assignment_table(plan), _short_baselines(plan)]
    if plan.robust:
        tables.append(robust_table(plan, plan.robust))
    if plan.prices:
        tables.append(prices_table(plan))
    return [*tables, _short_sensitivity(plan)] if plan.sensitivity else tables


# ---------------------------------------------------------------- tables


def assignment_table(plan: Plan) -> Table:
    """What each deployment gets."""
    rows: list[list[Cell]] = [
        [
            a.deployment,
            a.queries,
            100 * a.share,
            kwh(a.energy_j),
            a.busy_s / SECONDS_PER_HOUR,
            *([] if a.busy_fraction is None else [100 * a.busy_fraction]),
        ]
        for a in plan.assignment
    ]
    columns = ["deployment", "queries", "share (%)", "energy (kWh)", "busy time (h)"]
    if any(a.busy_fraction is not None for a in plan.assignment):
        columns.append("of the horizon (%)")
    note = ""
    if plan.sunk_idle_j:
        note = (
            f"The plan's {format_number(kwh(plan.energy_j))} kWh include"
            f" {format_number(kwh(plan.sunk_idle_j))} kWh of idle power that stays on whatever is"
            " decided; it is in no row."
        )
    return Table(
        "assignment",
        "What each deployment gets",
        columns,
        rows,
        note=note,
    )


def prices_table(plan: Plan) -> Table:
    """What one more unit of each limit would save."""
    rows: list[list[Cell]] = [
        [p.constraint, yes_no(p.binding), p.price_j, f"J per {p.unit}" if p.unit else "J"]
        for p in plan.prices
    ]
    bound_j = plan.robust.bound_j if plan.robust else plan.lower_bound_j
    bound = "none" if bound_j is None else human_energy(bound_j)
    return Table(
        slug="prices",
        title="Limits and what one more unit of each would save",
        columns=["limit", "binds", "price", "unit"],
        rows=rows,
        note=f"Lower bound {bound}, gap {plan.gap:.1e}"
        + ("." if plan.converged else "; interrupted: not proven."),
    )


def _limits_text(plan: Plan) -> str:
    proven = "proven" if plan.converged else "not proven: the search was interrupted"
    return (
        "No assignment that keeps the limits is better than the bound by more than the gap of"
        f" {plan.gap:.1e} ({proven}). A price is what one more unit of a limit would save."
        " Simpler rules need not keep the limits; the table above says which do."
    )


def baselines_table(plan: Plan) -> Table:
    """The plan and every rule that it is compared with."""
    own: list[Cell] = ["this plan", kwh(plan.energy_j), None, None, None, None, None]
    own += [plan.runtime_s_mean, _runtime_ratio(plan), None]
    rows = [own, *(_baseline_row(b) for b in plan.baselines)]
    limited = any(b.keeps_limits is not None for b in plan.baselines)
    columns = ["policy", "energy (kWh)", "saving of the plan (%)", "low (%)", "high (%)"]
    columns += ["significant", PROBABILITY]
    columns += ["mean runtime (s)", "runtime ratio", "displaced queries"]
    if limited:
        kept = [plan.converged or None, *(b.keeps_limits for b in plan.baselines)]
        columns.append("keeps limits")
        rows = [[*row, yes_no(keeps)] for row, keeps in zip(rows, kept, strict=True)]
    return Table(
        "baselines", "The plan against simpler rules", columns, rows, [0], _baselines_note(plan)
    )


def _baseline_row(policy: Policy) -> list[Cell]:
    return [
        policy.name,
        kwh(policy.energy_j),
        policy.saving_pct,
        *_ends(policy.saving),
        yes_no(policy.significant),
        policy.probability_saves,
        policy.runtime_s_mean,
        policy.runtime_ratio,
        policy.displaced_queries,
    ]


def sensitivity_table(plan: Plan) -> Table:
    """The plan solved again with one figure changed."""
    names = list(plan.sensitivity[0].shares) if plan.sensitivity else []
    rows: list[list[Cell]] = [
        [
            s.change,
            s.saving_pct,
            *_ends(s.saving),
            yes_no(s.significant),
            s.probability_saves,
            s.fixed_plan_saving_pct,
            *(100 * s.shares[name] for name in names),
        ]
        for s in plan.sensitivity
    ]
    columns = ["change", "saving (%)", "low (%)", "high (%)", "significant", PROBABILITY]
    columns += ["saving of the unchanged plan (%)", *(f"to {name} (%)" for name in names)]
    return Table(
        "sensitivity", "The saving with one figure changed", columns, rows, [], _against(plan)
    )


def curve_table(plan: Plan) -> Table:
    """Distinct optima over the weight of energy."""
    names = list(plan.curve[0].shares)
    rows: list[list[Cell]] = [
        [
            points[0].energy_weight,
            points[-1].energy_weight,
            kwh(points[0].energy_j),
            points[0].runtime_s_mean,
            points[0].accuracy_token_weighted,
            *(100 * points[0].shares[name] for name in names),
        ]
        for points in distinct_optima(plan.curve)
    ]
    columns = ["λ from", "λ to", "energy (kWh)", "mean runtime (s)", "accuracy"]
    return Table(
        "energy-runtime-optima",
        "Optimal assignments by the weight λ of energy",
        [*columns, *(f"to {name} (%)" for name in names)],
        rows,
        note="λ = 0 minimises runtime, λ = 1 energy. Accuracy is weighted with tokens.",
    )


def _short_baselines(plan: Plan) -> Table:
    rows: list[list[Cell]] = [
        ["this plan", kwh(plan.energy_j), None, DASH, None, _runtime_ratio(plan)]
    ]
    rows += [
        [
            b.name,
            kwh(b.energy_j),
            b.saving_pct,
            _range(b.saving),
            b.probability_saves,
            b.runtime_ratio,
        ]
        for b in plan.baselines
    ]
    columns = ["policy", "energy (kWh)", "saving (%)", "interval (%)", PROBABILITY, "runtime ratio"]
    return Table(
        "baselines", "The plan against simpler rules", columns, rows, [0], _baselines_note(plan)
    )


def _short_sensitivity(plan: Plan) -> Table:
    rows: list[list[Cell]] = [
        [
            s.change,
            s.saving_pct,
            _range(s.saving),
            yes_no(s.significant) or DASH,
            s.probability_saves,
            s.fixed_plan_saving_pct,
        ]
        for s in plan.sensitivity
    ]
    columns = ["change", "saving (%)", "interval (%)", "signif.", PROBABILITY, "unchanged plan (%)"]
    return Table(
        "sensitivity", "The saving with one figure changed", columns, rows, [], _against(plan)
    )


# ---------------------------------------------------------------- words


def _objective(plan: Plan) -> str:
    goal = {1.0: "energy alone", 0.0: "runtime alone"}.get(
        plan.energy_weight,
        f"energy with weight λ = {plan.energy_weight:g} and runtime with"
        f" {1 - plan.energy_weight:g}, each normalised by {plan.normalisation}"
        f" ({format_number(plan.scales['energy_j'])} J and"
        f" {format_number(plan.scales['runtime_s'])} s per query)",
    )
    text = (
        f"The plan minimises {goal}, over {plan.queries:,} queries:"
        f" {format_number(kwh(plan.energy_j))} kWh,"
        f" {format_number(plan.runtime_s_mean)} s per query on average."
    )
    if plan.robust:
        text += (
            f" What it minimises of that over {plan.robust.draws} draws of the fits is"
            f" {MINIMISED[plan.robust.criterion]}; the figures here are those of the fits alone."
        )
    if plan.accuracy_weight is not None:
        text += f" Accuracy has the weight ζ = {plan.accuracy_weight:g}."
    if plan.accuracy_query_mean is not None and plan.accuracy_token_weighted is not None:
        text += (
            f" Accuracy: {format_number(plan.accuracy_query_mean)} over queries,"
            f" {format_number(plan.accuracy_token_weighted)} over tokens."
        )
    return text


def _curve_text(plan: Plan) -> str:
    found = len(distinct_optima(plan.curve))
    text = f"{len(plan.curve)} weights λ give {found} different optimal assignments."
    if found == 1:
        return text + " Runtime cannot be traded for energy here."
    return text + " Less energy is bought with longer runtimes along the curve."


def _baselines_note(plan: Plan) -> str:
    displaced = "Displaced queries could not go where the rule says and went to the cheapest"
    return (
        f"Reference of runtime ratios: {plan.reference}. {_interval_text(plan)}"
        f" {displaced} deployment that may serve them."
    )


def _against(plan: Plan) -> str:
    return f"Savings against {plan.reference} under the same change. {_interval_text(plan)}"


def _interval_text(plan: Plan) -> str:
    for policy in plan.baselines:
        if policy.saving:
            return (
                f"{100 * policy.saving.level:g} % intervals: {policy.saving.method}. {PROBABILITY}:"
                " part of the draws in which the saving is above zero; draws are of the fits, not"
                " of the traffic."
            )
    return "No intervals: a profile carries no bootstrap draws."


def _runtime_ratio(plan: Plan) -> float | None:
    """Mean runtime of the plan against the reference."""
    for policy in plan.baselines:
        if policy.name == plan.reference and policy.runtime_s_mean:
            return plan.runtime_s_mean / policy.runtime_s_mean
    return None


def _ends(interval: Interval | None) -> tuple[float | None, float | None]:
    return (interval.low, interval.high) if interval else (None, None)


def _range(interval: Interval | None) -> str:
    return f"{interval.low:.2f} to {interval.high:.2f}" if interval else DASH


def yes_no(value: bool | None) -> str | None:
    """Write a truth value; None stays None."""
    return None if value is None else "yes" if value else "no"


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."
