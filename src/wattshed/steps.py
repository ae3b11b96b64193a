"""Steps of an engine: coefficients of an iteration profile for a simulator, and predictions."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wattshed.errors import ParameterError
from wattshed.fit.curves import evaluate
from wattshed.fit.forms import Array
from wattshed.records import Curve, IterationProfile


@dataclass(frozen=True)
class StepCoefficients:
    """Time and energy of a step, piecewise affine: what a simulator steps through.

    A step with b decoding sequences of kappa tokens of context in sum takes
    ``decode_s[k, 0] + decode_s[k, 1] b + context_s kappa``, k the last segment that starts at b or
    below. A step that prefills c tokens takes ``prefill_s[k, 0] + prefill_s[k, 1] c`` alike. One
    that does both takes the sum less `shared_s`, because it reads the weights once. Energy alike.

    Attributes
    ----------
    batch_from : array (K,)
        First batch of each decode segment; the last segment has no end.
    decode_s, decode_j : arrays (K, 2)
        Constant and coefficient of the batch.
    context_s, context_j : float
        For each token of context; 0 where the segments contain it.
    tokens_from : array (L,)
    prefill_s, prefill_j : arrays (L, 2)
        Constant and coefficient of the prompt tokens; 0 where the decode segments contain them.
    shared_s, shared_j : float
    contains_prefill : bool
        The decode segments contain prefill and context of the profile's own workload.
    """

    batch_from: Array
    decode_s: Array
    decode_j: Array
    context_s: float = 0.0
    context_j: float = 0.0
    tokens_from: Array = field(default_factory=lambda: np.ones(1))
    prefill_s: Array = field(default_factory=lambda: np.zeros((1, 2)))
    prefill_j: Array = field(default_factory=lambda: np.zeros((1, 2)))
    shared_s: float = 0.0
    shared_j: float = 0.0
    contains_prefill: bool = True


def step_coefficients(profile: IterationProfile, clock: float = 1.0) -> StepCoefficients:
    """Piecewise-affine coefficients of a profile's steps at a fraction of the highest clock.

    Parameters
    ----------
    profile : IterationProfile
    clock : float
        In (0, 1]; below 1 the result is modelled, whatever the profile.

    Raises
    ------
    ParameterError
        If the clock is out of its range.
    """
    if not 0 < clock <= 1:
        raise ParameterError("clock", f"{clock:g}", "give a fraction of the highest, in (0, 1]")
    return _coefficients(_Same(profile), clock)


class _Same:
    """A profile as a key: it holds lists and has no hash; the same object is the same profile."""

    def __init__(self, profile: IterationProfile) -> None:
        self.profile = profile

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.profile is other.profile

    def __hash__(self) -> int:
        return id(self.profile)


@functools.lru_cache(maxsize=1024)
def _coefficients(same: _Same, clock: float) -> StepCoefficients:
    """Remembered: a gateway asks for each request."""
    profile = same.profile
    slow = max(1.0, profile.clock.memory_knee / clock)
    batch, time, energy = _joined(profile.decode_time_s, profile.decode_energy_j)
    decode_s = _slowed(time, clock, slow)
    decode_j = _energy(profile, clock, (time, energy), decode_s)
    decode = StepCoefficients(batch[:-1], _segments(batch, decode_s), _segments(batch, decode_j))
    if not (profile.context and profile.prefill_time_s and profile.prefill_energy_j):
        return decode
    cost = profile.context
    context_s = slow * cost.time_s_per_token
    of_token = np.array(cost.time_s_per_token), np.array(cost.energy_j_per_token)
    tokens, time, energy = _joined(profile.prefill_time_s, profile.prefill_energy_j)
    prefill_s = _slowed(time, clock, slow)
    prefill_j = _energy(profile, clock, (time, energy), prefill_s)
    shared_s = min(slow * profile.weight_pass_s, decode_s[0], prefill_s[0])
    return replace(
        decode,
        context_s=context_s,
        context_j=float(_energy(profile, clock, of_token, np.array(context_s))),
        tokens_from=tokens[:-1],
        prefill_s=_segments(tokens, prefill_s),
        prefill_j=_segments(tokens, prefill_j),
        shared_s=float(shared_s),
        shared_j=float(min(shared_s / decode_s[0] * decode_j[0], prefill_j[0])),
        contains_prefill=False,
    )


def _slowed(time: Array, clock: float, slow: float) -> Array:
    """Times at a clock: what the least step takes waits for memory, the rest for arithmetic."""
    return np.asarray(slow * time[0] + (time - time[0]) / clock)


def _joined(time: Curve, energy: Curve) -> tuple[Array, Array, Array]:
    """Two curves on the knots of both."""
    at = np.union1d(time.at, energy.at)
    return (
        at,
        evaluate(np.array(time.at), np.array(time.value), at),
        evaluate(np.array(energy.at), np.array(energy.value), at),
    )


def _energy(
    profile: IterationProfile, clock: float, before: tuple[Array, Array], slowed: Array
) -> Array:
    """Energy at a clock: static power over the new time, the rest scaled."""
    time, energy = before
    static = np.minimum(profile.clock.static_power_w * time, energy)
    dynamic = (energy - static) * clock**profile.clock.dynamic_exponent
    longer = np.divide(slowed, time, out=np.ones_like(slowed), where=time > 0)
    return np.asarray(static * longer + dynamic)


def _segments(at: Array, value: Array) -> Array:
    slope = np.diff(value) / np.diff(at)
    return np.stack([value[:-1] - slope * at[:-1], slope], axis=1)


@dataclass(frozen=True)
class StepPrediction:
    """Predicted steps.

    Attributes
    ----------
    time_s, energy_j : arrays (N,)
    extrapolated : bool array (N,)
        Outside the profile's domain.
    energy_extrapolated : bool array (N,)
        Also where only the batches with measured energy end; never true where no energy was
        measured, because all of it is modelled there.
    """

    time_s: Array
    energy_j: Array
    extrapolated: NDArray[np.bool_]
    energy_extrapolated: NDArray[np.bool_]

    @property
    def power_w(self) -> Array:
        """Mean power (N,) of the steps; not a number where a step has nothing to do."""
        power = np.full_like(self.time_s, np.nan)
        return np.divide(self.energy_j, self.time_s, out=power, where=self.time_s > 0)


def predict_steps(
    profile: IterationProfile,
    batch: ArrayLike,
    context_tokens: ArrayLike = 0.0,
    prompt_tokens: ArrayLike = 0.0,
    *,
    clock: float = 1.0,
) -> StepPrediction:
    """Predict time and energy of steps.

    Parameters
    ----------
    profile : IterationProfile
    batch : array-like (N,)
        Sequences that decode; 0 for a step that only prefills.
    context_tokens : array-like (N,)
        Of all these sequences together.
    prompt_tokens : array-like (N,)
        Prefilled in the step.
    clock : float
        Fraction of the highest.

    Returns
    -------
    StepPrediction

    Raises
    ------
    ParameterError
        If an argument is negative, or the clock out of its range.

    Examples
    --------
    >>> import wattshed as ws
    >>> profile = ws.load_iteration_profile("splitwise/h100-80gb-tp8/llama-2-70b")
    >>> step = ws.predict_steps(profile, batch=[1, 64], context_tokens=[576, 64 * 576])
    >>> [f"{time * 1e3:.1f} ms" for time in step.time_s]
    ['29.8 ms', '50.2 ms']
    """
    arrays = np.broadcast_arrays(
        *(np.atleast_1d(np.asarray(v, float)) for v in (batch, context_tokens, prompt_tokens))
    )
    for name, values in zip(("batch", "context_tokens", "prompt_tokens"), arrays, strict=True):
        if not (values >= 0).all():
            raise ParameterError(name, f"{values.min():g}", "give 0 or more")
    b, kappa, c = arrays
    found = step_coefficients(profile, clock)
    decodes, prefills = b > 0, c > 0
    if found.contains_prefill:
        decodes, prefills = decodes | prefills, np.zeros_like(prefills)
    shared = decodes & prefills
    segment, chunk = _find(found.batch_from, b), _find(found.tokens_from, c)
    load = np.maximum(b, 1.0)

    def total(decode: Array, context: float, prefill: Array, saved: float) -> Array:
        of_batch = decode[segment, 0] + decode[segment, 1] * load + context * kappa
        of_prompt = prefill[chunk, 0] + prefill[chunk, 1] * c
        return np.asarray(decodes * of_batch + prefills * of_prompt - shared * saved)

    return StepPrediction(
        total(found.decode_s, found.context_s, found.prefill_s, found.shared_s),
        total(found.decode_j, found.context_j, found.prefill_j, found.shared_j),
        outside := _outside(profile, b, kappa, c),
        outside | _beyond(b, profile.domain.energy_batch),
    )


def _find(starts: Array, x: Array) -> NDArray[np.intp]:
    return np.maximum(np.searchsorted(starts, x, side="right") - 1, 0)


def _outside(profile: IterationProfile, b: Array, kappa: Array, c: Array) -> NDArray[np.bool_]:
    domain = profile.domain
    outside = _beyond(b, domain.batch) | _beyond(c, domain.prompt_tokens)
    if domain.context_tokens:
        outside |= kappa > domain.context_tokens[1] * b
    return outside


def _beyond(x: Array, span: tuple[float, float] | None) -> NDArray[np.bool_]:
    """Where x is not 0 and outside a span, of which a fraction of one is no matter."""
    if span is None:
        return np.zeros(len(x), bool)
    return np.asarray((x > 0) & ((x < np.floor(span[0])) | (x > np.ceil(span[1]))))


def modelled_parts(profile: IterationProfile, clock: float = 1.0) -> dict[str, str]:
    """What of a profile no data support, with the source: a result that used it inherits this.

    Parameters
    ----------
    profile : IterationProfile
    clock : float
        Fraction of the highest; below 1 the response to it counts.

    Returns
    -------
    dict
        Part, such as ``decode_energy_j`` or ``states.boot.ready``, to its source.
    """
    parts = {
        name: curve.source
        for name in ("decode_time_s", "decode_energy_j", "prefill_time_s", "prefill_energy_j")
        if (curve := getattr(profile, name)) and curve.kind == "modelled"
    }
    if profile.context:
        parts["context"] = profile.context.source
    if clock < 1:
        parts["clock"] = profile.clock.source
    for name, state in profile.states.items():
        if state.power_kind == "modelled":
            parts[f"states.{name}.power_w"] = state.power_source
        if state.ready_kind == "modelled" and state.ready_s > 0:
            parts[f"states.{name}.ready"] = state.ready_source
    return parts
