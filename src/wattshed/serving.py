"""How the engine of a deployment is set: what its fleet says, and the defaults for the rest."""

from __future__ import annotations

import math

from wattshed.engines.model import UNLIMITED
from wattshed.errors import FleetError
from wattshed.fit.physics import MODELS, memory_b
from wattshed.records import Deployment, EngineSettings, IterationProfile, PowerState, Sleep
from wattshed.records.iteration import StateName

ENGINE_KEYS = ("max_batch", "chunk_tokens", "kv_tokens", "clock", "sleep_after_s")
"""Keys of a deployment that only an iteration profile can follow."""
CHUNK_TOKENS = 2048
CHUNK_SOURCE = (
    "default: 2048, as SchedulerConfig.DEFAULT_MAX_NUM_BATCHED_TOKENS of vLLM @01230b4, and at"
    " least max_batch; the vLLM server sets 8192 on accelerators of 70 GiB or more but the A100"
)
MEMORY_SHARE = 0.9
KV_SOURCE = (
    "default: tokens that fit beside the weights into 0.9 of the accelerators' memory, vLLM's"
    " gpu_memory_utilization for years (0.92 @002f10e)"
)
STATED = "fleet"

Found = tuple[int, str]
"""A setting and where it comes from."""


def engine_settings(deployment: Deployment) -> EngineSettings:
    """Settings of the engine of an iteration profile, defaults filled in.

    Parameters
    ----------
    deployment : Deployment

    Returns
    -------
    EngineSettings

    Raises
    ------
    FleetError
        Where the profile is of single queries, or settings contradict each other or the
        accelerators' memory; named ``DEPLOYMENT.KEY``.
    """
    profile = deployment.profile
    if not isinstance(profile, IterationProfile):
        raise FleetError(
            f"{deployment.name}.profile",
            f"{profile.name} is a profile of single queries, which knows no steps",
            "name an iteration profile",
        )
    batch = _max_batch(deployment, profile)
    chunk = _chunk_tokens(deployment, batch[0])
    kv = _kv_tokens(deployment, profile)
    context = _max_context_tokens(deployment, kv[0])
    idle_power_w, idle_source = _idle_power(deployment, profile)
    sleep = _sleep(deployment, profile)
    sources = {
        "max_batch": batch[1],
        "chunk_tokens": chunk[1],
        "kv_tokens": kv[1],
        "max_context_tokens": context[1],
        "clock": "default: the highest" if deployment.clock is None else STATED,
        "idle_power_w": idle_source,
        "static_power_w": profile.clock.source,
    }
    if sleep:
        sources["sleep"] = _state(deployment, profile, "sleep", "sleep_after_s").power_source
    return EngineSettings(
        max_batch=batch[0],
        chunk_tokens=chunk[0],
        kv_tokens=kv[0],
        max_context_tokens=context[0],
        clock=1.0 if deployment.clock is None else deployment.clock,
        idle_power_w=idle_power_w,
        static_power_w=profile.clock.static_power_w,
        sleep=sleep,
        sources=sources,
        notes=_notes(deployment, profile, batch[0], kv)
        + _sleep_notes(deployment, sleep, idle_power_w),
    )


def idle_power_w(deployment: Deployment) -> float | None:
    """Power of a replica that is idle with its model loaded; None where it is not known."""
    if isinstance(deployment.profile, IterationProfile):
        return engine_settings(deployment).idle_power_w
    return deployment.idle_power_w


def refuse_engine_keys(deployment: Deployment) -> None:
    """Refuse engine settings on a profile of single queries.

    Raises
    ------
    FleetError
    """
    for key in ENGINE_KEYS:
        value = getattr(deployment, key)
        if value is not None:
            raise FleetError(
                f"{deployment.name}.{key}",
                f"{value:g} on {deployment.profile.name}, a profile of single queries",
                "remove the key, or name an iteration profile",
            )


def _max_batch(deployment: Deployment, profile: IterationProfile) -> Found:
    if deployment.max_batch is not None:
        return deployment.max_batch, STATED
    return max(1, math.floor(profile.domain.batch[1])), "default: end of the profile's batches"


