"""Bad input: one line that names place, value and cure; exit status 2; nothing half-written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from click.testing import CliRunner

from wattshed.cli import main

Run = Callable[..., CompletedProcess[str]]

RUNS = "system,model,input_tokens,output_tokens,runtime_s,accelerator_energy_j"
GOOD_ROW = "lab,tiny,8,8,1.0,100"
FLEET = '[[deployments]]\nname = "a"\nprofile = "wilkins-2024/swing-a100/llama-2-7b"\n'
STEPS = '[[deployments]]\nname = "a"\nprofile = "splitwise/h100-80gb-tp2/llama-2-70b"\n'
OWN = '[[deployments]]\nname = "a"\nprofile = "profiles.json#lab/tiny"\n'
RUNTIME_ONLY = """
{"schema": "wattshed/profiles", "created_by": "test", "profiles": [
 {"name": "lab/tiny", "system": "lab", "model": "tiny", "accelerator": "", "n_accelerators": 1,
  "boundary": "accelerator", "kind": "derived", "energy": null,
  "runtime": {"form": "phase", "coefficients": {"n": 0.01, "s1": 1e-5, "s2": 0.0}}}]}
"""


def runs(*rows: str, header: str = RUNS) -> str:
    return "\n".join([header, GOOD_ROW, *rows]) + "\n"


# name: files to write, arguments, what the one line must hold
CASES: dict[str, tuple[dict[str, str], list[str], list[str]]] = {
    "missing column": (
        {"runs.csv": "system,model,input_tokens,output_tokens\nlab,tiny,8,8\n"},
        ["fit", "runs.csv"],
        ["runs.csv: header", "missing column runtime_s", "add it"],
    ),
    "a plan with runs that have no energy": (
        {"profiles.json": RUNTIME_ONLY, "fleet.toml": OWN},
        ["plan", "--fleet", "fleet.toml"],
        ["profile lab/tiny", "has no energy model", "measure with a meter", "--meter model:"],
    ),
    "a front with runs that have no energy": (
        {"profiles.json": RUNTIME_ONLY, "fleet.toml": OWN},
        ["pareto", "--fleet", "fleet.toml"],
        ["profile lab/tiny", "has no energy model", "measure with a meter"],
    ),
    "a simulation with runs that have no energy": (
        {"profiles.json": RUNTIME_ONLY, "fleet.toml": OWN},
        ["simulate", "--fleet", "fleet.toml", "--requests", "9", "--rate", "1"],
        ["profile lab/tiny", "has no energy model", "measure with a meter"],
    ),
    "negative tokens": (
        {"runs.csv": runs("lab,tiny,-5,8,1.0,100")},
        ["fit", "runs.csv"],
        ["runs.csv: row 3, column input_tokens", "'-5'", "correct the value"],
    ),
    "fractional tokens": (
        {"runs.csv": runs("lab,tiny,8.5,8,1.0,100")},
        ["fit", "runs.csv"],
        ["row 3, column input_tokens", "expected a whole number of tokens", "'8.5'"],
    ),
    "NaN energy": (
        {"runs.csv": runs("lab,tiny,8,8,1.0,NaN")},
        ["fit", "runs.csv"],
        ["row 3, column accelerator_energy_j", "finite number", "'NaN'"],
    ),
    "an energy of nothing": (
        {"runs.csv": runs("lab,tiny,8,8,1.0,0")},
        ["fit", "runs.csv"],
        ["row 3, column accelerator_energy_j", "'0'"],
    ),
    "runtime of 1e9 s": (
        {"runs.csv": runs("lab,tiny,8,8,1e9,100")},
        ["fit", "runs.csv"],
        ["row 3, column runtime_s", "1e+06 s", "'1e9'"],
    ),
    "energy in millijoules": (
        {"runs.csv": runs("lab,tiny,8,8,1.0,250000")},
        ["fit", "runs.csv"],
        ["row 3, column accelerator_energy_j", "mean power of 2.5e+05 W", "mJ"],
    ),
    "too few cells": (
        {"runs.csv": runs()},
        ["fit", "runs.csv"],
        ["lab/tiny", "1 distinct", "measure at least"],
    ),
    "unknown robust criterion": ({}, ["plan", "--robust", "p95"], ["--robust", "'p95'", "p90"]),
    "robust without draws": (
        {},
        ["plan", "--robust", "p90", "--fleet", "offline-2024"],
        ["--robust", "deployment llama-2-13b has no bootstrap draws", "fit it"],
    ),
    "robust out of sample": (
        {},
        ["plan", "--robust", "p90", "--evaluate-on", "half"],
        ["--evaluate-on", "--robust is p90", "without --robust"],
    ),
    "unknown form": ({}, ["fit", "--form", "cubic"], ["--form", "'cubic'", "roofline"]),
    "unknown flag": ({}, ["fit", "--drop", "typo"], ["flag", "'typo'", "warmup"]),
    "unknown model": ({}, ["fit", "--model", "gpt-2"], ["'gpt-2'", "llama-2-7b"]),
    "unreadable file": (
        {},
        ["fit", "absent.csv"],
        ["absent.csv", "no such file", "check the path"],
    ),
    "a folder": ({"sub/x": ""}, ["fit", "sub"], ["sub", "use one of .csv"]),
    "binary rubbish": (
        {"runs.parquet": "this is no parquet"},
        ["fit", "runs.parquet"],
        ["runs.parquet", "cannot be read"],
    ),
    "empty file": ({"w.csv": ""}, ["plan", "--workload", "w.csv"], ["w.csv", "empty"]),
    "empty workload": (
        {"w.csv": "input_tokens,output_tokens\n"},
        ["plan", "--workload", "w.csv"],
        ["w.csv", "no rows", "add at least one row"],
    ),
    "zero output tokens": (
        {"w.csv": "input_tokens,output_tokens\n5,0\n"},
        ["plan", "--workload", "w.csv"],
        ["row 2, column output_tokens", "'0'"],
    ),
    "unsorted arrivals": (
        {"w.csv": "arrival_s,input_tokens,output_tokens\n5,5,5\n4,5,5\n"},
        ["plan", "--workload", "w.csv"],
        ["row 3, column arrival_s", "4.0 does not follow 5.0", "sort"],
    ),
    "unknown workload format": (
        {"w.csv": "prompt,answer\na,b\n"},
        ["plan", "--workload", "w.csv"],
        ["w.csv: header", "prompt, answer", "input_tokens"],
    ),
    "bad Azure timestamp": (
        {"w.csv": "TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,5,5\n"},
        ["plan", "--workload", "w.csv"],
        ["row 2, column TIMESTAMP", "'yesterday'"],
    ),
    "unknown workload": (
        {},
        ["plan", "--workload", "alpacca"],
        ["'alpacca'", "alpaca"],
    ),
    "unknown profile": (
        {"fleet.toml": FLEET.replace("swing", "swin")},
        ["plan", "--fleet", "fleet.toml"],
        ["fleet.toml: deployments[0].profile", "swin-a100", "did you mean"],
    ),
    "empty fleet": (
        {"fleet.toml": ""},
        ["plan", "--fleet", "fleet.toml"],
        ["Error: fleet.toml: object missing required field `deployments`; add it"],
    ),
    "line break in a name": (
        {"fleet.toml": FLEET.replace('"a"', '"a\\n"')},
        ["plan", "--fleet", "fleet.toml"],
        ["fleet.toml: deployments[0].name", "matching regex", "('a\\n')"],
    ),
    "unknown key": (
        {"fleet.toml": FLEET + "idle_watts = 60\n"},
        ["plan", "--fleet", "fleet.toml"],
        ["fleet.toml: deployments[0].idle_watts", "unknown key", "idle_power_w"],
    ),
    "unknown iteration profile": (
        {"fleet.toml": STEPS.replace("tp2", "tp3")},
        ["plan", "--fleet", "fleet.toml"],
        ["deployments[0].profile", "h100-80gb-tp2/llama-2-70b", "data show iteration-profiles"],
    ),
    "an engine setting for single queries": (
        {"fleet.toml": FLEET + "max_batch = 16\n"},
        ["plan", "--fleet", "fleet.toml"],
        ["fleet.toml: deployments[0].max_batch", "16", "single queries", "iteration profile"],
    ),
    "a clock of 0": (
        {"fleet.toml": STEPS + "clock = 0.0\n"},
        ["plan", "--fleet", "fleet.toml"],
        ["fleet.toml: deployments[0].clock", "> 0.0", "(0.0)"],
    ),
    "a clock of 1.5": (
        {"fleet.toml": STEPS + "clock = 1.5\n"},
        ["plan", "--fleet", "fleet.toml"],
        ["fleet.toml: deployments[0].clock", "<= 1.0", "(1.5)"],
    ),
    "a batch of 0": (
        {"fleet.toml": STEPS + "max_batch = 0\n"},
        ["plan", "--fleet", "fleet.toml"],
        ["fleet.toml: deployments[0].max_batch", ">= 1", "(0)"],
    ),
    "chunks below the batch": (
        {"fleet.toml": STEPS + "max_batch = 16\nchunk_tokens = 8\n"},
        ["plan", "--fleet", "fleet.toml"],
        ["fleet.toml: deployments[0].chunk_tokens", "8 for a batch of 16", "at least max_batch"],
    ),
    "a cache below one request": (
        {"fleet.toml": STEPS + "kv_tokens = 1000\nmax_context_tokens = 4096\n"},
        ["plan", "--fleet", "fleet.toml"],
        ["fleet.toml: deployments[0].kv_tokens", "1000", "at least 4095"],
    ),
    "a negative sleep": (
        {"fleet.toml": STEPS + "sleep_after_s = -1.0\n"},
        ["plan", "--fleet", "fleet.toml"],
        ["fleet.toml: deployments[0].sleep_after_s", "-1.0"],
    ),
    "a host that takes infinite power": (
        {"fleet.toml": FLEET + "host_power_w = inf\n"},
        ["plan", "--fleet", "fleet.toml"],
        ["fleet.toml: deployments[0].host_power_w: inf", "finite number"],
    ),
    "a promise of nan": (
        {"fleet.toml": FLEET + "[slo.default]\ne2e_s = nan\n"},
        ["plan", "--fleet", "fleet.toml"],
        ["fleet.toml: slo.default.e2e_s: nan", "finite number"],
    ),
    "wrong type": (
        {"fleet.toml": FLEET + 'idle_power_w = "60W"\n'},
        ["plan", "--fleet", "fleet.toml"],
        ["fleet.toml: deployments[0].idle_power_w", "'60W'"],
    ),
    "negative power": (
        {"fleet.toml": FLEET + "idle_power_w = -1.0\n"},
        ["plan", "--fleet", "fleet.toml"],
        ["deployments[0].idle_power_w", "-1.0"],
    ),
    "duplicate names": (
        {"fleet.toml": FLEET + FLEET},
        ["plan", "--fleet", "fleet.toml"],
        ["deployments[1].name", "'a'", "deployments[0]"],
    ),
    "no deployments": (
        {"fleet.toml": "deployments = []\n"},
        ["plan", "--fleet", "fleet.toml"],
        ["fleet.toml: deployments", "length"],
    ),
    "not TOML": (
        {"fleet.toml": "[[deployments\n"},
        ["plan", "--fleet", "fleet.toml"],
        ["fleet.toml", "not TOML", "correct the syntax"],
    ),
    "absent fleet": ({}, ["plan", "--fleet", "absent.toml"], ["absent.toml", "hybrid-2024"]),
    "lambda of 1.5": ({}, ["plan", "--lambda", "1.5"], ["--lambda", "1.5", "0 to 1"]),
    "lambda of nan": ({}, ["plan", "--lambda", "nan"], ["--lambda", "nan", "0 to 1"]),
    "zeta of -0.1": ({}, ["plan", "--zeta", "-0.1"], ["--zeta", "-0.1", "0 to 1"]),
    "unknown normalisation": ({}, ["plan", "--normalise", "zscore"], ["'zscore'", "ideal"]),
    "idle power without watts": ({}, ["plan", "--idle-power", "a100"], ["'a100'", "NAME=WATTS"]),
    "idle power of nobody": ({}, ["plan", "--idle-power", "b200=60"], ["'b200'", "a100"]),
    "a query that fits nowhere": (
        {
            "fleet.toml": FLEET + "max_output_tokens = 10\n",
            "w.csv": "input_tokens,output_tokens\n5,11\n",
        },
        ["plan", "--fleet", "fleet.toml", "--workload", "w.csv"],
        ["w.csv: query with input_tokens=5, output_tokens=11", "raise max_input_tokens"],
    ),
    "unknown workload to judge on": (
        {},
        ["plan", "--evaluate-on", "halves"],
        ["no file and no built-in workload named 'halves'", "alpaca"],
    ),
    "bad file to judge on": (
        {"later.csv": "input_tokens,output_tokens\n5,0\n"},
        ["plan", "--evaluate-on", "later.csv"],
        ["later.csv: row 2, column output_tokens", "'0'"],
    ),
    "a single query to halve": (
        {"w.csv": "input_tokens,output_tokens\n5,5\n"},
        ["plan", "--workload", "w.csv", "--evaluate-on", "half"],
        ["w.csv", "a single query cannot be split", "give more queries"],
    ),
    "a query to judge on that fits nowhere": (
        {
            "fleet.toml": FLEET + "max_output_tokens = 10\n",
            "w.csv": "input_tokens,output_tokens\n5,10\n",
            "later.csv": "input_tokens,output_tokens\n5,11\n",
        },
        ["plan", "--fleet", "fleet.toml", "--workload", "w.csv", "--evaluate-on", "later.csv"],
        ["later.csv: query with input_tokens=5, output_tokens=11", "raise max_input_tokens"],
    ),
    "a budget that is no number": (
        {},
        ["plan", "--runtime-budget", "fast"],
        ["--runtime-budget", "'fast'", "1.1x"],
    ),
    "an aim and a weight": (
        {},
        ["plan", "--minimize", "energy", "--lambda", "0.5"],
        ["--minimize", "0.5", "one of the two"],
    ),
    "an unknown aim": (
        {},
        ["plan", "--minimize", "cost"],
        ["--minimize", "'cost'", "energy or runtime"],
    ),
    "an energy budget that is no number": (
        {},
        ["plan", "--energy-budget", "low"],
        ["--energy-budget", "'low'", "0.98x"],
    ),
    "a budget for a class without queries": (
        {},
        ["plan", "--runtime-budget", "chat=2"],
        ["--runtime-budget", "'chat'", "none"],
    ),
    "an SLO that is no latency": (
        {},
        ["plan", "--slo", "chat:p99=2"],
        ["--slo", "'chat:p99=2'", "ttft=S"],
    ),
    "an SLO that no deployment keeps": (
        {},
        ["plan", "--slo", "e2e=0.01"],
        ["alpaca", "output_tokens=", "relax the SLO e2e 0.01 s"],
    ),
    "a budget out of reach": (
        {},
        ["plan", "--runtime-budget", "0.1x"],
        ["out of reach", "at least the fastest"],
    ),
    "too short a horizon": (
        {},
        ["plan", "--horizon", "2000"],
        ["cannot all hold", "busy time of a100", "relax"],
    ),
    "a floor without accuracies": (
        {"fleet.toml": FLEET},
        ["plan", "--fleet", "fleet.toml", "--accuracy-floor", "2"],
        ["--accuracy-floor", "0 to 1"],
    ),
    "arrivals that are not sorted": (
        {"w.csv": "arrival_s,input_tokens,output_tokens\n5,5,5\n4,5,5\n"},
        ["simulate", "--workload", "w.csv"],
        ["w.csv: row 3, column arrival_s", "4.0 does not follow 5.0", "sort"],
    ),
    "a negative arrival": (
        {"w.csv": "arrival_s,input_tokens,output_tokens\n-5,5,5\n"},
        ["simulate", "--workload", "w.csv"],
        ["w.csv: row 2, column arrival_s", "'-5'"],
    ),
    "an answer without tokens": (
        {"w.csv": "arrival_s,input_tokens,output_tokens\n1,5,0\n"},
        ["simulate", "--workload", "w.csv"],
        ["w.csv: row 2, column output_tokens", "'0'"],
    ),
    "no arrivals to replay": (
        {"w.csv": "input_tokens,output_tokens\n5,5\n"},
        ["simulate", "--workload", "w.csv"],
        ["w.csv", "no arrivals", "--rate R", "--rates"],
    ),
    "an unknown policy": (
        {},
        ["simulate", "--policy", "round-robin,frugall"],
        ["policy", "'frugall'", "frugal", "least-loaded", "threshold"],
    ),
    "an unknown deployment for all": (
        {},
        ["simulate", "--policy", "single:b200"],
        ["policy single", "'b200'", "a100-tp8"],
    ),
    "an empty policy": ({}, ["simulate", "--policy", "frugal,"], ["--policy", "'frugal,'"]),
    "an unknown controller": (
        {},
        ["simulate", "--controller", "pined"],
        ["controller", "'pined'", "pinned", "phases", "batch-cap"],
    ),
    "a controller above the highest clock": (
        {},
        ["simulate", "--controller", "static:1.5"],
        ["controller clock", "1.5"],
    ),
    "a rate of 0": ({}, ["simulate", "--rate", "0"], ["--rate", "0", "above 0"]),
    "a rate and rates": (
        {},
        ["simulate", "--rate", "1", "--rates", "servegen-rates#m-large"],
        ["--rate", "--rates is servegen-rates#m-large", "one of the two"],
    ),
    "a load of 0": ({}, ["simulate", "--load", "0"], ["--load", "0", "above 0"]),
    "a load and a rate": (
        {},
        ["simulate", "--load", "0.7", "--rate", "3"],
        ["--rate", "--load is 0.7", "one of the two"],
    ),
    "rates below 0": (
        {"r.csv": "start_s,rate_per_s\n0,1\n10,-2\n"},
        ["simulate", "--rates", "r.csv"],
        ["r.csv: row 3, column rate_per_s", "'-2'"],
    ),
    "rates at which nothing comes": (
        {"r.csv": "start_s,rate_per_s\n0,0\n10,0\n"},
        ["simulate", "--rates", "r.csv"],
        ["requests", "none", "higher rate"],
    ),
    "no such rates": ({}, ["simulate", "--rates", "r.csv"], ["r.csv", "no such file"]),
    "a window of nothing": (
        {},
        ["simulate", "--window", "0:5"],
        ["--window", "no rates", "--rates"],
    ),
    "a window without colon": (
        {},
        ["simulate", "--rates", "servegen-rates#m-large", "--window", "5"],
        ["--window", "'5'", "A:B"],
    ),
    "bursts in a replay": ({}, ["simulate", "--cv", "2"], ["--cv", "2 for a replay", "--rate"]),
    "speed without a replay": (
        {},
        ["simulate", "--speed", "2", "--rate", "1"],
        ["--speed", "2 for drawn arrivals"],
    ),
    "no requests": ({}, ["simulate", "--requests", "0"], ["requests", "0", "at least 1"]),
    "a failure of nobody": (
        {},
        ["simulate", "--fail", "b200/0@5"],
        ["--fail", "'b200/0'", "a100-tp8/0 to a100-tp8/3"],
    ),
    "a replica too many": (
        {},
        ["simulate", "--drain", "a100-tp8/4@5"],
        ["--drain", "'a100-tp8/4'", "a100-tp8/3"],
    ),
    "a failure without time": (
        {},
        ["simulate", "--fail", "a100-tp8/0"],
        ["--fail", "'a100-tp8/0'", "REPLICA@START"],
    ),
    "a failure that ends before it begins": (
        {},
        ["simulate", "--fail", "a100-tp8/0@9-5"],
        ["--fail", "'a100-tp8/0@9-5'", "end after that"],
    ),
    "a plan that nobody follows": (
        {},
        ["simulate", "--plan", "plan.json"],
        ["--plan", "plan.json", "no policy follows", "prices"],
    ),
    "a budget that nobody keeps": (
        {},
        ["simulate", "--budget", "accuracy=0.6", "--policy", "packed"],
        ["--budget", "accuracy=0.6", "no policy keeps", "frugal"],
    ),
    "a budget of nothing": (
        {},
        ["simulate", "--budget", "accuracy"],
        ["budget", "'accuracy'", "accuracy=PART"],
    ),
    "a plan that is none": (
        {"plan.json": "{}"},
        ["simulate", "--plan", "plan.json", "--policy", "prices"],
        ["plan.json", "schema", "wattshed plan -o DIR"],
    ),
    "a target of 0": ({}, ["simulate", "--target", "0"], ["target", "0", "up to 1"]),
    "a target above 1": ({}, ["simulate", "--target", "1.5"], ["target", "1.5", "up to 1"]),
    "no replications": ({}, ["simulate", "--replications", "0"], ["replications", "at least 1"]),
    "clocks above 1": ({}, ["simulate", "--clocks", "0.5,1.5"], ["--clocks", "'0.5,1.5'"]),
    "clocks that are no numbers": ({}, ["simulate", "--clocks", "low"], ["--clocks", "'low'"]),
    "an unknown forecast": (
        {},
        ["simulate", "--forecast", "oracle"],
        ["forecast", "'oracle'", "histogram"],
    ),
    "unknown data set": ({}, ["data", "show", "alpacca"], ["alpacca", "alpaca"]),
    "unknown study": ({}, ["reproduce", "hybrid-1999"], ["hybrid-1999", "hybrid-2024"]),
}


@pytest.mark.parametrize("name", CASES)
def test_one_line_and_exit_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """In this process, because there are many; the two tests below run the installed command."""
    files, arguments, expected = CASES[name]
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(content)
    before = sorted(tmp_path.rglob("*"))
    folder = ["-o", "out"]
    writes = {"fit": ["-o", "out.json"], "plan": folder, "simulate": folder}.get(arguments[0], [])
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, [*arguments, *writes])
    assert done.exit_code == 2, done.output
    assert isinstance(done.exception, SystemExit)
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, done.stderr
    for part in expected:
        assert part in lines[0]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_a_report_that_cannot_be_written_leaves_nothing(wattshed: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = wattshed("plan", "-o", "file/below")
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_broken_profiles_file_is_named(wattshed: Run, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"profiles": [{"name": 3}]}')
    (tmp_path / "fleet.toml").write_text('[[deployments]]\nname = "a"\nprofile = "p.json#x"\n')
    done = wattshed("plan", "--fleet", "fleet.toml")
    assert done.returncode == 2
    assert "p.json" in done.stderr
    assert "$.profiles[0].name" in done.stderr


def many_runs(flags: str, energy: bool) -> str:
    """Runs of 16 cells."""
    lengths = [(m, n) for m in (8, 32, 128, 512) for n in (8, 32, 128, 512)]
    rows = [f"lab,tiny,{m},{n},{n / 100},{n * 3 if energy else ''},{flags}" for m, n in lengths]
    return "\n".join([f"{RUNS},flags", *rows]) + "\n"


def test_runs_without_energy_are_fitted_and_the_one_note_says_so(
    wattshed: Run, tmp_path: Path
) -> None:
    (tmp_path / "runs.csv").write_text(many_runs("", energy=False))
    done = wattshed("fit", "runs.csv", "-o", "profiles.json", "--draws", "0", "--report", "r")
    assert done.returncode == 0, done.stderr
    notes = [line for line in done.stderr.splitlines() if "energy" in line]
    assert len(notes) == 1
    for words in ("lab/tiny", "not fitted", "accelerator_energy_j", "measure with a meter"):
        assert words in notes[0]
    row = next(line for line in done.stdout.splitlines() if "lab/tiny" in line)
    assert "–" in row or "—" in row
    (tmp_path / "fleet.toml").write_text(OWN)
    refused = wattshed("plan", "--fleet", "fleet.toml")
    assert refused.returncode == 2
    assert "has no energy model" in refused.stderr


@pytest.mark.slow
def test_an_estimated_energy_is_told_in_plan_front_and_simulation(
    wattshed: Run, tmp_path: Path
) -> None:
    (tmp_path / "runs.csv").write_text(many_runs("modelled", energy=True))
    (tmp_path / "fleet.toml").write_text(OWN)
    (tmp_path / "w.csv").write_text("input_tokens,output_tokens\n8,8\n128,32\n")
    fitted = wattshed("fit", "runs.csv", "-o", "profiles.json", "--draws", "0", "--json")
    assert json.loads(fitted.stdout)["results"]["profiles"][0]["kind"] == "modelled"
    common = ("--fleet", "fleet.toml", "--workload", "w.csv", "--json")
    for command in ("plan", "pareto"):
        done = wattshed(command, *common)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert any("lab/tiny is modelled" in line for line in told["results"]["warnings"])
        assert "modelled" in {source["kind"] for source in told["provenance"]}
    done = wattshed("simulate", *common, "--rate", "1", "--requests", "5", "--policy", "frugal")
    assert done.returncode == 0, done.stderr
    policy = json.loads(done.stdout)["results"]["policies"][0]
    assert any("energy: modelled in the runs of lab/tiny" in line for line in policy["modelled"])
