"""plan.json: what was written is read, and what is wrong is told with its place."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import pytest

from wattshed import InputError, load_fleet, load_plan, load_policy, plan_workload, read_workload
from wattshed.plan.evaluate import evaluate_out_of_sample
from wattshed.plan.files import encode_plan, planned_fleet
from wattshed.plan.limits import Bound, Limits
from wattshed.records import OutOfSample, Plan

LIMITS = Limits(horizon_s=40_000.0, runtime=Bound(1.5, relative=True))


@pytest.fixture(scope="module")
def made() -> tuple[Plan, list[OutOfSample], dict[str, Any]]:
    fleet, workload = load_fleet("hybrid-2024"), read_workload("alpaca")
    plan = plan_workload(fleet, workload, limits=LIMITS)
    inputs = {
        "fleet": {"name": "hybrid-2024", "sha256": fleet.content_hash},
        "workload": {"name": "alpaca", "sha256": workload.content_hash},
        "lambda": 1.0,
        "zeta": None,
        "normalise": "ideal",
        "robust": None,
        "limits": asdict(LIMITS),
        "slo": {"default": {"e2e_s": 1000.0}},
        "idle_power_w": {"a100": 20.0},
        "evaluate_on": None,
        "seed": 3,
    }
    return plan, evaluate_out_of_sample(fleet, workload, workload, plan, LIMITS), inputs


@pytest.fixture
def path(made: tuple[Plan, list[OutOfSample], dict[str, Any]], tmp_path: Path) -> Path:
    written = tmp_path / "plan.json"
    written.write_bytes(encode_plan(made[0], made[2], made[1]))
    return written


def test_a_plan_comes_back_as_it_was(
    made: tuple[Plan, list[OutOfSample], dict[str, Any]], path: Path
) -> None:
    found = load_plan(path)
    assert found.plan == made[0]
    assert found.out_of_sample == made[1]
    assert found.inputs.limits == LIMITS
    assert found.seed == found.inputs.seed == 3
    assert msgspec.json.format(msgspec.json.encode(found), indent=1) == path.read_bytes()


def test_the_fleet_is_as_it_was_planned(path: Path) -> None:
    fleet = planned_fleet(load_plan(path), load_fleet("hybrid-2024"))
    assert {d.name: d.idle_power_w for d in fleet.deployments}["a100"] == 20
    assert fleet.slo["default"].e2e_s == 1000


def test_a_fleet_that_changed_is_refused(path: Path, tmp_path: Path) -> None:
    changed = tmp_path / "fleet.toml"
    changed.write_text(
        '[[deployments]]\nname = "a100"\nprofile = "wilkins-2024/swing-a100/llama-2-7b"\n'
    )
    with pytest.raises(InputError, match="for which the plan was made; plan again"):
        load_policy("prices", fleet=changed, plan=path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "wattshed/pareto"}, "plan.json: schema: invalid enum value"),
        ({"version": 2}, "plan.json: version: invalid enum value 2"),
        ({"plan": None}, "plan.json: plan: expected `object`, got `null`"),
        ({"inputs": {}}, "plan.json: inputs: object missing required field `fleet`"),
        ({"seed": "one"}, "plan.json: seed: expected `int`, got `str`"),
    ],
)
def test_what_is_wrong_in_a_plan_is_told_with_its_place(
    path: Path, change: dict[str, Any], message: str
) -> None:
    path.write_text(json.dumps(json.loads(path.read_bytes()) | change))
    with pytest.raises(InputError, match=message):
        load_plan(path)


def test_a_rule_that_lacks_a_price_is_told_with_its_place(path: Path) -> None:
    content = json.loads(path.read_bytes())
    content["plan"]["rule"]["deployments"]["a100"]["query_j"] = "dear"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"plan.rule.deployments\[...\].query_j: expected `float`"):
        load_plan(path)


def test_no_file_and_no_json(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        load_plan(tmp_path / "plan.json")
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        load_plan(tmp_path / "plan.json")
