"""From nothing to a plan with real engines and no meter: runtimes, or estimates that stay so."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from wattshed.cli import main

pytestmark = pytest.mark.slow
FEW = ["--input", "8,32,96", "--output", "4,16,32", "--window", "0", "--idle", "0.5"]
QUICK = [*FEW, "--warm-up", "1", "--min-trials", "2", "--max-trials", "2"]
Serve = Callable[..., tuple[Any, str]]
Engine = Callable[[list[int], int], Iterator[int]]


def run(*asked: str) -> Any:
    done = CliRunner().invoke(main, list(asked))
    assert done.exit_code == 0, done.output
    return done


def fleet_of(folder: Path) -> Path:
    (profile,) = json.loads((folder / "profiles.json").read_text())["profiles"]
    path = folder / "fleet.toml"
    path.write_text(
        f'[[deployments]]\nname = "here"\nprofile = "profiles.json#{profile["name"]}"\n'
    )
    (folder / "queries.csv").write_text("input_tokens,output_tokens\n16,8\n64,24\n")
    return path


@pytest.fixture(params=["transformers", "openai"])
def engine(request: pytest.FixtureRequest) -> list[str]:
    """A model that computes: in this process, or behind a server."""
    if request.param == "transformers":
        return ["--engine", "transformers:llama-10m", "--set", "device=cpu"]
    serve: Serve = request.getfixturevalue("serve")
    _, address = serve(engine=request.getfixturevalue("real_engine"))
    return ["--engine", address, "--set", "token_ids=3-1023", "--set", "system=loopback"]


def test_without_a_meter_there_are_runtimes_and_the_reason(
    engine: list[str], tmp_path: Path
) -> None:
    run("measure", *engine, *QUICK, "--meter", "none", "-o", str(tmp_path))
    runs = pl.read_csv(tmp_path / "runs.csv")
    assert runs.height == 18
    assert runs["runtime_s"].min() > 0
    assert runs["accelerator_energy_j"].null_count() == runs.height
    assert all("no_meter" in flags for flags in runs["flags"])
    profiles = tmp_path / "profiles.json"
    done = run("fit", str(tmp_path / "runs.csv"), "-o", str(profiles))
    assert done.stderr.count("energy was not fitted") == 1
    (profile,) = json.loads(profiles.read_text())["profiles"]
    assert profile["energy"] is None
    assert profile["runtime"]["form"]
    fleet = fleet_of(tmp_path)
    asked = ["plan", "--fleet", str(fleet), "--workload", str(tmp_path / "queries.csv")]
    refused = CliRunner().invoke(main, asked)
    assert refused.exit_code == 2
    assert "has no energy model" in refused.stderr


def test_an_estimate_stays_one_down_to_the_plan(engine: list[str], tmp_path: Path) -> None:
    run("measure", *engine, *QUICK, "--meter", "model:45", "-o", str(tmp_path))
    runs = pl.read_csv(tmp_path / "runs.csv")
    power_w = runs["accelerator_energy_j"] / runs["runtime_s"]
    assert power_w.to_list() == pytest.approx([45.0] * runs.height, rel=0.1)
    assert all("modelled" in flags for flags in runs["flags"])
    run("fit", str(tmp_path / "runs.csv"), "-o", str(tmp_path / "profiles.json"))
    (profile,) = json.loads((tmp_path / "profiles.json").read_text())["profiles"]
    assert profile["kind"] == "modelled"
    fleet = fleet_of(tmp_path)
    asked = ["plan", "--fleet", str(fleet), "--workload", str(tmp_path / "queries.csv")]
    planned = json.loads(run(*asked, "--json").stdout)
    assert any("modelled" in warning for warning in planned["results"]["warnings"])
