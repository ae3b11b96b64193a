"""`wattshed simulate` as people and scripts use it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner, Result

from wattshed.cli import main
from wattshed.cli.simulated import RequestTables
from wattshed.cli.traffic import parse_names, parse_window
from wattshed.errors import ParameterError
from wattshed.records import SimulatedPolicy

Simulate = Callable[..., Result]

FLEET = """
[[deployments]]
name = "h100"
profile = "splitwise/h100-80gb-tp8/llama-2-70b"
replicas = 2
{more}

[slo.default]
ttft_s = 2.0
tbt_s = 0.2
"""
SITE = """
[sites.east]
pue = 1.2
carbon_signal = "eia-2022-carbon#PJM"
price_per_kwh = 0.1
currency = "USD"
"""
ROWS = ["arrival_s,input_tokens,output_tokens", *(f"{k},{100 + k},{10 + k}" for k in range(40))]


@pytest.fixture
def simulate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Simulate:
    """Run the command in this process, on a fleet and a trace of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fleet.toml").write_text(FLEET.format(more=""))
    (tmp_path / "site.toml").write_text(FLEET.format(more='site = "east"') + SITE)
    (tmp_path / "trace.csv").write_text("\n".join(ROWS) + "\n")

    def run(*arguments: str, fleet: str = "fleet.toml", status: int = 0) -> Result:
        given = ["simulate", "--fleet", fleet, "--workload", "trace.csv", *arguments]
        done = CliRunner().invoke(main, given)
        assert done.exit_code == status, done.output
        return done

    return run


def found_by(simulate: Simulate, *arguments: str, **options: Any) -> dict[str, Any]:
    done = simulate(*arguments, "--json", **options)
    assert done.stdout.count("\n") == 1
    found: dict[str, Any] = json.loads(done.stdout, parse_constant=pytest.fail)
    return found


def test_json_has_stable_keys_and_no_long_series(simulate: Simulate) -> None:
    found = found_by(simulate, "--policy", "round-robin,frugal")
    assert set(found) == {"schema", "created_by", "inputs", "results", "provenance"}
    assert found["schema"] == "wattshed/simulate/1"
    results = found["results"]
    assert [p["name"] for p in results["policies"]] == ["round-robin", "frugal"]
    shown = set(SimulatedPolicy.__struct_fields__) - {"stack", "cdf"}
    assert all(set(p) == shown for p in results["policies"])
    for p in results["policies"]:
        assert p["requests"] == p["completed"] == 40
        energy = p["energy_j"]
        parts = sum(value for key, value in energy.items() if key != "total")
        assert parts == pytest.approx(energy["total"], rel=1e-9)
        assert abs(p["balance_error"]) < 1e-9
        assert p["bound_j"] <= energy["total"]
    assert len(results["savings"]) == 1
    inputs = found["inputs"]
    assert {"fleet", "workload", "rates", "policies", "controllers", "slo", "seed"} <= set(inputs)
    assert inputs["plan"] is None
    assert {s["name"] for s in found["provenance"]} >= {"splitwise-steps", "trace.csv"}


def test_tables_and_sentences_are_for_people(simulate: Simulate) -> None:
    done = simulate("--policy", "least-loaded,random")
    for text in ("least-loaded + pinned", "attainment (%)", "energy (J/request)", "less energy"):
        assert text in done.stdout
    assert "note: " in done.stderr
    assert "modelled: " in done.stderr


@pytest.mark.slow
def test_the_folder_holds_report_series_and_requests(simulate: Simulate, tmp_path: Path) -> None:
    done = simulate("--policy", "single:h100,random", "--controller", "static:0.7", "-o", "out")
    assert "report: out" in done.stderr
    written = {path.name for path in (tmp_path / "out").iterdir()}
    requests = "requests-single-h100-static-0.7.csv"
    assert {"index.html", "simulation.json", requests, "contenders.csv", "ttft-cdf.svg"} <= written
    content = json.loads((tmp_path / "out/simulation.json").read_text())
    assert (content["schema"], content["version"]) == ("wattshed/simulation", 1)
    policy = content["simulation"]["policies"][0]
    assert policy["stack"]["edges_s"]
    assert set(policy["cdf"]) == {"ttft_s", "tbt_s", "e2e_s"}
    table = pl.read_csv(tmp_path / "out" / requests)
    assert table.height == 40
    assert table["arrival_s"].is_sorted()
    energy = table.select(pl.sum_horizontal(r"^.*_energy_j$")).sum().item()
    charged = policy["energy_j"]["requests_dynamic"] + policy["energy_j"]["requests_static"]
    assert energy == pytest.approx(charged)
    page = (tmp_path / "out/index.html").read_text()
    assert "wattshed simulate --fleet fleet.toml" in page
    assert "--controller static:0.7" in page


@pytest.mark.slow
def test_a_site_gives_carbon_and_cost(simulate: Simulate, tmp_path: Path) -> None:
    found = found_by(simulate, "--policy", "random", "-o", "out", fleet="site.toml")
    (policy,) = found["results"]["policies"]
    impact = policy["impacts"]["east"]
    assert impact["energy_facility_j"] == pytest.approx(1.2 * policy["energy_j"]["total"])
    assert impact["carbon_g"] > 0
    assert impact["currency"] == "USD"
    assert "eia-2022-carbon" in {s["name"] for s in found["provenance"]}
    assert "Carbon, water and cost" in (tmp_path / "out/index.html").read_text()


