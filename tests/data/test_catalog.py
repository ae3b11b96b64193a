"""The built-in figures: what the catalogue says, and what the files hold."""

import subprocess
import sys

import polars as pl
import pytest

from wattshed.data import (
    Dataset,
    dataset_names,
    dataset_path,
    find_dataset,
    list_datasets,
    provenance_of,
    read_table,
)
from wattshed.errors import FileError

DATASETS = list_datasets()
TABLES = [d.name for d in DATASETS if d.kind in ("runs", "workload", "rates", "signal", "table")]


def sums(name: str) -> dict[str, int]:
    """Queries, Σm, Σn and Σmn of a workload of counts."""
    m, n, count = pl.col("input_tokens"), pl.col("output_tokens"), pl.col("count")
    return (
        read_table(name)
        .select(
            queries=count.sum(), m=(m * count).sum(), n=(n * count).sum(), mn=(m * n * count).sum()
        )
        .row(0, named=True)
    )


def test_names_are_unique() -> None:
    names = [dataset.name for dataset in DATASETS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda d: d.name)
def test_entry_says_where_its_figures_come_from(dataset: Dataset) -> None:
    assert dataset.title
    assert dataset.source
    assert dataset.licence
    assert dataset.done


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda d: d.name)
def test_file_of_entry_is_installed(dataset: Dataset) -> None:
    assert dataset_path(dataset.name).is_file()


def test_every_installed_file_is_in_the_catalogue() -> None:
    root = dataset_path("accelerators").parent
    code = {"__init__.py", "catalog.py", "catalog.toml"}
    files = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files - code == {dataset.file for dataset in DATASETS}


def test_datasets_are_found_by_kind() -> None:
    assert dataset_names("runs") == ["wilkins-2024"]
    assert "azure-conv-2023" in dataset_names("workload")
    assert dataset_names("fleet") == ["hybrid-2024", "offline-2024", "mixed-70b", "demo-70b"]
    assert dataset_names("rates") == ["servegen-rates"]
    assert dataset_names("signal") == ["eia-2022-carbon"]
    assert dataset_names("profiles") == ["wilkins-2024-profiles"]
    assert dataset_names("iteration-profiles") == ["iteration-profiles"]


def test_provenance_repeats_the_entry() -> None:
    entry, provenance = find_dataset("alpaca"), provenance_of("alpaca")
    assert (provenance.name, provenance.source) == (entry.name, entry.source)
    assert (provenance.commit, provenance.licence) == (entry.commit, entry.licence)
    assert (provenance.kind, provenance.note) == (entry.data_kind, entry.done)


@pytest.mark.parametrize("look_up", [find_dataset, dataset_path, provenance_of, read_table])
def test_unknown_name_is_told_with_names_that_are_near(look_up) -> None:
    with pytest.raises(FileError) as caught:
        look_up("wilkins2024")
    assert caught.value.where == "data"
    assert "'wilkins2024'" in caught.value.found
    assert "wilkins-2024" in caught.value.cure


def test_name_like_no_other_is_told_with_all_names() -> None:
    with pytest.raises(FileError) as caught:
        find_dataset("§")
    assert all(dataset.name in caught.value.cure for dataset in DATASETS)


@pytest.mark.parametrize("name", ["hybrid-2024", "wilkins-2024-profiles"])
def test_what_is_no_table_is_not_read_as_one(name: str) -> None:
    with pytest.raises(FileError, match="is no table"):
        read_table(name)


def test_importing_the_catalogue_does_not_import_polars() -> None:
    code = "import sys, wattshed.data; sys.exit('polars' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", TABLES)
def test_texts_are_never_null(name: str) -> None:
    texts = read_table(name).select(pl.col(pl.String))
    assert not any(text.has_nulls() for text in texts)


def test_alpaca_has_its_sums() -> None:
    assert sums("alpaca") == {"queries": 51_924, "m": 1_125_289, "n": 3_402_223, "mn": 70_123_309}


def test_reconstructed_alpaca_has_its_sums() -> None:
    found = sums("alpaca-gpt4-reconstructed")
    assert found == {"queries": 51_924, "m": 1_125_289, "n": 8_444_290, "mn": 160_263_421}


