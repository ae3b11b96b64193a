"""What the online study serves: its queries in some order, its models, its slots."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from wattshed.fit.forms import Array
from wattshed.fleet import Fleet, load_fleet
from wattshed.plan.cost import accuracies
from wattshed.plan.problem import predict_problem
from wattshed.plan.rule import choose
from wattshed.records import PriceRule
from wattshed.reproduce.offline_routing import PARTITION
from wattshed.reproduce.online_system import Queries, System
from wattshed.reproduce.study import published_value
from wattshed.route.accumulated import FIRST_TOKENS
from wattshed.workload import table
from wattshed.workload.table import Workload

FLEET = "offline-2024"
ACCELERATORS = 16_000
GROUP = 10
"""Queries that the study's code lets come at each tick of 1/λ: 10 λ in a second."""
SPAN_S = 10_000.0
"""λ is the number of queries by this time."""
PER_70B = 4
"""Accelerators of an instance of Llama-2-70B, which most of the study's scripts forget."""


@dataclass(frozen=True)
class Scenario:
    """How queries come and leave.

    Attributes
    ----------
    arrivals : {"ticks-52", "poisson-52", "poisson-5.2"}
    release : {"oldest", "any"}
        Which query may leave its slot: the one that began first, or any that has ended.
    divided : bool
        Instances of 70B take four accelerators each.
    """

    arrivals: str = "ticks-52"
    release: str = "oldest"
    divided: bool = False


AS_CODED = Scenario()
MENDED = Scenario("poisson-5.2", "any", divided=True)
SCENARIOS = (
    AS_CODED,
    Scenario(divided=True),
    Scenario(release="any"),
    Scenario("poisson-52"),
    Scenario("poisson-52", "any"),
    Scenario("poisson-52", "any", divided=True),
    Scenario("poisson-5.2"),
    MENDED,
)


@dataclass(frozen=True)
class Setting:
    """Every query on every model, in no order.

    Attributes
    ----------
    fleet : Fleet
        Three models, with the printed coefficients.
    distinct : table.Queries
    energy_j, quality, runtime_s : arrays (Q, K)
        Quality is accuracy x (m + n).
    accuracy : array (K,)
    most : array (K, 2)
        Energy and quality that scale costs until a model was sent a query.
    """

    fleet: Fleet
    distinct: table.Queries
    energy_j: Array
    quality: Array
    runtime_s: Array
    accuracy: Array
    most: Array

    @property
    def queries(self) -> int:
        """Number of queries Q."""
        return len(self.runtime_s)

    @property
    def names(self) -> list[str]:
        """The models, in the order of the study."""
        return [d.name for d in self.fleet.deployments]

    def chosen(self, rule: PriceRule, n: Array | None = None) -> NDArray[np.int64]:
        """Model (Q,) of each query by a rule, at lengths `n` of the distinct queries if given."""
        known = self.distinct
        lengths = known.n if n is None else n
        asked = table.Queries(known.m, lengths, known.count, known.group, known.classes)
        of_sorted = np.array([self.names.index(name) for name in sorted(self.names)])
        found = of_sorted[choose(self.fleet, rule, asked)]
        return np.asarray(np.repeat(found, known.count))


@dataclass(frozen=True)
class Order:
    """One order of the queries.

    Attributes
    ----------
    place : int array (Q,)
    energy_j, quality, runtime_s : arrays (Q, K)
    streams : list of SeedSequence
        Of arrivals, and of a random policy.
    """

    place: NDArray[np.int64]
    energy_j: Array
    quality: Array
    runtime_s: Array
    streams: list[np.random.SeedSequence]

    def arriving(self, scenario: Scenario) -> Queries:
        """The queries with their arrivals."""
        arrival_s = arrivals(len(self.place), scenario, self.streams[0])
        return Queries(arrival_s, self.energy_j, self.quality, self.runtime_s)


def make_setting(workload: Workload) -> Setting:
    """Energies and runtimes of a workload's queries by the printed models."""
    return setting_of(workload.distinct())


def setting_of(distinct: table.Queries) -> Setting:
    """Energies and runtimes of distinct queries by the printed models."""
    fleet = load_fleet(FLEET)
    problem = predict_problem(fleet, distinct)
    order = [problem.names.index(d.name) for d in fleet.deployments]
    accuracy = accuracies(problem)[order]
    long = np.full(1, float(FIRST_TOKENS))
    one = np.ones(1, np.int64)
    first = predict_problem(fleet, table.Queries(long, long, one, 0 * one))
    tokens = distinct.m + distinct.n
    return Setting(
        fleet,
        distinct,
        np.repeat(problem.energy_j[:, order], distinct.count, axis=0),
        np.repeat(tokens[:, None] * accuracy, distinct.count, axis=0),
        np.repeat(problem.runtime_s[:, order], distinct.count, axis=0),
        accuracy,
        np.stack([first.energy_j[0, order], 2 * FIRST_TOKENS * accuracy], axis=1),
    )


def shuffles(setting: Setting, count: int, seed: int) -> Iterator[Order]:
    """Orders of the queries, each with streams of its own."""
    for sequence in np.random.SeedSequence(seed).spawn(count):
        first, *others = sequence.spawn(3)
        place = np.random.default_rng(first).permutation(setting.queries)
        arrays = (setting.energy_j[place], setting.quality[place], setting.runtime_s[place])
        yield Order(place, *arrays, others)


@cache
def published_queries() -> int:
    """Queries of the study's workload."""
    return int(published_value("checksum", "queries"))


def rate_per_s() -> float:
    """λ of the study: its queries over 10,000 s, 5.2 a second."""
    return published_queries() / SPAN_S


def arrivals(count: int, scenario: Scenario, stream: np.random.SeedSequence) -> Array:
    """When queries come, array (Q,), in s."""
    rate = rate_per_s()
    if scenario.arrivals == "ticks-52":
        return np.asarray(np.arange(count) // GROUP * (1 / rate), np.float64)
    times = rate * (GROUP if scenario.arrivals == "poisson-52" else 1)
    gaps_s: Array = np.random.default_rng(stream).exponential(1 / times, count)
    return np.cumsum(gaps_s)


def system(scenario: Scenario) -> System:
    """The slots of each model."""
    per_instance = np.array([1, 1, PER_70B if scenario.divided else 1])
    slots = np.round(np.array(PARTITION) * ACCELERATORS).astype(np.int64) // per_instance
    tick_s = 1 / rate_per_s() if scenario.arrivals == "ticks-52" else 0.0
    return System(slots, scenario.release == "oldest", tick_s)
