"""A replay: what was sent came back, and is told as a simulation tells it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from click.testing import Result
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from wattshed.fleet import load_fleet
from wattshed.measure.drivers.openai_stream import Tally
from wattshed.records import ReplayedPolicy, ReplayResults, SimulatedPolicy, SimulationResults
from wattshed.replay.door import Door
from wattshed.replay.outcome import Replay, Trip, conclude
from wattshed.replay.send import replay
from wattshed.replay.summary import summarise
from wattshed.replay.table import request_table
from wattshed.serve.background import background
from wattshed.serving import engine_settings
from wattshed.simulate.model import Requests

Run = Callable[..., Result]
NS = 1_000_000_000


def names(kind: Any) -> set[str]:
    return set(kind.__struct_fields__)


def test_a_replay_has_every_key_of_a_simulation() -> None:
    assert names(SimulatedPolicy) <= names(ReplayedPolicy)
    assert names(SimulationResults) <= names(ReplayResults)


def test_what_is_sent_comes_back_token_by_token_with_its_energy(
    gateway: Any, requests: Requests
) -> None:
    found = replay(requests, Door(gateway.url, engine_speed=50.0))
    assert found.served.all()
    assert found.input_counted.tolist() == requests.input_tokens.tolist()
    assert found.output_counted.tolist() == requests.output_tokens.tolist()
    assert len(found.gap_s) == (requests.output_tokens - 1).sum()
    endpoints = [trip.endpoint for trip in found.trips]
    assert sorted(endpoints) == ["a100-tp8/0"] * 6 + ["h100-tp4/0"] * 6
    assert (found.lag_s >= 0).all()
    assert (found.ttft_s > 0).all()
    assert (found.e2e_s >= found.ttft_s).all()
    joules = gateway.joules([trip.id for trip in found.trips])
    assert found.charged_energy_j == pytest.approx(list(joules.values()))


def test_the_command_tells_what_simulate_tells(
    gateway: Any, run: Run, workload: Path, tmp_path: Path
) -> None:
    common = ["--url", gateway.url, "--workload", workload, "--engine-speed", 50, "--json"]
    first = run(*common, "--fleet", "demo-70b")
    assert first.exit_code == 0, first.stderr
    (tmp_path / "first.json").write_text(first.stdout)
    second = run(*common, "--compare", "first.json")
    assert second.exit_code == 0, second.stderr
    (before,) = json.loads(first.stdout)["results"]["policies"]
    energy = before["energy_j"]
    assert before["attainment"] is not None
    assert energy["total"] == pytest.approx(
        energy["requests_dynamic"] + energy["requests_static"] + energy["idle"]
    )
    found = json.loads(second.stdout)["results"]
    (policy,) = found["policies"]
    assert (policy["name"], policy["completed"]) == ("round-robin", 12)
    assert policy["energy_j"]["total"] is None
    assert "--fleet" in policy["unknown"]["energy_j.total"]
    (beside,) = found["comparisons"]
    figures = {each["name"]: each for each in beside["figures"]}
    assert figures["completed"]["difference"] == 0
    assert figures["energy_j.requests_dynamic"]["other"] == energy["requests_dynamic"]
    assert "the requests of the other are not there" in beside["notes"][0]


def test_a_broken_table_of_requests_is_refused_before_any_is_sent(
    gateway: Any, run: Run, workload: Path, tmp_path: Path
) -> None:
    common = ["--url", gateway.url, "--workload", workload, "--engine-speed", 50, "--json"]
    (tmp_path / "first.json").write_text(run(*common).stdout)
    table = tmp_path / "requests-first.csv"
    head = "policy,controller,fate,input_tokens,output_tokens\n"
    for text, found in (
        (f"{head}round-robin,live,served,many,1\n", "row 2, column input_tokens: expected a whole"),
        ("", "the file is empty"),
    ):
        table.write_text(text)
        done = run(*common, "--compare", "first.json")
        assert (done.exit_code, done.stdout) == (2, "")
        assert f"requests-first.csv: {found}" in done.stderr


@pytest.mark.slow
def test_a_folder_has_the_report_and_the_requests_for_a_paired_comparison(
    gateway: Any, run: Run, workload: Path, tmp_path: Path
) -> None:
    common = ["--url", gateway.url, "--workload", workload, "--engine-speed", 50]
    assert run(*common, "--fleet", "demo-70b", "-o", "first").exit_code == 0
    second = run(*common, "--compare", "first", "-o", "second")
    assert second.exit_code == 0, second.stderr
    written = {path.name for path in (tmp_path / "second").iterdir()}
    assert {"index.html", "ttft-cdf.svg", "e2e-cdf.svg", "replay.json"} <= written
    content = msgspec.json.decode((tmp_path / "second/replay.json").read_bytes())
    stored = msgspec.convert(content["replay"], ReplayResults)
    assert [saving.requests for saving in stored.savings] == [12, 12]
    assert stored.policies[0].cdf["ttft_s"].part[-1] == 1
    table = pl.read_csv(tmp_path / "second/requests-round-robin-live.csv")
    simulated = ["policy", "controller", "request", "arrival_s", "input_tokens", "output_tokens"]
    assert table.columns[:6] == simulated
    assert table["energy_method"].unique().to_list() == ["modelled"]


def test_it_ends_when_somebody_wants_to_with_what_was_sent(
    gateway: Any, requests: Requests
) -> None:
    def stop(done: int, _total: int) -> None:
        if done >= 3:
            raise KeyboardInterrupt

    found = replay(requests, Door(gateway.url, engine_speed=6.0), report=stop)
    assert found.partial
    assert 3 <= found.served.sum() <= len(found.requests) < 12
    ours = summarise(found, load_fleet("demo-70b"), name="round-robin")
    assert ours.partial
    assert ours.completed + ours.unfinished == ours.requests == len(found.requests)


def engine_that(*answers: Callable[[], Response]) -> Starlette:
    """An engine that answers in turn."""
    left = list(answers)

    async def complete(_: Request) -> Response:
        return (left.pop(0) if len(left) > 1 else left[0])()

    async def models(_: Request) -> Response:
        return JSONResponse({"data": [{"id": "auto"}]})

    routes = [Route("/v1/completions", complete, methods=["POST"]), Route("/v1/models", models)]
    return Starlette(routes=routes)


def busy() -> Response:
    return JSONResponse({"error": {"message": "all are busy"}}, 503)


def broken() -> Response:
    return StreamingResponse(iter([b'data: {"choices":[{"text":"a"}]}\n\n']))


def whole() -> Response:
    usage = {"prompt_tokens": 40, "completion_tokens": 2, "energy": "much"}
    return JSONResponse({"choices": [{"text": "a b", "finish_reason": "stop"}], "usage": usage})


def test_what_fails_is_told_apart(requests: Requests) -> None:
    with background(engine_that(busy, broken, whole)) as url:
        found = replay(requests, Door(url, engine_speed=100.0, max_error=1.0))
    ours = summarise(found, None, name="gateway")
    assert (ours.rejected, ours.lost, ours.completed) == (1, 1, 10)
    assert ours.errors == {
        "answers 503: all are busy": 1,
        "ended its answer before it was complete": 1,
    }
    assert ours.ttft_s.p50 is None  # whole answers do not say when their first token was there
    assert ours.energy_j.requests_dynamic is None
    assert "10 of 10 answers" in ours.unknown["energy_j.requests_dynamic"]
    assert ours.other_lengths > 0
    assert request_table(found, "gateway")["status"].to_list() == [503] + [200] * 11


def test_too_many_failures_end_it(run: Run, workload: Path) -> None:
    with background(engine_that(busy)) as url:
        done = run("--url", url, "--workload", workload, "--engine-speed", 10, "--json")
    assert done.exit_code == 1
    stored = json.loads(done.stdout)["results"]
    assert stored["partial"]
    assert 0 < stored["policies"][0]["requests"] < 12


def trip(due_s: float, *token_s: float, sent_s: float | None = None, **energy: float) -> Trip:
    ns = [round(NS * t) for t in token_s]
    tally = Tally(ns, [1] * len(ns), ns[-1], 10, len(ns), finished=True, energy=energy or None)
    return Trip(tally, round(NS * (due_s if sent_s is None else sent_s)), True, 200)


@pytest.fixture
def by_hand() -> Replay:
    """Two requests, the second of which was sent 0.1 s late."""
    requests = Requests(np.array([0.0, 1.0]), np.array([10, 10]), np.array([3, 1]))
    trips = [
        trip(0.0, 0.5, 0.6, 0.8, joules=30.0, idle_joules=10.0),
        trip(1.0, 1.4, sent_s=1.1, joules=20.0, idle_joules=5.0),
    ]
    return conclude(requests, trips, 0, 1.0, partial=False)


def test_times_count_from_when_a_request_was_due(by_hand: Replay) -> None:
    assert by_hand.ttft_s == pytest.approx([0.5, 0.4])
    assert by_hand.e2e_s == pytest.approx([0.8, 0.4])
    assert by_hand.lag_s == pytest.approx([0.0, 0.1])
    assert by_hand.gap_s == pytest.approx([0.1, 0.2])
    assert by_hand.longest_gap_s == pytest.approx([0.2, 0.0])
    assert by_hand.end_s == pytest.approx(1.4)


def test_gross_energy_is_net_and_all_idle_power(by_hand: Replay) -> None:
    fleet = load_fleet("demo-70b")
    idle_w = sum(engine_settings(d).idle_power_w for d in fleet.deployments)
    energy = summarise(by_hand, fleet, name="x").energy_j
    assert energy.requests_dynamic == 50
    assert energy.requests_static == 15
    assert energy.total == pytest.approx(50 + 1.4 * idle_w)
    assert energy.idle == pytest.approx(1.4 * idle_w - 15)


def test_what_is_null_says_why(by_hand: Replay) -> None:
    ours = summarise(by_hand, None, name="x")
    flat = msgspec.to_builtins(ours)
    null = {name for name, value in flat.items() if value is None}
    null |= {f"energy_j.{name}" for name, value in flat["energy_j"].items() if value is None}
    told = null - {"energy_low_j", "energy_high_j"}  # the answers told no interval
    assert told <= set(ours.unknown)
