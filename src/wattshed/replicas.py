"""The deployments of a fleet as models of their engines: what steps and queries take and draw."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from wattshed.engines.model import (
    Array,
    BatchingDeployment,
    Boot,
    ClockedSteps,
    OneQueryDeployment,
    PromptCurve,
    Sleep,
    StepModel,
)
from wattshed.engines.model import Deployment as Replicas
from wattshed.errors import ParameterError
from wattshed.profiles import predict
from wattshed.records import Deployment, EngineSettings, IterationProfile, Profile
from wattshed.serving import engine_settings
from wattshed.steps import StepCoefficients, step_coefficients

Tokens = NDArray[np.int64]


def engines_of(
    deployments: Iterable[Deployment],
    input_tokens: Tokens,
    output_tokens: Tokens,
    clocks: Sequence[float] = (),
) -> list[Replicas]:
    """Models of the engines of some deployments, in their order.

    Parameters
    ----------
    deployments : iterable of Deployment
    input_tokens, output_tokens : arrays (Q,)
        Of the requests, of which profiles of single queries tell energy and runtime.
    clocks : sequence of float
        Fractions of the highest clock that a controller may choose from, besides the one of the
        fleet; none is higher.

    Raises
    ------
    FleetError, ParameterError
        If settings contradict each other, a clock is out of its range, or a profile predicts
        negative energy.
    """
    return [
        batching(d, d.profile, clocks)
        if isinstance(d.profile, IterationProfile)
        else _one_query(d, d.profile, input_tokens, output_tokens)
        for d in deployments
    ]


def batching(
    deployment: Deployment, profile: IterationProfile, clocks: Sequence[float] = ()
) -> BatchingDeployment:
    """Model of an engine that batches; see `engines_of`.

    Host power is added to every step, and not to idling.
    """
    setting = engine_settings(deployment)
    host_w, batch = deployment.host_power_w, setting.max_batch
    time, energy = _steps(profile, setting.clock, batch, host_w)
    lower = sorted({c for c in clocks if c < setting.clock})
    boot = profile.states.get("boot")
    return BatchingDeployment(
        deployment.name,
        deployment.replicas,
        time,
        energy,
        setting.chunk_tokens,
        setting.kv_tokens,
        setting.max_context_tokens,
        setting.idle_power_w,
        _static_power_w(setting),
        tuple(ClockedSteps(c, *_steps(profile, c, batch, host_w)) for c in lower),
        _sleep(setting),
        Boot(boot.ready_s, boot.ready_energy_j) if boot else Boot(),
        setting.clock,
    )


def _static_power_w(setting: EngineSettings) -> float:
    """What a step draws in any case: no more than the replica draws when idle."""
    return min(setting.static_power_w, setting.idle_power_w)


def _sleep(setting: EngineSettings) -> Sleep | None:
    s = setting.sleep
    return Sleep(s.after_s, s.power_w, s.ready_s, s.ready_energy_j) if s else None


def _steps(
    profile: IterationProfile, clock: float, batch: int, host_w: float
) -> tuple[StepModel, StepModel]:
    """Time and energy of steps at a clock."""
    found = step_coefficients(profile, clock)
    seconds = _by_batch(found, found.decode_s, batch)
    joules = _by_batch(found, found.decode_j, batch) + host_w * seconds
    if found.contains_prefill:
        return StepModel(seconds, found.context_s), StepModel(joules, found.context_j)
    prompt_s = PromptCurve(found.tokens_from, *found.prefill_s.T)
    prompt_j = PromptCurve(found.tokens_from, *(found.prefill_j + host_w * found.prefill_s).T)
    return (
        StepModel(seconds, found.context_s, prompt=prompt_s, saved=found.shared_s),
        StepModel(
            joules,
            found.context_j + host_w * found.context_s,
            prompt=prompt_j,
            saved=found.shared_j + host_w * found.shared_s,
        ),
    )


def _by_batch(found: StepCoefficients, segments: Array, batch: int) -> Array:
    """Cost at 0 ... `batch` decoding sequences, without context.

    A step with prompts alone costs its prompts; where these are inside the decode steps, it costs
    what a step of one sequence does.
    """
    b = np.arange(1.0, batch + 1)
    piece = np.maximum(np.searchsorted(found.batch_from, b, side="right") - 1, 0)
    cost = segments[piece, 0] + segments[piece, 1] * b
    return np.append(cost[0] if found.contains_prefill else 0.0, cost)


def _one_query(
    deployment: Deployment, profile: Profile, input_tokens: Tokens, output_tokens: Tokens
) -> OneQueryDeployment:
    """Model of a replica that serves one query at a time."""
    found = predict(profile, input_tokens, output_tokens)
    first = predict(profile, input_tokens, np.ones_like(output_tokens))
    negative = np.asarray(found.negative)
    refused = negative & _over_limits(deployment, input_tokens, output_tokens)
    if (negative & ~refused).any():
        row = int(np.argmax(negative & ~refused))
        m, n = input_tokens[row], output_tokens[row]
        raise ParameterError(
            f"{deployment.name}.profile",
            f"{profile.name} predicts {found.energy_j[row]:.3g} J and {found.runtime_s[row]:.3g} s"
            f" for {m} input and {n} output tokens",
            "use a profile that stays above 0, or limit max_input_tokens",
        )
    return OneQueryDeployment(
        deployment.name,
        deployment.replicas,
        np.where(refused, np.inf, found.runtime_s),
        found.energy_j + deployment.host_power_w * found.runtime_s,
        np.minimum(first.runtime_s, found.runtime_s),
        deployment.idle_power_w or 0.0,
    )


def _over_limits(deployment: Deployment, m: Tokens, n: Tokens) -> NDArray[np.bool_]:
    """Requests (Q,) that the deployment's token limits keep away."""
    over = np.zeros(len(m), bool)
    limits = (deployment.max_input_tokens, deployment.max_output_tokens)
    for tokens, limit in zip((m, n, m + n), (*limits, deployment.max_context_tokens), strict=True):
        if limit is not None:
            over |= tokens > limit
    return over
