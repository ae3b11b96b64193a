"""What the bootstrap draws of the profiles say about a problem, without holding all of it.

Draw b of every deployment is taken together: their fits are independent, so any pairing is
as good as another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from wattshed.fit.forms import Array
from wattshed.plan.problem import Problem
from wattshed.profiles import energy_model, predict_draws
from wattshed.records import IterationProfile, Profile

CHUNK_VALUES = 60_000
"""Queries times deployments that are predicted at once, each for every draw."""
KEPT_BYTES = 400_000_000
"""Predictions up to this size are kept; larger ones are made again when they are needed."""

Part = list[tuple[Array, Array]]
"""Gross energy (B, q) and runtime (B, q) of some queries, one pair for each deployment."""


@dataclass(frozen=True)
class Draws:
    """The draws of a problem's profiles; with the same profiles and queries, of many problems.

    Attributes
    ----------
    problem : Problem
    number : int
        Draws, B: the fewest that a profile has.
    """

    problem: Problem
    number: int
    _kept: dict[int, Part] = field(default_factory=dict, repr=False)

    def parts(self) -> Iterator[tuple[slice, Part]]:
        """Predictions of the queries, some at a time."""
        rows, k = self.problem.runtime_s.shape
        keep = 16 * self.number * rows * k <= KEPT_BYTES
        step = max(1, CHUNK_VALUES // k)
        for start in range(0, rows, step):
            inside = slice(start, start + step)
            part = self._kept.get(start) or self._predict(inside)
            if keep:
                self._kept[start] = part
            yield inside, part

    def _predict(self, inside: slice) -> Part:
        queries = self.problem.queries
        found = []
        for deployment in self.problem.deployments:
            assert isinstance(deployment.profile, Profile)
            drawn = predict_draws(deployment.profile, queries.m[inside], queries.n[inside])
            assert drawn is not None
            energy, runtime = (each[: self.number] for each in drawn)
            if deployment.host_power_w:
                energy = energy + deployment.host_power_w * runtime
            found.append((energy, runtime))
        return found

    def mean(self, weight: Array) -> tuple[Array, Array]:
        """Mean gross energy (Q, K) and runtime (Q, K) under weights (B,) that sum to 1."""
        energy, runtime = np.empty((2, *self.problem.runtime_s.shape))
        for inside, part in self.parts():
            for k, (energy_j, runtime_s) in enumerate(part):
                energy[inside, k] = weight @ energy_j
                runtime[inside, k] = weight @ runtime_s
        return energy, runtime

    def totals(self, counted: Array) -> tuple[Array, Array]:
        """Total gross energy and runtime (B, P, K) of P assignments, counts (P, Q, K)."""
        energy, runtime = np.zeros((2, self.number, len(counted), counted.shape[2]))
        for inside, part in self.parts():
            for k, (energy_j, runtime_s) in enumerate(part):
                sent = counted[:, inside, k].T
                energy[:, :, k] += energy_j @ sent
                runtime[:, :, k] += runtime_s @ sent
        return energy, runtime


def number_of_draws(profile: Profile | IterationProfile) -> int:
    """Draws of a profile in which both energy and runtime are known; none of steps."""
    if isinstance(profile, IterationProfile):
        return 0
    return min(len(energy_model(profile).draws), len(profile.runtime.draws))


def draws_of(problem: Problem) -> Draws | None:
    """The draws of a problem; None where a profile has none."""
    number = min(number_of_draws(d.profile) for d in problem.deployments)
    return Draws(problem, number) if number else None
