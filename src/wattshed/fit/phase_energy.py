"""Energy of prefill and decode steps: split from the power of whole requests, or modelled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from msgspec import structs

from wattshed.fit.curves import Knots, score, to_curve
from wattshed.fit.forms import Array
from wattshed.fit.physics import ModelSize, find_accelerator
from wattshed.fit.power import Load, prior_power_w
from wattshed.fit.solvers import non_negative
from wattshed.fit.step_rules import phases_s
from wattshed.records import ContextCost, Curve, HeldOut
from wattshed.records.iteration import CurveForm

DERIVED_SOURCE = (
    "splitwise-steps: mean power x duration of whole requests, split into a fixed energy for each"
    " decode step, one for each of its sequences, and a prefill power, by non-negative least"
    " squares; at most the rated power"
)
PRIOR_SOURCE = (
    "power-prior x step time x {factor:.3f}, the median of measured over prior power of the same"
    " model and tensor parallelism on the A100: the H100 has no power in the source"
)


@dataclass(frozen=True)
class PhaseEnergy:
    """Energy of the steps of one deployment.

    Attributes
    ----------
    decode, prefill : Curve
    context : ContextCost
        With the energy of a token of context.
    batch : tuple or None
        Batches at which power was measured.
    datasets : tuple of str
        Further data sets that were used.
    """

    decode: Curve
    prefill: Curve
    context: ContextCost
    batch: tuple[float, float] | None
    held_out: list[HeldOut]
    datasets: tuple[str, ...]


@dataclass(frozen=True)
class _Requests:
    """Requests with power: batch, steps after the first token, prefill time, energy (N,)."""

    batch: Array
    steps: Array
    prefill_s: Array
    context_j: Array
    energy_j: Array

    @property
    def columns(self) -> Array:
        """Energy of a step, of a sequence in a step, and prefill power (N, 3)."""
        return np.stack([self.steps, self.steps * self.batch, self.prefill_s], axis=1)

    def solve(self, keep: Array) -> Array:
        """Coefficients (3,) from the requests that are kept."""
        target = ((self.energy_j - self.context_j) / self.energy_j)[keep]
        columns = (self.columns / self.energy_j[:, None])[keep]
        return np.asarray(non_negative(columns, target[None], np.ones((1, len(target))))[0])


def energy_from_power(
    requests: pl.DataFrame, degree: int, context: ContextCost, times: tuple[Curve, Curve]
) -> PhaseEnergy:
    """Split the measured mean power of whole requests into steps.

    Beyond the batches with power, a decode step draws the rated power at most.

    Parameters
    ----------
    requests : polars.DataFrame
        Columns of ``splitwise-steps``, after the rules.
    times : pair of Curve
        Decode and prefill time.
    """
    decode_time, prefill_time = times
    accelerator = find_accelerator(requests["accelerator"][0])
    rated_w = degree * accelerator.tdp_w
    known = requests.filter(pl.col("mean_power_fraction").is_not_null())
    power = known["mean_power_fraction"].to_numpy() * rated_w
    per_token = context.time_s_per_token * float(np.median(power))
    found = _requests(known, power, per_token)
    everything = np.ones(len(power), bool)
    step, sequence, prefill_w = found.solve(everything)
    at = np.array(decode_time.at)
    affine = step + sequence * at
    most = rated_w * np.array(decode_time.value)
    form: CurveForm = "knots" if (affine > most).any() else "affine"
    decode = Knots(
        at, np.minimum(affine, most), {"constant": float(step), "per_unit": float(sequence)}
    )
    prefill = Knots(np.array(prefill_time.at), prefill_w * np.array(prefill_time.value))
    return PhaseEnergy(
        decode=to_curve(decode, form, kind="derived", source=DERIVED_SOURCE),
        prefill=to_curve(prefill, prefill_time.form, kind="derived", source=DERIVED_SOURCE),
        context=structs.replace(context, energy_j_per_token=per_token),
        batch=(float(found.batch.min()), float(found.batch.max())),
        held_out=[_held_out(found)],
        datasets=(),
    )


def _requests(known: pl.DataFrame, power: Array, per_token: float) -> _Requests:
    batch = known["batch_size"].to_numpy().astype(float)
    outputs = known["output_tokens"].to_numpy()
    steps = (outputs - 1).astype(float)
    context = batch * (known["input_tokens"].to_numpy() + outputs / 2)
    return _Requests(
        batch,
        steps,
        known["prefill_time_s"].to_numpy(),
        steps * context * per_token,
        power * known["e2e_s"].to_numpy(),
    )


def _held_out(found: _Requests) -> HeldOut:
    prediction = np.empty_like(found.energy_j)
    for left_out in np.unique(found.batch):
        out = found.batch == left_out
        prediction[out] = found.columns[out] @ found.solve(~out) + found.context_j[out]
    return score("request_energy_j", "batch", found.batch, prediction, found.energy_j)


def energy_from_prior(
    measured: pl.DataFrame,
    size: ModelSize,
    degree: int,
    context: ContextCost,
    times: tuple[Curve, Curve],
) -> PhaseEnergy:
    """Model the energy of an H100 by the published prior, brought to this engine on the A100.

    Parameters
    ----------
    measured : polars.DataFrame
        Requests of the same model and degree with measured power, on another accelerator.
    times : pair of Curve
        Decode and prefill time.
    """
    factor = prior_factor(measured, size, degree)
    source = PRIOR_SOURCE.format(factor=factor)
    decode_time, prefill_time = times
    batch = np.array(decode_time.at)
    tokens = np.array(prefill_time.at)
    decode_s, prefill_s = np.array(decode_time.value), np.array(prefill_time.value)
    decode = factor * decode_s * _power("h100-sxm", size, degree, decode_s, batch)
    prefill = factor * prefill_s * _power("h100-sxm", size, degree, prefill_s, tokens)
    per_token = context.time_s_per_token * float(decode[0] / decode_s[0])
    return PhaseEnergy(
        decode=to_curve(Knots(batch, decode), decode_time.form, kind="modelled", source=source),
        prefill=to_curve(Knots(tokens, prefill), prefill_time.form, kind="modelled", source=source),
        context=structs.replace(context, energy_j_per_token=per_token),
        batch=None,
        held_out=[],
        datasets=("power-prior",),
    )


def prior_factor(measured: pl.DataFrame, size: ModelSize, degree: int) -> float:
    """Median of measured over prior power of whole requests."""
    known = measured.filter(pl.col("mean_power_fraction").is_not_null())
    name = known["accelerator"][0]
    batch = known["batch_size"].to_numpy().astype(float)
    tokens = batch * known["input_tokens"].to_numpy()
    decode_s = known["decode_time_s"].to_numpy()
    prefill_s = known["prefill_time_s"].to_numpy()
    share = prefill_s / known.select(phases_s()).to_series().to_numpy()
    prior = share * _power(name, size, degree, prefill_s, tokens)
    prior += (1 - share) * _power(name, size, degree, decode_s, batch)
    rated_w = degree * find_accelerator(name).tdp_w
    return float(np.median(known["mean_power_fraction"].to_numpy() * rated_w / prior))


def _power(name: str, size: ModelSize, degree: int, duration_s: Array, tokens: Array) -> Array:
    """Prior power (N,) of steps that compute `tokens` tokens and read every weight once."""
    load = Load(duration_s, 2 * size.params * tokens, np.full_like(duration_s, size.weight_bytes))
    return prior_power_w(name, find_accelerator(name), degree, load)
