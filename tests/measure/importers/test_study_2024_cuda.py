"""Raw results of the study's NVIDIA machines. The files are written here, in the format of its
scripts: values are made up, none is of the study."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from wattshed.cli import main
from wattshed.errors import InputError
from wattshed.fit.campaign import Options, fit_profiles
from wattshed.measure.importers.registry import import_runs
from wattshed.measure.importers.study_2024_cuda import Host, read_study_run
from wattshed.runs import COLUMNS, read_runs

BEGUN_S = 1_712_061_400.0  # 2 April 2024, 7:36:40 in Chicago
CHICAGO = Host(zone="America/Chicago")


def row(
    tag: str,
    *energies: int,
    at_s: float = 0.0,
    runtime_s: float = 2.0,
    limit: int = 32,
    m: int = 9,
    trial: int = 1,
    total: int = 41,
    core: int | None = 1,
    gpus: int = 1,
) -> str:
    """A line as the scripts write it."""
    asked = [limit, m, trial, "Llama-2-7b-chat-hf", gpus, '"Which, say,\nis it?"', total, 32, "lab"]
    memory = [40960.0, 14317.6875] * gpus
    where = [] if core is None else [core]
    values = [BEGUN_S + at_s, tag, runtime_s, *energies, *asked, *where, *memory]
    return ",".join(str(value) for value in values) + "\n"


def startup(*energies: int, **told: int) -> str:
    return row("model load", *energies, m=0, trial=0, total=0, **told)


def chart(records: list[tuple[str, float, float]]) -> str:
    """A timechart of two cores; records of 0.5 s."""
    lines = [f"{i},{clock},  90.0,  80.0,  {a},  {b}" for i, (clock, a, b) in enumerate(records, 1)]
    return (
        "AMDPROFILER POWER PROFILE REPORT\n\nSampling Interval:,500 milli-seconds\n"
        "Profile Start Time:,Apr-02-2024_07-36-39,\n\nPROFILE RECORDS\n"
        "RecordId,Timestamp,socket0-package-power,socket1-package-power,core0-power,core1-power\n"
        + "\n".join(lines)
        + "\n"
    )


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_counters_of_intel_are_uj_and_the_packages_are_net_of_idle(tmp_path):
    text = startup(90_000_000, 80_000_000, 60_000_000)
    text += row("start-inference-A-0", 100_000_000, 90_000_000, 200_000_000, trial=0)
    text += row("start-inference-A-1", 95_000_000, 85_000_000, 190_000_000)
    table, notes = read_study_run(write(tmp_path, "a.csv", text), host=Host(package_idle_w=40.0))
    assert table.columns == [column.name for column in COLUMNS]
    first, second = table.to_dicts()
    assert first["accelerator_energy_j"] == pytest.approx(200.0, abs=1e-9)
    assert first["host_energy_j"] == pytest.approx(190.0 - 2 * 40.0 * 2.0, abs=1e-9)
    assert (first["flags"], second["flags"]) == ("warmup", None)
    assert second["host_energy_j"] == pytest.approx(20.0, abs=1e-9)
    assert (second["input_tokens"], second["output_tokens"], second["trial"]) == (9, 32, 1)
    assert (second["batch_size"], second["kv_cache"], second["n_accelerators"]) == (1.0, False, 1)
    assert second["method"] == "pyjoules|rapl-net"
    assert any("uJ" in line for line in notes)


def test_without_idle_power_the_host_is_not_known_and_that_is_said(tmp_path):
    path = write(tmp_path, "a.csv", row("start-inference-A-1", 95_000_000, 85_000_000, 190_000_000))
    table, notes = read_study_run(path)
    assert table["host_energy_j"].to_list() == [None]
    assert any("--package-idle" in line for line in notes)


@pytest.mark.parametrize("core", [1, None])
def test_several_gpus_are_summed_in_mj_with_the_cpu_or_without_as_older_scripts_wrote(
    tmp_path, core
):
    text = row("start-inference-A-1", 100_000, 110_000, 120_000, 130_000, gpus=4, core=core)
    table, notes = read_study_run(write(tmp_path, "a.csv", text))
    assert table["accelerator_energy_j"].to_list() == pytest.approx([460.0])
    assert table["n_accelerators"].to_list() == [4]
    assert any("mJ" in line for line in notes)
    assert table["flags"].to_list() == ["warmup"]  # nothing ran before it


def test_a_row_whose_energy_is_in_another_unit_is_flagged(tmp_path):
    text = startup(60_000) + row("start-inference-A-0", 190_000, trial=0)
    text += row("start-inference-A-1", 190_000) * 3 + row("start-inference-A-2", 190_000_000)
    with pytest.raises(InputError, match=r"energies of GPUs: are those of a GPU in no unit"):
        read_study_run(write(tmp_path, "a.csv", text.replace("190000", "190000000000")))
    text = text.replace("190000000", "190")
    table, _ = read_study_run(write(tmp_path, "b.csv", text))
    assert table["flags"].to_list()[-1] == "wrong_unit"


def test_grids_tell_the_limit_where_sweeps_tell_the_trial(tmp_path):
    grid = "".join(
        row(f"start-inference-A-{n}", 190_000, limit=n, trial=n, total=9 + n)
        for n in (8, 32, 8, 32, 8)
    )
    table, _ = read_study_run(write(tmp_path, "a.csv", grid))
    assert table["trial"].to_list() == [0, 0, 1, 1, 2]
    assert table["flags"].to_list() == ["warmup", None, None, None, None]
    assert table["output_tokens"].to_list() == [8, 32, 8, 32, 8]


def test_the_core_of_a_call_is_metered_by_its_timechart(tmp_path):
    """From 7:36:40.25 to 7:36:41.25: 0.25 s of 3 W, 0.5 s of 5 W and 0.25 s of 7 W on core 1."""
    clocks = ["7:36:40:0", "7:36:40:500", "7:36:41:0", "7:36:41:500"]
    log = chart([(clock, 100.0, 2 * i + 1.0) for i, clock in enumerate(clocks)])
    text = row("start-inference-A-1", 190_000, at_s=0.25, runtime_s=1.0)
    text += row("start-inference-A-2", 190_000, at_s=0.25, runtime_s=1.0, core=3)
    text += row("start-inference-A-3", 190_000, at_s=1.25, runtime_s=1.0)
    path = write(tmp_path, "a.csv", text)
    table, notes = read_study_run(path, write(tmp_path, "timechart.csv", log), CHICAGO)
    host_j = 0.25 * 3.0 + 0.5 * 5.0 + 0.25 * 7.0
    assert table["host_energy_j"].to_list()[:2] == pytest.approx([host_j, host_j], abs=1e-9)
    assert table["host_energy_j"][2] is None
    assert "pyjoules|uprof-core" in table["method"].to_list()
    assert table["flags"].to_list() == ["warmup", None, None]
    quiet = chart([(clock, 10.0, 2 * i + 1.0) for i, clock in enumerate(clocks)])
    table, _ = read_study_run(path, write(tmp_path, "quiet.csv", quiet), CHICAGO)
    missed = "cores_miss_package"
    assert table["flags"].to_list() == [f"warmup|{missed}", missed, None]
    assert any("1 calls lie outside" in line for line in notes)
    assert any("second threads" in line for line in notes)


@pytest.mark.parametrize(
    ("core", "zone", "told"),
    [
        (1, None, "--zone: not given"),
        (1, "Mars/Base", "--zone: 'Mars/Base'"),
        (1, "America", "--zone: 'America'"),
        (1, "Europe/London", "covers none of 1 calls; check --zone"),
        (9, "America/Chicago", "began on CPU 9"),
        (None, "America/Chicago", "does not tell the CPU"),
    ],
)
def test_timecharts_that_do_not_fit_are_refused_in_one_line(tmp_path, core, zone, told):
    log = write(tmp_path, "t.csv", chart([("7:36:40:0", 1, 1), ("7:36:43:0", 1, 1)]))
    path = write(tmp_path, "a.csv", row("start-inference-A-1", 190_000, core=core))
    with pytest.raises(InputError) as error:
        read_study_run(path, log, Host(zone=zone))
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_the_command_knows_its_results_by_their_rows_and_fit_takes_them(tmp_path):
    cells = [(m, n) for m in (8, 128, 1024) for n in (8, 64, 512)]
    text = startup(60_000) + "".join(
        row(
            f"start-inference-{m}-{trial}",
            *(round(1000 * (50 + 0.1 * m + 4 * n + 0.004 * n * m)),),
            runtime_s=0.1 + 0.03 * n,
            limit=n,
            m=m,
            total=m + n,
            trial=trial,
        )
        for m, n in cells
        for trial in range(3)
    )
    path, runs = write(tmp_path, "results.csv", text), tmp_path / "runs.csv"
    done = CliRunner().invoke(main, ["import", str(path), "-o", str(runs), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["results"]
    assert (found["tool"], len(found["runs"])) == ("study-2024-cuda", 27)
    (profile,) = fit_profiles(read_runs(runs), Options())
    assert profile.system == "lab"
    other = import_runs(path, system="swing", accelerator="A100")
    assert set(other.table["system"]) == {"swing"}
    assert set(other.table["accelerator"]) == {"A100"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (startup(60_000), "has no row of an inference"),
        (row("start-inference-A-1", 190_000, gpus=2), "which fit no number of GPUs"),
        (row("start-inference-A-1", 190_000, total=99), "row 1: 90 tokens came of 32 at most"),
        (row("start-inference-A-1", 190_000).replace("190000", "much"), "energy of a GPU"),
        (row("start-inference-A-1", 190_000, runtime_s=0.0), "row 1: 0 s, and energies of GPUs"),
        (row("start-inference-A-1", -190_000), "row 1: 2 s, and energies of GPUs -190000.0; leave"),
        (row("start-inference-A-1", 190_000) + '1,"' + "x" * 140_000, "line 3: is no CSV: field"),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path, text, told):
    with pytest.raises(InputError) as error:
        read_study_run(write(tmp_path, "a.csv", text))
    assert told in str(error.value)
    assert "\n" not in str(error.value)
