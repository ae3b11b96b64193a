"""Whole reports of a fit and of a plan: what the rooms found, as documents to render."""

from __future__ import annotations

import math

from msgspec import structs

from wattshed import __version__
from wattshed.fleet import Fleet
from wattshed.plan.cost import Scales, Weights
from wattshed.plan.regions import find_regions
from wattshed.records import OutOfSample, Plan, Profile, Provenance
from wattshed.report.document import Document, Map, Section
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
    plan: Plan, fleet: Fleet, workload: Workload, weights: Weights, command: str, seed: int
) -> Document:
    """Report of a plan, with the picture of which deployment is cheapest where."""
    return Document(
        title=f"Where the queries of {workload.name} belong",
        abstract=plan.verdict,
        sections=[*plan_sections(plan), regions_section(plan, fleet, workload, weights)],
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
    found = [source for d in fleet.deployments for source in d.profile.provenance]
    return list(dict.fromkeys([*found, *(w.provenance for w in workloads)]))


def regions_section(plan: Plan, fleet: Fleet, workload: Workload, weights: Weights) -> Section:
    """The cheapest deployment over (m, n), the workload's queries on top."""
    scales = Scales(
        plan.scales["energy_j"], plan.scales["runtime_s"], plan.scales["accuracy_tokens"]
    )
    alone = " Costs are those of the fits alone; the plan allows for their uncertainty."
    regions = find_regions(fleet, scales, weights, workload.distinct())
    picture = Map(
        slug="regions",
        title="Cheapest deployment by query size",
        x_label="input tokens m",
        y_label="output tokens n",
        x=regions.m.tolist(),
        y=regions.n.tolist(),
        values=regions.cheapest.tolist(),
        names=regions.names,
        density=_density(workload),
        note=f"Cost as planned (λ = {weights.energy:g}). Dots are the queries of {workload.name},"
        f" binned; their area is their number.{alone if plan.robust else ''}",
    )
    text = (
        "Every query left of and below a boundary goes to that machine. A threshold on m or n"
        " alone is a straight cut through this picture."
    )
    return Section("Which machine is cheapest where", [text], charts=[picture])


def _density(workload: Workload) -> list[tuple[float, float, float]]:
    """Queries binned to quarter octaves, the fullest bins first."""
    queries = workload.distinct()
    bins: dict[tuple[int, int], int] = {}
    for m, n, count in zip(queries.m, queries.n, queries.count, strict=True):
        key = round(4 * math.log2(m)), round(4 * math.log2(n))
        bins[key] = bins.get(key, 0) + int(count)
    fullest = sorted(bins.items(), key=lambda item: (-item[1], item[0]))[:MAX_DENSITY_POINTS]
    return [(2 ** (x / 4), 2 ** (y / 4), float(count)) for (x, y), count in fullest]
