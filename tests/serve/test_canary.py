"""A policy on trial: who it decides for, and what comes of it."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from wattshed.cli import main
from wattshed.errors import ParameterError
from wattshed.fleet import load_fleet
from wattshed.records import Endpoint, Request
from wattshed.report.ledger_comparison import comparison_tables
from wattshed.serve.background import background
from wattshed.serve.canary import Canary
from wattshed.serve.comparison import (
    comparisons_of,
    newcombe,
    ratio,
    welch,
    with_comparisons,
)
from wattshed.serve.decide import Decider
from wattshed.serve.ledger import Ledger, requests
from wattshed.serve.rows import SCHEMA, read_rows
from wattshed.serve.simulated import simulated_app
from wattshed.serve.summary import summarise

CHAT = "/v1/chat/completions"
ROUNDING = 1e-9
FLEET = load_fleet("mixed-70b")
ENDPOINTS = [Endpoint("a100-tp8/0", "a100-tp8", running=3), Endpoint("h100-tp4/0", "h100-tp4")]

# ------------------------------------------------------------------ who it decides for


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_the_share_is_kept_and_an_id_stays_in_its_group(share: float) -> None:
    canary = Canary("frugal", share)
    groups = [canary.group(f"0123456789{number:012x}") for number in range(20_000)]
    again = [canary.group(f"0123456789{number:012x}") for number in range(20_000)]
    assert groups == again
    sigma = math.sqrt(share * (1 - share) / len(groups))
    assert Counter(groups)["canary"] / len(groups) == pytest.approx(share, abs=4 * sigma)


@pytest.mark.parametrize("share", [0.0, 1.0, math.nan])
def test_a_share_is_a_part(share: float) -> None:
    with pytest.raises(ParameterError, match="--canary-share"):
        Canary("frugal", share)


def test_each_group_gets_the_decisions_of_its_policy_and_the_switch_ends_it() -> None:
    canary = Canary("least-loaded", 0.5)
    decider = Decider(FLEET, "single:a100-tp8", default="round-robin", canary=canary)
    asked = [Request(f"{number}", 100, 50.0) for number in range(50)]
    found = [decider.decide(request, ENDPOINTS, 0.0) for request in asked]
    assert {(c.arm, c.policy, c.decision.endpoint) for c in found} == {
        ("control", "single:a100-tp8", "a100-tp8/0"),
        ("canary", "least-loaded", "h100-tp4/0"),
    }
    assert [c.arm for c in found] == [canary.group(request.id) for request in asked]
    decider.switch_off()
    off = [decider.decide(request, ENDPOINTS, 0.0) for request in asked]
    assert {(c.arm, c.policy) for c in off} == {(None, "round-robin")}


@pytest.fixture(scope="module")
def engine() -> Iterator[str]:
    with background(simulated_app(FLEET.deployments[0], 500)) as url:
        yield url


def test_the_ledger_and_readiness_tell_who_decided(live: Callable[..., Any], engine: str) -> None:
    canary = Canary("round-robin", 0.5)
    started = live(engine, policy="least-loaded", decider={"canary": canary})
    ask = {"model": "llama", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}
    for _ in range(12):
        httpx.post(started.url + CHAT, json=ask)
    rows = started.rows()
    for row in rows:
        assert row["arm"] == canary.group(row["id"])
        assert row["policy"] == {"canary": "round-robin", "control": "least-loaded"}[row["arm"]]
    told = {"policy": "round-robin", "share": 0.5, "active": True}
    assert httpx.get(started.url + "/ready").json()["canary"] == told
    started.gateway.switch_off()
    assert httpx.get(started.url + "/ready").json()["canary"] == {**told, "active": False}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--canary-share", "0.1"], "needs --canary"),
        (["--canary", "frugal", "--canary-share", "1"], "--canary-share"),
        (["--canary", "nonsense"], "use one of"),
    ],
)
def test_bad_input_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["serve", "--demo", "--port", "0", *options])
    assert done.exit_code == 2
    assert words in done.stderr.splitlines()[-1]


# ------------------------------------------------------------------ what comes of it


def test_of_means_the_interval_is_welchs() -> None:
    rng = np.random.default_rng(1)
    one, other = rng.gamma(2.0, 3.0, 40), rng.gamma(2.0, 4.0, 25)
    estimates = [ratio(each, np.ones(len(each))) for each in (one, other)]
    assert estimates[0] is not None
    assert estimates[1] is not None
    found = welch(estimates[0], estimates[1])
    theirs = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), rel=1e-9)


def test_intervals_of_ratios_hold_as_often_as_they_say() -> None:
    """Joules per token of requests whose energy grows with their tokens, 1000 times 60 and 90."""
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(1000):
        estimates = []
        for slope, count in ((2.0, 60), (2.5, 90)):
            tokens = rng.geometric(1 / 100, count).astype(float)
            joules = slope * tokens + 30 * rng.standard_exponential(count)
            estimates.append(ratio(joules, tokens))
        assert estimates[0] is not None
        assert estimates[1] is not None
        interval = welch(estimates[0], estimates[1])
        truth = (2.0 + 30 / 100) - (2.5 + 30 / 100)
        covered += interval.low <= truth <= interval.high
    assert covered / 1000 > 0.93


def test_of_proportions_the_interval_is_newcombes() -> None:
    """The first example of his table II, method 10."""
    found = newcombe((56, 70), (48, 80))
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)


@given(st.integers(1, 200), st.integers(1, 200), st.floats(0, 1), st.floats(0, 1))
def test_intervals_of_proportions_hold_the_difference(
    n: int, m: int, part: float, other: float
) -> None:
    k, j = round(part * n), round(other * m)
    found = newcombe((k, n), (j, m))
    difference = k / n - j / m
    assert -1 - ROUNDING <= found.low <= difference + ROUNDING
    assert difference - ROUNDING <= found.high <= 1 + ROUNDING


ROW: dict[str, Any] = dict.fromkeys(SCHEMA) | {
    "outcome": "served",
    "status": 200,
    "boundary": "accelerator",
    "energy_method": "modelled",
    "candidates": "{}",
    "tried": "{}",
    "output_tokens": 10,
    "idle_joules": 1.0,
    "kept": True,
}


def rows_of(arms: dict[str, list[float]], **changes: Any) -> list[dict[str, Any]]:
    """Rows whose energies are given, by group."""
    policies = {"control": "least-loaded", "canary": "frugal"}
    return [
        ROW
        | {"id": f"{arm}-{i}", "arrived_at": 1.7e9 + i, "arm": arm, "policy": policies[arm]}
        | {"joules": joules}
        | changes
        for arm, energies in arms.items()
        for i, joules in enumerate(energies)
    ]


def frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, SCHEMA)


@settings(max_examples=20)
@given(st.lists(st.floats(1, 100), min_size=2, max_size=20), st.floats(1, 50))
def test_a_saving_of_every_request_is_found_with_its_sign(
    energies: list[float], less: float
) -> None:
    arms = {"control": [e + less for e in energies], "canary": energies}
    (found,) = comparisons_of(frame(rows_of(arms)))
    assert (found.policy, found.canary_policy) == ("least-loaded", "frugal")
    assert found.control.requests == found.canary.requests == len(energies)
    per_token, per_request, kept = found.differences
    assert per_request.value == pytest.approx(-less)
    assert per_token.value == pytest.approx(-less / 10)
    assert per_request.interval is not None
    assert per_request.interval.low <= -less + ROUNDING
    assert per_request.interval.high >= -less - ROUNDING
    assert kept.value == 0.0


def test_what_cannot_be_compared_says_why() -> None:
    rows = rows_of({"control": [5.0, 6.0], "canary": [4.0]})
    (found,) = comparisons_of(frame(rows))
    assert all(d.reason.startswith("fewer than two") for d in found.differences)
    rows = rows_of({"control": [5.0, 6.0]}) + rows_of({"canary": [4.0, 5.0]}, boundary="wall")
    (found,) = comparisons_of(frame(rows))
    assert [d.reason for d in found.differences] == ["energies of unlike boundaries"] * 2 + [""]
    assert comparisons_of(frame(rows_of({"control": [5.0, 6.0]}))) == []


def test_trials_that_came_one_after_the_other_are_not_mixed() -> None:
    """What was on trial first decides for most in the second, against another one."""
    first = rows_of({"control": [5.0, 6.0], "canary": [4.0, 5.0]})
    names = {"control": "frugal", "canary": "packed"}
    second = [
        row | {"id": f"{row['id']}-later", "policy": names[row["arm"]], "arrived_at": 1.8e9}
        for row in first
    ]
    found = comparisons_of(frame([*first, *second]))
    assert [(each.policy, each.canary_policy) for each in found] == [
        ("frugal", "packed"),
        ("least-loaded", "frugal"),
    ]


def test_the_report_compares_the_groups(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    arms = {"control": list(rng.normal(50, 5, 80)), "canary": list(rng.normal(40, 5, 20))}
    ledger = Ledger(f"sqlite:///{tmp_path / 'l.sqlite'}")
    for row in rows_of(arms):
        ledger.append({column.name: row[column.name] for column in requests.columns})
    assert ledger.close() == 0
    command = ["report", str(tmp_path / "l.sqlite")]
    rows = read_rows(str(tmp_path / "l.sqlite"))
    (_, changes) = comparison_tables(with_comparisons(summarise(rows), rows))
    assert [row[-1] for row in changes.rows] == ["less", "less", "not significant"]
    answer = json.loads(CliRunner().invoke(main, [*command, "--json"]).stdout)
    (told,) = answer["results"]["comparisons"]
    assert told["differences"][1]["interval"]["high"] < 0
    assert told["canary"]["requests"] == 20
    text = (Path(__file__).parents[2] / "docs/reference/files.md").read_text()
    line = next(row for row in text.splitlines() if row.startswith("| `report` |"))
    for key in [*told, *told["differences"][0]]:
        assert key in line
