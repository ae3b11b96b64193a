"""Iteration profiles from isolated phases: prefill and decode of static batches (Splitwise).

Times are measured. The energy of the A100 is derived from the mean power of whole requests;
the H100 has no power in the source, so its energy is modelled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from wattshed.fit.curves import (
    BATCH_FORMS,
    TOKEN_FORMS,
    evaluate,
    fit_curve,
    predict_unseen,
    score,
)
from wattshed.fit.forms import Array
from wattshed.fit.phase_energy import PhaseEnergy, energy_from_power, energy_from_prior
from wattshed.fit.physics import ATTENTION_EFFICIENCY, MODELS, find_accelerator, weight_pass_s
from wattshed.fit.power import clock_response, power_states
from wattshed.fit.step_rules import clean_steps, pick_series
from wattshed.fit.tensor import score_degree
from wattshed.records import (
    ContextCost,
    Curve,
    HeldOut,
    IterationProfile,
    Rule,
    StepDomain,
)
from wattshed.records.iteration import Quantity

DATASET = "splitwise-steps"
SERIES_TOKENS = (512, 128)
MEASURED_POWER = "a100-80gb"
WORKLOAD = "static batches of 512 input and 128 output tokens; single prompts of 128 to 8,192"
CONTEXT_SOURCE = (
    "bytes of keys and values over memory bandwidth times the efficiency of attention kernels:"
    " our fits of the kernel tables of aiconfigurator @095f58a"
)


@dataclass(frozen=True)
class PhaseCells:
    """The cells of one deployment.

    Attributes
    ----------
    series : polars.DataFrame
        One row for each batch, at the lengths of `SERIES_TOKENS`.
    requests : polars.DataFrame
        The series and single prompts of other lengths.
    """

    model: str
    system: str
    accelerator: str
    degree: int
    series: pl.DataFrame
    requests: pl.DataFrame
    rules: list[Rule]

    @property
    def context(self) -> ContextCost:
        """Time of a token of context; its energy follows once the power is known."""
        spec = find_accelerator(self.accelerator)
        rate = self.degree * spec.bandwidth_b_per_s * ATTENTION_EFFICIENCY[self.accelerator]
        per_token = MODELS[self.model].kv_bytes_per_token / rate
        mean = SERIES_TOKENS[0] + SERIES_TOKENS[1] / 2
        return ContextCost(per_token, 0.0, mean, "modelled", CONTEXT_SOURCE)


def split_cells(table: pl.DataFrame) -> list[PhaseCells]:
    """Apply the rules to every deployment of a table like ``splitwise-steps``."""
    found = []
    key = ["model", "system", "accelerator", "tensor_parallel"]
    for (model, system, accelerator, degree), rows in table.group_by(key, maintain_order=True):
        kept, rules = clean_steps(rows)
        requests = kept.filter(pl.col("output_tokens") == SERIES_TOKENS[1])
        series, other = pick_series(kept, *SERIES_TOKENS)
        found.append(
            PhaseCells(
                str(model),
                str(system),
                str(accelerator),
                int(str(degree)),
                series.sort("batch_size"),
                requests.sort("batch_size", "input_tokens"),
                [*rules, other],
            )
        )
    return found


def fit_phases(table: pl.DataFrame) -> list[IterationProfile]:
    """One profile for each model, system and degree of tensor parallelism.

    Parameters
    ----------
    table : polars.DataFrame
        Columns of ``splitwise-steps``.
    """
    cells = split_cells(table)
    return [_fit(one, cells) for one in cells]


def decode_arrays(cells: PhaseCells) -> tuple[Array, Array, Array]:
    """Batch (N,), decode time (N,) and its part due to context (N,), in seconds."""
    batch = cells.series["batch_size"].to_numpy().astype(float)
    time = cells.series["decode_time_s"].to_numpy()
    context = cells.context
    return batch, time, context.time_s_per_token * context.tokens_per_sequence * batch


def prefill_arrays(cells: PhaseCells) -> tuple[Array, Array, Array]:
    """Prompt tokens of the step (N,), prefill time in seconds (N,), batch (N,)."""
    batch = cells.requests["batch_size"].to_numpy().astype(float)
    tokens = batch * cells.requests["input_tokens"].to_numpy()
    return tokens, cells.requests["prefill_time_s"].to_numpy(), batch


def _fit(cells: PhaseCells, all_cells: list[PhaseCells]) -> IterationProfile:
    batch, time, of_context = decode_arrays(cells)
    decode = fit_curve(
        batch, time - of_context, batch, BATCH_FORMS, kind="measured", source=DATASET
    )
    tokens, prefill_time, group = prefill_arrays(cells)
    prefill = fit_curve(tokens, prefill_time, group, TOKEN_FORMS, kind="measured", source=DATASET)
    energy = _energy(cells, all_cells, decode, prefill)
    size = MODELS[cells.model]
    spec = find_accelerator(cells.accelerator)
    states = power_states(cells.accelerator, cells.degree, size.weight_bytes)
    return IterationProfile(
        name=f"splitwise/{cells.system}-tp{cells.degree}/{cells.model}",
        system=f"{cells.system}-tp{cells.degree}",
        model=cells.model,
        architecture="dense",
        accelerator=cells.accelerator,
        n_accelerators=cells.degree,
        tensor_parallel=cells.degree,
        workload=WORKLOAD,
        boundary="accelerator",
        weight_bytes=size.weight_bytes,
        decode_time_s=decode,
        decode_energy_j=energy.decode,
        prefill_time_s=prefill,
        prefill_energy_j=energy.prefill,
        context=energy.context,
        weight_pass_s=weight_pass_s(size.weight_bytes, spec, cells.degree),
        clock=clock_response(states["resident"].power_w, decode, energy.decode),
        states=states,
        domain=_domain(cells, energy),
        cells=cells.requests.height,
        held_out=[*_held_out(cells), *energy.held_out, *_across_degrees(cells, all_cells)],
        rules=cells.rules,
        data=[DATASET, "accelerators", "idle-power", *energy.datasets],
    )


def _energy(
    cells: PhaseCells, all_cells: list[PhaseCells], decode: Curve, prefill: Curve
) -> PhaseEnergy:
    if cells.system == MEASURED_POWER:
        return energy_from_power(cells.requests, cells.degree, cells.context, (decode, prefill))
    (measured,) = [
        other.requests
        for other in all_cells
        if (other.model, other.degree, other.system) == (cells.model, cells.degree, MEASURED_POWER)
    ]
    return energy_from_prior(
        measured, MODELS[cells.model], cells.degree, cells.context, (decode, prefill)
    )


def _domain(cells: PhaseCells, energy: PhaseEnergy) -> StepDomain:
    batch, _, _ = decode_arrays(cells)
    tokens, _, _ = prefill_arrays(cells)
    inputs = cells.requests["input_tokens"].to_numpy()
    return StepDomain(
        batch=(float(batch.min()), float(batch.max())),
        energy_batch=energy.batch,
        context_tokens=(float(inputs.min()), float(inputs.max()) + SERIES_TOKENS[1]),
        prompt_tokens=(float(tokens.min()), float(tokens.max())),
    )


def _held_out(cells: PhaseCells) -> list[HeldOut]:
    batch, time, of_context = decode_arrays(cells)
    unseen = predict_unseen(batch, time - of_context, batch, BATCH_FORMS) + of_context
    tokens, prefill_time, group = prefill_arrays(cells)
    prefill = predict_unseen(tokens, prefill_time, group, TOKEN_FORMS)
    return [
        score("decode_time_s", "batch", batch, unseen, time),
        score("prefill_time_s", "batch", group, prefill, prefill_time),
    ]


def _across_degrees(cells: PhaseCells, all_cells: list[PhaseCells]) -> list[HeldOut]:
    same = [
        other
        for other in all_cells
        if (other.model, other.system) == (cells.model, cells.system)
        and other.degree != cells.degree
    ]
    if len(same) < 2:
        return []
    spec = find_accelerator(cells.accelerator)
    weight_bytes = MODELS[cells.model].weight_bytes
    axes: dict[Quantity, Callable[[PhaseCells], tuple[Array, Array, Array]]] = {
        "decode_time_s": decode_arrays,
        "prefill_time_s": prefill_arrays,
    }
    found = []
    for quantity, arrays in axes.items():
        seen = [(other.degree, *arrays(other)[:2]) for other in same]
        x, y, _ = arrays(cells)
        found.append(score_degree(quantity, (cells.degree, x, y), seen, weight_bytes, spec))
    return found


def predict_context_sweep(profile: IterationProfile, table: pl.DataFrame) -> pl.DataFrame:
    """Decode times of single requests with other prompts than the series, beside the measured.

    They were not fitted, so they test what the profile says of context.

    Returns
    -------
    polars.DataFrame
        Columns ``context_tokens``, ``decode_time_s``, ``predicted_s``, ``error_pct``.
    """
    assert profile.context is not None
    rows = table.filter(
        pl.col("model") == profile.model,
        pl.concat_str("system", pl.lit("-tp"), "tensor_parallel") == profile.system,
        pl.col("batch_size") == 1,
        pl.col("output_tokens") == SERIES_TOKENS[1],
    ).sort("input_tokens")
    context = rows["input_tokens"].to_numpy() + SERIES_TOKENS[1] / 2
    curve = profile.decode_time_s
    base = evaluate(np.array(curve.at), np.array(curve.value), np.ones(1))[0]
    predicted = base + profile.context.time_s_per_token * context
    return pl.DataFrame(
        {
            "context_tokens": context,
            "decode_time_s": rows["decode_time_s"],
            "predicted_s": predicted,
            "error_pct": 100 * (predicted / rows["decode_time_s"].to_numpy() - 1),
        }
    )
