"""The assignment problem as arrays: what each distinct query costs on each deployment."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from wattshed.errors import ParameterError, UnservableError
from wattshed.fit.forms import Array
from wattshed.fleet import DEFAULT_CLASS, Deployment, Fleet, Slo, describe_slo
from wattshed.plan.latency import keeps_slo
from wattshed.plan.service import serve
from wattshed.records import IterationProfile
from wattshed.serving import engine_settings
from wattshed.workload.table import Queries, Workload

Choice = NDArray[np.int64]
Tokens = TypeVar("Tokens", float, Array)


@dataclass(frozen=True)
class Problem:
    """A workload against a fleet; deployments are sorted by name.

    Attributes
    ----------
    deployments : list of Deployment, length K
    queries : Queries
        Distinct queries (Q,).
    gross_energy_j : array (Q, K)
        Energy of a query with its host power, idle power included.
    runtime_s : array (Q, K)
    busy_s : array (Q, K)
        Time of a replica that the query takes up: its runtime, or less in a batch.
    eligible : bool array (Q, K)
        Whether a deployment's token limits admit the query, and it keeps the query's SLO
        when it does not wait.
    idle_power_w : array (K,)
        Power of a replica that stays on whatever is decided; 0 where unknown.
    extrapolated, negative : bool arrays (Q, K)
    round_robin : array (Q, K)
        Queries that each deployment gets when the rows are dealt out in turn.
    energy_scale : array (K,)
        What `gross_energy_j` was multiplied with after its prediction.
    """

    deployments: list[Deployment]
    queries: Queries
    gross_energy_j: Array
    runtime_s: Array
    busy_s: Array
    eligible: NDArray[np.bool_]
    idle_power_w: Array
    extrapolated: NDArray[np.bool_]
    negative: NDArray[np.bool_]
    round_robin: NDArray[np.int64]
    energy_scale: Array

    @property
    def names(self) -> list[str]:
        """Deployment names, sorted."""
        return [d.name for d in self.deployments]

    @property
    def energy_j(self) -> Array:
        """Energy (Q, K) that a decision changes: gross less the idle power that stays on."""
        return self.gross_energy_j - self.idle_power_w * self.busy_s

    @property
    def total(self) -> int:
        """Number of queries."""
        return int(self.queries.count.sum())

    def with_predictions(self, gross_energy_j: Array, runtime_s: Array) -> Problem:
        """The same problem with other energies and runtimes (Q, K), of queries served alone."""
        return replace(self, gross_energy_j=gross_energy_j, runtime_s=runtime_s, busy_s=runtime_s)

    def with_idle_power(self, index: int, power_w: float) -> Problem:
        """The same problem with another idle power of one deployment."""
        idle = self.idle_power_w.copy()
        idle[index] = power_w
        return replace(self, idle_power_w=idle)

    def with_energy_scaled(self, index: int, factor: float) -> Problem:
        """The same problem with one deployment's energies multiplied."""
        scale = np.ones(len(self.deployments))
        scale[index] = factor
        return replace(
            self,
            gross_energy_j=self.gross_energy_j * scale,
            energy_scale=self.energy_scale * scale,
        )


def build_problem(fleet: Fleet, workload: Workload) -> Problem:
    """Predict every distinct query of a workload on every deployment of a fleet.

    Raises
    ------
    UnservableError
        If no deployment admits some query.
    ParameterError
        If an idle power exceeds what its deployment draws when busy.
    """
    queries = workload.distinct(by_class=True)
    dealt = _deal(workload, queries, len(fleet.deployments))
    problem = predict_problem(fleet, queries, dealt)
    _refuse_unservable(fleet, workload, problem)
    _refuse_idle_above_busy(fleet, problem)
    return problem


def predict_problem(
    fleet: Fleet, queries: Queries, round_robin: NDArray[np.int64] | None = None
) -> Problem:
    """Predict queries on every deployment, sorted by name, without checking the result.

    Without `round_robin`, none are dealt out.
    """
    if round_robin is None:
        round_robin = np.zeros((len(queries.m), len(fleet.deployments)), np.int64)
    deployments = sorted(fleet.deployments, key=lambda d: d.name)
    predictions = [serve(d, queries.m, queries.n) for d in deployments]
    busy = np.stack([p.busy_s for p in predictions], axis=1)
    host = np.array([d.host_power_w for d in deployments])
    return Problem(
        deployments,
        queries,
        np.stack([p.energy_j for p in predictions], axis=1) + host * busy,
        np.stack([p.runtime_s for p in predictions], axis=1),
        busy,
        np.stack([_admits(d, queries, fleet.slo) for d in deployments], axis=1),
        np.array([d.idle_power_w or 0.0 for d in deployments]),
        np.stack([p.extrapolated for p in predictions], axis=1),
        np.stack([p.negative for p in predictions], axis=1),
        round_robin,
        np.ones(len(deployments)),
    )


