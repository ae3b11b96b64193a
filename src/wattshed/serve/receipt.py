"""The energy of a request from the profile of its deployment: modelled, and marked so."""

from __future__ import annotations

import math
from functools import cached_property, lru_cache
from typing import Any

import msgspec
import numpy as np
from msgspec import structs

from wattshed.plan.service import serve
from wattshed.profiles import predict_draws
from wattshed.records import Boundary, Deployment, IterationProfile
from wattshed.serve.answer import Usage
from wattshed.serving import engine_settings, idle_power_w
from wattshed.steps import step_coefficients

LEVELS = (2.5, 97.5)
"""Percentiles of the bootstrap draws that an interval spans."""
REMEMBERED = 8192
"""Receipts of a deployment that are kept, of about 1 kB each; see `decide.SIZES`."""


class Receipt(msgspec.Struct, frozen=True, dict=True):
    """Energy of a request.

    Attributes
    ----------
    joules : float
        Net of what an idle replica would have drawn; gross where that is not known.
    idle_joules : float or None
        Its part of the idle power while it was served; None where that is not known.
    low, high : float or None
        95 % of the bootstrap draws of the fit, of `joules`; None where the profile has none.
    method : str
        ``modelled``: predicted from tokens, not metered.
    boundary : str
        What the profile covers.
    extrapolated : bool
        Outside the sizes that the profile was fitted to.
    """

    joules: float
    idle_joules: float | None
    low: float | None
    high: float | None
    method: str
    boundary: Boundary
    extrapolated: bool

    def words(self) -> dict[str, Any]:
        """As ``usage.energy`` says it."""
        return {
            "joules": self.joules,
            "idle_joules": self.idle_joules,
            "low": self.low,
            "high": self.high,
            "method": self.method,
            "boundary": self.boundary,
        }

    @cached_property
    def json(self) -> bytes:
        """The same in JSON; made once, as receipts are remembered."""
        return msgspec.json.encode(self.words())

    @cached_property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """As headers of an answer say it."""
        joules, method = f"{self.joules:.6g}", self.method
        return [(b"x-energy-joules", joules.encode()), (b"x-energy-method", method.encode())]


def between(one: Receipt, other: Receipt | None, part: float) -> Receipt | None:
    """A part of the way from one receipt to another."""
    if other is None:
        return None

    def mean(name: str) -> Any:
        a, b = getattr(one, name), getattr(other, name)
        return None if a is None or b is None else a + part * (b - a)

    known = {name: mean(name) for name in ("joules", "idle_joules", "low", "high")}
    return structs.replace(one, **known, extrapolated=one.extrapolated or other.extrapolated)


class Receipts:
    """Receipts of a deployment.

    Parameters
    ----------
    deployment : Deployment
    """

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._batch = 1
        self._idle_w = idle_power_w(deployment)
        if isinstance(deployment.profile, IterationProfile):
            self._batch = engine_settings(deployment).max_batch
        self._known = lru_cache(maxsize=REMEMBERED)(self._predict)

    def of(self, used: Usage, beside: float, joined: bool = False) -> Receipt | None:
        """The receipt of a request; None where the profile predicts no energy above 0.

        Parameters
        ----------
        used : Usage
        beside : float
            Requests that were decoded together in the mean, this one included.
        joined : bool
            Others were decoding when its prompt was processed: one pass over the weights served
            both, which the simulator credits to the prompt, too.
        """
        tokens = used.input_tokens or 1, used.output_tokens or 1
        if beside <= 1.0:
            return self._known(*tokens, 1, joined)
        beside = min(beside, self._batch)
        few, many = math.floor(beside), math.ceil(beside)
        least = self._known(*tokens, few, joined)
        if few == many or least is None:
            return least
        # Shares of steps are affine in 1 / batch, whose mean the harmonic mean stands for.
        part = (1 / few - 1 / beside) / (1 / few - 1 / many)
        return between(least, self._known(*tokens, many, joined), part)

    def _predict(self, m: int, n: int, batch: int, joined: bool) -> Receipt | None:
        deployment, profile = self._deployment, self._deployment.profile
        tokens = np.array([float(m)]), np.array([float(n)])
        if isinstance(profile, IterationProfile):
            deployment = structs.replace(deployment, max_batch=batch)
        found = serve(deployment, *tokens)
        if found.negative[0]:
            return None
        idle_w = self._idle_w or 0.0
        added_w = deployment.host_power_w - idle_w
        shared_j, shared_s = self._shared(m) if joined else (0.0, 0.0)
        busy_s = float(found.busy_s[0]) - shared_s
        low = high = None
        if not isinstance(profile, IterationProfile):
            draws = predict_draws(profile, *tokens)
            if draws is not None:
                net = draws[0] + added_w * draws[1]
                low, high = (float(value) for value in np.percentile(net, LEVELS))
        return Receipt(
            float(found.energy_j[0]) - shared_j + added_w * busy_s,
            None if self._idle_w is None else idle_w * busy_s,
            low,
            high,
            "modelled",
            profile.boundary,
            bool(found.extrapolated[0]),
        )

    def _shared(self, m: int) -> tuple[float, float]:
        """Joules and seconds that the steps of a prompt share with those that decode beside it."""
        deployment, profile = self._deployment, self._deployment.profile
        if not isinstance(profile, IterationProfile):
            return 0.0, 0.0
        settings = engine_settings(deployment)
        found = step_coefficients(profile, settings.clock)
        steps = -(-m // settings.chunk_tokens)
        return steps * found.shared_j, steps * found.shared_s
