"""Results of other tools as runs: what they say, in SI units, and nothing they do not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from wattshed import fit_profiles, read_runs
from wattshed.cli import main
from wattshed.errors import InputError
from wattshed.fit.campaign import Options
from wattshed.measure.importers.aiperf_telemetry import energy_between
from wattshed.measure.importers.registry import IMPORTERS, Tokens, import_runs, recognise, together
from wattshed.runs import COLUMNS, write_runs

SAMPLES = Path(__file__).parent / "samples"
FILES = {
    "aiperf": "aiperf/profile_export.jsonl",
    "aiperf-summary": "aiperf/profile_export_aiperf.json",
    "aiperf-telemetry": "aiperf/gpu_telemetry_export.jsonl",
    "vllm-bench": "vllm-bench/result.json",
    "guidellm": "guidellm/benchmarks.json",
    "mlenergy": "mlenergy/results.json",
    "mlenergy-leaderboard": "mlenergy/leaderboard.json",
    "codecarbon": "codecarbon/emissions.csv",
}
WITH_RUNS = sorted(FILES.keys() - {"aiperf-telemetry"})
BOTH = Tokens(32, 128)


def sample(name: str) -> Path:
    return SAMPLES / FILES[name]


def changed(tmp_path: Path, name: str, **keys: Any) -> Path:
    """A JSON sample with other values."""
    content = {**json.loads(sample(name).read_text()), **keys}
    path = tmp_path / "changed.json"
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    return path


def test_every_importer_has_a_sample_that_it_alone_knows() -> None:
    assert IMPORTERS.keys() == FILES.keys()
    for name in IMPORTERS:
        first = sample(name).read_text()
        line = first.partition("\n")[0]
        keys = frozenset(line.split(",")) if "csv" in FILES[name] else frozenset()
        keys = keys or frozenset(json.loads(line if FILES[name].endswith("l") else first))
        assert [i.name for i in IMPORTERS.values() if i.recognise(keys)] == [name]
        assert recognise(sample(name)) == name


@pytest.mark.parametrize("name", WITH_RUNS)
def test_runs_of_every_tool_are_runs_that_can_be_read(name: str, tmp_path: Path) -> None:
    """Known columns only, and the same table after writing and reading."""
    found = import_runs(sample(name), system="lab", model="m", tokens=BOTH)
    assert set(found.table.columns) <= {column.name for column in COLUMNS}
    for suffix in ("csv", "parquet", "jsonl"):
        path = tmp_path / f"runs.{suffix}"
        write_runs(found.table, path)
        again = read_runs(path).table.select(found.table.columns)
        assert again.equals(found.table)


def test_aiperf_requests_have_their_latency_in_seconds_and_no_energy() -> None:
    found = import_runs(sample("aiperf"), system="lab", model="tiny")
    assert (found.kind, found.notes, found.table.height) == ("measured", (), 12)
    assert "accelerator_energy_j" not in found.table.columns
    assert found.table["runtime_s"][0] == pytest.approx(0.108490305)
    assert found.table["ttft_s"][0] == pytest.approx(0.030229391)
    assert found.table["input_tokens"].to_list() == [20] * 12
    assert found.table["output_tokens"].to_list() == [16] * 12


def test_aiperf_requests_of_other_phases_and_failed_ones_are_counted(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in sample("aiperf").read_text().splitlines()]
    lines[0]["metadata"]["benchmark_phase"] = "warmup"
    lines[1]["metadata"]["was_cancelled"] = True
    lines[2]["error"] = {"code": 500}
    del lines[3]["metrics"]["output_sequence_length"]
    path = tmp_path / "p.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    found = import_runs(path, system="lab", model="tiny")
    assert found.table.height == 8
    assert found.notes == (
        "1 request of other phases than profiling left out",
        "2 requests that failed or were cancelled left out",
        "1 request without input or output tokens left out",
    )


def test_aiperf_summary_shares_the_total_equally_and_says_so() -> None:
    """543.327 J of twelve requests; two requests were in flight, on two GPUs."""
    row = import_runs(sample("aiperf-summary"), system="lab").table.row(0, named=True)
    assert row["accelerator_energy_j"] == pytest.approx(543.327 / 12)
    assert row["runtime_s"] == pytest.approx(0.10550338141666667)
    assert (row["trials"], row["flags"]) == (12, "shared_equally")
    assert (row["model"], row["batch_size"], row["n_accelerators"]) == ("tiny", 2, 2)
    assert row["accelerator"] == "NVIDIA H100 80GB HBM3"


@pytest.mark.parametrize(
    ("name", "unit", "total", "expected_j"),
    [
        ("nvidia_total_gpu_energy", "J", 120.0, 10.0),
        ("nvidia_total_gpu_energy", "mJ", 120_000.0, 10.0),
        ("nvidia_total_gpu_energy", "kWh", 120 / 3.6e6, 10.0),
        ("amd_total_gpu_energy", "MJ", 120e-6, 10.0),
    ],
)
def test_the_unit_in_the_summary_is_read(
    tmp_path: Path, name: str, unit: str, total: float, expected_j: float
) -> None:
    energy = {"nvidia_total_gpu_energy": None, name: {"unit": unit, "avg": total}}
    path = changed(tmp_path, "aiperf-summary", **energy)
    found = import_runs(path, system="lab").table["accelerator_energy_j"][0]
    assert found == pytest.approx(expected_j)


@pytest.mark.parametrize(
    ("unit", "words"),
    [("MJ", "column accelerator_energy_j: .* mean power"), ("BTU", "unit 'BTU'; use one of uJ")],
)
def test_units_that_cannot_be_are_refused(tmp_path: Path, unit: str, words: str) -> None:
    """543 megajoules of twelve requests are no energy of GPUs."""
    path = changed(tmp_path, "aiperf-summary", nvidia_total_gpu_energy={"unit": unit, "avg": 543.3})
    with pytest.raises(InputError, match=words):
        import_runs(path, system="lab")


def test_a_summary_without_meters_has_no_energy(tmp_path: Path) -> None:
    path = changed(tmp_path, "aiperf-summary", nvidia_total_gpu_energy=None, telemetry_data=None)
    found = import_runs(path, system="lab")
    assert found.kind == "measured"
    assert "accelerator_energy_j" not in found.table.columns


def test_a_mean_over_unlike_requests_says_so(tmp_path: Path) -> None:
    lengths = {"unit": "tokens", "avg": 20.0, "std": 4.0}
    path = changed(tmp_path, "aiperf-summary", input_sequence_length=lengths)
    assert "mixed_lengths" in import_runs(path, system="lab").table["flags"][0]


def test_aiperf_telemetry_is_in_megajoules() -> None:
    """GPUs of 250 and 500 W from the first request to the last token, for each of 12 requests."""
    lines = [json.loads(line)["metadata"] for line in sample("aiperf").read_text().splitlines()]
    begin_s = min(line["request_start_ns"] for line in lines) / 1e9
    end_s = max(line["request_end_ns"] for line in lines) / 1e9
    meters = sample("aiperf-telemetry")
    row = import_runs(sample("aiperf"), system="lab", model="m", energy=meters).table.row(
        0, named=True
    )
    assert row["accelerator_energy_j"] == pytest.approx(750 * (end_s - begin_s) / 12, rel=0.02)
    assert row["energy_low_j"] <= row["accelerator_energy_j"] <= row["energy_high_j"]
    assert (row["flags"], row["trials"], row["n_accelerators"]) == ("shared_equally", 12, 2)


def telemetry(path: Path, samples: list[tuple[float, float]], gpus: int = 1) -> Path:
    """Counter samples (s, J) as AIPerf writes them."""
    path.write_text(
        "\n".join(
            json.dumps(
                {
                    "timestamp_ns": round(t * 1e9),
                    "gpu_uuid": f"GPU-{gpu}",
                    "telemetry_data": {"nvidia_energy_consumption": joules / 1e6},
                }
            )
            for t, joules in samples
            for gpu in range(gpus)
        )
    )
    return path


def test_energy_between_samples_is_interpolated_with_hard_bounds(tmp_path: Path) -> None:
    """By hand: from half of the first second to half of the third, of two equal GPUs."""
    path = telemetry(tmp_path / "t.jsonl", [(0, 1000), (1, 1100), (2, 1300), (3, 1400)], gpus=2)
    found = energy_between(path, 0.5, 2.5)
    assert (found.value_j, found.low_j, found.high_j) == pytest.approx((600, 400, 800))
    assert found.gpus == 2


def test_slices_of_one_gpu_are_counted_once(tmp_path: Path) -> None:
    """An exporter repeats the counter of a GPU for each of its MIG slices."""
    once = [(0, 1000), (1, 1100), (2, 1300)]
    path = telemetry(tmp_path / "t.jsonl", [sample for sample in once for _ in range(3)])
    found = energy_between(path, 0, 2)
    assert (found.value_j, found.gpus) == (pytest.approx(300), 1)


@given(
    steps=st.lists(st.floats(0, 1e4), min_size=3, max_size=20),
    parts=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
)
def test_energy_between_moments_adds_up_and_keeps_its_bounds(
    tmp_path_factory: pytest.TempPathFactory, steps: list[float], parts: tuple[float, ...]
) -> None:
    path = tmp_path_factory.mktemp("t") / "t.jsonl"
    counter = np.cumsum([0.0, *steps])
    telemetry(path, list(enumerate(counter.tolist())))
    a, b, c = sorted(part * len(steps) for part in parts)
    whole, first, second = (energy_between(path, *ends) for ends in ((a, c), (a, b), (b, c)))
    assert first.value_j + second.value_j == pytest.approx(whole.value_j, abs=1e-6)
    assert whole.low_j - 1e-6 <= whole.value_j <= whole.high_j + 1e-6


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        ([(0, 0), (1, 100)], "samples from 0.000 to 1.000 s, requests from"),
        ([(0, 100), (5, 50), (9, 60)], "counter falls"),
    ],
)
def test_telemetry_that_does_not_cover_the_requests_is_refused(
    tmp_path: Path, samples: list[tuple[float, float]], words: str
) -> None:
    path = telemetry(tmp_path / "t.jsonl", samples)
    with pytest.raises(InputError, match=words):
        energy_between(path, 0.5, 8)


def test_vllm_rows_are_those_that_were_served() -> None:
    found = import_runs(sample("vllm-bench"), system="lab")
    assert found.table["runtime_s"].to_list() == [0.19, 0.11, 0.2]
    assert found.table["ttft_s"].to_list() == [0.1, 0.06, 0.2]
    assert found.table["input_tokens"].to_list() == [128, 64, 256]
    assert found.table["output_tokens"].to_list() == [4, 2, 1]
    assert "accelerator_energy_j" not in found.table.columns
    assert found.notes[0] == "1 request that failed left out"
    assert found.table["batch_size"].to_list() == [2.0] * 3


def test_vllm_latencies_are_ttft_and_gaps(tmp_path: Path) -> None:
    """Older versions write no latencies; with a rate, the concurrency is only a bound."""
    path = changed(tmp_path, "vllm-bench", latencies=None, request_rate=3.5)
    found = import_runs(path, system="lab").table
    assert found["runtime_s"].to_list() == pytest.approx([0.19, 0.11, 0.2])
    assert "batch_size" not in found.columns


def test_guidellm_rows_are_successful_requests(tmp_path: Path) -> None:
    content = json.loads(sample("guidellm").read_text())
    first = content["benchmarks"][0]["requests"]["successful"][0]
    content["benchmarks"][0]["requests"]["errored"] = [first, first]
    content["benchmarks"][0]["config"]["sample_size"] = 8
    path = changed(tmp_path, "guidellm", benchmarks=content["benchmarks"])
    found = import_runs(path, system="lab")
    row = found.table.row(0, named=True)
    assert found.table.height == 8
    assert row["runtime_s"] == first["request_latency"]
    assert row["ttft_s"] == first["time_to_first_token_ms"] / 1000
    assert (row["model"], row["batch_size"], row["experiment"]) == ("tiny", 2, "concurrent-2")
    assert found.notes[:2] == (
        "2 requests that failed left out",
        "the tool kept a sample of 8 requests",
    )
    with pytest.raises(InputError, match="a sample of them only"):  # who had the energy, too?
        import_runs(path, system="lab", energy=sample("aiperf-telemetry"))


def test_mlenergy_gives_the_steady_state_for_the_mean_request() -> None:
    """0.25 J a token, 4, 6, 12 and 10 tokens: 2 J for the mean of 8. None for single requests."""
    found = import_runs(sample("mlenergy"), system="lab")
    row = found.table.row(0, named=True)
    assert (found.kind, found.table.height, row["trials"]) == ("derived", 1, 4)
    assert row["accelerator_energy_j"] == pytest.approx(2.0)
    assert (row["input_tokens"], row["output_tokens"]) == (100, 8)
    assert row["runtime_s"] == pytest.approx(0.245)
    assert row["flags"] == "mixed_lengths|shared_by_token"
    assert (row["accelerator"], row["batch_size"]) == ("H100", 2)
    single = import_runs(sample("mlenergy"), system="lab", rows="requests")
    assert single.table.height == 4
    assert "accelerator_energy_j" not in single.table.columns
    assert any("energy left out" in note for note in single.notes)


def test_leaderboard_configurations_need_the_input_length() -> None:
    found = import_runs(sample("mlenergy-leaderboard"), system="lab", tokens=Tokens(50)).table
    assert found["accelerator_energy_j"].to_list() == pytest.approx([100.0, 50.1])
    assert found["runtime_s"].to_list() == pytest.approx([2.0, 1.2024])
    assert found["flags"].to_list() == ["runtime_without_ttft|shared_by_token"] * 2
    assert found["n_accelerators"].to_list() == [2, 1]
    with pytest.raises(InputError, match="--input-tokens: not given"):
        import_runs(sample("mlenergy-leaderboard"), system="lab")


def test_codecarbon_without_gpu_has_no_energy() -> None:
    """The file's kilowatt-hours are of a load model and of 20 W of memory."""
    found = import_runs(sample("codecarbon"), system="pc", model="m", tokens=BOTH)
    assert found.table["runtime_s"].to_list() == pytest.approx([4.01535091])
    assert not {"accelerator_energy_j", "host_energy_j"} & set(found.table.columns)
    assert "CPU and memory left out" in found.notes[0]


