"""The policies of the online study and ours, and what serving an order of queries comes to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wattshed.fit.forms import Array
from wattshed.plan.assign import assign
from wattshed.plan.problem import predict_problem
from wattshed.records import DeploymentPrices, PriceRule
from wattshed.reproduce.online_setting import AS_CODED, Order, Scenario, Setting, system
from wattshed.reproduce.online_system import Memory, Queries, Weights, make_memory, serve
from wattshed.reproduce.study import Result, published_value
from wattshed.units import kwh
from wattshed.workload.lengths import train_histogram
from wattshed.workload.table import Workload

ONLINE, QUEUE_AWARE = "online", "online-queue-aware"
QUEUE_WEIGHTS = {ONLINE: 0.0, QUEUE_AWARE: 0.1}
"""Weight of each query that waits, by the study's experiment: algorithms 1 and 2."""
CODED = "accumulated-coded"
ZETAS_SHOWN = (0.0, 0.5, 1.0)
ROUND_ROBIN, RANDOM = "round-robin", "random"
KNOWN, FORECAST, FOR_FORECASTS = (
    "prices, known lengths",
    "prices, forecast lengths",
    "prices made for forecasts",
)
DECIDED = Weights(0.0, 0.0, printed=True)
"""Of policies that are told nothing: what they choose is known beforehand."""
FIRST = 60
"""Queries after which the total of algorithm 1 as printed is shown."""

BLOCK = 1000
"""Successive queries over which it is told how unevenly the largest model gets them."""

QUANTITIES = {
    "energy_kwh": "total_energy",
    "accuracy_pct": "accuracy",
    "service_s": "mean_service_time",
    "wait_s": "mean_wait_time",
}
"""What is compared, and its name among the published figures."""

Choose = Callable[[Order], NDArray[np.int64]]
Figures = dict[str, float]


@dataclass(frozen=True)
class Contender:
    """A policy that is served.

    Attributes
    ----------
    name : str
    choose : callable
        Model (Q,) of each query in an order; -1 where the accumulators decide.
    experiment : str
        Of the study, under which it published the policy; empty where it did not.
    zeta : float or None
        Of the accumulators.
    """

    name: str
    choose: Choose
    experiment: str = ""
    zeta: float | None = None

    @property
    def weights(self) -> Weights:
        """What the accumulators weigh."""
        if self.zeta is None:
            return DECIDED
        return Weights(self.zeta, QUEUE_WEIGHTS[self.experiment], printed=False)


def accumulated(experiment: str, zeta: float) -> Contender:
    """The study's accumulators as coded."""

    def undecided(order: Order) -> NDArray[np.int64]:
        return np.full(len(order.place), -1)

    return Contender(CODED, undecided, experiment, float(zeta))


def baselines(setting: Setting) -> list[Contender]:
    """Round robin, random, and all to one model."""
    models = len(setting.names)

    def in_turn(order: Order) -> NDArray[np.int64]:
        return np.arange(len(order.place)) % models

    def at_random(order: Order) -> NDArray[np.int64]:
        return np.random.default_rng(order.streams[1]).integers(models, size=len(order.place))

    def all_to(k: int) -> Choose:
        return lambda order: np.full(len(order.place), k)

    return [
        Contender(ROUND_ROBIN, in_turn, ONLINE),
        Contender(RANDOM, at_random, ONLINE),
        *(Contender(name, all_to(k), ONLINE) for k, name in enumerate(setting.names)),
    ]


def priced(setting: Setting, workload: Workload) -> list[Contender]:
    """Least energy at the accuracy of the study's round robin, as a rule for single queries.

    With known lengths; with the mean length of queries of alike input as a forecast; and by
    a rule that was made for such forecasts. The forecast is trained on the workload itself.
    """
    known, forecast = setting.distinct.n, train_histogram(workload)(setting.distinct.m)
    rule = best_rule(setting, known)
    choices = {
        KNOWN: setting.chosen(rule, known),
        FORECAST: setting.chosen(rule, forecast),
        FOR_FORECASTS: setting.chosen(best_rule(setting, forecast), forecast),
    }
    return [Contender(name, _placed(choice)) for name, choice in choices.items()]


def _placed(choice: NDArray[np.int64]) -> Choose:
    return lambda order: choice[order.place]


