"""What a query costs where it is served: alone, or in a batch that is kept full.

A profile of single queries says what one query alone needs. An engine that batches serves it
beside others, and what it needs depends on them. A plan knows no queues, so it takes the
steady state of a busy replica: b sequences decode together at all times, b being the largest
batch that the deployment allows and its cache holds, and the other b - 1 are like the query.

A query of m input and n output tokens then needs its own prefill steps, and n - 1 decode steps,
whose energy and whose share of the replica's time it pays to the b-th part. Where the steps of a
profile contain the prefill, it is n steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wattshed.fit.forms import Array
from wattshed.profiles import predict
from wattshed.records import Deployment, EngineSettings, IterationProfile
from wattshed.serving import engine_settings
from wattshed.steps import StepPrediction, predict_steps


@dataclass(frozen=True)
class Service:
    """Predicted queries on a deployment, arrays (Q,); without the host.

    Attributes
    ----------
    energy_j, runtime_s : array
    busy_s : array
        Time that a replica cannot give to others; the runtime where it serves one at a time.
    extrapolated, negative : bool array
    """

    energy_j: Array
    runtime_s: Array
    busy_s: Array
    extrapolated: NDArray[np.bool_]
    negative: NDArray[np.bool_]


@dataclass(frozen=True)
class Latency:
    """Modelled latencies of queries that do not wait, arrays (Q,) in seconds.

    Attributes
    ----------
    ttft_s : array
        r(m, 1): the time to an answer of one token; the prefill of an engine that batches.
    tbt_s : array
        r(m, n) - r(m, n - 1): the last step, the longest one as the context grows; 0 for
        answers of one token.
    e2e_s : array
        r(m, n).
    """

    ttft_s: Array
    tbt_s: Array
    e2e_s: Array


def serve(deployment: Deployment, m: Array, n: Array) -> Service:
    """Predict queries as a deployment serves them.

    Parameters
    ----------
    deployment : Deployment
    m, n : arrays (Q,)
        Input and output tokens; expected ones may be fractions.

    Raises
    ------
    FleetError
        As of `engine_settings`.
    """
    profile = deployment.profile
    if isinstance(profile, IterationProfile):
        return _in_full_batch(profile, engine_settings(deployment), m, n).service
    found = predict(profile, m, n)
    return Service(
        found.energy_j, found.runtime_s, found.runtime_s, found.extrapolated, found.negative
    )


def latencies(deployment: Deployment, m: Array, n: Array) -> Latency:
    """Latencies of queries that do not wait: alone, or in a full batch.

    Parameters
    ----------
    deployment : Deployment
    m, n : arrays (Q,)
    """
    profile = deployment.profile
    if isinstance(profile, IterationProfile):
        return _in_full_batch(profile, engine_settings(deployment), m, n).latency
    first, before, last = (
        predict(profile, m, length).runtime_s
        for length in (np.ones_like(n), np.maximum(n - 1, 1), n)
    )
    return Latency(first, np.where(n > 1, last - before, 0.0), last)


def full_batch(settings: EngineSettings, m: Array, n: Array) -> Array:
    """Sequences (Q,) that decode together: as many like this one as batch and cache allow."""
    fits = np.floor(settings.kv_tokens / np.maximum(m + n - 1, 1.0))
    return np.clip(fits, 1.0, float(settings.max_batch))


@dataclass(frozen=True)
class _InBatch:
    service: Service
    latency: Latency


def _in_full_batch(
    profile: IterationProfile, settings: EngineSettings, m: Array, n: Array
) -> _InBatch:
    batch = full_batch(settings, m, n)
    contains_prefill = profile.prefill_time_s is None
    steps = n if contains_prefill else np.maximum(n - 1, 0.0)
    # A step is affine in the context, so that the mean context gives the mean step.
    mean, last = (
        predict_steps(profile, batch, batch * context, clock=settings.clock)
        for context in (m + n / 2, m + n - 1)
    )
    prefill_s, prefill_j, beyond = _prefill(profile, settings, m)
    decode_s, decode_j = steps * mean.time_s, steps * mean.energy_j / batch
    runtime = prefill_s + decode_s
    outside = beyond | ((steps > 0) & (last.extrapolated | last.energy_extrapolated))
    service = Service(
        prefill_j + decode_j,
        runtime,
        prefill_s + decode_s / batch,
        outside,
        np.zeros(len(m), bool),
    )
    first = mean.time_s if contains_prefill else prefill_s
    return _InBatch(service, Latency(first, np.where(n > 1, last.time_s, 0.0), runtime))


def _prefill(
    profile: IterationProfile, settings: EngineSettings, m: Array
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Seconds, joules and extrapolation (Q,) of the steps that take a prompt in alone."""
    if profile.prefill_time_s is None:
        return np.zeros_like(m), np.zeros_like(m), np.zeros(len(m), bool)
    chunk = float(settings.chunk_tokens)
    chunks = np.floor(m / chunk)
    whole, rest = (
        predict_steps(profile, 0, 0, tokens, clock=settings.clock)
        for tokens in (np.full(1, chunk), m - chunks * chunk)
    )
    beyond = rest.extrapolated | ((chunks > 0) & whole.extrapolated)
    return _sum(chunks, whole, rest, "time_s"), _sum(chunks, whole, rest, "energy_j"), beyond


def _sum(chunks: Array, whole: StepPrediction, rest: StepPrediction, what: str) -> Array:
    return np.asarray(chunks * getattr(whole, what) + getattr(rest, what))
