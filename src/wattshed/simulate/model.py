"""What is simulated: deployments that serve one query or a batch at a time, and requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wattshed.errors import ParameterError

Array = NDArray[np.float64]
UNLIMITED = 2**62
"""Tokens: no limit."""
LONGEST = 2**30
"""Tokens: more than any model reads or writes."""


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
    """

    by_batch: Array
    per_context_token: float = 0.0
    per_prompt_token: float = 0.0
    per_prompt_pair: float = 0.0

    def __post_init__(self) -> None:
        table = np.ascontiguousarray(self.by_batch, float)
        object.__setattr__(self, "by_batch", table)
        if table.ndim != 1 or len(table) < 2:
            raise ParameterError(
                "by_batch",
                f"shape {table.shape}",
                "give one figure for each batch from 0 to B >= 1",
            )
        _check_not_negative("by_batch", table)
        _check_not_negative("per_context_token", np.array(self.per_context_token))
        _check_not_negative("per_prompt_token", np.array(self.per_prompt_token))
        _check_not_negative("per_prompt_pair", np.array(self.per_prompt_pair))

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
    """

    name: str
    replicas: int
    time: StepModel
    energy: StepModel
    chunk_tokens: int = 2048
    kv_tokens: int = UNLIMITED
    max_context_tokens: int = UNLIMITED
    idle_power_w: float = 0.0

    def __post_init__(self) -> None:
        _check_deployment(self.name, self.replicas, self.idle_power_w)
        if self.time.max_batch != self.energy.max_batch:
            found = f"time up to batch {self.time.max_batch}, energy up to {self.energy.max_batch}"
            raise ParameterError(self.name, found, "give both for the same batches")
        if not (self.time.by_batch > 0).all():
            raise ParameterError(f"{self.name}.time", "a step of 0 s", "give times above 0")
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
    """

    name: str
    replicas: int
    runtime_s: Array
    energy_j: Array
    first_token_s: Array | None = None
    idle_power_w: float = 0.0

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
        _check_not_negative(f"{self.name}.runtime_s", self.runtime_s[served])
        _check_not_negative(f"{self.name}.energy_j", self.energy_j[served])
        if self.first_token_s is not None:
            self._check_first_token(self.first_token_s, served)

    def _check_first_token(self, first_s: Array, served: NDArray[np.bool_]) -> None:
        where = f"{self.name}.first_token_s"
        if first_s.shape != self.runtime_s.shape:
            raise ParameterError(where, f"shape {first_s.shape}", "match runtime_s")
        _check_not_negative(where, first_s[served])
        if (first_s > self.runtime_s)[served].any():
            raise ParameterError(where, "later than the end", "give at most runtime_s")


Deployment = BatchingDeployment | OneQueryDeployment


@dataclass(frozen=True)
class Requests:
    """Requests in the order in which they arrive.

    Attributes
    ----------
    arrival_s : array (Q,)
        From 0 on, not decreasing; equal times are served in this order.
    input_tokens, output_tokens : int arrays (Q,)
        At least 1, at most `LONGEST`.
    """

    arrival_s: Array
    input_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]

    def __post_init__(self) -> None:
        arrival = np.ascontiguousarray(self.arrival_s, float)
        object.__setattr__(self, "arrival_s", arrival)
        wrong = ~np.isfinite(arrival) | (np.diff(arrival, prepend=0.0) < 0)
        _check_rows("arrival_s", arrival, wrong, "give finite times from 0 on, in order")
        for field in ("input_tokens", "output_tokens"):
            tokens = np.asarray(getattr(self, field))
            if tokens.shape != arrival.shape:
                raise ParameterError(field, f"shape {tokens.shape}", "give one for each arrival_s")
            wrong = ~((tokens >= 1) & (tokens <= LONGEST)) | (tokens % 1 != 0)
            _check_rows(field, tokens, wrong, f"give whole numbers from 1 to {LONGEST}")
            object.__setattr__(self, field, np.ascontiguousarray(tokens, np.int64))

    def __len__(self) -> int:
        return len(self.arrival_s)


def check_fleet(deployments: Sequence[Deployment], requests: Requests) -> None:
    """Refuse a fleet without deployments, or with figures for other requests.

    Raises
    ------
    ParameterError
    """
    if not deployments:
        raise ParameterError("deployments", "none", "give at least one")
    for d in deployments:
        if isinstance(d, OneQueryDeployment) and d.runtime_s.shape != requests.arrival_s.shape:
            raise ParameterError(
                f"{d.name}.runtime_s",
                f"shape {d.runtime_s.shape} for {len(requests)} requests",
                "give one for each request",
            )


def _check_deployment(name: str, replicas: int, idle_power_w: float) -> None:
    if replicas < 1:
        raise ParameterError(f"{name}.replicas", f"{replicas}", "give at least 1")
    _check_not_negative(f"{name}.idle_power_w", np.array(idle_power_w))


def _check_not_negative(where: str, values: Array) -> None:
    wrong = ~((values >= 0) & (values < np.inf))
    if wrong.any():
        raise ParameterError(where, f"{values[wrong].flat[0]:g}", "give finite figures from 0 on")


def _check_rows(
    where: str, values: NDArray[np.generic], wrong: NDArray[np.bool_], cure: str
) -> None:
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ParameterError(f"{where}[{row}]", f"{values[row]}", cure)
