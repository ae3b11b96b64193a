"""Plans within random limits of every kind, against the whole linear program by HiGHS.

The program here is written from the description of the limits, not from the project's own
constraints: what the two share is the problem's energies and runtimes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs
from numpy.typing import NDArray
from scipy.optimize import linprog

from wattshed import InfeasibleError, plan_workload
from wattshed.errors import ParameterError
from wattshed.fleet import Fleet
from wattshed.plan.cost import ACCURACY_MEASURES
from wattshed.plan.limits import Bound, Limits
from wattshed.plan.problem import Problem, build_problem
from wattshed.workload.table import Workload

Array = NDArray[np.float64]
CLASSES = ("batch", "chat", None)


@dataclass
class Program:
    """Rows of a linear program over (query, deployment) pairs."""

    problem: Problem
    rows: list[Array]
    bounds: list[float]

    def add(self, usage: Array, bound: float) -> None:
        counted = np.broadcast_to(usage, self.problem.runtime_s.shape)
        self.rows.append((counted * self.problem.queries.count[:, None]).ravel())
        self.bounds.append(bound)

    def least_energy(self) -> float | None:
        problem = self.problem
        q, k = problem.runtime_s.shape
        energy = (problem.energy_j * problem.queries.count[:, None]).ravel()
        found = linprog(
            energy / energy.max(),
            A_ub=np.array(self.rows) if self.rows else None,
            b_ub=self.bounds or None,
            A_eq=np.kron(np.eye(q), np.ones(k)),
            b_eq=np.ones(q),
            method="highs",
            options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
        )
        return None if found.status == 2 else float(found.fun * energy.max())


def some(rng: np.random.Generator) -> bool:
    return bool(rng.random() < 0.35)


def limit_deployments(
    rng: np.random.Generator, fleet: Fleet, program: Program, share: Array, room: float
) -> Fleet:
    """Shares and caps of the first two deployments."""
    problem = program.problem
    k, total = len(share), float(problem.total)
    tokens = problem.queries.m + problem.queries.n
    first, second = (np.arange(k) == index for index in (0, 1))
    keys: dict[str, dict[str, float]] = {name: {} for name in problem.names}
    if some(rng):
        keys[problem.names[0]]["max_share"] = most = min(1.0, room * share[0])
        program.add(first * 1.0, most * total)
    if some(rng):
        keys[problem.names[1]]["min_share"] = least = share[1] / 2
        program.add(second * -1.0, -least * total)
    if some(rng):
        keys[problem.names[0]]["max_queries"] = cap = int(np.ceil(room * share[0] * total))
        program.add(first * 1.0, cap)
    if some(rng):
        cap = int(np.ceil(room * share[1] * (tokens @ problem.queries.count)))
        keys[problem.names[1]]["max_tokens"] = cap
        program.add(second * tokens[:, None], cap)
    changed = [structs.replace(d, **keys[d.name]) for d in fleet.deployments]
    return structs.replace(fleet, deployments=changed)


def limit_workload(rng: np.random.Generator, program: Program, share: Array, room: float) -> Limits:
    """Busy time, mean runtimes and accuracy."""
    problem, queries = program.problem, program.problem.queries
    alone = queries.count @ problem.runtime_s
    found: dict[str, Any] = {"accuracy_measure": str(rng.choice(ACCURACY_MEASURES))}
    if some(rng):
        found["horizon_s"] = room * (share * alone).max()
        for index, deployment in enumerate(problem.deployments):
            one = (np.arange(len(share)) == index) * problem.runtime_s
            program.add(one, found["horizon_s"] * deployment.replicas)
    if some(rng):
        found["runtime"] = Bound(room * (share @ alone) / problem.total)
        program.add(problem.runtime_s, found["runtime"].value * problem.total)
    if some(rng):
        inside = queries.group == len(queries.classes) - 1
        number = queries.count[inside].sum()
        bound = room * (share @ (queries.count[inside] @ problem.runtime_s[inside])) / number
        found["class_runtime"] = {queries.classes[-1]: Bound(bound)}
        program.add(problem.runtime_s * inside[:, None], bound * number)
    if some(rng):
        accuracy = np.array([d.accuracy for d in problem.deployments], float)
        found["accuracy_floor"] = floor = min(1.0, share @ accuracy / room)
        by_query = found["accuracy_measure"] == "query-mean"
        weight = np.ones(len(queries.m)) if by_query else queries.m + queries.n
        program.add(-weight[:, None] * accuracy, -floor * (weight @ queries.count))
    return Limits(**found)


def compare(
    make_fleet: Callable[..., Fleet], make_workload: Callable[..., Workload], seed: int
) -> bool:
    """Whether a plan was found; it then equals the program's optimum."""
    rng = np.random.default_rng(seed)
    k, q = int(rng.integers(2, 5)), int(rng.integers(20, 60))
    costs = {
        name: tuple(rng.uniform((0.1, 1e-4, 1e-3, 1e-6), (10, 0.1, 1, 1e-3))) for name in "abcd"[:k]
    }
    settings_of = {name: {"accuracy": float(rng.uniform(0.3, 0.9))} for name in costs}
    workload = make_workload(
        rng.integers(1, 2000, q).tolist(),
        rng.integers(1, 500, q).tolist(),
        rng.integers(1, 200, q).tolist(),
    )
    label = [CLASSES[i] for i in rng.integers(0, 3, q)]
    fleet = make_fleet(costs, **settings_of)
    workload = Workload(
        workload.name,
        workload.table.with_columns(pl.Series("class", label, pl.String)),
        workload.provenance,
        workload.content_hash,
    )
    program = Program(build_problem(fleet, workload), [], [])
    share, room = rng.dirichlet(np.full(k, 2.0)), rng.uniform(0.98, 1.3)
    fleet = limit_deployments(rng, fleet, program, share, room)
    limits = limit_workload(rng, program, share, room)
    expected = program.least_energy()
    try:
        plan = plan_workload(fleet, workload, limits=limits)
    except (InfeasibleError, ParameterError) as error:
        # Whole queries may not fit where fractions do.
        rightly = expected is None or "splits queries" in str(error)
        assert rightly
        return False
    assert expected is not None
    assert plan.lower_bound_j is not None
    assert plan.lower_bound_j == pytest.approx(expected, rel=1e-7)
    assert plan.energy_j >= plan.lower_bound_j * (1 - 1e-9)
    return True


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
@pytest.mark.slow
def test_every_kind_of_limit_gives_the_optimum_of_the_whole_program(
    make_fleet: Callable[..., Fleet], make_workload: Callable[..., Workload], seed: int
) -> None:
    compare(make_fleet, make_workload, seed)


@pytest.mark.slow
def test_the_random_limits_are_mostly_feasible(
    make_fleet: Callable[..., Fleet], make_workload: Callable[..., Workload]
) -> None:
    found = [compare(make_fleet, make_workload, seed) for seed in range(60)]
    assert 30 <= sum(found) <= 60
