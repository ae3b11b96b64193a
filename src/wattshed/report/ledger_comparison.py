"""Canaries against the policies beside them, as tables."""

from __future__ import annotations

from wattshed.records import LedgerComparison, LedgerDifference, LedgerGroup, LedgerSummary
from wattshed.report.document import Cell, Table

UNITS = {
    "energy_per_output_token_j": ("energy (J/output token)", 1.0),
    "energy_per_request_j": ("energy (J/request)", 1.0),
    "attainment": ("attainment (percentage points)", 100.0),
}
"""Heading of a figure, and the factor to its unit."""
NOTE = (
    "Canary minus control, with 95 % intervals of one look: who looks again and again, and stops at"
    " the first that excludes 0, finds differences where there are none. Both groups share the"
    " endpoints, and each feels the load of the other. Energy with the idle part, where known."
)


def comparison_tables(found: LedgerSummary) -> list[Table]:
    """The groups of each comparison, and what is between them."""
    return [
        table
        for number, each in enumerate(found.comparisons, 1)
        for table in (_groups(each, f"canary-{number}"), _gaps(each, f"canary-{number}-change"))
    ]


def _groups(each: LedgerComparison, name: str) -> Table:
    columns = ["group", "policy", "requests", "served", "output tokens", "energy (J/output token)"]
    columns += ["energy (J/request)", "promises", "attainment (%)"]
    rows = [
        _group("control", each.policy, each.control),
        _group("canary", each.canary_policy, each.canary),
    ]
    return Table(name, f"Canary {each.canary_policy} beside {each.policy}", columns, rows)


def _group(name: str, policy: str, of: LedgerGroup) -> list[Cell]:
    return [
        name,
        policy,
        of.requests,
        of.outcomes.get("served", 0),
        of.output_tokens,
        of.energy_per_output_token_j,
        of.energy_per_request_j,
        of.promised,
        None if of.attainment is None else 100 * of.attainment,
    ]


def _gaps(each: LedgerComparison, name: str) -> Table:
    columns = ["figure", "canary - control", "low", "high", "verdict"]
    rows = [_gap(difference) for difference in each.differences]
    title = f"What {each.canary_policy} changes against {each.policy}"
    return Table(name, title, columns, rows, note=NOTE)


def _gap(of: LedgerDifference) -> list[Cell]:
    heading, factor = UNITS[of.name]
    if of.value is None or of.interval is None:
        return [heading, None, None, None, of.reason]
    low, high = of.interval.low, of.interval.high
    verdict = "not significant" if low <= 0 <= high else "more" if of.value > 0 else "less"
    return [heading, factor * of.value, factor * low, factor * high, verdict]