@pytest.mark.parametrize(
    ("gpu", "mode", "flags", "kind"),
    [
        ("2 x NVIDIA A100", "machine", "", "derived"),
        ("2 x NVIDIA A100", "process", "modelled", "modelled"),
        ("2 x AMD MI300X", "machine", "modelled", "modelled"),
    ],
)
def test_codecarbon_kilowatt_hours_become_joules_without_pue(
    tmp_path: Path, gpu: str, mode: str, flags: str, kind: str
) -> None:
    """1e-4 kWh are 360 J; codecarbon had multiplied 300 J by a PUE of 1.2."""
    path = tmp_path / "emissions.csv"
    told = {"gpu_energy": 1e-4, "gpu_count": 2.0, "gpu_model": gpu, "tracking_mode": mode}
    frame = pl.read_csv(sample("codecarbon")).drop(*told, "pue")
    frame.with_columns(**{k: pl.lit(v) for k, v in told.items()}, pue=pl.lit(1.2)).write_csv(path)
    found = import_runs(path, system="lab", model="m", tokens=BOTH)
    row = found.table.row(0, named=True)
    assert row["accelerator_energy_j"] == pytest.approx(300.0)
    assert (row["flags"], found.kind, row["n_accelerators"]) == (flags, kind, 2)
    assert row["accelerator"] == gpu.removeprefix("2 x ")


