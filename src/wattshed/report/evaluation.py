"""Compose the judgement of a plan's rule on queries that it was not made on."""

from __future__ import annotations

from wattshed.records import OutOfSample
from wattshed.report.document import Cell, Section, Table
from wattshed.report.plan_document import PROBABILITY, yes_no
from wattshed.units import kwh


def evaluation_section(found: list[OutOfSample], train: str, test: str) -> Section:
    """The judgement as a section of a plan's report.

    Parameters
    ----------
    found : list of OutOfSample
        From `wattshed.plan.evaluate.evaluate_out_of_sample`.
    train, test : str
        Names of the workload of the plan, and of the one that judges it.
    """
    text = (
        f"The rule is made on {train}: its scales, its best single deployment and how long answers"
        f" are. On {test} it decides before the answer is there: by its true length (known), or by"
        " one predicted from the past. What it pays is true."
    )
    heading = "When output lengths are not known"
    return Section(heading, [text], tables=evaluation_tables(found, train, test))


def evaluation_tables(found: list[OutOfSample], train: str, test: str) -> list[Table]:
    """Costs of the rule, and where the plan has limits, what it uses of them."""
    tables = [evaluation_table(found, train, test)]
    return [*tables, limits_table(found, test)] if found[0].limits else tables


def limits_table(found: list[OutOfSample], test: str) -> Table:
    """What the rule uses of each limit of its plan, by where it has output lengths from."""
    rows: list[list[Cell]] = [
        [use.constraint, each.predictor, use.used, use.bound, use.unit, part, yes_no(use.kept)]
        for number in range(len(found[0].limits))
        for each in found
        for use in [each.limits[number]]
        for part in [100 * use.used / use.bound if use.bound else None]
    ]
    return Table(
        "out-of-sample-limits",
        f"Limits of the plan on {test}",
        ["limit", "lengths", "used", "bound", "unit", "of bound (%)", "kept"],
        rows,
        note="The prices are those of the plan. Limits on totals are as much larger or smaller as"
        f" {test} has more or fewer queries.",
    )


def evaluation_table(found: list[OutOfSample], train: str, test: str) -> Table:
    """Energy, saving and regret of the rule by where it has output lengths from."""
    rows: list[list[Cell]] = [
        [
            each.predictor,
            kwh(each.energy_j),
            each.saving_pct,
            each.saving.low if each.saving else None,
            each.saving.high if each.saving else None,
            yes_no(each.significant),
            each.probability_saves,
            each.regret_pct,
            each.displaced_queries,
        ]
        for each in found
    ]
    columns = ["lengths", "energy (kWh)", "saving (%)", "low (%)", "high (%)", "significant"]
    return Table(
        "out-of-sample",
        f"The rule of {train} on {test}",
        [*columns, PROBABILITY, "regret (%)", "displaced"],
        rows,
        note=f"{_saving_text(found[0])} Regret: cost above the least possible on {test}. Displaced"
        " queries could not be served where they were sent and went to the cheapest deployment"
        " that may serve them.",
    )


def _saving_text(known: OutOfSample) -> str:
    text = f"Savings against {known.reference}; a negative saving is a loss."
    if known.saving is None:
        return f"{text} No intervals: a profile carries no bootstrap draws."
    method = f"{100 * known.saving.level:g} % intervals: {known.saving.method}"
    return f"{text} {method}. {PROBABILITY}: part of the draws in which the rule saves."
