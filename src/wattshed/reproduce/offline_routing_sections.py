"""Sections of the offline-routing report on whole workloads: one model, and routing over ζ."""

from __future__ import annotations

from wattshed.report.document import Cell, Chart, Section, Series, Table
from wattshed.reproduce.offline_models import DECIMALS, DECIMALS_70B_ENERGY
from wattshed.reproduce.offline_routing import FLOOR_FACTOR, PARTITION
from wattshed.reproduce.study import Result, cell, compared_cells

ZETAS_SHOWN = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
VERSIONS = {
    "each query by itself": "intended",
    "with floors": "intended_with_floors",
    "as coded": "as_coded_all_queries",
}


def totals_section(totals: Result) -> Section:
    """The workload on each model alone."""
    rows: list[list[Cell]] = [
        [
            model,
            *compared_cells(row["total_energy_kwh"], 7)[:2],
            *compared_cells(row["mean_service_time_s"], 7)[:2],
        ]
        for model, row in totals.items()
    ]
    columns = [
        "model",
        "energy published (kWh)",
        "energy ours (kWh)",
        "mean service time published (s)",
        "mean service time ours (s)",
    ]
    return Section(
        "The whole workload on one model",
        [
            "Energy and service time of all queries on one model are linear in four sums over the"
            " workload, so they follow from those and the coefficients as the study's scripts hold"
            f" them: rounded to {DECIMALS} decimals, those of the 70B energy to"
            f" {DECIMALS_70B_ENERGY}.",
        ],
        [Table("single-model-totals", "Single-model totals", columns, rows)],
    )


def routing_section(results: Result) -> Section:
    """ζ sweeps as stated and as coded."""
    sweep, best = results["zeta_sweep"], results["best_at_round_robin_accuracy"]
    coded = sweep["as_coded"][-1]
    floors = ", ".join(f"{100 * FLOOR_FACTOR * part:g}" for part in PARTITION)
    return Section(
        "Offline routing over ζ",
        [
            "Each query goes to one of three Llama-2 models at cost ζ ê - (1 - ζ) â, energy and"
            " accuracy-weighted tokens scaled to [0, 1] over all queries and models; the energies"
            " are those of the printed coefficients. Without capacities in tokens this separates by"
            f" query. With least shares of queries for each model, {floors} %, it is"
            " a transportation problem and solved exactly too.",
            "The study's code sums the cost over all queries for each variable. All queries then"
            " cost the same on a model, and any that fill the floors will do: at ζ = 1 every"
            f" assignment from {coded['energy_low_kwh']:.2f} to {coded['energy_high_kwh']:.2f} kWh"
            f" is optimal for it, over {sweep['sample_queries']} queries."
            f" {sweep['sample_remark']}",
            "At the accuracy of the study's round robin,"
            f" {100 * best['accuracy_token_weighted']:.2f} % token-weighted, the least energy is"
            f" {best['energy_kwh']:.1f} kWh; round robin took"
            f" {best['round_robin_published_kwh']:.1f} kWh. {_as_coded(best['as_coded'])}",
        ],
        [_zeta_table(sweep)],
        [_zeta_chart(sweep)],
    )


def _as_coded(point: Result | None) -> str:
    if point is None:
        return "No plan that the study's code computes, at any ζ, reaches it."
    return (
        "Of the plans that the study's code computes over all queries, whichever ζ, the cheapest"
        f" that reaches it sends all but the floors to {point['rest_to']}:"
        f" {point['energy_kwh']:.1f} kWh at {100 * point['accuracy_token_weighted']:.2f} % on"
        f" average over all ways to fill the floors, {point['energy_low_kwh']:.0f} to"
        f" {point['energy_high_kwh']:.0f} kWh."
    )


def _zeta_table(sweep: Result) -> Table:
    rows: list[list[Cell]] = [
        [
            name,
            point["zeta"],
            cell(point["energy_kwh"], 4),
            cell(100 * point["accuracy_token_weighted"], 4),
            cell(100 * point["accuracy_query_mean"], 4),
            *(cell(100 * share, 3) for share in point["shares"].values()),
        ]
        for name, key in VERSIONS.items()
        for point in sweep[key]
        if point["zeta"] in ZETAS_SHOWN
    ]
    columns = [
        "version",
        "ζ",
        "energy (kWh)",
        "accuracy, token-weighted (%)",
        "accuracy, query mean (%)",
        *(f"{model} (%)" for model in sweep["intended"][0]["shares"]),
    ]
    note = f"All {sweep['queries']} queries; as coded, the mean over all ways to fill the floors."
    return Table("zeta-points", "Energy and accuracy over ζ", columns, rows, note=note)


def _zeta_chart(sweep: Result) -> Chart:
    series = [
        Series(
            name,
            [point["zeta"] for point in sweep[key]],
            [point["energy_kwh"] for point in sweep[key]],
            low=[p["energy_low_kwh"] for p in sweep[key]] if key.startswith("as_coded") else None,
            high=[p["energy_high_kwh"] for p in sweep[key]] if key.startswith("as_coded") else None,
        )
        for name, key in VERSIONS.items()
    ]
    return Chart(
        slug="zeta-sweep",
        title="Energy over ζ",
        x_label="ζ (1: energy alone, 0: accuracy alone)",
        y_label="energy of the workload (kWh)",
        series=series,
        y_scale="log10",
        note="As coded: mean and range of the assignments that its objective holds for equal.",
    )
