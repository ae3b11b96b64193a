"""Hybrid Heterogeneous Clusters Can Lower the Energy Consumption of LLM Inference Workloads.

Wilkins, Keshav and Mortier, e-Energy 2024: an M1 Pro takes the short queries, an A100 the
others. Its figures 1 to 5 are recomputed as the study computed them, then corrected, and
the optimum over both axes is set beside them.
"""

from __future__ import annotations

from wattshed.report.document import Cell, Chart, Section, Series, Table
from wattshed.reproduce.hybrid_figures import SWEEPS, histogram_figure, sweep_figure
from wattshed.reproduce.hybrid_optimum import FLEET, headline, joint_optimum
from wattshed.reproduce.hybrid_sections import (
    figure_4_section,
    figure_5_section,
    runtime_section,
)
from wattshed.reproduce.hybrid_sweep_sections import histogram_section, sweep_section
from wattshed.reproduce.hybrid_totals import figure_4, figure_5, lengths_of
from wattshed.reproduce.hybrid_verdicts import verdict_section
from wattshed.reproduce.study import FIGURES, RUNS, Result, Study, cell, make_study
from wattshed.workload.table import read_workload

NAME = "hybrid-2024"
TITLE = "Hybrid clusters for LLM inference (e-Energy 2024), recomputed"
CITED, LOADED = "alpaca", "alpaca-gpt4-reconstructed"
DATASETS = (RUNS, FIGURES, CITED, LOADED, "wilkins-2024-profiles", FLEET)


def reproduce(*, seed: int = 0) -> Study:
    """Recompute the study from the built-in figures.

    Parameters
    ----------
    seed : int
        Of the random baseline beside the joint optimum; nothing else is random.
    """
    cited, loaded = read_workload(CITED), read_workload(LOADED)
    results: Result = {figure: sweep_figure(figure) for figure in SWEEPS}
    results["figure3"] = histogram_figure([cited, loaded])
    inputs = lengths_of(cited, "input")
    results |= figure_4(inputs)
    results |= figure_5(inputs, lengths_of(cited, "output"), lengths_of(loaded, "output"))
    results["joint_optimum"] = joint_optimum(cited, seed)
    results["headline"] = headline(results, results["joint_optimum"])
    sections = [
        sweep_section(results),
        histogram_section(results["figure3"]),
        figure_4_section(results),
        figure_5_section(results),
        runtime_section(results),
        _optimum_section(results["joint_optimum"]),
        verdict_section(results),
    ]
    text = (TITLE, results["headline"]["verdict"])
    return make_study(NAME, results, text, sections, DATASETS, seed)


def _optimum_section(optimum: Result) -> Section:
    policies = Table(
        slug="joint-policies",
        title="Energy of the workload under each policy",
        columns=[
            "policy",
            "energy (kWh)",
            f"saving vs {optimum['reference']} (%)",
            "mean runtime ratio",
            "m1-pro share (%)",
            "displaced queries",
        ],
        rows=[_optimum_row(optimum), *(_policy_row(policy) for policy in optimum["policies"])],
        highlight=[0],
        note="Displaced queries may not go where the rule sends them and go to the cheapest other.",
    )
    interval = optimum["interval"]
    return Section(
        "The joint optimum over input and output tokens",
        [
            "A query costs what both its axes make it cost. With the fitted energies e(m, n) of"
            " Llama-2-7B on the three systems, each query of the cleaned Alpaca goes where it needs"
            f" least: {optimum['saving_pct']:.2f} % less than {optimum['reference']},"
            f" {100 * interval['level']:.0f} % interval"
            f" {interval['low']:.2f} to {interval['high']:.2f} % ({interval['method']}), with"
            f" {optimum['runtime_ratio']:.1f} times its mean runtime, without queueing.",
            f"With {optimum['range_pct']['change']} the saving would be"
            f" {optimum['range_pct']['low']:.1f} to {optimum['range_pct']['high']:.1f} %. Idle"
            " power that is drawn whatever is decided is no saving, and takes most of it away.",
        ],
        [policies, _sensitivity_table(optimum)],
        [_sensitivity_chart(optimum)],
    )


def _optimum_row(optimum: Result) -> list[Cell]:
    return [
        "exact, per query",
        cell(optimum["energy_kwh"], 4),
        cell(optimum["saving_pct"], 3),
        cell(optimum["runtime_ratio"], 3),
        cell(100 * optimum["shares"]["m1-pro"], 3),
        0,
    ]


def _policy_row(policy: Result) -> list[Cell]:
    return [
        policy["name"],
        cell(policy["energy_kwh"], 4),
        cell(policy["saving_pct"], 3),
        cell(policy["runtime_ratio"], 3),
        cell(100 * policy["shares"]["m1-pro"], 3),
        policy["displaced_queries"],
    ]


def _sensitivity_table(optimum: Result) -> Table:
    rows: list[list[Cell]] = [
        [
            case["change"],
            cell(case["saving_pct"], 3),
            cell(case["saving"]["low"], 3),
            cell(case["saving"]["high"], 3),
            "yes" if case["significant"] else "no",
            cell(case["fixed_plan_saving_pct"], 3),
        ]
        for case in optimum["sensitivity"]
    ]
    columns = [
        "change",
        "saving (%)",
        "low (%)",
        "high (%)",
        "significant",
        "saving of the unchanged plan (%)",
    ]
    return Table("joint-sensitivity-cases", "What the saving hangs on", columns, rows)


def _sensitivity_chart(optimum: Result) -> Chart:
    cases = optimum["sensitivity"]
    series = Series(
        "saving of the best plan",
        [float(i) for i in range(len(cases))],
        [case["saving_pct"] for case in cases],
        low=[case["saving"]["low"] for case in cases],
        high=[case["saving"]["high"] for case in cases],
        style="bars",
    )
    return Chart(
        slug="joint-sensitivity",
        title="What the saving hangs on",
        x_label="change",
        y_label=f"saving vs {optimum['reference']} (%)",
        series=[series],
        x_ticks=[case["change"] for case in cases],
        horizontal=True,
    )
