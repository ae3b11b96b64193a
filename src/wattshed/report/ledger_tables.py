"""Tables of the summary of a ledger: who asked, who answered, what was metered, what it caused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from wattshed.records import (
    LedgerDrift,
    LedgerForecast,
    LedgerGroup,
    LedgerImpact,
    LedgerMeter,
    LedgerSummary,
)
from wattshed.report.document import Cell, Table
from wattshed.report.simulation_tables import percent
from wattshed.units import kwh

GROUPS = {
    "tenants": ("tenant", "Who asked"),
    "models": ("model", "What was asked for"),
    "endpoints": ("endpoint", "Who answered"),
    "hours": ("hour", "When"),
}
"""Fields of a summary that are groups, with the heading of their first column and their title."""
UNKNOWN = "(none)"
NOTE = (
    "Energy: of the requests whose energy is known. Per request and per output token with the idle"
    " part, where that is known. Attainment: of the promises that could be seen."
)

R = TypeVar("R")
Columns = Mapping[str, Callable[[R], Cell]]
"""What fills each column, by its heading."""


def table_of(
    slug: str, title: str, columns: Columns[R], records: Iterable[R], note: str = ""
) -> Table:
    """A row for each record."""
    rows = [[fill(record) for fill in columns.values()] for record in records]
    return Table(slug, title, list(columns), rows, note=note)


def group_table(found: LedgerSummary, field: str, note: str = NOTE) -> Table:
    """Requests, tokens, energy and promises of each group."""
    heading, title = GROUPS[field]
    columns = [heading, "requests", "served", "input tokens", "output tokens", "dynamic (J)"]
    columns += ["idle (J)", "energy (J/request)", "energy (J/output token)", "attainment (%)"]
    groups: list[LedgerGroup] = getattr(found, field)
    rows = [_row(group) for group in groups]
    if len(groups) > 1:
        rows.append(_row(found.total))
    return Table(field, title, columns, rows, note=note)


def _row(group: LedgerGroup) -> list[Cell]:
    return [
        group.name or UNKNOWN,
        group.requests,
        group.outcomes.get("served", 0),
        group.input_tokens,
        group.output_tokens,
        group.dynamic_j,
        group.idle_j,
        group.energy_per_request_j,
        group.energy_per_output_token_j,
        None if group.attainment is None else 100 * group.attainment,
    ]


def outcomes_table(found: LedgerSummary) -> Table:
    """What became of the requests of each endpoint."""
    names = sorted(found.total.outcomes)
    rows: list[list[Cell]] = [
        [each.name or UNKNOWN, *(each.outcomes.get(n, 0) for n in names)]
        for each in [*found.endpoints, found.total]
    ]
    return Table("outcomes", "What became of the requests", ["endpoint", *names], rows)


def forecasts_table(found: LedgerSummary) -> Table:
    """Predicted against final energy."""
    columns: Columns[LedgerForecast] = {
        "endpoint": lambda each: each.endpoint,
        "requests": lambda each: each.requests,
        "predicted (J)": lambda each: each.predicted_j,
        "final (J)": lambda each: each.final_j,
        "difference (%)": lambda each: percent(each.difference),
        "expected output tokens": lambda each: each.expected_output_tokens,
        "output tokens": lambda each: each.output_tokens,
    }
    return table_of(
        "forecasts",
        "Predicted and final energy",
        columns,
        found.forecasts,
        note="Of served requests. Predicted: when the request came, from the output that was"
        " expected, in the batches that plans assume. Final: its receipt, in the batch that there"
        " was.",
    )


def drifts_table(found: LedgerSummary) -> Table:
    """Metered against modelled energy."""
    columns: Columns[LedgerDrift] = {
        "endpoint": lambda each: each.endpoint,
        "requests": lambda each: each.requests,
        "modelled (J)": lambda each: each.modelled_j,
        "metered (J)": lambda each: each.metered_j,
        "ratio": lambda each: each.ratio,
        "low": lambda each: each.low,
        "high": lambda each: each.high,
        "drift": lambda each: "alarm" if each.alarm else "",
    }
    return table_of(
        "drifts",
        "Modelled and metered energy",
        columns,
        found.drifts,
        note="Of served requests whose whole time was metered; dynamic energy. Low and high: 95 %"
        " of the ratio. Alarm: all of it lies more than 10 % from 1.",
    )


def meters_table(found: LedgerSummary) -> Table:
    """Where what meters said went."""
    columns: Columns[LedgerMeter] = {
        "meter": lambda each: each.meter,
        "boundary": lambda each: each.boundary,
        "metered (s)": lambda each: each.seconds,
        "silent (s)": lambda each: each.silent_s,
        "metered (J)": lambda each: each.metered_j,
        "low (J)": lambda each: each.low_j,
        "high (J)": lambda each: each.high_j,
        "requests (J)": lambda each: each.dynamic_j,
        "requests, idle part (J)": lambda each: each.idle_of_requests_j,
        "idle (J)": lambda each: each.idle_j,
        "unattributed (J)": lambda each: each.unattributed_j,
    }
    return table_of(
        "meters",
        "What the meters said",
        columns,
        found.meters,
        note="The last four add up to what was metered. Idle: while no request was there."
        " Unattributed: above the idle power with nobody at work, or below it.",
    )


def impacts_table(found: LedgerSummary) -> Table:
    """Carbon, water and cost by site."""
    columns: Columns[LedgerImpact] = {
        "site": lambda each: each.site,
        "boundary": lambda each: each.impact.boundary,
        "requests": lambda each: each.requests,
        "IT energy (kWh)": lambda each: kwh(each.impact.energy_it_j),
        "with the building (kWh)": lambda each: kwh(each.impact.energy_facility_j),
        "carbon (g CO2e)": lambda each: each.impact.carbon_g,
        "water on site (L)": lambda each: each.impact.water_site_l,
        "water at the source (L)": lambda each: each.impact.water_source_l,
        "cost": lambda each: each.impact.cost,
        "currency": lambda each: each.impact.currency,
    }
    return table_of(
        "impacts",
        "Carbon, water and cost",
        columns,
        found.impacts or [],
        note="A dash: the site does not say. Average carbon intensity, of the building's energy;"
        " idle power of the requests included, that between them is not.",
    )


def factors_table(found: LedgerSummary) -> Table:
    """What energies were multiplied by."""
    rows: list[list[Cell]] = [
        [each.site, factor.name, factor.value, factor.kind, factor.source]
        for each in found.impacts or []
        for factor in each.impact.factors
    ]
    columns = ["site", "factor", "value", "kind", "source"]
    return Table("impact-factors", "Factors behind these figures", columns, rows)
