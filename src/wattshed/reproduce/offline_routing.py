"""Offline routing over ζ: three Llama-2 models, as the study meant it and as it coded it.

A query on model k costs ζ ê_k(m, n) - (1 - ζ) â_k(m, n), with energies e and accuracies
a = A_k (m + n) scaled to [0, 1] over all queries and models. Each query goes to one model
once, and each model gets a least share of the queries.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wattshed.data.catalog import read_table
from wattshed.fit.forms import FORMS, Array
from wattshed.plan.assign import assign, spread
from wattshed.reproduce.offline_models import LLAMAS
from wattshed.reproduce.offline_tables import TERMS
from wattshed.reproduce.study import MODELS, Result, published_value
from wattshed.units import kwh
from wattshed.workload.table import Workload

WEIGHTS = np.linspace(0, 1, 21)
PARTITION = (0.05, 0.20, 0.75)
"""γ of the study: share of its accelerators for each of the three models."""
FLOOR_FACTOR = 0.25
SAMPLE = 200


@dataclass(frozen=True)
class Routing:
    """Queries and what they cost on each of K models.

    Attributes
    ----------
    tokens : array (Q,)
        Input and output tokens of a query.
    count : array (Q,)
    energy_j : array (Q, K)
        From the printed coefficients; may be negative where these are.
    accuracy : array (K,)
    """

    tokens: Array
    count: NDArray[np.int64]
    energy_j: Array
    accuracy: Array

    @property
    def quality(self) -> Array:
        """a(m, n) = A (m + n), array (Q, K)."""
        return np.asarray(self.tokens[:, None] * self.accuracy)

    @property
    def floors(self) -> Array:
        """Least queries of each model, (K,): a quarter of its share γ, and at least one."""
        wanted = FLOOR_FACTOR * np.array(PARTITION) * self.count.sum()
        return np.asarray(np.ceil(np.maximum(1.0, wanted)))


def make_routing(workload: Workload) -> Routing:
    """Energies of a workload's distinct queries by the printed models."""
    queries = workload.distinct()
    printed = {row["model"]: row for row in read_table(MODELS).iter_rows(named=True)}
    theta = np.array([[printed[k][f"energy_{term}_j"] for term in TERMS] for k in LLAMAS])
    energy = FORMS["bilinear"].predict(theta, queries.m, queries.n).T
    accuracy = np.array([printed[k]["accuracy"] for k in LLAMAS])
    return Routing(queries.m + queries.n, queries.count, energy, accuracy)


