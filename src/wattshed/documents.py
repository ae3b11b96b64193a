"""Whole reports of a fit and of a plan: what the rooms found, as documents to render."""

from __future__ import annotations

import math

from msgspec import structs

from wattshed import __version__
from wattshed.fleet import DEFAULT_CLASS, Fleet
from wattshed.iterations import sources_of
from wattshed.plan.regions import Regions, find_regions
from wattshed.records import OutOfSample, Plan, Policy, Profile, Provenance
from wattshed.report.document import Chart, Cut, Document, Map, Section
from wattshed.report.evaluation import evaluation_section
from wattshed.report.fit_document import fit_sections
from wattshed.report.plan_document import plan_sections
from wattshed.workload.table import Workload

MAX_DENSITY_POINTS = 1500


def fit_document(
    profiles: list[Profile], sources: list[Provenance], command: str, seed: int
) -> Document:
    """Report of fitted profiles."""
    return Document(
        title="Energy and runtime of a query, fitted to measured runs",
        abstract=(
            f"{len(profiles)} deployments. Each form was fitted to all cells but one and asked"
            " for the cell left out; errors below are over all cells. The form with the least"
            " mean error that never predicts a negative value is kept."
        ),
        sections=fit_sections(profiles),
        sources=list(dict.fromkeys(sources)),
        created_by=f"wattshed {__version__}",
        command=command,
        seed=seed,
    )


def plan_document(
    plan: Plan, fleet: Fleet, workload: Workload, command: str, seed: int
) -> Document:
    """Report of a plan, with the picture of which deployment is cheapest where."""
    return Document(
        title=f"Where the queries of {workload.name} belong",
        abstract=plan.verdict,
        sections=[*plan_sections(plan), regions_section(plan, fleet, workload)],
        sources=plan_sources(fleet, workload),
        created_by=f"wattshed {__version__}",
        command=command,
        seed=seed,
    )


def add_evaluation(
    document: Document, found: list[OutOfSample], train: Workload, test: Workload
) -> Document:
    """Report of a plan with how its rule does on a workload that it was not made on."""
    section = evaluation_section(found, train.name, test.name)
    sources = list(dict.fromkeys([*document.sources, test.provenance]))
    return structs.replace(document, sections=[*document.sections, section], sources=sources)


def plan_sources(fleet: Fleet, *workloads: Workload) -> list[Provenance]:
    """Provenance of a plan's profiles and workloads, each once."""
    found = [source for d in fleet.deployments for source in sources_of(d.profile)]
    return list(dict.fromkeys([*found, *(w.provenance for w in workloads)]))


def regions_section(plan: Plan, fleet: Fleet, workload: Workload) -> Section:
    """Where the plan's rule sends a query over (m, n), with queries and threshold rules on top.

    One picture, or one for each SLO class where classes are treated differently.
    """
    assert plan.rule is not None
    around, best = workload.distinct(), _best_thresholds(plan)
    alone = " Costs are those of the fits alone; the plan allows for their uncertainty."
    charts: list[Chart | Map] = []
    for number, name in enumerate(_classes_apart(plan, fleet, workload), start=1):
        regions = find_regions(fleet, plan.rule, around, name)
        priced = ", prices of the limits included" if plan.binding else ""
        title = "Cheapest deployment by query size" + (f", class {name}" if name else "")
        picture = Map(
            slug="regions" if number == 1 else f"regions-{number}",
            title=title,
            x_label="input tokens m",
            y_label="output tokens n",
            x=regions.m.tolist(),
            y=regions.n.tolist(),
            values=regions.cheapest.tolist(),
            names=regions.names,
            density=_density(workload, name),
            cuts=[_cut(plan, policy, regions) for policy in best],
            note=f"Cost as planned (λ = {plan.energy_weight:g}{priced}). Dots are the queries of"
            f" {workload.name}, binned; their area is their number.{alone if plan.robust else ''}",
        )
        charts.append(picture)
    return Section("Which machine is cheapest where", [_boundary_text(plan, best)], charts=charts)


def _classes_apart(plan: Plan, fleet: Fleet, workload: Workload) -> tuple[str, ...]:
    """SLO classes that have pictures of their own; one stands for all that are alike."""
    assert plan.rule is not None
    classes = workload.distinct(by_class=True).classes
    apart = {*plan.rule.class_runtime_j_per_s, *fleet.slo} - {DEFAULT_CLASS}
    return classes if apart & set(classes) else ("",)


def _best_thresholds(plan: Plan) -> list[Policy]:
    """The best T_in, T_out and box rule; rules that keep the limits come before others."""
    found = []
    for family in ("t-in", "t-out", "box"):
        rules = [b for b in plan.baselines if b.family == family and b.rule]
        found += sorted(rules, key=lambda b: (b.keeps_limits is False, b.cost))[:1]
    return found


def _cut(plan: Plan, policy: Policy, regions: Regions) -> Cut:
    """The border of a threshold rule, beyond the picture where it has none."""
    assert policy.rule is not None
    left, right = float(regions.m[0]) / 4, float(regions.m[-1]) * 4
    low, high = float(regions.n[0]) / 4, float(regions.n[-1]) * 4
    t_in, t_out = policy.rule.t_in, policy.rule.t_out
    loss = _loss(plan, policy)
    if t_in is not None and t_out is not None:
        return Cut(f"best box {t_in:g}, {t_out:g}: {loss}", [left, t_in, t_in], [t_out, t_out, low])
    if t_in is not None:
        border = max(t_in, left)
        return Cut(f"best T_in {t_in:g}: {loss}", [border, border], [low, high])
    assert t_out is not None
    border = max(t_out, low)
    return Cut(f"best T_out {t_out:g}: {loss}", [left, right], [border, border])


def _loss(plan: Plan, policy: Policy) -> str:
    """What the rule costs above the plan, by what the plan minimises."""
    if plan.lower_bound_j is None:
        return f"{100 * (policy.cost - plan.cost) / abs(plan.cost):+.2g} % cost"
    return f"{100 * (policy.energy_j / plan.energy_j - 1):+.2g} % energy"


def _boundary_text(plan: Plan, best: list[Policy]) -> str:
    text = (
        "Each colour is where one machine is the cheapest. A threshold on m or n alone is a"
        " straight cut through this picture, a box a corner."
    )
    keeping = [b for b in best if b.keeps_limits is not False]
    if not keeping:
        return f"{text} None of these rules keeps the limits." if best else text
    policy = min(keeping, key=lambda b: b.cost)
    return (
        f"{text} The best of these rules, {policy.name}, against this plan: {_loss(plan, policy)}."
    )


def _density(workload: Workload, slo_class: str) -> list[tuple[float, float, float]]:
    """Queries of a class, or without one of all, in bins of quarter octaves, the fullest first."""
    queries = workload.distinct(by_class=bool(slo_class))
    counted = queries.group == queries.classes.index(slo_class)
    bins: dict[tuple[int, int], int] = {}
    columns = (queries.m[counted], queries.n[counted], queries.count[counted])
    for m, n, count in zip(*columns, strict=True):
        key = round(4 * math.log2(m)), round(4 * math.log2(n))
        bins[key] = bins.get(key, 0) + int(count)
    fullest = sorted(bins.items(), key=lambda item: (-item[1], item[0]))[:MAX_DENSITY_POINTS]
    return [(2 ** (x / 4), 2 ** (y / 4), float(count)) for (x, y), count in fullest]