def _chunk_tokens(deployment: Deployment, max_batch: int) -> Found:
    chunk = deployment.chunk_tokens
    if chunk is None:
        return max(CHUNK_TOKENS, max_batch), CHUNK_SOURCE
    if chunk < max_batch:
        raise FleetError(
            f"{deployment.name}.chunk_tokens",
            f"{chunk} for a batch of {max_batch}",
            "give at least max_batch, so that every sequence gets its token",
        )
    return chunk, STATED


def _kv_tokens(deployment: Deployment, profile: IterationProfile) -> Found:
    if deployment.kv_tokens is not None:
        return deployment.kv_tokens, STATED
    each = memory_b(profile.accelerator)
    if each is None:
        return UNLIMITED, f"unlimited: the memory of {profile.accelerator!r} is not known"
    room_b = MEMORY_SHARE * each * profile.n_accelerators - profile.weight_bytes
    if room_b <= 0:
        raise FleetError(
            f"{deployment.name}.profile",
            f"{profile.weight_bytes / 1e9:.0f} GB of weights do not fit into {MEMORY_SHARE:g} of"
            f" {profile.n_accelerators} x {profile.accelerator} of {each / 1e9:.0f} GB",
            "use a profile with more accelerators, or set kv_tokens",
        )
    if profile.model not in MODELS:
        return UNLIMITED, f"unlimited: the bytes of keys and values of {profile.model} are unknown"
    tokens = math.floor(room_b / MODELS[profile.model].kv_bytes_per_token)
    if tokens < 1:
        raise FleetError(
            f"{deployment.name}.profile",
            "no room for keys and values beside the weights",
            "use a profile with more accelerators, or set kv_tokens",
        )
    return tokens, KV_SOURCE


def _max_context_tokens(deployment: Deployment, kv_tokens: int) -> Found:
    """Longest request; its last token is never fed back, so the cache does not hold it."""
    longest = deployment.max_context_tokens
    if longest is None:
        unlimited = kv_tokens == UNLIMITED
        return (UNLIMITED if unlimited else kv_tokens + 1), "default: what kv_tokens hold"
    if longest - 1 > kv_tokens:
        raise FleetError(
            f"{deployment.name}.kv_tokens",
            f"{kv_tokens} do not hold one request of max_context_tokens = {longest}",
            f"give at least {longest - 1}, or lower max_context_tokens to {kv_tokens + 1}",
        )
    return longest, STATED


def _idle_power(deployment: Deployment, profile: IterationProfile) -> tuple[float, str]:
    if deployment.idle_power_w is not None:
        return deployment.idle_power_w, STATED
    resident = _state(deployment, profile, "resident", "idle_power_w")
    return resident.power_w, resident.power_source


def _sleep(deployment: Deployment, profile: IterationProfile) -> Sleep | None:
    if deployment.sleep_after_s is None:
        return None
    state = _state(deployment, profile, "sleep", "sleep_after_s")
    return Sleep(deployment.sleep_after_s, state.power_w, state.ready_s, state.ready_energy_j)


def _state(
    deployment: Deployment, profile: IterationProfile, state: StateName, key: str
) -> PowerState:
    if state not in profile.states:
        raise FleetError(
            f"{deployment.name}.{key}",
            f"the profile {profile.name} has no state {state!r}",
            "add the state to the profile"
            + (", or set idle_power_w" if key == "idle_power_w" else ", or remove the key"),
        )
    return profile.states[state]


def _notes(
    deployment: Deployment, profile: IterationProfile, max_batch: int, kv: Found
) -> list[str]:
    notes = []
    if kv[0] == UNLIMITED:
        notes.append(f"{deployment.name}: kv_tokens {kv[1]}; set it to limit the batch by memory")
    for what, span in (("time", profile.domain.batch), ("energy", profile.domain.energy_batch)):
        if span and max_batch > math.ceil(span[1]):
            notes.append(
                f"{deployment.name}: {what} of batches above {span[1]:.0f}, up to max_batch ="
                f" {max_batch}, is extrapolated"
            )
    return notes


def _sleep_notes(deployment: Deployment, sleep: Sleep | None, idle_power_w: float) -> list[str]:
    if sleep is None or sleep.power_w < idle_power_w:
        return []
    return [
        f"{deployment.name}: sleep saves nothing: asleep a replica draws {sleep.power_w:g} W,"
        f" idle {idle_power_w:g} W"
    ]