def test_what_is_given_counts_more_than_what_the_file_says() -> None:
    found = import_runs(sample("guidellm"), system="lab", model="other", batch_size=7.5)
    assert found.table["model"].unique().to_list() == ["other"]
    assert found.table["batch_size"].unique().to_list() == [7.5]
    assert not any("batch_size" in note for note in found.notes)


def test_files_together_keep_the_least_sure_kind() -> None:
    measured = import_runs(sample("guidellm"), system="lab")
    derived = import_runs(sample("aiperf-summary"), system="lab")
    found = together([measured, derived])
    assert (found.kind, found.table.height) == ("derived", 9)
    assert found.table["accelerator_energy_j"].null_count() == 8


@pytest.mark.parametrize("name", sorted(FILES))
@pytest.mark.parametrize("part", [0.3, 0.97])
def test_a_cut_file_gives_one_clear_error(name: str, part: float, tmp_path: Path) -> None:
    path = tmp_path / "cut"
    content = sample(name).read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(InputError) as refused:
        import_runs(path, system="lab", model="m", tokens=BOTH)
    assert "cut" in refused.value.where or refused.value.where.startswith("--")
    assert "\n" not in str(refused.value)


NONE = "Object missing required field"


@pytest.mark.parametrize(
    ("name", "keys", "words"),
    [
        ("vllm-bench", {"input_lens": None}, "missing required field `input_lens`.*save-detailed"),
        ("vllm-bench", {"ttfts": [0.1]}, "unequal lengths: input_lens 4, .*ttfts 1"),
        ("vllm-bench", {"errors": ["x"] * 4}, "none of 0 has input and output tokens"),
        ("aiperf-summary", {"request_count": {"unit": "requests", "avg": 0.0}}, "request_count: 0"),
        ("vllm-bench", {"ttfts": [-0.1] * 4}, "column ttft_s"),
        ("vllm-bench", {"input_lens": [10**25] * 4}, "column input_tokens"),
        (
            "aiperf-summary",
            {"output_sequence_length": {"unit": "tokens", "avg": 1e300}},
            "output_t",
        ),
        ("guidellm", {"benchmarks": [{"requests": {}}]}, r"`successful` - at `\$.benchmarks"),
        ("guidellm", {"benchmarks": []}, "no benchmarks"),
        ("mlenergy", {"steady_state_energy_per_token": "1"}, "Expected `float`, got `str`"),
        ("mlenergy", {"steady_state_energy_per_token": 0.0}, "accelerator_energy_j"),
        ("mlenergy-leaderboard", {"configurations": [{}]}, NONE),
    ],
)
def test_a_file_that_says_something_else_is_refused(
    tmp_path: Path, name: str, keys: dict[str, Any], words: str
) -> None:
    path = changed(tmp_path, name, **keys)
    with pytest.raises(InputError, match=words):
        import_runs(path, system="lab", tokens=BOTH)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x89PNG\r\n\x1a\n\xff\xfe", b"a,b\n1,2\n", b'{"prompt": 1}', b"[1, 2]", b"{"],
    ids=["empty", "binary", "table", "object", "list", "cut"],
)
def test_a_foreign_file_is_refused_with_what_is_known(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "foreign"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"foreign: (no result of a known tool|is not JSON)"):
        import_runs(path, system="lab")


