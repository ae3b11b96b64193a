"""Towards Greener LLMs: Bringing Energy-Efficiency to the Forefront of LLM Inference.

Stojkovic, Choukse, Zhang, Goiri and Torrellas, 2024: Llama-2-70B on eight H100s over clocks,
tensor parallelism, maximum batches and lengths. The study published no data; its figures are
simulated with step times that others measured, and its 23 claims judged one by one.
"""

from __future__ import annotations

from wattshed.reproduce.greener_claims import CLAIMS, tabulate_claims
from wattshed.reproduce.greener_figures import at_the_same_loads, simulate_figures
from wattshed.reproduce.greener_load import (
    REQUESTS,
    SEEDS,
    TEXTS,
    Bench,
    promise_of,
)
from wattshed.reproduce.greener_measured import ENERGY, SLO, STEPS, measured_figures
from wattshed.reproduce.greener_readings import simulate_readings, slo_of_full_batches
from wattshed.reproduce.greener_sections import (
    batches_section,
    degrees_section,
    readings_section,
    sensitivity_section,
    setup_section,
    types_section,
)
from wattshed.reproduce.greener_sensitivity import simulate_exponents, simulate_sensitivity
from wattshed.reproduce.greener_settings import TYPES, Setting, profile_of
from wattshed.reproduce.greener_verdicts import abstract, verdict_section
from wattshed.reproduce.study import Result, Study, make_study
from wattshed.steps import modelled_parts

NAME = "greener-2024"
TITLE = "Towards Greener LLMs (2024): clocks, parallelism and batches, simulated"
DATASETS = (CLAIMS, STEPS, SLO, ENERGY, "iteration-profiles", "power-prior")


def reproduce(*, seed: int = 0) -> Study:
    """Simulate the study's figures and judge its claims.

    Parameters
    ----------
    seed : int
        Of the arrivals.
    """
    bench = Bench(seed)
    figures = simulate_figures(bench) | at_the_same_loads(bench)
    readings, sensitivity = simulate_readings(bench), simulate_sensitivity(seed)
    results: Result = {
        "claims": tabulate_claims(figures, readings, measured_figures(), sensitivity),
        "figures": figures,
        "readings": readings,
        "reading_texts": TEXTS,
        "full_batches": slo_of_full_batches(),
        "sensitivity": sensitivity,
        "c20_least_exponent": simulate_exponents(bench),
        "slo": {kind: _slo(kind) for kind in TYPES},
        "modelled": modelled_parts(profile_of(8), clock=0.5),
        "replications": SEEDS,
        "requests": REQUESTS,
    }
    sections = [
        setup_section(results),
        types_section(results),
        degrees_section(results),
        batches_section(results),
        readings_section(results),
        sensitivity_section(results),
        verdict_section(results),
    ]
    return make_study(NAME, results, (TITLE, abstract(results)), sections, DATASETS, seed)


def _slo(kind: str) -> Result:
    promise = promise_of(Setting(kind))
    return {"ttft_s": promise.ttft_s, "tbt_s": promise.tbt_s}
