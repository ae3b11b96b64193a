"""Deployments as engines run them: one query at a time, or a batch, step by step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wattshed.errors import ParameterError

Array = NDArray[np.float64]
UNLIMITED = 2**62
"""Tokens: no limit."""
LONGEST = 2**30
"""Tokens: more than any model reads or writes."""


def check_not_negative(where: str, values: Array) -> None:
    """Refuse figures below 0 or not finite.

    Raises
    ------
    ParameterError
    """
    wrong = ~((values >= 0) & (values < np.inf))
    if wrong.any():
        raise ParameterError(where, f"{values[wrong].flat[0]:g}", "give finite figures from 0 on")


@dataclass(frozen=True)
class PromptCurve:
    """Piecewise affine cost of c prompt tokens in a step: ``fixed[l] + per_token[l] c``.

    Attributes
    ----------
    tokens_from : array (L,)
        First c of each piece, rising; the first piece also serves below, the last has no end.
    fixed, per_token : arrays (L,)
        Seconds or joules.
    """

    tokens_from: Array
    fixed: Array
    per_token: Array

    def __post_init__(self) -> None:
        for field in ("tokens_from", "fixed", "per_token"):
            object.__setattr__(self, field, np.ascontiguousarray(getattr(self, field), float))
        starts = self.tokens_from
        if not len(starts) or not starts.shape == self.fixed.shape == self.per_token.shape:
            found = f"{len(starts)} starts, {len(self.fixed)} and {len(self.per_token)} figures"
            raise ParameterError("prompt", found, "give as many of each, at least one")
        if (np.diff(starts) <= 0).any():
            raise ParameterError("prompt.tokens_from", f"{starts.tolist()}", "make them rise")
        check_not_negative("prompt", self.of(np.append(np.maximum(starts, 1), LONGEST)))

    def pieces(self, tokens: ArrayLike) -> NDArray[np.intp]:
        """Which piece serves each number of tokens (N,)."""
        return np.maximum(np.searchsorted(self.tokens_from, tokens, side="right") - 1, 0)

    def of(self, tokens: ArrayLike) -> Array:
        """Cost (N,) of numbers of prompt tokens."""
        piece = self.pieces(tokens)
        return np.asarray(self.fixed[piece] + self.per_token[piece] * np.asarray(tokens))


@dataclass(frozen=True)
class StepModel:
    """Time or energy of one engine step, affine in tokens, any function of the batch.

    A step that decodes b sequences over κ context tokens, and processes c_i prompt tokens
    of prompt i of which p_i tokens were processed before, costs

        by_batch[b] + per_context_token κ + Σ_i (per_prompt_token c_i
                                                 + per_prompt_pair c_i (p_i + c_i / 2)).

    Attributes
    ----------
    by_batch : array (B + 1,)
        Seconds or joules at b = 0 ... B decoding sequences; b = 0 is what every step costs.
    per_context_token : float
        Context tokens are those that the decoding sequences hold, the one being fed included.
    per_prompt_token : float
    per_prompt_pair : float
        Per pair of a prompt token and one that it attends to.
    prompt : PromptCurve, optional
        What the prompt tokens of a step cost together, where that is not a line.
    saved : float
        Because a step that decodes and processes prompts reads the weights once, not twice.
    """

    by_batch: Array
    per_context_token: float = 0.0
    per_prompt_token: float = 0.0
    per_prompt_pair: float = 0.0
    prompt: PromptCurve | None = None
    saved: float = 0.0

    def __post_init__(self) -> None:
        table = np.ascontiguousarray(self.by_batch, float)
        object.__setattr__(self, "by_batch", table)
        if table.ndim != 1 or len(table) < 2:
            raise ParameterError(
                "by_batch",
                f"shape {table.shape}",
                "give one figure for each batch from 0 to B >= 1",
            )
        check_not_negative("by_batch", table)
        check_not_negative("per_context_token", np.array(self.per_context_token))
        check_not_negative("per_prompt_token", np.array(self.per_prompt_token))
        check_not_negative("per_prompt_pair", np.array(self.per_prompt_pair))
        check_not_negative("saved", np.array(self.saved))

    @property
    def max_batch(self) -> int:
        """Largest number of sequences of which the model knows."""
        return len(self.by_batch) - 1

    @property
    def rates(self) -> tuple[float, float, float]:
        """Per context token, per prompt token, per prompt pair."""
        return self.per_context_token, self.per_prompt_token, self.per_prompt_pair


def affine_steps(
    max_batch: int,
    fixed: float,
    per_sequence: float = 0.0,
    per_context_token: float = 0.0,
    per_prompt_token: float = 0.0,
    per_prompt_pair: float = 0.0,
) -> StepModel:
    """Step model with a constant and a slope in the batch; in s or J."""
    by_batch = fixed + per_sequence * np.arange(max_batch + 1.0)
    return StepModel(by_batch, per_context_token, per_prompt_token, per_prompt_pair)


def interpolated_steps(
    batch: ArrayLike,
    value: ArrayLike,
    per_context_token: float = 0.0,
    per_prompt_token: float = 0.0,
    per_prompt_pair: float = 0.0,
) -> StepModel:
    """Step model that is linear between knots of the batch.

    Parameters
    ----------
    batch : array-like (K,)
        Increasing, from 0 to the largest batch: nothing is extrapolated.
    value : array-like (K,)
        Seconds or joules there, without the terms in tokens.
    """
    knots, values = np.asarray(batch, float), np.asarray(value, float)
    rising = knots.ndim == 1 and len(knots) > 1 and (np.diff(knots) > 0).all()
    if not rising or knots[0] != 0 or values.shape != knots.shape:
        raise ParameterError(
            "batch", f"{knots.tolist()}", "give increasing knots from 0, one value each"
        )
    by_batch = np.interp(np.arange(int(knots[-1]) + 1), knots, values)
    return StepModel(by_batch, per_context_token, per_prompt_token, per_prompt_pair)


@dataclass(frozen=True)
class ClockedSteps:
    """Steps at a lower clock.

    Attributes
    ----------
    clock : float
        As a fraction of the highest.
    time, energy : StepModel
    """

    clock: float
    time: StepModel
    energy: StepModel


@dataclass(frozen=True)
class Sleep:
    """How a replica without work sleeps.

    Attributes
    ----------
    after_s : float
        Without work until it falls asleep.
    power_w : float
    ready_s, ready_energy_j : float
        From the first request until the first step.
    """

    after_s: float
    power_w: float
    ready_s: float = 0.0
    ready_energy_j: float = 0.0

    def __post_init__(self) -> None:
        for field in ("after_s", "power_w", "ready_s", "ready_energy_j"):
            check_not_negative(f"sleep.{field}", np.array(getattr(self, field)))


@dataclass(frozen=True)
class Boot:
    """How a replica comes back after an outage.

    Attributes
    ----------
    ready_s, ready_energy_j : float
        From the end of the outage until it takes requests.
    """

    ready_s: float = 0.0
    ready_energy_j: float = 0.0

    def __post_init__(self) -> None:
        for field in ("ready_s", "ready_energy_j"):
            check_not_negative(f"boot.{field}", np.array(getattr(self, field)))


@dataclass(frozen=True)
class BatchingDeployment:
    """Equal replicas with continuous batching and chunked prefill.

    Each step decodes one token of every sequence that has its prompt behind it, and fills the
    rest of `chunk_tokens` with prompt tokens of further requests, first come, first served.

    Attributes
    ----------
    name : str
    replicas : int
    time, energy : StepModel
        Of one step, s and J; energy is gross, with what the idle machine would have drawn.
        Both end at the same batch: the most sequences that a replica has at once.
    chunk_tokens : int
        Most tokens in a step, one for each decoding sequence included; at least the batch.
    kv_tokens : int
        Tokens that the KV cache of a replica holds.
    max_context_tokens : int
        Requests whose input and output together are longer are not sent here.
    idle_power_w : float
        While a replica has nothing to do.
    static_power_w : float, optional
        Part of a step's power that is there whatever it does: shared equally by those in it. The
        idle power unless told, or the least power of a step without tokens if that is less.
    slower : tuple of ClockedSteps
        What else a controller may set the clock to.
    sleep : Sleep, optional
        Replicas never sleep without it.
    boot : Boot
    clock : float
        Of `time` and `energy`, as a fraction of the highest; those of `slower` are below it.
    """

    name: str
    replicas: int
    time: StepModel
    energy: StepModel
    chunk_tokens: int = 2048
    kv_tokens: int = UNLIMITED
    max_context_tokens: int = UNLIMITED
    idle_power_w: float = 0.0
    static_power_w: float | None = None
    slower: tuple[ClockedSteps, ...] = ()
    sleep: Sleep | None = None
    boot: Boot = Boot()
    clock: float = 1.0

    def __post_init__(self) -> None:
        _check_deployment(self.name, self.replicas, self.idle_power_w)
        self._check_clocks()
        for steps in self.clocks:
            _check_steps(self.name, steps, self.max_batch)
        if self.static_power_w is None:
            object.__setattr__(self, "static_power_w", self._least_power_w())
        check_not_negative(f"{self.name}.static_power_w", np.array(self.static_power_w))
        if self.chunk_tokens < self.max_batch:
            raise ParameterError(
                f"{self.name}.chunk_tokens",
                f"{self.chunk_tokens} for a batch of {self.max_batch}",
                "give at least the batch, so that every sequence gets its token",
            )

    @property
    def max_batch(self) -> int:
        """Most sequences that a replica has at once."""
        return self.time.max_batch

    @property
    def clocks(self) -> tuple[ClockedSteps, ...]:
        """Steps at each clock, the highest last."""
        return (*self.slower, ClockedSteps(self.clock, self.time, self.energy))

    def _check_clocks(self) -> None:
        clocks = [steps.clock for steps in self.clocks]
        if min(clocks) <= 0 or (np.diff(clocks) <= 0).any() or not self.clock <= 1:
            cure = "make them rise, from above 0 to that of the deployment, at most 1"
            raise ParameterError(f"{self.name}.slower", f"clocks {clocks}", cure)

    def _least_power_w(self) -> float:
        """The idle power, or the least power of a step of decoding sequences."""
        busy = [(s.energy.by_batch[1:] / s.time.by_batch[1:]).min() for s in self.clocks]
        return float(min(self.idle_power_w, *busy))


@dataclass(frozen=True)
class OneQueryDeployment:
    """Equal replicas that serve one query at a time, such as those without a KV cache.

    Attributes
    ----------
    name : str
    replicas : int
    runtime_s, energy_j : arrays (Q,)
        r(m, n) and e(m, n) of each request; a request whose runtime is not finite is not sent here.
    first_token_s : array (Q,), optional
        r(m, 1): when the first token is there, counted from the start. Further tokens are taken
        to follow at equal distances. Without it nothing is said about either.
    idle_power_w : float
        Also the part of a query's power that is there whatever it does.
    boot : Boot
    """

    name: str
    replicas: int
    runtime_s: Array
    energy_j: Array
    first_token_s: Array | None = None
    idle_power_w: float = 0.0
    boot: Boot = Boot()

    def __post_init__(self) -> None:
        _check_deployment(self.name, self.replicas, self.idle_power_w)
        for field in ("runtime_s", "energy_j", "first_token_s"):
            if getattr(self, field) is not None:
                object.__setattr__(self, field, np.ascontiguousarray(getattr(self, field), float))
        served = np.isfinite(self.runtime_s)
        if self.energy_j.shape != self.runtime_s.shape:
            raise ParameterError(
                f"{self.name}.energy_j", f"shape {self.energy_j.shape}", "match runtime_s"
            )
        check_not_negative(f"{self.name}.runtime_s", self.runtime_s[served])
        check_not_negative(f"{self.name}.energy_j", self.energy_j[served])
        if self.first_token_s is not None:
            self._check_first_token(self.first_token_s, served)

    def _check_first_token(self, first_s: Array, served: NDArray[np.bool_]) -> None:
        where = f"{self.name}.first_token_s"
        if first_s.shape != self.runtime_s.shape:
            raise ParameterError(where, f"shape {first_s.shape}", "match runtime_s")
        check_not_negative(where, first_s[served])
        if (first_s > self.runtime_s)[served].any():
            raise ParameterError(where, "later than the end", "give at most runtime_s")


Deployment = BatchingDeployment | OneQueryDeployment


def _check_steps(name: str, steps: ClockedSteps, max_batch: int) -> None:
    batches = {max_batch, steps.time.max_batch, steps.energy.max_batch}
    if len(batches) > 1:
        found = f"time and energy up to batch {' and '.join(map(str, sorted(batches)))}"
        raise ParameterError(name, found, "give all for the same batches")
    # A step with prompts alone may cost nothing but its prompts.
    alone = steps.time.by_batch[0] > 0 or steps.time.prompt is not None
    if not (steps.time.by_batch[1:] > 0).all() or not alone:
        raise ParameterError(f"{name}.time", "a step of 0 s", "give times above 0")
    for field, model in (("time", steps.time), ("energy", steps.energy)):
        if model.saved > model.by_batch[1:].min():
            cure = "give at most the least step"
            raise ParameterError(f"{name}.{field}.saved", f"{model.saved:g}", cure)


def _check_deployment(name: str, replicas: int, idle_power_w: float) -> None:
    if replicas < 1:
        raise ParameterError(f"{name}.replicas", f"{replicas}", "give at least 1")
    check_not_negative(f"{name}.idle_power_w", np.array(idle_power_w))
