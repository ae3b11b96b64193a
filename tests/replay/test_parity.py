"""Live beside simulated: the same requests, the same fleet, the same policy."""

from __future__ import annotations

import contextlib
import json
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from wattshed.fleet import load_fleet
from wattshed.replay.outcome import Replay
from wattshed.replay.summary import summarise
from wattshed.serve.lengths import Forecast
from wattshed.serve.rows import read_rows
from wattshed.serve.summary import COLUMNS
from wattshed.serve.summary import summarise as summarise_ledger
from wattshed.simulate.fleet import simulate_fleet
from wattshed.simulate.pairing import interval_of
from wattshed.simulate.scenario import Arrivals
from wattshed.workload.table import read_workload

pytestmark = pytest.mark.slow
Command = Callable[..., dict[str, Any]]
AtOnce = Callable[..., Replay]


class Known:
    """Answers are as long as they may be, which the policy knows."""

    def predict(self, route: object, input_tokens: int, max_tokens: int | None) -> Forecast:
        assert max_tokens is not None
        return Forecast(float(max_tokens), float(max_tokens))

    def observe(self, route: object, input_tokens: int, output_tokens: int) -> None:
        pass


@pytest.mark.parametrize("policy", ["round-robin", "least-loaded", "frugal"])
def test_a_live_replay_comes_to_what_simulate_says(replay_at_once: AtOnce, policy: str) -> None:
    """Energy within 2 %; TTFT and E2E, their medians, within 5 %.

    Client, gateway and engines talk over real sockets, on a clock that stands still while they
    compute: what is left are the differences between what they do and what the simulator does.
    """
    fleet = load_fleet("demo-70b")
    arrivals = Arrivals(read_workload("azure-code-2023"), 160, 4.0)
    found = replay_at_once(arrivals.draw(1), fleet, policy, lengths=Known())
    tables: list[pl.DataFrame] = []
    simulated = simulate_fleet(
        fleet,
        arrivals,
        policies=[policy],
        forecast="known",
        seed=1,
        bound=False,
        tables=tables.append,
    ).policies[0]
    live = summarise(found, fleet, name=policy)
    assert live.completed == simulated.completed == 160
    assert live.energy_per_request_j == pytest.approx(simulated.energy_per_request_j, rel=0.02)
    assert live.energy_j.requests_dynamic == pytest.approx(
        simulated.energy_j.requests_dynamic, rel=0.02
    )
    assert live.ttft_s.p50 == pytest.approx(simulated.ttft_s.p50, rel=0.05)
    assert live.e2e_s.p50 == pytest.approx(simulated.e2e_s.p50, rel=0.05)
    if policy == "frugal":  # its endpoint states are the gateway's own account
        return
    assert live.energy_j.requests_dynamic == pytest.approx(
        simulated.energy_j.requests_dynamic, rel=0.01
    )
    assert [trip.endpoint for trip in found.trips] == tables[0]["endpoint"].to_list()
    assert found.first_token_s == pytest.approx(tables[0]["first_token_s"].to_numpy(), rel=1e-6)
    assert found.finish_s == pytest.approx(tables[0]["finish_s"].to_numpy(), rel=1e-6)


def test_frugal_saves_on_short_and_long_queries_at_equal_attainment(
    replay_at_once: AtOnce, tmp_path: Path
) -> None:
    """Prompts of a few tokens to over 4,000, answers of 7 to 1,000; three draws of them."""
    fleet = load_fleet("demo-70b")
    arrivals = Arrivals(read_workload("azure-conv-2023"), 50, 2.0)
    gross, net = [], []
    for seed in (1, 2, 3):
        requests = arrivals.draw(seed)
        runs = []
        for policy in ("round-robin", "frugal"):
            ledger = f"{policy}-{seed}.sqlite"
            found = replay_at_once(requests, fleet, policy, ledger)
            runs.append(summarise(found, fleet, name=policy))
            told = summarise_ledger(read_rows(str(tmp_path / ledger), COLUMNS))
            assert told.total.dynamic_j == pytest.approx(found.dynamic_energy_j.sum())
        base, ours = runs
        assert base.completed == ours.completed == 50
        assert base.attainment is not None
        assert ours.attainment is not None
        assert ours.attainment >= base.attainment - 0.005
        assert base.energy_per_request_j
        assert ours.energy_per_request_j
        assert base.net_energy_per_request_j
        assert ours.net_energy_per_request_j
        gross.append(1 - ours.energy_per_request_j / base.energy_per_request_j)
        net.append(1 - ours.net_energy_per_request_j / base.net_energy_per_request_j)
    assert interval_of(np.array(gross)).low > 0
    assert interval_of(np.array(net)).low > 0


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """The demo in a process of its own; gives its address."""
    running: list[subprocess.Popen[str]] = []

    def start(*options: str) -> str:
        command = [sys.executable, "-m", "wattshed", "serve", "--demo", "--port", "0", *options]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=tmp_path
        )
        running.append(process)
        assert process.stdout is not None
        return shlex.split(process.stdout.readline())[1].removesuffix("/v1/chat/completions")

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def results(tmp_path: Path) -> Command:
    """Run a command, and read what it prints with --json."""

    def run(*arguments: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", "wattshed", *arguments, "--json"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)["results"]
        return found

    return run


def test_ctrl_c_writes_what_was_sent_so_far(serve: Callable[..., str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "wattshed", "replay", "--url", serve("--speed", "20")]
    command += ["--rate", "5", "--requests", "500", "--engine-speed", "2", "-o", "out"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    ledger = tmp_path / "wattshed-demo/ledger.sqlite"
    while True:  # until something was served
        with contextlib.closing(sqlite3.connect(ledger)) as connection:
            if connection.execute("select count(*) from requests").fetchone()[0]:
                break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 1, told
    assert "Traceback" not in told
    found = json.loads((tmp_path / "out/replay.json").read_text())["replay"]
    assert found["partial"]
    assert 0 < found["requests"] < 500
    (table,) = (tmp_path / "out").glob("requests-*.csv")
    assert pl.read_csv(table).height == found["requests"]


def test_the_commands_agree_in_real_time(serve: Callable[..., str], results: Command) -> None:
    """Nothing is asked of TTFT here: what the machine adds to it depends on what else it does."""
    trace = ["--workload", "azure-code-2023", "--rate", "4", "--requests", "120", "--seed", "1"]
    fleet = ["--fleet", "demo-70b", *trace]
    results("simulate", *fleet, "--policy", "round-robin", "-o", "simulated")
    url = serve("--policy", "round-robin")
    (beside,) = results("replay", "--url", url, *fleet, "--compare", "simulated")["comparisons"]
    off = {each["name"]: each["difference"] for each in beside["figures"]}
    assert off["completed"] == 0
    assert off["energy_per_request_j"] == pytest.approx(0, abs=0.02)
    assert off["e2e_s.p50"] == pytest.approx(0, abs=0.05)
