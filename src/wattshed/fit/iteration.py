"""Iteration profiles from steady serving: batch, throughput, energy per token (ML.ENERGY).

The time of a step is batch over throughput and its energy batch times energy per token. Energy is
fitted, never power: power hardly follows the batch, energy does. Steps contain the prefill of
their own task's requests, whose lengths the source does not give; a profile is therefore of a task.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from wattshed.fit.curves import BATCH_FORMS, fit_curve, predict_unseen, score
from wattshed.fit.forms import Array
from wattshed.fit.physics import BYTES_PER_WEIGHT, find_accelerator, weight_pass_s
from wattshed.fit.power import clock_response, power_states
from wattshed.fit.step_rules import average_repeats
from wattshed.records import IterationProfile, Rule, StepDomain
from wattshed.records.iteration import Architecture

DATASET = "mlenergy-v3-steps"
CONFIGURATION = [
    "model",
    "task",
    "architecture",
    "total_params",
    "weight_precision",
    "accelerator",
    "n_accelerators",
    "tensor_parallel",
    "expert_parallel",
    "data_parallel",
]
ARCHITECTURES: dict[str, Architecture] = {
    "Dense Transformer": "dense",
    "MoE": "moe",
    "Mamba-Transformer Hybrid": "hybrid",
}
MIN_BATCHES = 4
"""Below, nothing is left to hold out."""


def fit_steps(table: pl.DataFrame) -> list[IterationProfile]:
    """One profile for each configuration with at least `MIN_BATCHES` batches.

    Parameters
    ----------
    table : polars.DataFrame
        Columns of ``mlenergy-v3-steps``.
    """
    profiles = []
    for _, rows in table.group_by(CONFIGURATION, maintain_order=True):
        batches, rule = average_repeats(rows, [*CONFIGURATION, "max_batch_size"])
        if batches.height >= MIN_BATCHES:
            profiles.append(_fit(batches.sort("batch_size"), rule))
    return sorted(profiles, key=lambda profile: profile.name)


def step_arrays(rows: pl.DataFrame) -> tuple[Array, Array, Array]:
    """Batch (N,), time (N,) in seconds and energy (N,) in joules of a step."""
    batch = rows["batch_size"].to_numpy()
    return (
        batch,
        batch / rows["throughput_tokens_per_s"].to_numpy(),
        batch * rows["energy_per_token_j"].to_numpy(),
    )


def _fit(rows: pl.DataFrame, rule: Rule) -> IterationProfile:
    batch, time, energy = step_arrays(rows)
    decode_time = fit_curve(batch, time, batch, BATCH_FORMS, kind="derived", source=DATASET)
    decode_energy = fit_curve(batch, energy, batch, BATCH_FORMS, kind="derived", source=DATASET)
    one: Mapping[str, Any] = rows.row(0, named=True)
    weight_bytes = one["total_params"] * BYTES_PER_WEIGHT[one["weight_precision"]]
    states = power_states(one["accelerator"], one["n_accelerators"], weight_bytes)
    spec = find_accelerator(one["accelerator"])
    span = (float(batch.min()), float(batch.max()))
    system = system_name(one)
    return IterationProfile(
        name=f"mlenergy-v3/{system}/{one['model']}/{one['task']}",
        system=system,
        model=one["model"],
        architecture=ARCHITECTURES[one["architecture"]],
        accelerator=one["accelerator"],
        n_accelerators=one["n_accelerators"],
        tensor_parallel=one["tensor_parallel"],
        workload=f"{one['task']}, {np.mean(rows['output_tokens'].to_numpy()):.0f} output tokens"
        " on average; the steps contain the prefill",
        boundary="accelerator",
        weight_bytes=weight_bytes,
        decode_time_s=decode_time,
        decode_energy_j=decode_energy,
        prefill_time_s=None,
        prefill_energy_j=None,
        context=None,
        weight_pass_s=weight_pass_s(weight_bytes, spec, one["n_accelerators"]),
        clock=clock_response(states["resident"].power_w, decode_time, decode_energy),
        states=states,
        domain=StepDomain(batch=span, energy_batch=span),
        cells=rows.height,
        held_out=[
            score(
                "decode_time_s",
                "batch",
                batch,
                predict_unseen(batch, time, batch, BATCH_FORMS),
                time,
            ),
            score(
                "decode_energy_j",
                "batch",
                batch,
                predict_unseen(batch, energy, batch, BATCH_FORMS),
                energy,
            ),
        ],
        rules=[rule],
        data=[DATASET, "idle-power"],
    )


def system_name(row: Mapping[str, Any]) -> str:
    """Accelerators and how they share the model, such as ``h100x4-tp4`` or ``b200x8-ep8``."""
    short = row["accelerator"].removesuffix("-sxm")
    parallel = "".join(
        f"-{letters}{row[column]}"
        for letters, column in (
            ("tp", "tensor_parallel"),
            ("ep", "expert_parallel"),
            ("dp", "data_parallel"),
        )
        if row[column] > 1
    )
    return f"{short}x{row['n_accelerators']}{parallel}"