def _admits(deployment: Deployment, queries: Queries, slo: dict[str, Slo]) -> NDArray[np.bool_]:
    """Where token limits and the SLO of the query's class let it go, bool array (Q,)."""
    return keeps_slo(deployment, queries, slo) & keeps_token_limits(deployment, queries)


def keeps_token_limits(deployment: Deployment, queries: Queries) -> NDArray[np.bool_]:
    """Where the token limits of a deployment let queries go, bool array (Q,)."""
    admitted = np.ones(len(queries.m), bool)
    limits = token_limits(deployment)
    for name, tokens in limited_tokens(queries.m, queries.n).items():
        limit = limits[name]
        if limit is not None:
            admitted &= tokens <= limit
    return admitted


def token_limits(deployment: Deployment) -> dict[str, int | None]:
    """Most tokens of a query, by the limit's name; what the cache holds where nothing is stated."""
    context = deployment.max_context_tokens
    if isinstance(deployment.profile, IterationProfile):
        context = engine_settings(deployment).max_context_tokens
    return {
        "max_input_tokens": deployment.max_input_tokens,
        "max_output_tokens": deployment.max_output_tokens,
        "max_context_tokens": context,
    }


def limited_tokens(m: Tokens, n: Tokens) -> dict[str, Tokens]:
    """What each token limit of a deployment bounds, by the limit's name."""
    return {"max_input_tokens": m, "max_output_tokens": n, "max_context_tokens": m + n}


def _deal(workload: Workload, queries: Queries, k: int) -> NDArray[np.int64]:
    """Deal the workload's rows out in turn; (Q, K) counts in the order of `queries`."""
    table = workload.table
    count = table["count"].to_numpy()
    start = np.cumsum(count) - count
    positions = np.arange(k)
    first = (positions - start[:, None]) % k
    dealt = np.maximum(0, (count[:, None] - first + k - 1) // k)
    width, classes = int(queries.n.max()) + 1, len(queries.classes)
    group = pl.Series(queries.classes).search_sorted(workload.classes).to_numpy()
    keys = table["input_tokens"].to_numpy() * width + table["output_tokens"].to_numpy()
    known = queries.m.astype(np.int64) * width + queries.n.astype(np.int64)
    index = np.searchsorted(known * classes + queries.group, keys * classes + group)
    total = np.zeros((len(queries.m), k), np.int64)
    np.add.at(total, index, dealt)
    return total


def _refuse_unservable(fleet: Fleet, workload: Workload, problem: Problem) -> None:
    nowhere = np.flatnonzero(~problem.eligible.any(axis=1))
    if len(nowhere):
        queries = problem.queries
        m, n = int(queries.m[nowhere[0]]), int(queries.n[nowhere[0]])
        label = queries.classes[queries.group[nowhere[0]]]
        affected = int(queries.count[nowhere].sum())
        slo = fleet.slo.get(label, fleet.slo.get(DEFAULT_CLASS))
        raise UnservableError(
            f"{workload.name}: query with input_tokens={m}, output_tokens={n}"
            + (f", class={label}" if label else ""),
            f"no deployment of {fleet.name} may serve it (nor {affected - 1} others)",
            "raise max_input_tokens, max_output_tokens or max_context_tokens of a deployment,"
            f"{f' relax the SLO {describe_slo(slo)},' if slo else ''} or remove the query",
        )


def _refuse_idle_above_busy(fleet: Fleet, problem: Problem) -> None:
    mean_power = problem.gross_energy_j.sum(axis=0) / problem.busy_s.sum(axis=0)
    for deployment, idle, busy in zip(
        problem.deployments, problem.idle_power_w, mean_power, strict=True
    ):
        if idle > busy:
            raise ParameterError(
                f"{fleet.name}: {deployment.name}.idle_power_w",
                f"{idle:g} W is more than the {busy:.1f} W that it draws while it serves",
                "give the idle power of one replica, in watts",
            )
