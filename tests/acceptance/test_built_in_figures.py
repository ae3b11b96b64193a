"""The shipped tables are what tools/build_data.py makes of the reference data."""

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from wattshed.data import dataset_path, list_datasets, read_table

pytestmark = pytest.mark.acceptance

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("WATTSHED_SHARED", ROOT.parent / "shared"))
SCRIPT = ROOT / "tools" / "build_data.py"
MADE = [
    d.file
    for d in list_datasets()
    if d.kind in ("runs", "workload", "rates", "signal", "table")
    and not d.done.startswith("Written by hand")
]


def read(path: Path) -> pl.DataFrame:
    if path.suffix == ".parquet":
        return pl.read_parquet(path)
    return pl.read_csv(path, infer_schema_length=None)


def shipped() -> list[Path]:
    return [dataset_path(dataset.name) for dataset in list_datasets()]


@pytest.fixture(scope="module")
def source() -> Path:
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.fail(f"no reference data in {folder}: set WATTSHED_SHARED to the folder above data/")
    return folder


@pytest.fixture(scope="module")
def made(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made")
    subprocess.run([sys.executable, str(SCRIPT), str(source), "--out", str(out)], check=True)
    return out


def test_script_makes_exactly_the_tables_of_the_catalogue(made: Path) -> None:
    files = sorted(p.relative_to(made).as_posix() for p in made.rglob("*") if p.is_file())
    assert files == sorted(MADE)


@pytest.mark.parametrize("file", MADE)
def test_shipped_table_is_what_the_script_makes(made: Path, file: str) -> None:
    (ours,) = [path for path in shipped() if path.as_posix().endswith(f"/{file}")]
    assert_frame_equal(read(ours), read(made / file), check_exact=True)


def test_the_claims_written_by_hand_are_those_that_were_collected(source: Path) -> None:
    ours = read_table("greener-2024-claims")
    theirs = pl.read_csv(source / "facts/seed003_claims.csv")
    assert ours["claim"].unique(maintain_order=True).to_list() == theirs["id"].to_list()
    figures = dict(ours.select("claim", "published").drop_nulls().unique("claim").iter_rows())
    for claim, target in (("C12", 1.75), ("C13", 1.40), ("C17", 1.0), ("C18", 7.0)):
        assert figures[claim] == target


def test_no_source_file_is_shipped(source: Path) -> None:
    theirs = {path.read_bytes() for path in source.rglob("*") if path.is_file()}
    assert theirs
    assert [path.name for path in shipped() if path.read_bytes() in theirs] == []


def test_built_in_figures_are_small() -> None:
    assert sum(path.stat().st_size for path in shipped()) < 2_000_000


def test_the_power_capped_rows_left_out_are_synthetic(source: Path) -> None:
    rows = pl.read_csv(source / "measured/splitwise_perf_model.csv", infer_schema_length=None)
    measured = rows.filter(pl.col("hardware") == "h100-80gb")
    capped = rows.filter(pl.col("hardware") == "h100-80gb-pcap")
    assert capped.height == 420
    ratio = capped["prompt_time"].sort().to_numpy() / measured["prompt_time"].sort().to_numpy()
    assert ratio == pytest.approx(1.3)
    assert capped["token_time"].sort().equals(measured["token_time"].sort())
    shipped = read_table("splitwise-steps")
    assert set(shipped["system"]) == {"a100-80gb", "h100-80gb"}
    assert shipped["trials"].sum() == rows.height - capped.height


def test_steady_steps_keep_every_configuration_and_its_energy(source: Path) -> None:
    rows = pl.read_csv(source / "measured/mlenergy_v3_llm.csv", infer_schema_length=None)
    steps = read_table("mlenergy-v3-steps")
    assert steps.height == rows.height == 838
    power = steps["energy_per_token_j"] * steps["throughput_tokens_per_s"]
    assert power.sum() == pytest.approx(rows["avg_power_watts"].sum(), rel=1e-4)


def test_cell_means_keep_the_totals_of_the_trials(source: Path) -> None:
    trials = pl.read_csv(source / "wilkins" / "measurements.csv", infer_schema_length=None)
    runs = read_table("wilkins-2024")
    for ours, theirs in (("runtime_s", "runtime_s"), ("accelerator_energy_j", "gpu_energy_j")):
        total = float((runs[ours] * runs["trials"]).sum())
        assert total == pytest.approx(float(trials[theirs].sum()), rel=1e-8)


def test_recorded_totals_follow_from_the_runs(source: Path) -> None:
    trials = pl.read_csv(source / "wilkins" / "measurements.csv", infer_schema_length=None)
    nominal = (pl.col("system") == "m1-pro") & (pl.col("experiment") == "input")
    inputs = pl.when(nominal).then("input_tokens_nominal").otherwise("input_tokens")
    recorded = (inputs + pl.col("output_tokens")) * pl.col("trials")
    total = read_table("wilkins-2024").select(recorded.sum()).item()
    assert total == trials["recorded_total_tokens"].sum()


def test_rates_are_empty_only_where_the_source_has_next_to_nothing(source: Path) -> None:
    path = source / "workloads/servegen_rate_10min.csv.gz"
    theirs = pl.read_csv(path, infer_schema_length=None).with_columns(
        pl.col("workload").str.split("/").list.last(), pl.col("t_s").cast(pl.Float64)
    )
    rates = read_table("servegen-rates").join(
        theirs, left_on=["workload", "start_s"], right_on=["workload", "t_s"], validate="1:1"
    )
    empty = rates["rate_per_s"].is_null()
    assert rates.height == theirs.height
    assert rates["rate_req_s"].filter(empty).max() < 25
    assert (rates["rate_req_s"] == rates["rate_per_s"]).drop_nulls().all()
    assert (rates["rate_req_s"].filter(~empty) > 0).all()


def test_intensities_are_the_sources_to_a_tenth_of_a_gram(source: Path) -> None:
    path = source / "grid/eia_us_hourly_mix_2022.csv.gz"
    theirs = pl.read_csv(path, infer_schema_length=None)
    hours = read_table("eia-2022-carbon").unpivot(
        index="datetime_utc", variable_name="ba", value_name="ours"
    )
    both = hours.join(theirs, left_on=["ba", "datetime_utc"], right_on=["ba", "timestamp_utc"])
    assert both.height == theirs.height
    deviation = (both["ours"] - both["avg_ci_gco2_per_kwh"]).abs().max()
    assert deviation == pytest.approx(0.05, abs=1e-6)
    left_out = both.filter(pl.col("ours").is_null() & pl.col("avg_ci_gco2_per_kwh").is_not_null())
    assert left_out["ba"].to_list() == ["PJM"] * 5
