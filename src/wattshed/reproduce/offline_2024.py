"""Offline Energy-Optimal LLM Serving: models of energy and runtime, and routing over ζ.

Wilkins, Keshav and Mortier, HotCarbon 2024, with the tables of the dissertation that it
summarises, recomputed from the cells of the A100 grids.
"""

from __future__ import annotations

from wattshed.reproduce.hybrid_figures import MODELS_7B
from wattshed.reproduce.offline_models import (
    axis_to_grid,
    leave_one_out,
    short_outputs,
    single_model_totals,
)
from wattshed.reproduce.offline_regression_sections import regression_section, trap_section
from wattshed.reproduce.offline_routing import best_at_round_robin_accuracy, zeta_sweep
from wattshed.reproduce.offline_routing_sections import routing_section, totals_section
from wattshed.reproduce.offline_sections import anova_section, models_section
from wattshed.reproduce.offline_tables import (
    QUANTITIES,
    anova,
    energy_decades,
    intercept_trap,
    measured_cells_only,
    misprints,
    regressions,
)
from wattshed.reproduce.offline_verdicts import abstract, verdict_section
from wattshed.reproduce.study import (
    FIGURES,
    MODELS,
    RUNS,
    Result,
    Study,
    make_study,
)
from wattshed.workload.table import read_workload

NAME = "offline-2024"
TITLE = "Offline energy-optimal LLM serving (HotCarbon 2024), recomputed"
WORKLOAD = "alpaca-gpt4-reconstructed"
DATASETS = (RUNS, MODELS, FIGURES, WORKLOAD, "wilkins-2024-profiles")


def reproduce(*, seed: int = 0) -> Study:
    """Recompute the study from the built-in figures.

    Parameters
    ----------
    seed : int
        Of the sample of queries that is routed as the study's code does.
    """
    results: Result = {quantity: regressions(quantity) for quantity in QUANTITIES}
    results |= {
        "misprints": misprints(results),
        "intercept_trap": intercept_trap("energy"),
        "intercept_trap_runtime": intercept_trap("runtime"),
        "llama_2_70b_measured_cells": measured_cells_only(),
        "anova": {
            **{quantity: anova(MODELS_7B, quantity) for quantity in QUANTITIES},
            "all_models": {quantity: anova(None, quantity) for quantity in QUANTITIES},
        },
        "energy_decades": energy_decades(),
        "leave_one_out": leave_one_out(),
        "leave_one_out_m1_pro": leave_one_out("m1-pro"),
        "axis_to_grid": axis_to_grid(),
        "short_outputs": short_outputs(),
        "single_model_totals": single_model_totals(results["energy"], results["runtime"]),
    }
    workload = read_workload(WORKLOAD)
    results["zeta_sweep"] = zeta_sweep(workload, seed)
    results["best_at_round_robin_accuracy"] = best_at_round_robin_accuracy(workload)
    sections = [
        regression_section(results),
        trap_section(results),
        anova_section(results["anova"]),
        models_section(results),
        totals_section(results["single_model_totals"]),
        routing_section(results),
        verdict_section(results),
    ]
    return make_study(NAME, results, (TITLE, abstract(results)), sections, DATASETS, seed)
