"""What serving a query costs at least on a deployment, whatever else is served beside it.

A replica that is on for T and takes steps of energy e and time t needs

    E  >=  P T + sum over steps of (e - P t)

for any P that is no more than what it draws without a step. The second sum is bounded from
below query by query, so that neither batches nor order nor chunks matter:

- a step that decodes b sequences over kappa tokens of context costs A(b) + a kappa above P. It
  gives a token to each, so a token of a query of m inputs, after i others, costs at least
  min over b of A(b) / b, and a (m + i);
- a step that prefills c tokens costs B(c), or B(c) less a weight pass beside a decode step, so
  each prompt token costs at least the min over c of that divided by c;
- the first token comes with the prompt. Where a full batch of the longest queries does not fit
  into the KV cache, a later one may come with a prompt that is computed again (preemption):
  then it costs m + i prompt tokens, and the lesser of the two counts.

Seconds likewise. P is lowered, if need be, until no term above is negative: else repeating work
would save energy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wattshed.errors import ParameterError
from wattshed.fit.forms import Array
from wattshed.fleet import Deployment
from wattshed.profiles import predict
from wattshed.records import EngineSettings, IterationProfile
from wattshed.serving import engine_settings
from wattshed.steps import modelled_parts, predict_steps, step_coefficients
from wattshed.workload.table import Queries

IN_A_STEP = ("decode_time_s", "decode_energy_j", "prefill_time_s", "prefill_energy_j", "context")
"""Parts of a profile that steps are made of, beside the clock."""


@dataclass(frozen=True)
class _Terms:
    """Costs of pieces of steps at some clock.

    `units` is by how many tokens a piece is shared; arrays (N,).
    """

    energy_j: Array
    time_s: Array
    units: Array

    def least_power_w(self) -> float:
        """Power below which no piece costs less than nothing."""
        takes = self.time_s > 0
        return float((self.energy_j[takes] / self.time_s[takes]).min(initial=np.inf))

    def least_j(self, power_w: float) -> float:
        """Of a token, above a power."""
        return float(((self.energy_j - power_w * self.time_s) / self.units).min())

    def least_s(self) -> float:
        """Of a token."""
        return float((self.time_s / self.units).min())


Pieces = dict[str, _Terms]
"""Terms of a decode token, of a token of context and of a prompt token."""


@dataclass(frozen=True)
class Least:
    """What queries cost at least on a deployment.

    Attributes
    ----------
    floor_power_w : float
        Of one replica.
    energy_j : array (Q,)
        Above `floor_power_w`.
    time_s : array (Q,)
    """

    floor_power_w: float
    energy_j: Array
    time_s: Array


def least_costs(
    deployment: Deployment, queries: Queries, clocks: Sequence[float] | None = None
) -> Least:
    """Least energy above a floor, and least time, of queries on a deployment.

    Parameters
    ----------
    deployment : Deployment
        The energy and runtime of single queries are what their profile predicts.
    queries : Queries
    clocks : sequence of float, optional
        From which each step may choose; the deployment's unless told.

    Raises
    ------
    ParameterError
        If there is no clock, or one out of its range.
    FleetError
        As of `engine_settings`.
    """
    profile = deployment.profile
    if not isinstance(profile, IterationProfile):
        found = predict(profile, queries.m, queries.n)
        power_w = deployment.idle_power_w or 0.0
        drawn_w = deployment.host_power_w - power_w
        return Least(power_w, found.energy_j + drawn_w * found.runtime_s, found.runtime_s)
    settings = engine_settings(deployment)
    pieces = [
        _pieces(profile, settings, clock, deployment.host_power_w)
        for clock in ([settings.clock] if clocks is None else clocks)
    ]
    if not pieces:
        raise ParameterError("clocks", "none", "give at least one, or None")
    every = [terms for each in pieces for terms in each.values()]
    power_w = min(_idle_floor_w(settings), *(terms.least_power_w() for terms in every))
    joules, seconds = (
        {name: min(of(each[name]) for each in pieces) for name in pieces[0]}
        for of in (lambda terms: terms.least_j(power_w), _Terms.least_s)
    )
    longest = float((queries.m + queries.n - 1).max())
    again = settings.kv_tokens < settings.max_batch * longest
    return Least(power_w, _of_queries(queries, joules, again), _of_queries(queries, seconds, again))


def _idle_floor_w(settings: EngineSettings) -> float:
    """Least power without a step: idle, asleep or waking."""
    sleep = settings.sleep
    if sleep is None:
        return settings.idle_power_w
    waking = [sleep.ready_energy_j / sleep.ready_s] if sleep.ready_s > 0 else []
    return min(settings.idle_power_w, sleep.power_w, *waking)


def _pieces(
    profile: IterationProfile, settings: EngineSettings, clock: float, host_power_w: float
) -> Pieces:
    """Terms at one clock, host included: of every batch, and of every chunk."""
    found = step_coefficients(profile, clock)

    def terms(energy_j: Array, time_s: Array, units: Array) -> _Terms:
        return _Terms(energy_j + host_power_w * time_s, time_s, units)

    batch = np.arange(1.0, settings.max_batch + 1)
    decode = predict_steps(profile, batch, clock=clock)
    pieces = {
        "decode": terms(decode.energy_j, decode.time_s, batch),
        "context": terms(np.array([found.context_j]), np.array([found.context_s]), np.ones(1)),
    }
    if found.contains_prefill:
        fullest = np.array([float(settings.max_batch)])
        pieces["place"] = terms(decode.energy_j[:1], decode.time_s[:1], fullest)
        return pieces
    chunk = np.arange(1.0, settings.chunk_tokens + 1)
    prefill = predict_steps(profile, 0, 0, chunk, clock=clock)
    pieces["prompt"] = terms(
        np.concatenate([prefill.energy_j, prefill.energy_j - found.shared_j]),
        np.concatenate([prefill.time_s, prefill.time_s - found.shared_s]),
        np.tile(chunk, 2),
    )
    return pieces


def _of_queries(queries: Queries, least: dict[str, float], again: bool) -> Array:
    """Least joules or seconds (Q,) of queries from those of tokens.

    `again` says whether prompts may be computed again.
    """
    m, later = queries.m, queries.n - 1
    token, context = least["decode"], least["context"]
    if "place" in least:
        return np.asarray(queries.n * least["place"] if again else later * token)
    prompt = least["prompt"]
    by_prompt = np.zeros_like(m)
    if again:
        # Up to so many tokens of context, computing the prompt again costs less than a step.
        short = np.ceil(token / (prompt - context)) - 1 if prompt > context else np.inf
        by_prompt = np.clip(short - m, 0, later)
    by_step = later - by_prompt
    held = _sum_of_contexts(m, later) - _sum_of_contexts(m, by_prompt)
    return np.asarray(
        prompt * (m + _sum_of_contexts(m, by_prompt)) + token * by_step + context * held
    )


def _sum_of_contexts(m: Array, tokens: Array) -> Array:
    """Context in sum over the first tokens after the one that comes with the prompt."""
    return np.asarray(tokens * (m + (tokens + 1) / 2))


def rests_on_assumptions(deployment: Deployment, clocks: Sequence[float] | None) -> bool:
    """Whether an assumption is in what a deployment needs at least."""
    profile = deployment.profile
    if not isinstance(profile, IterationProfile):
        return profile.kind == "modelled"
    settings = engine_settings(deployment)
    parts = modelled_parts(profile, min([settings.clock] if clocks is None else clocks))
    used = {*IN_A_STEP, "clock"}
    if deployment.idle_power_w is None:
        used.add("states.resident.power_w")
    if settings.sleep:
        used |= {"states.sleep.power_w", "states.sleep.ready"}
    return bool(used & set(parts))
