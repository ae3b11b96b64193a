"""One request of a ledger: what was weighed, and why it went where it went."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from wattshed.cli import main
from wattshed.errors import TableError
from wattshed.records import Explanation
from wattshed.serve.explain import explain
from wattshed.serve.ledger import Ledger, requests

WEIGHED = {
    "costs": {"h100": 8.0, "a100": 12.0},
    "joules": {"h100": 8.0, "a100": 12.0},
    "runtime_s": {"h100": 1.0, "a100": 2.0},
    "load": {"h100/0": [1, 0], "a100/0": [0, 0], "a100/1": [2, 3]},
}
ROW: dict[str, Any] = {column.name: None for column in requests.columns} | {
    "id": "r1",
    "arrived_at": 1.75e9,
    "tenant": "a",
    "path": "/v1/chat/completions",
    "model": "llama",
    "slo_class": "quick",
    "deadline_s": 5.0,
    "policy": "weighted",
    "endpoint": "h100/0",
    "deployment": "h100",
    "candidates": json.dumps(WEIGHED),
    "tried": "{}",
    "input_estimate": 13,
    "expected_output_tokens": 20.0,
    "late_output_tokens": 40.0,
    "end_s": 1.25,
    "input_tokens": 12,
    "output_tokens": 10,
    "joules": 9.5,
    "idle_joules": 2.0,
    "energy_method": "modelled",
    "boundary": "accelerator",
    "kept": True,
    "outcome": "served",
    "status": 200,
}


def explained(**changes: Any) -> Explanation:
    return explain(ROW | changes)


def weighed(**changes: Any) -> str:
    return json.dumps(WEIGHED | changes)


def test_candidates_are_told_with_their_endpoints() -> None:
    h100, a100 = explained().candidates
    assert (h100.deployment, h100.joules, h100.runtime_s, h100.cost) == ("h100", 8.0, 1.0, 8.0)
    assert (h100.chosen, a100.chosen) == (True, False)
    ends = [(e.endpoint, e.running, e.waiting) for e in a100.endpoints]
    assert ends == [("a100/0", 0, 0), ("a100/1", 2, 3)]


def test_costs_of_endpoints_stand_beside_them() -> None:
    loads = {"h100/0": 1.0, "a100/0": 0.0, "a100/1": 5.0}
    found = explained(candidates=weighed(costs=loads), endpoint="a100/0", deployment="a100")
    assert {e.endpoint: e.cost for c in found.candidates for e in c.endpoints} == loads
    assert [c.cost for c in found.candidates] == [None, None]
    assert "Nothing that the policy weighed costs less (0, of 3)." in found.why
    assert "h100 was predicted to need less: 8 J, not 12 J." in found.why


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "weighted sent it to h100/0."),
        ({}, "Nothing that the policy weighed costs less (8, of 2)."),
        ({}, "No deployment was predicted to need less than its 8 J."),
        ({"candidates": weighed(costs={})}, "The policy recorded no costs."),
        (
            {"endpoint": "a100/0", "deployment": "a100"},
            "h100 would have cost less by what the policy weighed.",
        ),
        (
            {
                "endpoint": "a100/0",
                "deployment": "a100",
                "candidates": weighed(load={"a100/0": [0, 0]}),
            },
            "h100 was predicted to need less: 8 J, not 12 J, but took no requests.",
        ),
        (
            {"tried": '{"h100/1": "did not answer"}'},
            "h100/1 failed it before: did not answer.",
        ),
        ({"shadow_endpoint": "a100/1"}, "The shadow policy would have sent it to a100/1."),
        ({"shadow_endpoint": "h100/0"}, "The shadow policy would have sent it there, too."),
        ({"endpoint": None, "deployment": None, "candidates": "{}"}, "It was sent nowhere."),
        ({"candidates": "{}"}, "What it takes there was not predicted."),
    ],
)
def test_the_decision_is_told_in_sentences(changes: dict[str, Any], sentence: str) -> None:
    assert sentence in explained(**changes).why


TOLD = {
    "endpoints": ["h100/0", "a100/0", "a100/1"],
    "joules": [8.0, 5.0, 12.0],
    "price_j": [0.0, 1.0, 0.0],
    "ttft_s": [0.3, 0.6, 0.1],
    "tbt_s": [0.02, 0.05, 0.05],
    "limits_s": {"ttft": 0.5, "tbt": 0.1},
    "usable": 0.8,
    "output_tokens": 40.0,
}


def test_what_a_policy_predicted_is_told_with_the_promise_that_bound_it() -> None:
    found = explained(candidates=weighed(costs={}, told=TOLD))
    ends = {e.endpoint: e for c in found.candidates for e in c.endpoints}
    assert {name: end.cost for name, end in ends.items()} == {
        "h100/0": 8.0,
        "a100/0": 6.0,
        "a100/1": 12.0,
    }
    late = ends["a100/0"].weighed
    assert late is not None
    assert (late.ttft_s, late.tbt_s, late.binding) == (0.6, 0.05, "ttft")
    assert late.used == pytest.approx(1.5)
    assert (
        "a100/0 would have added less, 5 J, but broken a promise: ttft of 0.6 s, 1.5 times what"
        " may be used." in found.why
    )
    assert "Its promise nearest to being broken is ttft: 75 % of what may be used." in found.why
    slow = {**TOLD, "limits_s": {"tbt": 0.001}}
    found = explained(candidates=weighed(costs={}, told=slow))
    assert any("No endpoint was predicted to keep its promises" in line for line in found.why)
    free = explained(candidates=weighed(costs={}, told={**TOLD, "limits_s": {}}))
    assert not any("promise" in line for line in free.why)


def test_what_the_gateway_did_not_write_is_refused() -> None:
    with pytest.raises(TableError, match="request r1"):
        explained(candidates="[")


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    made = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite", interval_s=0.001)
    made.append(ROW)
    assert made.close() == 0
    return tmp_path / "ledger.sqlite"


def test_the_command_tells_people(ledger: Path) -> None:
    done = CliRunner().invoke(main, ["explain", "r1", "--ledger", str(ledger)])
    assert done.exit_code == 0, done.output
    assert "r1: llama at /v1/chat/completions, asked 2025-06-15 15:06:40 UTC by a" in done.stdout
    assert "weighted sent it to h100/0." in done.stdout
    assert "9.5 J and 2 J of idle power, modelled, accelerator." in done.stdout
    assert "Its promises were kept." in done.stdout


def test_the_command_tells_programs(ledger: Path) -> None:
    done = CliRunner().invoke(main, ["explain", "r1", "--ledger", str(ledger), "--json"])
    answer = json.loads(done.stdout)
    assert answer["schema"] == "wattshed/explain/1"
    assert set(answer["results"]) == set(Explanation.__struct_fields__)
    text = (Path(__file__).parents[2] / "docs/reference/files.md").read_text()
    line = next(row for row in text.splitlines() if row.startswith("| `explain` |"))
    assert all(key in line for key in answer["results"])


def test_a_request_that_is_not_there_is_refused(ledger: Path) -> None:
    done = CliRunner().invoke(main, ["explain", "r2", "--ledger", str(ledger)])
    assert done.exit_code == 2
    assert "no request 'r2'" in done.stderr
    missing = CliRunner().invoke(main, ["explain", "r2", "--ledger", str(ledger) + "x"])
    assert missing.exit_code == 2
    assert "there is no such file" in missing.stderr