def test_drawn_requests_are_replicated_and_paired(simulate: Simulate) -> None:
    drawn = ["--rate", "2", "--requests", "30", "--replications", "3", "--seed", "7"]
    found = found_by(simulate, *drawn, "--policy", "random,frugal")["results"]
    assert found["seeds"] == [7, 8, 9]
    assert "energy_per_request_j" in found["policies"][0]["intervals"]
    assert found["savings"][0]["interval"]["level"] == 0.95
    assert found == found_by(simulate, *drawn, "--policy", "random,frugal")["results"]
    assert "interval" in simulate(*drawn, "--policy", "random").stdout


def test_rates_and_their_window(simulate: Simulate) -> None:
    window = ["--rates", "servegen-rates#m-large", "--scale", "0.01", "--window", "3600:4200"]
    found = found_by(simulate, *window, "--policy", "random", "--no-bound")
    assert found["inputs"]["rates"]["name"] == "servegen-rates#m-large"
    assert found["inputs"]["window_s"] == [3600.0, 4200.0]
    assert found["results"]["policies"][0]["bound_j"] is None
    assert found["results"]["requests"] > 0


def test_a_failure_is_simulated_and_said(simulate: Simulate) -> None:
    outages = ["--fail", "h100/0@5-9", "--drain", "h100/1@300"]
    found = found_by(simulate, *outages, "--no-retry", "--policy", "least-loaded")
    assert found["inputs"]["outages"] == [
        {"replica": "h100/0", "start_s": 5.0, "end_s": 9.0, "drains": False},
        {"replica": "h100/1", "start_s": 300.0, "end_s": None, "drains": True},
    ]
    assert found["inputs"]["retry"] is False
    (policy,) = found["results"]["policies"]
    assert policy["completed"] + policy["failed"] == policy["requests"] == 40


def test_a_load_is_a_part_of_what_the_fleet_can_bear(simulate: Simulate) -> None:
    load = ["--load", "0.5", "--requests", "30", "--policy", "random", "--every-token"]
    found = found_by(simulate, *load)
    assert (found["inputs"]["load"], found["inputs"]["every_token"]) == (0.5, True)
    assert "load 50%" in found["results"]["notes"][0]
    (policy,) = found["results"]["policies"]
    assert policy["attainment"] == policy["attainment_every_token"]


def test_replicas_are_named_whatever_the_order_of_the_fleet(
    simulate: Simulate, tmp_path: Path
) -> None:
    first = FLEET.format(more="").replace("h100", "z").replace("z-80gb", "h100-80gb")
    (tmp_path / "two.toml").write_text(first + FLEET.format(more="").partition("[slo")[0])
    found = found_by(simulate, "--drain", "z/1@0", "--policy", "round-robin", fleet="two.toml")
    assert found["inputs"]["outages"][0]["replica"] == "z/1"
    sent = {d["name"]: d["requests"] for d in found["results"]["policies"][0]["deployments"]}
    assert sent["z"] < sent["h100"]


def test_slo_replaces_that_of_the_fleet(simulate: Simulate) -> None:
    found = found_by(simulate, "--slo", "ttft=0.001", "--policy", "random")
    assert found["inputs"]["slo"]["default"]["ttft_s"] == 0.001
    assert found["results"]["policies"][0]["attainment"] < 0.1
    assert "No contender keeps" in simulate("--slo", "ttft=0.001", "--policy", "random").stdout


@pytest.mark.parametrize(("rows", "suffix"), [(100_000, "csv"), (100_001, "parquet")])
def test_large_tables_are_parquet(rows: int, suffix: str) -> None:
    tables = RequestTables()
    for controller in ("phases:0.5", "phases/0.5"):
        tables.keep(
            pl.DataFrame({"request": np.arange(rows)}).select(
                pl.lit("frugal").alias("policy"), pl.lit(controller).alias("controller"), pl.all()
            )
        )
    assert set(tables.by_name()) == {
        f"requests-frugal-phases-0.5{number}.{suffix}" for number in ("", "-2")
    }


def test_names_with_commas_of_their_own_stay_whole() -> None:
    assert parse_names("--policy", ("a, threshold:x,y,64,b", "a")) == ("a", "threshold:x,y,64", "b")
    with pytest.raises(ParameterError, match="--policy"):
        parse_names("--policy", ("a,,b",))


def test_ends_of_a_window_may_be_left_out() -> None:
    assert parse_window(":60") == (None, 60.0)
    assert parse_window("1e3:") == (1000.0, None)


@pytest.mark.slow
def test_ctrl_c_writes_what_there_is(tmp_path: Path) -> None:
    asked = ["--rate", "6", "--requests", "2000000", "--policy", "random,least-loaded", "-o", "out"]
    running = subprocess.Popen(
        [sys.executable, "-c", SENT_AFTER_THE_FIRST_REPORT, *asked],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    said, told = running.communicate(timeout=300)
    assert running.returncode == 1, told
    assert "Stopped before its end" in said
    content = json.loads((tmp_path / "out/simulation.json").read_text())
    assert content["simulation"]["partial"] is True
    assert len(content["simulation"]["policies"]) == 1


SENT_AFTER_THE_FIRST_REPORT = f"""
import os, sys
from contextlib import contextmanager
import wattshed.cli.simulate as command
from wattshed.cli import main

shown = command.progress

@contextmanager
def progress(text):
    with shown(text) as bar:
        def report(*now):
            bar(*now)
            os.kill(os.getpid(), {int(signal.SIGINT)})
        yield report

command.progress = progress
main(["simulate", *sys.argv[1:]])
"""
