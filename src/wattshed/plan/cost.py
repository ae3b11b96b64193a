"""The cost of a query on a deployment: U = λ E/E0 + (1 - λ) R/R0, and accuracy with ζ.

E0, R0 and A0 make joules, seconds and accuracy-weighted tokens comparable. `ideal` takes
the mean of each at its own optimum, so U = 1 would be a plan that is best at both.
`range` is the studies' min-max over all queries and deployments. `none` adds joules to
seconds, as the e-Energy 2024 study does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wattshed.errors import ParameterError
from wattshed.fit.forms import Array
from wattshed.plan.problem import Choice, Problem
from wattshed.records import Profile

NORMALISATIONS = ("ideal", "range", "none")
ACCURACY_MEASURES = ("query-mean", "token-weighted")


@dataclass(frozen=True)
class Weights:
    """What a plan optimises.

    Attributes
    ----------
    energy : float
        λ in [0, 1]: 1 is energy alone, 0 is runtime alone.
    accuracy : float or None
        ζ in [0, 1]: cost is ζ U - (1 - ζ) A/A0 with A = accuracy x (m + n); None leaves
        accuracy out.
    normalisation : {"ideal", "range", "none"}
    """

    energy: float = 1.0
    accuracy: float | None = None
    normalisation: str = "ideal"

    def __post_init__(self) -> None:
        for name, value in (("--lambda", self.energy), ("--zeta", self.accuracy)):
            if value is not None and not 0 <= value <= 1:
                raise ParameterError(
                    name, f"{value} is outside [0, 1]", "give a weight from 0 to 1"
                )
        if self.normalisation not in NORMALISATIONS:
            raise ParameterError(
                "--normalise",
                f"{self.normalisation!r} is unknown",
                f"use one of {', '.join(NORMALISATIONS)}",
            )


@dataclass(frozen=True)
class Scales:
    """E0 in J, R0 in s and A0 in accuracy-weighted tokens, per query."""

    energy_j: float
    runtime_s: float
    accuracy_tokens: float


def accuracies(problem: Problem) -> Array:
    """Accuracy of each deployment (K,).

    Raises
    ------
    ParameterError
        If one has none.
    """
    found = []
    for deployment in problem.deployments:
        value = deployment.accuracy
        if value is None and isinstance(deployment.profile, Profile):
            value = deployment.profile.accuracy
        if value is None:
            raise ParameterError(
                "--zeta",
                f"deployment {deployment.name} has no accuracy",
                "set accuracy (0 to 1) for it in the fleet file",
            )
        found.append(value)
    return np.array(found)


def accuracy_tokens(problem: Problem) -> Array:
    """a(m, n) = accuracy x (m + n) of study 2 (HotCarbon 2024), array (Q, K)."""
    return (problem.queries.m + problem.queries.n)[:, None] * accuracies(problem)


def make_scales(problem: Problem, weights: Weights) -> Scales:
    """Fix E0, R0 and A0 for a problem; independent of λ and ζ."""
    accuracy = accuracy_tokens(problem) if weights.accuracy is not None else None
    if weights.normalisation == "none":
        return Scales(1.0, 1.0, 1.0)
    if weights.normalisation == "range":
        return Scales(
            _range(problem.energy_j),
            _range(problem.runtime_s),
            _range(accuracy) if accuracy is not None else 1.0,
        )
    count = problem.queries.count

    def best_mean(values: Array) -> float:
        best = np.where(problem.eligible, values, np.inf).min(axis=1)
        return float(np.abs(best @ count) / count.sum()) or 1.0

    return Scales(
        best_mean(problem.energy_j),
        best_mean(problem.runtime_s),
        best_mean(-accuracy) if accuracy is not None else 1.0,
    )


def _range(values: Array) -> float:
    return float(values.max() - values.min()) or 1.0


def cost_matrix(problem: Problem, weights: Weights, scales: Scales) -> Array:
    """Cost (Q, K) of each query on each deployment; inf where it may not go."""
    load = (
        weights.energy * problem.energy_j / scales.energy_j
        + (1 - weights.energy) * problem.runtime_s / scales.runtime_s
    )
    if weights.accuracy is not None:
        quality = accuracy_tokens(problem) / scales.accuracy_tokens
        load = weights.accuracy * load - (1 - weights.accuracy) * quality
    return np.where(problem.eligible, load, np.inf)


def least_cost(cost: Array) -> Choice:
    """Deployment of least cost for each query (Q,); the first by name among equals.

    Without constraints that couple queries the problem separates, so this is exact.
    """
    return np.asarray(np.argmin(cost, axis=1))
