"""SLO classes: who may serve what, budgets by class, and what energy a faster answer costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from wattshed import load_fleet, load_profile, plan_workload, predict, read_workload
from wattshed.fleet import Deployment, Fleet, Slo
from wattshed.plan.cost import Weights
from wattshed.plan.limits import Bound, Limits
from wattshed.plan.problem import build_problem
from wattshed.plan.service import latencies
from wattshed.workload.table import Workload

CLASSES = ("batch", "interactive")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Workload:
    """The same lengths in two classes and in none."""
    rng = np.random.default_rng(0)
    lengths = np.clip(np.round(rng.lognormal(4, 1, (300, 2))).astype(int), 2, 200)
    rows = [f"{m},{n},{name}" for m, n in lengths.tolist() for name in (*CLASSES, "")]
    path: Path = tmp_path_factory.mktemp("mixed") / "mixed.csv"
    path.write_text("\n".join(["input_tokens,output_tokens,class", *rows]) + "\n")
    return read_workload(path)


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    return load_fleet("hybrid-2024")


def test_first_token_and_steps_add_up_to_the_whole() -> None:
    profile = load_profile("wilkins-2024/swing-a100/llama-2-7b")
    n = np.arange(1.0, 200.0)
    latency = latencies(Deployment("a100", profile), np.full_like(n, 64.0), n)
    whole = predict(profile, np.array([64.0]), np.array([199.0])).runtime_s
    assert latency.ttft_s[-1] + latency.tbt_s.sum() == pytest.approx(whole[0])
    assert latency.tbt_s[0] == 0
    assert (np.diff(latency.tbt_s[1:]) >= -1e-12).all()


def test_only_deployments_that_keep_the_slo_may_serve_a_class(
    fleet: Fleet, mixed: Workload
) -> None:
    promised = structs.replace(fleet, slo={"interactive": Slo(ttft_s=1.0, tbt_s=0.2)})
    problem = build_problem(promised, mixed)
    free = build_problem(fleet, mixed)
    queries = problem.queries
    interactive = queries.group == queries.classes.index("interactive")
    assert problem.eligible[~interactive].all()
    for k, deployment in enumerate(problem.deployments):
        latency = latencies(deployment, queries.m, queries.n)
        kept = (latency.ttft_s <= 1.0) & (latency.tbt_s <= 0.2)
        np.testing.assert_array_equal(problem.eligible[interactive, k], kept[interactive])
    assert (problem.eligible[interactive].sum() < free.eligible[interactive].sum()).all()


def test_the_default_slo_is_for_whoever_has_none(fleet: Fleet, mixed: Workload) -> None:
    promised = structs.replace(fleet, slo={"default": Slo(e2e_s=30.0), "batch": Slo(e2e_s=1e9)})
    problem = build_problem(promised, mixed)
    batch = problem.queries.group == problem.queries.classes.index("batch")
    assert problem.eligible[batch].all()
    assert not problem.eligible[~batch].all()
    np.testing.assert_array_equal(problem.eligible[~batch], (problem.runtime_s <= 30.0)[~batch])


def test_classes_without_a_promise_change_nothing(fleet: Fleet, mixed: Workload) -> None:
    bare = Workload(mixed.name, mixed.table.drop("class"), mixed.provenance, mixed.content_hash)
    ours, theirs = plan_workload(fleet, mixed), plan_workload(fleet, bare)
    assert ours.energy_j == pytest.approx(theirs.energy_j, rel=1e-12)
    for policy, other in zip(ours.baselines, theirs.baselines, strict=True):
        if policy.family != "random":
            assert policy.energy_j == pytest.approx(other.energy_j, rel=1e-12)


def test_a_budget_of_one_class_is_kept_and_leaves_the_other_free(
    fleet: Fleet, mixed: Workload
) -> None:
    free = plan_workload(fleet, mixed)
    plan = plan_workload(fleet, mixed, limits=Limits(class_runtime={"batch": Bound(1.2, True)}))
    assert plan.binding == ["runtime budget of batch"]
    assert plan.rule is not None
    assert set(plan.rule.class_runtime_j_per_s) == {"batch"}
    assert free.energy_j < plan.energy_j < plan.baselines[0].energy_j
    # A third of the queries pays for its budget; two thirds are planned as before.
    whole = plan_workload(fleet, mixed, limits=Limits(runtime=Bound(1.2, True)))
    lost, lost_by_all = plan.energy_j - free.energy_j, whole.energy_j - free.energy_j
    assert lost == pytest.approx(
        lost_by_all / 3, rel=0.05
    )  # whole queries: no budget is met exactly


@pytest.mark.slow
def test_an_energy_budget_is_kept_and_is_the_other_side_of_a_runtime_budget(fleet: Fleet) -> None:
    workload = read_workload("alpaca")
    fast = plan_workload(
        fleet, workload, Weights(0.0), limits=Limits(energy=Bound(0.98, relative=True))
    )
    assert fast.energy_j <= 0.98 * fast.baselines[0].energy_j * (1 + 1e-9)
    assert fast.binding == ["energy budget"]
    assert fast.lower_bound_j is None
    assert fast.lower_bound_cost is not None
    assert fast.cost * (1 - 1e-4) <= fast.lower_bound_cost <= fast.cost
    for baseline in fast.baselines:
        assert baseline.cost >= fast.lower_bound_cost or not baseline.keeps_limits
    thrifty = plan_workload(
        fleet, workload, limits=Limits(runtime=Bound(fast.runtime_s_mean * (1 + 1e-9)))
    )
    assert thrifty.energy_j == pytest.approx(fast.energy_j, rel=1e-5)


def test_changes_under_which_a_budget_cannot_hold_are_told(fleet: Fleet) -> None:
    plan = plan_workload(
        fleet,
        read_workload("alpaca"),
        Weights(0.0),
        limits=Limits(energy=Bound(0.975, relative=True)),
    )
    assert "with m1-pro energy +10 % the limits cannot hold" in plan.warnings
    assert "m1-pro energy +10 %" not in [case.change for case in plan.sensitivity]
