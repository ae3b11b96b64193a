"""Compose a report from the summary of a ledger: who asked, who answered, at what energy."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from wattshed import __version__
from wattshed.records import LedgerGroup, LedgerSummary, Provenance
from wattshed.report.document import Chart, Document, Map, Section, Series, Table
from wattshed.report.ledger_comparison import comparison_tables
from wattshed.report.ledger_tables import (
    GROUPS,
    NOTE,
    UNKNOWN,
    drifts_table,
    factors_table,
    forecasts_table,
    group_table,
    impacts_table,
    meters_table,
    outcomes_table,
)
from wattshed.report.text import format_number
from wattshed.units import SECONDS_PER_HOUR, human_energy, kwh


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
