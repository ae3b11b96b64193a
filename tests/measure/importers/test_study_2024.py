"""Raw results of the study's M1: energies from samples, flags, and what cannot be told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from wattshed.cli import main
from wattshed.errors import InputError
from wattshed.measure.importers.registry import Tokens, import_runs, together
from wattshed.measure.importers.study_2024 import read_study_run
from wattshed.runs import COLUMNS, read_runs

VLLM = Path(__file__).parents[1] / "samples" / "vllm-bench" / "result.json"
LOAD = "load model,22.1,26.7,0.5,64,0,0,Llama-2-7b-chat-hf,1,,0,32,M1-Pro,12916.5\n"
# 2.0 W * 0.25 s * 0.5 + 1.0 W * 0.5 s * 0.8 = 0.65 J; 10 W * 0.25 s + 4 W * 0.5 s = 4.5 J
FIRST = (
    "inference-A-0,5.0,0.65,4.5,64,9,0,Llama-2-7b-chat-hf,1,"
    '"What is, in\nFrance?",73,32,M1-Pro,12916.5\n'
)
SECOND = "inference-A-1,4.0,0.65,9.9,64,9,1,Llama-2-7b-chat-hf,1,What?,55,32,M1-Pro,12916.5\n"
SAMPLES = (
    "load model,215.4,7972.84,8855.76,13222,51\n"
    "inference-A-0,250.0,50.0,100.0,2000,10000\n"
    "inference-A-0,500.0,80.0,100.0,1000,4000\n"
    "inference-A-1,250.0,50.0,100.0,2000,10000\n"
)


def write(folder: Path, results: str, samples: str = SAMPLES) -> tuple[Path, Path]:
    paths = folder / "Llama-2-7b-chat-hf-M1-Pro.csv", folder / "power.csv"
    for path, text in zip(paths, (results, samples), strict=True):
        path.write_text(text)
    return paths


def test_energies_are_computed_from_the_samples_of_each_call(tmp_path):
    table = read_study_run(*write(tmp_path, LOAD + FIRST + SECOND))
    assert table.columns == [column.name for column in COLUMNS]
    first, second = table.to_dicts()
    assert first["accelerator_energy_j"] == pytest.approx(4.5, abs=1e-9)
    assert first["host_energy_j"] == pytest.approx(0.65, abs=1e-9)
    assert (first["runtime_s"], first["batch_size"], first["kv_cache"]) == (5.0, 1.0, False)
    assert (first["input_tokens"], first["output_tokens"], first["trial"]) == (9, 64, 0)
    assert first["flags"] == "pause_2s|warmup"
    assert second["accelerator_energy_j"] == pytest.approx(2.5, abs=1e-9)
    assert second["output_tokens"] == 46
    assert second["flags"] == "pause_2s|early_stop|differs_from_recorded"


def test_without_samples_energies_are_those_recorded(tmp_path):
    path, _ = write(tmp_path, FIRST)
    row = read_study_run(path).to_dicts()[0]
    assert (row["accelerator_energy_j"], row["host_energy_j"]) == (4.5, 0.65)


def test_what_powermetrics_printed_during_the_only_call_serves_too(tmp_path):
    text = (
        "*** Sampled system activity (Mon Apr  8 13:24:56 2024 +0100) (250.00ms elapsed) ***\n"
        "*** Running tasks ***\n\n"
        "Name                    ID     CPU ms/s  User%  Energy Impact\n"
        "python3.12              4711   980.10    91.20  50.00\n"
        "ALL_TASKS               -2     1100.10   88.00  100.00\n\n"
        "CPU Power: 2000 mW\nGPU Power: 10000 mW\nANE Power: 0 mW\n"
    )
    row = read_study_run(*write(tmp_path, FIRST, text)).to_dicts()[0]
    assert row["accelerator_energy_j"] == pytest.approx(2.5, abs=1e-9)
    assert row["host_energy_j"] == pytest.approx(0.25, abs=1e-9)
    with pytest.raises(InputError, match="is one log of 2 calls"):
        read_study_run(*write(tmp_path, FIRST + SECOND, text))


def test_recorded_tokens_that_cannot_be_the_generated_ones_are_refused(tmp_path):
    path, _ = write(tmp_path, SECOND + FIRST)
    with pytest.raises(InputError, match=r"row 2: 73 tokens came of 64 at most; tell whether"):
        read_study_run(path, recorded="generated")
    path.write_text(SECOND)
    assert read_study_run(path, recorded="generated")["output_tokens"].to_list() == [55]


@pytest.mark.parametrize(
    ("results", "samples", "told"),
    [
        (LOAD, SAMPLES, "has no row of an inference"),
        ("inference-A-0,1,2\n", SAMPLES, "row 1: has 3 values, expected 14"),
        (FIRST.replace("5.0", "fast", 1), SAMPLES, "row 1: expected a number for runtime_s"),
        (FIRST, "inference-A-0,1,2\n", "power.csv: row 1: has 3 values, expected 6"),
        (FIRST, "inference-B-0,1,1,1,1,1\n", "'inference-A-0' has no samples of power"),
        (FIRST, "inference-A-0,250.0,0,0,2000,10000\n", "row 1: sample 0 of 'inference-A-0': its"),
        (FIRST + '"' + "x" * 140_000, SAMPLES, "is no CSV: field larger than field limit"),
        (FIRST, '"' + "x" * 140_000, "power.csv: line 1: is no CSV: field larger"),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path, results: str, samples: str, told: str):
    with pytest.raises(InputError) as error:
        read_study_run(*write(tmp_path, results, samples))
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_the_command_knows_its_results_by_their_rows(tmp_path):
    results, power = write(tmp_path, LOAD + FIRST + SECOND)
    runs = tmp_path / "runs.csv"
    asked = ["import", str(results), "--energy", str(power), "-o", str(runs), "--json"]
    done = CliRunner().invoke(main, asked)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["results"]
    assert (found["tool"], len(found["runs"])) == ("study-2024", 2)
    assert "--recorded" in found["notes"][0]
    first = read_runs(runs).table.row(0, named=True)
    assert first["accelerator_energy_j"] == pytest.approx(4.5, abs=1e-9)
    assert "pause_2s" in first["flags"]
    other = import_runs(results, system="m1", tokens=Tokens(recorded="total"))
    assert other.table["system"].to_list() == ["m1", "m1"]
    assert any("those recorded" in n for n in other.notes)
    vllm = import_runs(VLLM, system="m1", n_accelerators=4)
    mixed = together([import_runs(results, system="m1", n_accelerators=4), vllm])
    assert mixed.table["n_accelerators"].to_list() == [4] * (2 + vllm.table.height)
