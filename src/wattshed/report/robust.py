"""Compose what a robust plan costs over the draws of the fits."""

from __future__ import annotations

from wattshed.records import DrawnCost, Plan, Robust
from wattshed.report.document import Cell, Section, Table
from wattshed.units import kwh

MINIMISED = {"expected": "the mean over the draws", "p90": "the mean of the worst tenth of them"}


def robust_section(plan: Plan, robust: Robust) -> Section:
    """What is minimised over the draws, and what that costs and protects from."""
    text = (
        f"Each of the {robust.draws} bootstrap draws of the fits is a way that energies and"
        f" runtimes could really be. This plan minimises {MINIMISED[robust.criterion]}. Draws are"
        " of the fits, not of the traffic: the queries are taken as they are."
    )
    return Section("How sure the fits are", [text], tables=[robust_table(plan, robust)])


def robust_table(plan: Plan, robust: Robust) -> Table:
    """Mean, 90 % quantile and worst tenth of the draws for the plan and what it replaces."""
    costs = (robust.plan, robust.nominal, robust.reference)
    rows: list[list[Cell]] = [
        [each.policy, *map(kwh, own), *_above_pct(own, _figures(robust.plan)), 100 * each.gap]
        for each, own in ((c, _figures(c)) for c in costs)
    ]
    columns = ["policy", "mean (kWh)", "p90 (kWh)", "tail (kWh)", "mean (+%)", "p90 (+%)"]
    energy = plan.energy_weight == 1.0 and plan.accuracy_weight is None
    least = "mean" if robust.criterion == "expected" else "tail"
    return Table(
        "draws",
        f"{'Energy' if energy else 'Cost, as energy,'} over {robust.draws} draws of the fits",
        [*columns, "tail (+%)", "above bound (%)"],
        rows,
        [0],
        f"p90: nine tenths of the draws cost at most this. Tail: mean of the worst tenth. +%: above"
        f" this plan. Minimised: {least}; no assignment is below {kwh(robust.bound_j):.6g} kWh.",
    )


def _figures(cost: DrawnCost) -> tuple[float, float, float]:
    return cost.mean_j, cost.p90_j, cost.worst_tenth_j


def _above_pct(figures: tuple[float, ...], plan: tuple[float, ...]) -> list[float]:
    return [100 * (a - b) / abs(b) for a, b in zip(figures, plan, strict=True)]
