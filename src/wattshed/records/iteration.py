"""What one engine step costs: iteration profiles, their states and their errors."""

from __future__ import annotations

from typing import Literal

import msgspec

from wattshed.records.common import Boundary, Kind, Provenance
from wattshed.records.profile import Rule

CurveForm = Literal["affine", "root", "knots", "floor"]
Quantity = Literal["decode_time_s", "decode_energy_j", "prefill_time_s", "request_energy_j"]
HeldOutAxis = Literal["batch", "tensor_parallel"]
Architecture = Literal["dense", "moe", "hybrid"]
StateName = Literal["idle", "resident", "sleep", "boot"]


class HeldOut(msgspec.Struct, frozen=True):
    """Errors on cells that a fit did not see; the choice of its form did not see them either.

    Attributes
    ----------
    axis : {"batch", "tensor_parallel"}
        What was left out together: every cell of one batch size, or of one degree.
    left_out : list of float
        Batch size or degree of each cell, the ends of the range included.
    error_pct : list of float
        Signed relative error of each cell, in the same order.
    median_ape_pct, mean_ape_pct, worst_ape_pct : float
        Of the absolute errors.
    inner_mean_ape_pct : float or None
        Mean without the smallest and the largest batch, which are extrapolations.
    """

    quantity: Quantity
    axis: HeldOutAxis
    left_out: list[float]
    error_pct: list[float]
    median_ape_pct: float
    mean_ape_pct: float
    worst_ape_pct: float
    inner_mean_ape_pct: float | None = None


class Curve(msgspec.Struct, frozen=True):
    """A quantity that rises piecewise affinely with the batch, or with the tokens.

    Attributes
    ----------
    at : list of float
        Knots, rising: sequences in the batch of a decode curve, tokens of a prefill curve.
    value : list of float
        At the knots, in the unit of the field that holds the curve; positive and never
        falling. The last slope continues beyond the last knot.
    form : {"affine", "root", "knots", "floor"}
        What was fitted: a + c b; a + r sqrt(b) + c b; the measured means made monotone;
        max(a, c tokens).
    coefficients : dict
        ``constant``, ``per_root``, ``per_unit``: of `form`; empty for ``knots``.
    kind : {"measured", "derived", "modelled", "published"}
    source : str
        Data set, or the formula where it is modelled.
    """

    at: list[float]
    value: list[float]
    form: CurveForm
    coefficients: dict[str, float]
    kind: Kind
    source: str


class ContextCost(msgspec.Struct, frozen=True):
    """What each token of context adds to a decode step.

    Attributes
    ----------
    time_s_per_token, energy_j_per_token : float
    tokens_per_sequence : float
        Mean context of the measurements; taken off the decode curves, which therefore hold
        a step without context.
    """

    time_s_per_token: float
    energy_j_per_token: float
    tokens_per_sequence: float
    kind: Kind
    source: str


class ClockResponse(msgspec.Struct, frozen=True):
    """How a step changes at a fraction phi of the highest clock.

    Attributes
    ----------
    memory_knee : float
        Fraction below which steps that wait for memory slow down, too.
    dynamic_exponent : float
        Energy above `static_power_w` times the step's duration scales as phi to this power.
    static_power_w : float
        Of all accelerators, whatever the clock.
    """

    memory_knee: float
    dynamic_exponent: float
    static_power_w: float
    kind: Kind
    source: str


class PowerState(msgspec.Struct, frozen=True):
    """A state in which a replica serves nothing, and the way from there to serving.

    Attributes
    ----------
    power_w : float
        Of all accelerators of the replica while it stays in the state; for ``boot``, the mean
        while it starts.
    ready_s, ready_energy_j : float
        From leaving the state to the first step.
    power_kind, power_source, ready_kind, ready_source : str
        Where these come from; two, because a power may be published and a delay assumed.
    """

    power_w: float
    ready_s: float
    ready_energy_j: float
    power_kind: Kind
    power_source: str
    ready_kind: Kind
    ready_source: str


class StepDomain(msgspec.Struct, frozen=True):
    """Where the cells of a fit lie, both ends included; None where the source does not say.

    Attributes
    ----------
    batch : tuple
        Sequences that decode together.
    energy_batch : tuple or None
        The same for cells with energy; None if no energy was measured.
    context_tokens : tuple or None
        Of one sequence.
    prompt_tokens : tuple or None
        Prefilled together.
    """

    batch: tuple[float, float]
    energy_batch: tuple[float, float] | None = None
    context_tokens: tuple[float, float] | None = None
    prompt_tokens: tuple[float, float] | None = None


class IterationProfile(msgspec.Struct, frozen=True):
    """Time and energy of one step of a replica, its idle states, and how far they can be trusted.

    Attributes
    ----------
    name : str
        Unique within its file, e.g. ``splitwise/a100-80gb-tp8/llama-2-70b``.
    architecture : {"dense", "moe", "hybrid"}
        Transformer, mixture of experts, or with state-space layers.
    workload : str
        Requests that were measured, where the curves depend on them.
    weight_bytes : float
        Of the model, over all accelerators.
    decode_time_s, decode_energy_j : Curve
        Over the batch, at no context if `context` is given.
    prefill_time_s, prefill_energy_j : Curve or None
        Over the prompt tokens of a step. None where the measured steps contain the prefill of
        their own requests, so that it cannot be told apart; then `context` is None, too.
    weight_pass_s : float
        Time to read the weights once, which a step that both decodes and prefills saves.
    clock : ClockResponse
        Always modelled; nothing changes at the highest clock.
    states : dict
        ``idle`` (no model loaded), ``resident`` (model loaded, no request), ``sleep``, ``boot``.
    held_out : list of HeldOut
    rules : list of Rule
        Applied to the cells before the fit.
    data : list of str
        Names of the data sets behind the profile, in the provenance of its file.
    """

    name: str
    system: str
    model: str
    architecture: Architecture
    accelerator: str
    n_accelerators: int
    tensor_parallel: int
    workload: str
    boundary: Boundary
    weight_bytes: float
    decode_time_s: Curve
    decode_energy_j: Curve
    prefill_time_s: Curve | None
    prefill_energy_j: Curve | None
    context: ContextCost | None
    weight_pass_s: float
    clock: ClockResponse
    states: dict[StateName, PowerState]
    domain: StepDomain
    cells: int
    held_out: list[HeldOut]
    rules: list[Rule]
    data: list[str]


class IterationFile(msgspec.Struct, frozen=True):
    """Content of iteration-profiles.json."""

    profiles: list[IterationProfile]
    provenance: list[Provenance]
    created_by: str
    inputs: dict[str, str] = {}
    seed: int = 0
    schema: Literal["wattshed/iteration-profiles"] = "wattshed/iteration-profiles"
    version: Literal[1] = 1