def sample(routing: Routing, size: int, seed: int) -> Routing:
    """Draw queries without replacement: the workload has no order to take the first of."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, size]))
    drawn = rng.choice(np.repeat(np.arange(len(routing.count)), routing.count), size, replace=False)
    index, count = np.unique(drawn, return_counts=True)
    return replace(
        routing, tokens=routing.tokens[index], count=count, energy_j=routing.energy_j[index]
    )


def cost(routing: Routing, zeta: float) -> Array:
    """ζ ê - (1 - ζ) â of each query on each model, array (Q, K)."""
    return np.asarray(zeta * _scaled(routing.energy_j) - (1 - zeta) * _scaled(routing.quality))


def _scaled(values: Array) -> Array:
    return np.asarray((values - values.min()) / (values.max() - values.min()))


def intended(routing: Routing) -> list[Result]:
    """The problem as the study states it, without floors: exact for each query by itself."""
    k = len(LLAMAS)
    return [_point(routing, z, np.eye(k)[cost(routing, z).argmin(axis=1)]) for z in WEIGHTS]


def intended_with_floors(routing: Routing) -> list[Result]:
    """The same with the least share of each model, an exact transportation problem."""
    least = routing.floors / routing.count.sum()
    return [
        _point(routing, z, _cheapest(routing, cost(routing, z), min_share=least)) for z in WEIGHTS
    ]


def _cheapest(routing: Routing, costs: Array, **limits: Any) -> Array:
    """Shares (Q, K) of the cheapest assignment of whole queries within limits of `assign`."""
    found = assign(costs, np.zeros_like(costs), count=routing.count, **limits)
    return spread(found.choice, found.splits, routing.count, len(LLAMAS))


def as_coded(routing: Routing) -> list[Result]:
    """What the study's code minimises.

    Its objective sums the cost over all queries for each variable, so that every query has
    the same cost on a model. The optimum is: floors, the rest to the model of least total
    cost. Which queries fill the floors is arbitrary, so shares apply to every query alike
    and the energy is the mean over all ways to fill them, beside its least and its most.
    """
    best = [int((routing.count @ cost(routing, z)).argmin()) for z in WEIGHTS]
    by_best = {index: _floors_and_rest(routing, index) for index in set(best)}
    return [
        {**_point(routing, zeta, by_best[index][0]), **by_best[index][1]}
        for zeta, index in zip(WEIGHTS, best, strict=True)
    ]


def _floors_and_rest(routing: Routing, rest: int) -> tuple[Array, Result]:
    """Shares with floors elsewhere and all others on model `rest`; the range of energies."""
    queries = routing.floors.copy()
    queries[rest] += routing.count.sum() - queries.sum()
    part = queries / queries.sum()
    low, high = (
        routing.count
        @ (_cheapest(routing, sign * routing.energy_j, min_share=part) * routing.energy_j).sum(1)
        for sign in (1.0, -1.0)
    )
    shares = np.broadcast_to(part, routing.energy_j.shape)
    return shares, {
        "rest_to": LLAMAS[rest],
        "energy_low_kwh": kwh(float(low)),
        "energy_high_kwh": kwh(float(high)),
    }


def _point(routing: Routing, zeta: float, shares: Array) -> Result:
    """Energy, accuracy and shares of an assignment (Q, K)."""
    total = routing.count.sum()
    energy = float(routing.count @ (shares * routing.energy_j).sum(axis=1))
    per_query = shares @ routing.accuracy
    tokens = routing.count * routing.tokens
    part = (routing.count @ shares / total).tolist()
    return {
        "zeta": round(float(zeta), 10),
        "energy_kwh": kwh(energy),
        "energy_per_query_j": energy / float(total),
        "accuracy_token_weighted": float(tokens @ per_query / tokens.sum()),
        "accuracy_query_mean": float(routing.count @ per_query / total),
        "shares": dict(zip(LLAMAS, part, strict=True)),
    }


def zeta_sweep(workload: Workload, seed: int) -> Result:
    """Every version of the offline problem over ζ.

    Parameters
    ----------
    workload : Workload
    seed : int
        Of the sample that stands for the study's first 200 queries.
    """
    everything = make_routing(workload)
    drawn = sample(everything, SAMPLE, seed)
    return {
        "queries": int(everything.count.sum()),
        "sample_queries": SAMPLE,
        "sample_remark": (
            f"The study routes its first {SAMPLE} queries; the built-in workload has no order, so"
            f" {SAMPLE} queries are drawn at random."
        ),
        "negative_energies": _negative(everything),
        "intended": intended(everything),
        "intended_with_floors": intended_with_floors(everything),
        "intended_sample": intended(drawn),
        "as_coded": as_coded(drawn),
        "as_coded_all_queries": as_coded(everything),
    }


def _negative(routing: Routing) -> dict[str, int]:
    """Queries for which the printed model of energy is negative."""
    queries = routing.count @ (routing.energy_j < 0)
    return dict(zip(LLAMAS, queries.astype(int).tolist(), strict=True))


def best_at_round_robin_accuracy(workload: Workload) -> Result:
    """Least energy at the token-weighted accuracy that the study's round robin reaches.

    Beside it the cheapest of the plans that the study's code computes, at any ζ, that
    reaches it too.
    """
    routing = make_routing(workload)
    target = published_value("online", "accuracy", "round-robin") / 100
    floor = target * float(routing.count @ routing.tokens) / float(routing.count.sum())
    shares = _cheapest(routing, routing.energy_j, accuracy=routing.quality, min_accuracy=floor)
    point = _point(routing, 1.0, shares)
    coded = [p for p in as_coded(routing) if p["accuracy_token_weighted"] >= target]
    return {
        **{key: value for key, value in point.items() if key != "zeta"},
        "round_robin_published_kwh": published_value("online", "total_energy", "round-robin"),
        "as_coded": min(coded, key=lambda p: float(p["energy_kwh"])) if coded else None,
    }