def best_rule(setting: Setting, n: Array) -> PriceRule:
    """The rule of least energy at the token-weighted accuracy of the study's round robin.

    Parameters
    ----------
    setting : Setting
    n : array (D,)
        Output tokens of the distinct queries, for which the rule is made.
    """
    queries = setting.distinct
    problem = predict_problem(setting.fleet, replace(queries, n=n))
    accuracy = dict(zip(setting.names, setting.accuracy.tolist(), strict=True))
    tokens = queries.m + n
    target = published_value(ONLINE, "accuracy", ROUND_ROBIN) / 100
    found = assign(
        problem.energy_j,
        np.zeros_like(problem.energy_j),
        count=queries.count,
        accuracy=tokens[:, None] * np.array([accuracy[name] for name in problem.names]),
        min_accuracy=target * float(queries.count @ tokens) / float(queries.count.sum()),
    )
    prices = {
        name: DeploymentPrices(token_j=-found.accuracy_price_j * value)
        for name, value in accuracy.items()
    }
    return PriceRule(1.0, {}, prices)


def serve_one(
    contender: Contender,
    setting: Setting,
    order: Order,
    scenario: Scenario = AS_CODED,
    memory: Memory | None = None,
) -> Figures:
    """Serve the queries in one order.

    Parameters
    ----------
    contender : Contender
    setting : Setting
    order : Order
    scenario : Scenario
    memory : Memory, optional
        What the accumulators remember; written. Nothing unless given.

    Returns
    -------
    dict
        Total energy in kWh, token-weighted accuracy in percent, means of waiting, of running
        and of both in s, the least and most part of 1,000
        successive queries that go to the largest model, and the share of each model.
    """
    chosen = contender.choose(order).copy()
    memory = make_memory(setting.most) if memory is None else memory
    wait_s = serve(order.arriving(scenario), system(scenario), contender.weights, memory, chosen)
    row = np.arange(len(chosen))
    runtime_s = float(order.runtime_s[row, chosen].mean())
    tokens = float(order.quality[:, 0].sum() / setting.accuracy[0])
    share = np.bincount(chosen, minlength=len(setting.names)) / len(chosen)
    return {
        "energy_kwh": kwh(float(order.energy_j[row, chosen].sum())),
        "accuracy_pct": 100 * float(order.quality[row, chosen].sum()) / tokens,
        "service_s": float(wait_s.mean()) + runtime_s,
        "wait_s": float(wait_s.mean()),
        "runtime_s": runtime_s,
        **_swing(chosen == len(setting.names) - 1),
        **dict(zip(setting.names, share.tolist(), strict=True)),
    }


def summary(values: list[float]) -> dict[str, float]:
    """Mean, median and range of a figure over orders."""
    return {
        "mean": float(np.mean(values)),
        "median": float(np.median(values)),
        "low": min(values),
        "high": max(values),
    }


def _swing(to_largest: NDArray[np.bool_]) -> Figures:
    """Least and most part of successive blocks of queries that the largest model gets."""
    part = to_largest[: len(to_largest) // BLOCK * BLOCK].reshape(-1, BLOCK).mean(axis=1)
    return {"least_to_largest": float(part.min()), "most_to_largest": float(part.max())}


def as_printed(setting: Setting, order: Order, zeta: float) -> Result:
    """Algorithm 1 to the letter, until its total is no longer finite.

    Its costs are scaled as the code scales them, which the text leaves open.
    """
    queries = order.arriving(AS_CODED)
    chosen, _ = _print(queries, setting, zeta)
    decided = int((chosen >= 0).sum())
    _, memory = _print(Queries(*(column[:FIRST] for column in queries)), setting, zeta)
    share = np.bincount(chosen[:decided], minlength=len(setting.names)) / decided
    most = int(share.argmax())
    return {
        "zeta": zeta,
        "queries_until_overflow": decided,
        "largest_total_after_60": float(np.abs(memory.total).max()),
        "most_to": setting.names[most],
        "share_of_most": float(share[most]),
    }


def _print(queries: Queries, setting: Setting, zeta: float) -> tuple[NDArray[np.int64], Memory]:
    chosen = np.full(len(queries.arrival_s), -1)
    memory = make_memory(setting.most)
    serve(queries, system(AS_CODED), Weights(zeta, 0.0, printed=True), memory, chosen)
    return chosen, memory


def round_robin_waits(setting: Setting, order: Order) -> Figures:
    """Mean wait in s of round robin's queries at each model, in the study's slots."""
    chosen = np.arange(setting.queries) % len(setting.names)
    memory = make_memory(setting.most)
    wait_s = serve(order.arriving(AS_CODED), system(AS_CODED), DECIDED, memory, chosen)
    return {name: float(wait_s[chosen == k].mean()) for k, name in enumerate(setting.names)}
