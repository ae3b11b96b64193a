"""Live beside simulated: the same requests, the same fleet and policy, in real time."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from wattshed.fleet import load_fleet
from wattshed.replicas import engines_of
from wattshed.simulate.engine import simulate_requests
from wattshed.simulate.model import Requests

pytestmark = pytest.mark.slow
Command = Callable[..., dict[str, Any]]
TRACE = ["--workload", "azure-code-2023", "--rate", "4", "--requests", "160", "--seed", "1"]


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


def as_it_was_sent(table: pl.DataFrame) -> float:
    """Energy (J) that the engines of a live run spent on its requests, by their own account.

    They are simulated alone, with the requests that each of them got, when it got them.
    """
    total = 0.0
    for deployment in load_fleet("demo-70b").deployments:
        mine = table.filter(pl.col("endpoint").str.starts_with(f"{deployment.name}/"))
        if not mine.height:
            continue
        sent = mine.sort("sent_s")
        times = [sent[name].to_numpy() for name in ("sent_s", "input_tokens", "output_tokens")]
        requests = Requests(np.maximum(times[0], 0.0), *times[1:])
        engines = engines_of([deployment], requests.input_tokens, requests.output_tokens)
        found = simulate_requests(engines, requests)
        total += float(found.request_energy_j.sum())
    return total


@pytest.mark.parametrize("policy", ["round-robin", "least-loaded"])
def test_a_live_replay_comes_to_what_simulate_says(
    serve: Callable[..., str], results: Command, tmp_path: Path, policy: str
) -> None:
    """Energy within 2 %; TTFT and E2E, their medians, within 5 %."""
    fleet = ["--fleet", "demo-70b", *TRACE]
    results("simulate", *fleet, "--policy", policy, "--forecast", "known", "-o", "simulated")
    url = serve("--policy", policy)
    live = results("replay", "--url", url, *fleet, "--compare", "simulated", "-o", "live")
    (beside,) = live["comparisons"]
    off = {each["name"]: each["difference"] for each in beside["figures"]}
    told = live["policies"][0]["energy_j"]
    table = pl.read_csv(tmp_path / "live" / f"requests-{policy}-live.csv")
    receipts_j = told["requests_dynamic"] + told["requests_static"]
    assert live["policies"][0]["completed"] == 160
    assert off["energy_per_request_j"] == pytest.approx(0, abs=0.02)
    assert off["energy_j.requests_dynamic"] == pytest.approx(0, abs=0.02)
    assert off["energy_j.requests_static"] == pytest.approx(0, abs=0.02)
    assert receipts_j == pytest.approx(as_it_was_sent(table), rel=0.02)
    assert off["ttft_s.p50"] == pytest.approx(0, abs=0.05)
    assert off["e2e_s.p50"] == pytest.approx(0, abs=0.05)
