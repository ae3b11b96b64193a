"""Compose a report from the summary of a ledger: who asked, who answered, at what energy."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from wattshed import __version__
from wattshed.records import LedgerGroup, LedgerSummary, Provenance
from wattshed.report.document import Cell, Chart, Document, Map, Section, Series, Table
from wattshed.report.ledger_comparison import comparison_tables
from wattshed.report.text import format_number
from wattshed.units import SECONDS_PER_HOUR, human_energy, kwh

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


def ledger_tables(found: LedgerSummary) -> list[Table]:
    """All tables of a summary but those of hours and outcomes: the short view for a terminal."""
    names = ("tenants", "models", "endpoints")
    groups = [group_table(found, name, note=NOTE if name == names[-1] else "") for name in names]
    others = [*comparison_tables(found), drifts_table(found), meters_table(found)]
    others += [forecasts_table(found), impacts_table(found)]
    return [*groups, *(table for table in others if table.rows)]


def ledger_document(
    found: LedgerSummary, sources: list[Provenance], command: str, name: str
) -> Document:
    """Report of a ledger.

    Parameters
    ----------
    found : LedgerSummary
    name : str
        Of the ledger.
    """
    notes = caveats(found)
    sections = [Section("What to know of the figures", notes)] if notes else []
    sections += [
        Section(title, tables=[group_table(found, field)], charts=charts_of(found, field))
        for field, (_, title) in GROUPS.items()
    ]
    sections.append(Section("What became of the requests", tables=[outcomes_table(found)]))
    tables = [*comparison_tables(found), drifts_table(found), meters_table(found)]
    for table in [*tables, forecasts_table(found), impacts_table(found), factors_table(found)]:
        if table.rows:
            sections.append(Section(table.title, tables=[table]))
    return Document(
        title=f"Requests of {name}",
        abstract=headline(found),
        sections=sections,
        sources=sources,
        created_by=f"wattshed {__version__}",
        command=command,
    )


def headline(found: LedgerSummary) -> str:
    """The whole ledger in a few sentences."""
    total = found.total
    first, last = (_time(at) for at in (found.first_at, found.last_at))
    requests = "1 request" if total.requests == 1 else f"{format_number(total.requests)} requests"
    text = f"{requests} from {first} to {last}, {total.outcomes.get('served', 0)} served."
    if total.dynamic_j is not None and total.energy_per_request_j is not None:
        text += f" {human_energy(total.dynamic_j)} for them"
        if total.idle_j is not None:
            text += f" and {human_energy(total.idle_j)} of idle power beside"
        text += f": {human_energy(total.energy_per_request_j)} per request"
        text += f" ({', '.join([*total.methods, *total.boundaries])})."
    if total.attainment is not None:
        text += f" {100 * total.attainment:.4g} % of {total.promised} promises kept."
    return text


def caveats(found: LedgerSummary) -> list[str]:
    """What to know of the figures."""
    total, texts = found.total, []
    if len(total.boundaries) > 1:
        texts.append(f"Energies of unlike boundaries are added: {', '.join(total.boundaries)}.")
    counts = {
        "have no idle part, their energy is gross": total.without_idle,
        "have no energy": total.requests - total.with_energy,
        "are outside the sizes that their profile was fitted to": total.extrapolated,
        "have energy, but no site in the fleet": found.no_site,
    }
    texts += [f"{n} of {total.requests} requests {what}." for what, n in counts.items() if n]
    texts += [
        f"Alarm: {each.endpoint} was metered at {each.ratio:.3g} times what was modelled, 95 %"
        f" between {each.low:.3g} and {each.high:.3g}: its profile may no longer hold."
        for each in found.drifts
        if each.alarm
    ]
    if any(each.kind == "modelled" for each in found.meters):
        texts.append("Some meters are simulated, or estimate: their energy was not measured.")
    return texts


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
    rows: list[list[Cell]] = [
        [
            each.endpoint,
            each.requests,
            each.predicted_j,
            each.final_j,
            None if each.difference is None else 100 * each.difference,
            each.expected_output_tokens,
            each.output_tokens,
        ]
        for each in found.forecasts
    ]
    columns = ["endpoint", "requests", "predicted (J)", "final (J)", "difference (%)"]
    return Table(
        "forecasts",
        "Predicted and final energy",
        [*columns, "expected output tokens", "output tokens"],
        rows,
        note="Of served requests. Predicted: when the request came, from the output that was"
        " expected, in the batches that plans assume. Final: its receipt, in the batch that there"
        " was.",
    )


def drifts_table(found: LedgerSummary) -> Table:
    """Metered against modelled energy."""
    rows: list[list[Cell]] = [
        [
            each.endpoint,
            each.requests,
            each.modelled_j,
            each.metered_j,
            each.ratio,
            each.low,
            each.high,
            "alarm" if each.alarm else "",
        ]
        for each in found.drifts
    ]
    columns = ["endpoint", "requests", "modelled (J)", "metered (J)", "ratio", "low", "high"]
    return Table(
        "drifts",
        "Modelled and metered energy",
        [*columns, "drift"],
        rows,
        note="Of served requests whose whole time was metered; dynamic energy. Low and high: 95 %"
        " of the ratio. Alarm: all of it lies more than 10 % from 1.",
    )


def meters_table(found: LedgerSummary) -> Table:
    """Where what meters said went."""
    rows: list[list[Cell]] = [
        [
            each.meter,
            each.boundary,
            each.seconds,
            each.silent_s,
            each.metered_j,
            each.low_j,
            each.high_j,
            each.dynamic_j,
            each.idle_of_requests_j,
            each.idle_j,
            each.unattributed_j,
        ]
        for each in found.meters
    ]
    columns = ["meter", "boundary", "metered (s)", "silent (s)", "metered (J)", "low (J)"]
    columns += ["high (J)", "requests (J)", "requests, idle part (J)", "idle (J)"]
    return Table(
        "meters",
        "What the meters said",
        [*columns, "unattributed (J)"],
        rows,
        note="The last four add up to what was metered. Idle: while no request was there."
        " Unattributed: above the idle power with nobody at work, or below it.",
    )


def impacts_table(found: LedgerSummary) -> Table:
    """Carbon, water and cost by site."""
    rows: list[list[Cell]] = [
        [
            each.site,
            each.impact.boundary,
            each.requests,
            kwh(each.impact.energy_it_j),
            kwh(each.impact.energy_facility_j),
            each.impact.carbon_g,
            each.impact.water_site_l,
            each.impact.water_source_l,
            each.impact.cost,
            each.impact.currency,
        ]
        for each in found.impacts or []
    ]
    columns = ["site", "boundary", "requests", "IT energy (kWh)", "with the building (kWh)"]
    columns += ["carbon (g CO2e)", "water on site (L)", "water at the source (L)", "cost"]
    return Table(
        "impacts",
        "Carbon, water and cost",
        [*columns, "currency"],
        rows,
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


def charts_of(found: LedgerSummary, field: str) -> list[Chart | Map]:
    """Energy of the endpoints, and by hour where there is more than one."""
    groups = [g for g in getattr(found, field) if g.dynamic_j is not None]
    if field == "endpoints" and groups:
        return [_bars(groups)]
    if field == "hours" and len(groups) > 1:
        return [_by_hour(groups)]
    return []


def _bars(groups: Sequence[LedgerGroup]) -> Chart:
    return Chart(
        "energy-by-endpoint",
        "Energy of the requests of each endpoint",
        "",
        "energy (kWh)",
        _stacked([float(k) for k in range(len(groups))], groups),
        x_ticks=[g.name or UNKNOWN for g in groups],
        horizontal=True,
    )


def _by_hour(groups: Sequence[LedgerGroup]) -> Chart:
    begins = [datetime.fromisoformat(g.name or "").timestamp() for g in groups]
    return Chart(
        "energy-by-hour",
        "Energy of the requests of each hour",
        f"hours since {groups[0].name}",
        "energy (kWh)",
        _stacked([(at - begins[0]) / SECONDS_PER_HOUR for at in begins], groups),
    )


def _stacked(places: list[float], groups: Sequence[LedgerGroup]) -> list[Series]:
    parts = {"dynamic": [g.dynamic_j for g in groups], "idle": [g.idle_j for g in groups]}
    return [
        Series(
            name, places, [kwh(v or 0.0) for v in of], style="stacked bars", muted=name == "idle"
        )
        for name, of in parts.items()
        if any(of)
    ]


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