@pytest.mark.parametrize(
    ("name", "requests", "longest_input", "longest_output"),
    [("azure-conv-2023", 19_366, 14_050, 1_000), ("azure-code-2023", 8_819, 7_437, 1_899)],
)
def test_azure_traces(name: str, requests: int, longest_input: int, longest_output: int) -> None:
    trace = read_table(name)
    assert trace.height == requests
    assert trace["input_tokens"].max() == longest_input
    assert trace["output_tokens"].max() == longest_output
    assert trace["arrival_s"][0] == 0.0
    assert trace["arrival_s"].is_sorted()
    assert 3_400 < trace["arrival_s"][-1] < 3_600


def test_what_was_not_recorded_has_no_rate() -> None:
    rates = read_table("servegen-rates")
    empty = rates.filter(pl.col("rate_per_s").is_null())["workload"].value_counts()
    assert dict(empty.iter_rows()) == {"m-mid": 84 + 18, "m-small": 37}
    assert rates["rate_per_s"].min() > 4


def test_a_year_of_hours_in_each_zone() -> None:
    hours = read_table("eia-2022-carbon")
    assert hours.height == 8760
    assert (hours["datetime_utc"][0], hours["datetime_utc"][-1]) == (
        "2022-01-01T00:00:00Z",
        "2022-12-31T23:00:00Z",
    )
    empty = hours.null_count().row(0, named=True)
    assert {zone: n for zone, n in empty.items() if n} == {"PJM": 23 + 5, "CISO": 3, "MISO": 3}
    assert hours["PJM"].min() > 200  # what is below was recorded in part only


@pytest.fixture(scope="module")
def runs() -> pl.DataFrame:
    return read_table("wilkins-2024")


def test_all_trials_are_there(runs: pl.DataFrame) -> None:
    assert runs["trials"].sum() == 2_629


def test_single_trials_have_no_deviation(runs: pl.DataFrame) -> None:
    single = runs["trials"] == 1
    assert (runs["runtime_sd_s"].is_null() == single).all()
    assert (runs["accelerator_energy_sd_j"].is_null() == single).all()


def test_flagged_trials(runs: pl.DataFrame) -> None:
    per_flag = (
        runs.with_columns(pl.col("flags").str.split("|"))
        .explode("flags")
        .group_by("flags")
        .agg(pl.col("trials").sum())
    )
    assert {flag: trials for flag, trials in per_flag.iter_rows() if flag} == {
        "warmup": 220,
        "early_stop": 9,
        "host_constant_power": 1_153,
        "negative_host_energy": 10,
        "hand_edited": 3,
        "imputed": 4,
        "no_raw_row": 1,
        "pause_2s": 371,
        "debugging_run": 4,
    }


def test_host_energy_is_missing_in_the_a100_grid_only(runs: pl.DataFrame) -> None:
    grid = (runs["system"] == "swing-a100") & (runs["experiment"] == "grid")
    assert (runs["host_energy_j"].is_null() == grid).all()


def test_unknown_settings_are_typed_and_null(runs: pl.DataFrame) -> None:
    assert runs.schema["tensor_parallel"] == pl.Int64
    assert runs.schema["clock_mhz"] == pl.Float64
    assert runs.select("tensor_parallel", "clock_mhz").null_count().row(0) == (1211, 1211)


def test_misprint_is_corrected_and_kept() -> None:
    models = read_table("wilkins-2024-models")
    differs = models.filter(pl.col("runtime_mn_s") != pl.col("runtime_mn_printed_s"))
    assert differs.select("model", "runtime_mn_s", "runtime_mn_printed_s").rows() == [
        ("mistral-7b", 8.76e-05, 0.081)
    ]


def test_published_and_computed_figures_are_told_apart() -> None:
    figures = read_table("wilkins-2024-figures")
    kinds = dict(figures.group_by("figure").agg(pl.col("kind").unique()).iter_rows())
    computed = {figure for figure, kind in kinds.items() if kind == ["computed"]}
    assert computed == {"fig1", "fig2", "checksum", "fig4a-consistent", "fig5a-corrected"}
    assert all(kinds[figure] == ["published"] for figure in kinds.keys() - computed)


def test_no_accelerator_figure_is_zero() -> None:
    numbers = read_table("accelerators").select(pl.exclude(pl.String))
    assert all(low > 0 for low in numbers.select(pl.all().min()).row(0))
