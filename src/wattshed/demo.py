"""The main job once, on built-in measurements: fit three systems, assign Alpaca, report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from msgspec import structs

from wattshed import __version__
from wattshed.documents import plan_sources, regions_section
from wattshed.fit.campaign import Options, fit_profiles
from wattshed.fit.cells import make_cells
from wattshed.fit.rules import DROPPED, drop_flagged, pick_experiment
from wattshed.fleet import Fleet, load_fleet
from wattshed.plan.planner import plan_workload
from wattshed.profiles import energy_model, predict
from wattshed.records import Plan, Profile
from wattshed.report.document import Chart, Document, Section, Series
from wattshed.report.fit_document import fit_sections
from wattshed.report.plan_document import plan_sections
from wattshed.runs import Runs, read_runs
from wattshed.workload.table import Workload, read_workload

MODEL = "llama-2-7b"
SYSTEM_NAMES = {"m1-pro": "M1 Pro", "swing-a100": "A100", "palmetto-v100": "V100"}


@dataclass(frozen=True)
class Demo:
    """What the demo found.

    Attributes
    ----------
    profiles : list of Profile
        Fitted afresh.
    plan : Plan
    document : Document
    """

    profiles: list[Profile]
    plan: Plan
    document: Document


def run_demo(*, seed: int = 0, on_progress: Callable[[str, int, int], None] | None = None) -> Demo:
    """Fit the M1 Pro, A100 and V100 profiles of Llama-2-7B and plan Alpaca with them."""
    runs = read_runs("wilkins-2024").only("model", (MODEL,))
    profiles = fit_profiles(runs, Options(seed=seed), on_progress=on_progress)
    fitted = {p.name: p for p in profiles}
    fleet = load_fleet("hybrid-2024")
    fleet = structs.replace(
        fleet,
        deployments=[structs.replace(d, profile=fitted[d.profile.name]) for d in fleet.deployments],
    )
    workload = read_workload("alpaca")
    plan = plan_workload(fleet, workload, seed=seed)
    return Demo(profiles, plan, _document(runs, profiles, fleet, workload, plan, seed))


def _document(
    runs: Runs,
    profiles: list[Profile],
    fleet: Fleet,
    workload: Workload,
    plan: Plan,
    seed: int,
) -> Document:
    measured = Section(
        "What a query costs on each system",
        [
            "Points are measured cell means of prompts of about 32 tokens (the output sweep) and of"
            " answers of 32 tokens (the input sweep); lines are the fitted models. KV cache off,"
            " one query at a time: each output token is a full pass over all tokens before it, so"
            " energy grows faster than the answer. The A100 was fitted to its 81-cell grid; its"
            " sweep points were not used."
        ],
        charts=[_cost_chart(runs, profiles, "output"), _cost_chart(runs, profiles, "input")],
    )
    return Document(
        title="Which machine should answer which query?",
        abstract=plan.verdict,
        sections=[
            measured,
            *fit_sections(profiles),
            *plan_sections(plan),
            regions_section(plan, fleet, workload),
        ],
        sources=plan_sources(fleet, workload),
        created_by=f"wattshed {__version__}",
        command="wattshed demo",
        seed=seed,
    )


def _cost_chart(runs: Runs, profiles: list[Profile], experiment: str) -> Chart:
    """Measured and fitted energy along one of the two sweeps."""
    axis, symbol = ("output_tokens", "n") if experiment == "output" else ("input_tokens", "m")
    series = [
        part for profile in profiles for part in _curve_and_points(runs, profile, experiment, axis)
    ]
    fixed = "m about 32" if experiment == "output" else "n at most 32"
    return Chart(
        slug=f"energy-by-{experiment}",
        title=f"Energy of a query by {experiment} tokens",
        x_label=f"{experiment} tokens {symbol} ({fixed})",
        y_label="energy per query (J)",
        series=series,
        x_scale="log2",
        y_scale="log10",
    )


def _curve_and_points(runs: Runs, profile: Profile, experiment: str, axis: str) -> list[Series]:
    table, _ = drop_flagged(runs.table.filter(pl.col("system") == profile.system), DROPPED)
    table, _ = pick_experiment(table, experiment)
    cells = make_cells(table, profile.boundary)
    tokens = cells.n if axis == "output_tokens" else cells.m
    x = np.unique(np.geomspace(tokens.min(), tokens.max(), 60).round())
    fixed = np.full(len(x), 32.0)
    m, n = (fixed, x) if axis == "output_tokens" else (x, fixed)
    name = SYSTEM_NAMES.get(profile.system, profile.system)
    energy = predict(profile, m, n).energy_j
    return [
        Series(f"{name}, {energy_model(profile).form}", x.tolist(), energy.tolist(), style="line"),
        Series(f"{name}, measured", tokens.tolist(), cells.energy_j.tolist(), style="markers"),
    ]
