"""The energy of a request from the profile of its deployment: modelled, and marked so."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
from msgspec import structs

from wattshed.plan.service import serve
from wattshed.profiles import predict_draws
from wattshed.records import Boundary, Deployment, IterationProfile
from wattshed.serve.answer import Usage
from wattshed.serving import engine_settings

LEVELS = (2.5, 97.5)
"""Percentiles of the bootstrap draws that an interval spans."""


class Receipt(msgspec.Struct, frozen=True):
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
        names = ("joules", "idle_joules", "low", "high", "method", "boundary")
        return {name: getattr(self, name) for name in names}


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
        self._known = lru_cache(maxsize=65_536)(self._predict)

    def of(self, used: Usage, beside: float) -> Receipt | None:
        """The receipt of a request; None where the profile predicts no energy above 0.

        Parameters
        ----------
        used : Usage
        beside : float
            Requests that were decoded together in the mean, this one included.
        """
        batch = min(max(1, round(beside)), self._batch)
        return self._known(max(1, used.input_tokens), max(1, used.output_tokens), batch)

    def _predict(self, m: int, n: int, batch: int) -> Receipt | None:
        deployment, profile = self._deployment, self._deployment.profile
        tokens = np.array([float(m)]), np.array([float(n)])
        if isinstance(profile, IterationProfile):
            deployment = structs.replace(deployment, max_batch=batch)
        found = serve(deployment, *tokens)
        if found.negative[0]:
            return None
        idle_w = self._idle_w or 0.0
        added_w = deployment.host_power_w - idle_w
        busy_s = float(found.busy_s[0])
        low = high = None
        if not isinstance(profile, IterationProfile):
            draws = predict_draws(profile, *tokens)
            if draws is not None:
                net = draws[0] + added_w * draws[1]
                low, high = (float(value) for value in np.percentile(net, LEVELS))
        return Receipt(
            float(found.energy_j[0]) + added_w * busy_s,
            None if self._idle_w is None else idle_w * busy_s,
            low,
            high,
            "modelled",
            profile.boundary,
            bool(found.extrapolated[0]),
        )


def idle_power_w(deployment: Deployment) -> float | None:
    """Power of a replica that is idle with its model loaded; None where it is not known."""
    if isinstance(deployment.profile, IterationProfile):
        return engine_settings(deployment).idle_power_w
    return deployment.idle_power_w