def test_rates_in_one_file_are_told_apart(tmp_path: Path) -> None:
    """Two benchmarks without a fixed concurrency would be one deployment."""
    first = json.loads(sample("guidellm").read_text())["benchmarks"][0]
    rates = [
        {**first, "config": {"strategy": {"type_": "poisson", "rate": rate}}} for rate in (2.0, 4.5)
    ]
    found = import_runs(changed(tmp_path, "guidellm", benchmarks=rates), system="lab", model="m")
    assert found.table["experiment"].unique().sort().to_list() == ["poisson-2.0", "poisson-4.5"]
    assert "batch_size" not in found.table.columns
    assert found.notes == ("several experiments: fit them apart (wattshed fit --experiment NAME)",)


def test_a_summary_says_what_its_energy_was_made_of(tmp_path: Path) -> None:
    by_counter = import_runs(sample("aiperf-summary"), system="lab").table["method"][0]
    assert "by counters read" in by_counter
    path = changed(tmp_path, "aiperf-summary", telemetry_data=None, was_cancelled=True)
    found = import_runs(path, system="lab")
    assert "the file does not say" in found.table["method"][0]
    assert "the benchmark was cancelled before its end" in found.notes


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"gpus": 2}, "gpus: no setting of runs; use one of system"),
        ({"system": None}, "--system: not given"),
        ({"path": sample("aiperf")}, "--model: not given"),
        ({"path": sample("aiperf-summary"), "rows": "requests"}, "--rows: requests, but .* means"),
        ({"path": sample("aiperf-telemetry")}, "energy without requests; .*--energy"),
        ({"energy": sample("codecarbon")}, "no energy over time"),
        ({"path": sample("vllm-bench"), "energy": sample("aiperf-telemetry")}, "times of day"),
        ({"path": sample("codecarbon"), "model": "m"}, "--input-tokens: not given"),
        ({"path": SAMPLES / "absent.json"}, "cannot be read: No such file"),
    ],
)
def test_what_is_missing_is_asked_for(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        import_runs(**{"path": sample("guidellm"), "system": "lab", **arguments})


def test_requests_of_another_tool_are_fitted_to_their_runtime(tmp_path: Path) -> None:
    """A server of 20 ms and 5 ms a token, as vllm bench serve would time it."""
    m, n = (axis.ravel().tolist() for axis in np.meshgrid([16, 64, 256], [8, 32, 128]))
    gaps = [[0.005] * (tokens - 1) for tokens in n]
    arrays = {"input_lens": m, "output_lens": n, "itls": gaps, "ttfts": [0.02] * len(m)}
    path = changed(tmp_path, "vllm-bench", **arrays, errors=[""] * len(m), latencies=None)
    runs = tmp_path / "runs.csv"
    write_runs(import_runs(path, system="lab").table, runs)
    profile = fit_profiles(read_runs(runs), Options(draws=0))[0]
    assert profile.energy is None
    assert profile.runtime.forms[profile.runtime.form].mape_pct < 15


def test_means_of_several_benchmarks_are_fitted_to_their_energy(
    tmp_path: Path, wattshed: Callable[..., CompletedProcess[str]]
) -> None:
    """A sweep of lengths, one summary each: 2 J a token at the command line."""
    names = []
    for n in (8, 32, 64, 128, 256):
        length = {"unit": "tokens", "avg": float(n), "std": 0.0}
        latency = {"unit": "ms", "avg": 20.0 * n, "std": 1.0}
        energy = {"unit": "J", "avg": 12 * 2.0 * n}
        told = {"output_sequence_length": length, "request_latency": latency}
        path = changed(tmp_path, "aiperf-summary", **told, nvidia_total_gpu_energy=energy)
        names.append(f"{n}.json")
        path.rename(tmp_path / names[-1])
    done = wattshed("import", *names, "--system", "lab", "-o", "runs.csv")
    assert done.returncode == 0, done.stderr
    fitted = wattshed("fit", "runs.csv", "--draws", "0", "--json")
    assert fitted.returncode == 0, fitted.stderr
    profile = json.loads(fitted.stdout)["results"]["profiles"][0]
    assert (profile["cells"], profile["trials"], profile["kind"]) == (5, 60, "derived")
    assert profile["energy"]["forms"][profile["energy"]["form"]]["mape_pct"] < 1


@pytest.mark.parametrize(
    "idle", [("--zone", "America/Chicago"), ("--package-idle", "40"), ("--recorded", "generated")]
)
def test_an_option_that_would_do_nothing_is_refused(tmp_path: Path, idle: tuple[str, str]) -> None:
    runs = tmp_path / "runs.csv"
    asked = ["import", str(sample("guidellm")), "--system", "lab", "-o", str(runs)]
    done = CliRunner().invoke(main, [*asked, *idle])
    assert (done.exit_code, f"{idle[0]}: is for files of the study" in done.stderr) == (2, True)
    assert not runs.exists()


def test_the_command_prints_what_it_imported(
    wattshed_json: Callable[..., dict[str, Any]], wattshed: Callable[..., CompletedProcess[str]]
) -> None:
    found = wattshed_json("import", str(sample("aiperf-summary")), "--system", "lab")
    assert found["schema"] == "wattshed/import/1"
    assert found["results"]["runs"][0]["accelerator_energy_j"] == pytest.approx(45.27725)
    assert (found["results"]["kind"], found["provenance"][0]["kind"]) == ("derived", "derived")
    refused = wattshed("import", str(sample("aiperf-summary")))
    assert refused.returncode == 2
    assert refused.stderr.strip().splitlines()[-1].startswith("Error: --system: not given")
    bad = wattshed("import", str(sample("guidellm")), "--system", "lab", "-o", "runs.xlsx")
    assert (bad.returncode, "unknown kind of file '.xlsx'" in bad.stderr) == (2, True)
