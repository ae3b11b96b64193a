"""What the study of clocks, parallelism and batches varied, as engines of our own profiles."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from wattshed.data.catalog import read_table
from wattshed.engines.model import BatchingDeployment, PromptCurve, StepModel
from wattshed.fit.phase_energy import prior_factor
from wattshed.fit.phases import split_cells
from wattshed.fit.physics import MODELS
from wattshed.iterations import load_iteration_profile
from wattshed.records import Deployment, IterationProfile
from wattshed.replicas import batching
from wattshed.serving import engine_settings
from wattshed.steps import predict_steps

MODEL = "llama-2-70b"
INPUT_TOKENS = {"S": 100, "M": 500, "L": 1024}
OUTPUT_TOKENS = {"S": 50, "M": 128, "L": 256}
TYPES = tuple(i + o for i in INPUT_TOKENS for o in OUTPUT_TOKENS)
"""Workload types: first the length of the input, then that of the output."""
CLOCKS_MHZ = (800, 1000, 1200, 1400, 1600, 1800, 1980)
HIGHEST_MHZ, LOWEST_MHZ = CLOCKS_MHZ[-1], CLOCKS_MHZ[0]
HALF_MHZ = 1000
"""The setting nearest to half the highest clock."""
DEGREES = (2, 4, 8)
BATCHES = (4, 8, 16, 32, 64)
SLO_FACTOR = 5.0
CONTEXT_TOKENS = 576
"""Mean context of a sequence in the measurements: 512 input and half of 128 output tokens."""


@dataclass(frozen=True)
class Assumed:
    """What no measurement supports; None takes the profile's.

    Attributes
    ----------
    memory_knee, dynamic_exponent : float, optional
        See `wattshed.records.iteration.ClockResponse`.
    prompts_follow : bool
        All of a prefill follows the clock. In the profile what a prompt of one token takes waits
        for memory, like the fixed part of a decode step, and slows down only below the knee.
    unscaled_power : bool
        Power as the published prior has it, not scaled to that of the older engine on the A100.
    """

    memory_knee: float | None = None
    dynamic_exponent: float | None = None
    prompts_follow: bool = False
    unscaled_power: bool = False


AS_IN_PROFILE = Assumed()


@dataclass(frozen=True)
class Setting:
    """One replica and what it serves.

    Attributes
    ----------
    workload : str
        One of `TYPES`.
    degree : int
        Of tensor parallelism.
    max_batch, clock_mhz : int
    """

    workload: str = "MM"
    degree: int = 8
    max_batch: int = 64
    clock_mhz: int = HIGHEST_MHZ
    assumed: Assumed = AS_IN_PROFILE

    @property
    def lengths(self) -> tuple[int, int]:
        """Input and output tokens of each request."""
        return INPUT_TOKENS[self.workload[0]], OUTPUT_TOKENS[self.workload[1]]


@functools.cache
def profile_of(degree: int, assumed: Assumed = AS_IN_PROFILE) -> IterationProfile:
    """Profile of Llama-2-70B on so many H100s."""
    profile = load_iteration_profile(f"splitwise/h100-80gb-tp{degree}/{MODEL}")
    given = {
        "memory_knee": assumed.memory_knee,
        "dynamic_exponent": assumed.dynamic_exponent,
    }
    changed = {name: value for name, value in given.items() if value is not None}
    profile = msgspec.structs.replace(
        profile, clock=msgspec.structs.replace(profile.clock, **changed)
    )
    return (
        _with_more_energy(profile, 1 / power_factor(degree)) if assumed.unscaled_power else profile
    )


@functools.cache
def power_factor(degree: int) -> float:
    """What the power of the prior is multiplied with in the profiles of the H100."""
    for cells in split_cells(read_table("splitwise-steps")):
        if (cells.system, cells.model, cells.degree) == ("a100-80gb", MODEL, degree):
            return float(prior_factor(cells.requests, MODELS[MODEL], degree))
    raise AssertionError("splitwise-steps has A100s")


def _with_more_energy(profile: IterationProfile, factor: float) -> IterationProfile:
    """The same profile with all energy of steps multiplied."""
    replaced = msgspec.structs.replace
    assert profile.prefill_energy_j
    assert profile.context
    decode, prefill = (
        replaced(curve, value=[factor * joules for joules in curve.value])
        for curve in (profile.decode_energy_j, profile.prefill_energy_j)
    )
    each_j = factor * profile.context.energy_j_per_token
    context = replaced(profile.context, energy_j_per_token=each_j)
    return replaced(profile, decode_energy_j=decode, prefill_energy_j=prefill, context=context)


def largest_batch(degree: int) -> int:
    """Largest batch that was measured: 32 at TP2, where 64 do not fit, else 64."""
    return int(profile_of(degree).domain.batch[1])


def by_degree(degree: int, workload: str = "MM", clock_mhz: int = HIGHEST_MHZ) -> Setting:
    """Setting with the largest batch that was measured at a degree."""
    return Setting(workload, degree, largest_batch(degree), clock_mhz)


@functools.cache
def _kv_tokens(degree: int) -> int:
    """What fits beside the weights; looked up once, because there are many settings."""
    return engine_settings(Deployment("greener", profile_of(degree))).kv_tokens


@functools.cache
def engine_of(setting: Setting) -> BatchingDeployment:
    """Model of the engine, at the clock of the setting and no other."""
    profile = profile_of(setting.degree, setting.assumed)
    clock = setting.clock_mhz / HIGHEST_MHZ
    deployment = Deployment(
        "greener",
        profile,
        max_batch=setting.max_batch,
        kv_tokens=_kv_tokens(setting.degree),
        clock=clock,
    )
    engine = batching(deployment, profile)
    follow = setting.assumed.prompts_follow
    return _with_following_prompts(engine, profile, clock) if follow else engine


def _with_following_prompts(
    engine: BatchingDeployment, profile: IterationProfile, clock: float
) -> BatchingDeployment:
    """Add what the constant part of a prefill loses only if it follows the clock."""
    assert profile.prefill_time_s is not None
    slow = max(1.0, profile.clock.memory_knee / clock)
    lost_s = (1 / clock - slow) * profile.prefill_time_s.value[0]
    lost_j = lost_s * profile.clock.static_power_w
    return replace(
        engine,
        time=_shifted(engine.time, lost_s),
        energy=_shifted(engine.energy, lost_j),
    )


def _shifted(steps: StepModel, by: float) -> StepModel:
    curve = steps.prompt
    assert curve is not None
    fixed = curve.fixed + by
    return replace(steps, prompt=PromptCurve(curve.tokens_from, fixed, curve.per_token))


def throughput_of_static_batch(setting: Setting) -> float:
    """Requests per second of one batch that is prefilled, decoded and replaced as a whole.

    Without arrivals, without mixing prompts into decode steps: what the measurements timed.
    """
    engine, (m, n), b = engine_of(setting), setting.lengths, setting.max_batch
    assert engine.time.prompt is not None
    prefill_s = float(engine.time.prompt.of(np.array([b * m]))[0])
    mean_context = b * (m + n / 2)
    step_s = engine.time.by_batch[b] + engine.time.per_context_token * mean_context
    return float(b / (prefill_s + (n - 1) * step_s))


def step_ratio(above: int = 64, below: int = 4) -> float:
    """Time of a decode step of one batch to that of another, at TP8 and the highest clock."""
    batch = np.array([above, below])
    found = predict_steps(profile_of(8), batch, batch * CONTEXT_TOKENS).time_s
    return float(found[0] / found[1])


def highest_power_per_gpu_w(degree: int = 8) -> float:
    """Largest mean power of a prefill in the profile, for each GPU."""
    profile = profile_of(degree)
    assert profile.prefill_time_s
    assert profile.prefill_energy_j
    power_w = np.array(profile.prefill_energy_j.value) / np.array(profile.prefill_time_s.value)
    return float(power_w.max() / degree)
