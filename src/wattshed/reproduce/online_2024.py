"""Online routing among three Llama-2 models, as Wilkins's dissertation has it and as coded.

The figures that it published are set beside a restatement of its system, flaws included;
these are then mended one by one, and a plan's prices are served in the same systems.
"""

from __future__ import annotations

from wattshed.reproduce.online_as_coded_sections import order_section, published_section
from wattshed.reproduce.online_results import FULL, Sizes, online_results
from wattshed.reproduce.online_sections import flaw_section, prices_section, printed_section
from wattshed.reproduce.online_verdicts import abstract, verdict_section, verdicts
from wattshed.reproduce.study import FIGURES, MODELS, Study, make_study
from wattshed.workload.table import read_workload

NAME = "online-2024"
TITLE = "Online energy-aware LLM routing (dissertation 2024), recomputed"
WORKLOAD = "alpaca-gpt4-reconstructed"
DATASETS = (MODELS, FIGURES, WORKLOAD, "wilkins-2024-profiles", "offline-2024")


def reproduce(*, seed: int = 0, sizes: Sizes = FULL) -> Study:
    """Recompute the study from the built-in figures.

    Parameters
    ----------
    seed : int
        Of the orders of the queries, of Poisson arrivals and of the random policy.
    sizes : Sizes, optional
        Orders that are served.
    """
    results = online_results(read_workload(WORKLOAD), seed, sizes)
    results["verdicts"] = verdicts(results)
    sections = [
        published_section(results),
        order_section(results),
        flaw_section(results),
        printed_section(results),
        prices_section(results),
        verdict_section(results),
    ]
    return make_study(NAME, results, (TITLE, abstract(results)), sections, DATASETS, seed)
