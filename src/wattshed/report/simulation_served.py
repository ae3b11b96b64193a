"""Tables of simulated contenders: who served what, and what the energy causes."""

from __future__ import annotations

from wattshed.records import SimulationResults
from wattshed.report.document import Cell, Table
from wattshed.report.simulation_tables import CONTENDER, known, percent
from wattshed.units import kwh


def served_table(found: SimulationResults) -> Table:
    """What became of the requests."""
    rows: list[list[Cell]] = [
        [
            p.label,
            p.requests,
            p.completed,
            p.rejected,
            p.lost,
            p.unfinished,
            p.retries,
            p.preemptions,
        ]
        for p in found.policies
    ]
    columns = [CONTENDER, "requests", "served", "rejected", "lost", "unfinished", "sent again"]
    return Table(
        "served",
        "What became of the requests",
        [*columns, "preempted"],
        rows,
        note="Rejected: no deployment can serve it. Lost: its replica failed. Preempted: how often"
        " a request lost its place in the KV cache and was computed again.",
    )


def throughput_table(found: SimulationResults) -> Table:
    """How much is served in a second."""
    rows: list[list[Cell]] = [
        [p.label, p.duration_s, p.throughput_per_s, p.goodput_per_s, p.output_tokens_per_s]
        for p in found.policies
    ]
    columns = [CONTENDER, "duration (s)", "requests (1/s)", "within their limits (1/s)"]
    return Table("throughput", "Throughput", [*columns, "output tokens (1/s)"], rows)


def deployments_table(found: SimulationResults) -> Table:
    """Each deployment under each contender."""
    rows: list[list[Cell]] = [
        [
            p.label,
            d.name,
            d.replicas,
            d.requests,
            d.output_tokens,
            percent(d.busy),
            kwh(d.energy_j),
            known(d.power_w),
        ]
        for p in found.policies
        for d in p.deployments
    ]
    columns = [CONTENDER, "deployment", "replicas", "requests", "output tokens", "busy (%)"]
    columns += ["energy (kWh)", "mean power of a replica (W)"]
    return Table("deployments", "Who served what", columns, rows)


def impacts_table(found: SimulationResults) -> Table:
    """Carbon, water and cost by site."""
    rows: list[list[Cell]] = [
        [
            p.label,
            site,
            kwh(i.energy_it_j),
            kwh(i.energy_facility_j),
            i.carbon_g,
            i.water_site_l,
            i.water_source_l,
            i.cost,
            i.currency,
        ]
        for p in found.policies
        for site, i in p.impacts.items()
    ]
    columns = [CONTENDER, "site", "IT energy (kWh)", "with the building (kWh)", "carbon (g CO2e)"]
    columns += ["water on site (L)", "water at the source (L)", "cost", "currency"]
    return Table(
        "impacts",
        "Carbon, water and cost",
        columns,
        rows,
        note="A dash: the site does not say. Average carbon intensity, of the building's energy.",
    )


def factors_table(found: SimulationResults) -> Table:
    """What energies were multiplied by."""
    rows: list[list[Cell]] = [
        [p.label, site, factor.name, known(factor.value), factor.kind, factor.source]
        for p in found.policies
        for site, impact in p.impacts.items()
        for factor in impact.factors
    ]
    columns = [CONTENDER, "site", "factor", "value", "kind", "source"]
    return Table("impact-factors", "Factors behind these figures", columns, rows)
