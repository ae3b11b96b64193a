"""Make the built-in tables from the reference folder.

    python tools/build_data.py [SOURCE_DIR] [--out DIR]

Every table is our own: tidy, sorted, in SI units, with only the columns that are used. Sources
without a licence, or with a non-commercial one, contribute cell means, counts and cited figures
only. The same source gives the same tables on every machine. `catalog.toml` beside them says
where each comes from and what was done to it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, stdev

import polars as pl
import polars.selectors as cs
from build_measured import freesh_slo, mlenergy_steps, splitwise_steps
from build_signals import eia_carbon, servegen_rates

SOURCE = Path("../shared/data")
OUT = Path("src/wattshed/data")
DIGITS = 9  # enough for the F statistics of the study to come out as printed

SYSTEMS = {
    "M1-Pro": "m1-pro",
    "M1-Pro only": "m1-pro",
    "Swing": "swing-a100",
    "Swing AMD+A100": "swing-a100",
    "Swing A100 only": "swing-a100",
    "Palmetto Intel+V100": "palmetto-v100",
    "hybrid": "hybrid",
    "Online": "online",
    "Random": "random",
    "Round Robin": "round-robin",
    "Llama-2 (7B)": "llama-2-7b",
    "Llama-2 (13B)": "llama-2-13b",
    "Llama-2 (70B)": "llama-2-70b",
    "": "",
}
ACCELERATORS = {
    "m1-pro": "m1-pro-14c-gpu",
    "swing-a100": "a100-sxm-40gb",  # the SXM part is presumed, from its highest mean power
    "palmetto-v100": "v100-16gb",
}
METHODS = {"m1-pro": "powermetrics", "swing-a100": "nvml-counter", "palmetto-v100": "nvml-counter"}
MODELS = {
    "falcon-7b": "falcon-7b",
    "falcon-40b": "falcon-40b",
    "llama-2-7b-chat": "llama-2-7b",
    "llama-2-13b-chat": "llama-2-13b",
    "llama-2-70b-chat": "llama-2-70b",
    "mistral-7b-v0.1": "mistral-7b",
    "mixtral-8x7b-v0.1": "mixtral-8x7b",
    "3-model pool": "",
    "falcon-7b+llama-2-7b+mistral-7b": "",
    "": "",
}

# ---------------------------------------------------------------- runs

FLAGS = {
    "warmup_trial0": "warmup",
    "early_stop": "early_stop",
    "hand_edited": "hand_edited",
    "imputed_no_raw_row": "imputed",
    "no_raw_row": "no_raw_row",
    "cpu_is_const_power": "host_constant_power",
    "negative_cpu_energy": "negative_host_energy",
}
DEBUGGING_LIMITS = (1, 278, 338, 1724)  # of the M1 grid
MEASURED = {
    "runtime_s": "runtime",
    "gpu_energy_j": "accelerator_energy",
    "cpu_energy_j": "host_energy",
}
CELL = [
    "system",
    "model",
    "n_accelerators",
    "experiment",
    "input_tokens",
    "output_tokens",
    "input_tokens_nominal",
    "output_token_limit",
    "flags",
]
RUN_COLUMNS = [
    "system",
    "accelerator",
    "model",
    "engine",
    "n_accelerators",
    "tensor_parallel",
    "batch_size",
    "clock_mhz",
    "kv_cache",
    "input_tokens",
    "output_tokens",
    "trials",
    "runtime_s",
    "runtime_sd_s",
    "accelerator_energy_j",
    "accelerator_energy_sd_j",
    "host_energy_j",
    "host_energy_sd_j",
    "method",
    "flags",
    "experiment",
    "input_tokens_nominal",
    "output_token_limit",
]


def wilkins_runs(source: Path) -> pl.DataFrame:
    """Means and sample standard deviations of the trials of each cell."""
    trials = pl.read_csv(source / "wilkins/measurements.csv", infer_schema_length=None)
    trials = trials.rename({"n_gpus": "n_accelerators"}).with_columns(
        _renamed("system", SYSTEMS), _renamed("model", MODELS)
    )
    _check_recorded_totals(trials)
    trials = trials.with_columns(_flags(trials))
    cells = (
        trials.sort(*CELL, "trial", "source", "source_row")
        .group_by(CELL, maintain_order=True)
        .agg(*MEASURED, trials=pl.len().cast(pl.Int64))
    )
    return cells.with_columns(*_statistics(cells), *_settings()).select(RUN_COLUMNS)


def _check_recorded_totals(trials: pl.DataFrame) -> None:
    """The tokens that the authors divide by must follow from columns that we ship."""
    nominal = (pl.col("system") == "m1-pro") & (pl.col("experiment") == "input")
    inputs = pl.when(nominal).then("input_tokens_nominal").otherwise("input_tokens")
    wrong = trials.filter(pl.col("recorded_total_tokens") != inputs + pl.col("output_tokens"))
    if wrong.height:
        raise ValueError(f"recorded_total_tokens does not follow in {wrong.height} rows:\n{wrong}")


def _flags(trials: pl.DataFrame) -> pl.Series:
    columns = trials.select("system", "experiment", "output_token_limit", "flags").iter_rows()
    return pl.Series("flags", [_flags_of(*row) for row in columns], dtype=pl.String)


def _flags_of(system: str, experiment: str, limit: int, flags: str | None) -> str:
    ours = [FLAGS[flag] for flag in flags.split("|")] if flags else []
    if system == "m1-pro":
        ours.append("pause_2s")
        if experiment == "grid" and limit in DEBUGGING_LIMITS:
            ours.append("debugging_run")
    return "|".join(ours)


def _statistics(cells: pl.DataFrame) -> list[pl.Series]:
    """Exactly rounded sums, so that the tables do not depend on the machine."""
    columns = []
    for column, name in MEASURED.items():
        unit = column.rpartition("_")[2]
        columns.append(_of_trials(cells[column], f"{name}_{unit}", fmean, least=1))
        columns.append(_of_trials(cells[column], f"{name}_sd_{unit}", stdev, least=2))
    return columns


def _of_trials(
    lists: pl.Series, name: str, statistic: Callable[[Sequence[float]], float], least: int
) -> pl.Series:
    present = [[v for v in values if v is not None] for values in lists]
    figures = [statistic(values) if len(values) >= least else None for values in present]
    return pl.Series(name, figures, dtype=pl.Float64).round_sig_figs(DIGITS)


def _settings() -> list[pl.Expr]:
    """What is the same in every run, or follows from the system."""
    return [
        pl.col("system").replace_strict(ACCELERATORS).alias("accelerator"),
        pl.col("system").replace_strict(METHODS).alias("method"),
        pl.lit("transformers").alias("engine"),
        pl.lit(None, dtype=pl.Int64).alias("tensor_parallel"),
        pl.lit(1).alias("batch_size"),
        pl.lit(None, dtype=pl.Float64).alias("clock_mhz"),
        pl.lit(False).alias("kv_cache"),
    ]


# ---------------------------------------------------------------- printed tables and figures

COEFFICIENTS = {
    "e_a0_J_per_tin": "energy_m_j",
    "e_a1_J_per_tout": "energy_n_j",
    "e_a2_J_per_tin_tout": "energy_mn_j",
    "r_b0_s_per_tin": "runtime_m_s",
    "r_b1_s_per_tout": "runtime_n_s",
    "r_b2_s_per_tin_tout": "runtime_mn_printed_s",
}
STATISTICS = [f"{y}_{s}" for y in ("energy", "runtime") for s in ("r2", "f", "p")]
MODEL_COLUMNS = [
    "model",
    "accuracy",
    "min_accelerators",
    "energy_m_j",
    "energy_n_j",
    "energy_mn_j",
    "runtime_m_s",
    "runtime_n_s",
    "runtime_mn_s",
    "runtime_mn_printed_s",
    *STATISTICS,
    "n_cells",
    "statistics_with_intercept",
    "note",
]

FIGURES = {
    "e-Energy Fig1": "fig1",
    "e-Energy Fig2": "fig2",
    "e-Energy Fig4a": "fig4a",
    "e-Energy Fig4a (T_in)": "fig4a",
    "e-Energy Fig4a consistent token totals": "fig4a-consistent",
    "e-Energy Fig4b (T_in)": "fig4b",
    "e-Energy Fig5a": "fig5a",
    "e-Energy Fig5a (T_out)": "fig5a",
    "e-Energy Fig5a corrected": "fig5a-corrected",
    "e-Energy Fig5b (T_out)": "fig5b",
    "e-Energy abstract": "headline",
    "workload checksum": "checksum",
    "thesis T5.1 ANOVA": "anova",
    "thesis Fig5.5 (online, no queue awareness)": "online",
    "thesis Fig5.6/5.7 (online, queue awareness)": "online-queue-aware",
}
CHECKSUM = "alpaca-gpt4 (Llama-2 tokenizer, BOS counted per string)"
QUANTITIES = {
    "mean_runtime": "mean_runtime",
    "mean_energy": "mean_energy",
    "mean_energy_per_total_token": "mean_energy_per_total_token",
    "total_energy": "total_energy",
    "total_runtime_as_defined_by_authors": "total_runtime_as_defined_by_authors",
    "saving at T_in=32 vs A100-only": "saving_vs_a100_only",
    "saving at T_in=32 vs M1-only": "saving_vs_m1_only",
    "saving at T_out=32 vs A100-only": "saving_vs_a100_only",
    "saving at T_out=32 vs M1-only": "saving_vs_m1_only",
    "saving at T_out=32 vs A100-only with OUTPUT lengths (cleaned Alpaca)": "saving_vs_a100_only",
    "headline saving": "saving",
    f"{CHECKSUM} queries": "queries",
    f"{CHECKSUM} sum_input_tokens": "sum_input_tokens",
    f"{CHECKSUM} sum_output_tokens": "sum_output_tokens",
    f"{CHECKSUM} sum_input_x_output": "sum_input_x_output",
    "energy m F": "energy_m_f",
    "energy n F": "energy_n_f",
    "energy m:n F": "energy_mn_f",
    "runtime m F": "runtime_m_f",
    "runtime n F": "runtime_n_f",
    "runtime m:n F": "runtime_mn_f",
    "Total Energy (kWh)": "total_energy",
    "Accuracy (%)": "accuracy",
    "Mean Service Time (s)": "mean_service_time",
    "Mean Wait Time (s)": "mean_wait_time",
    "Num Queries Llama-2 (7B)": "queries",
    "Num Queries Llama-2 (13B)": "queries",
    "Num Queries Llama-2 (70B)": "queries",
    "energy": "total_energy",
    "accuracy": "accuracy",
    "runtime": "mean_service_time",
    "wait": "mean_wait_time",
}
QUERIES_OF = {
    "Num Queries Llama-2 (7B)": "llama-2-7b",
    "Num Queries Llama-2 (13B)": "llama-2-13b",
    "Num Queries Llama-2 (70B)": "llama-2-70b",
}
# Provenance as the source words it -> kind, and our short form, which opens the note.
ORIGINS = {
    "paper table": ("published", "printed table"),
    "paper text": ("published", "printed text"),
    "vector coordinates of the authors' committed PDF": ("published", "vector graphic"),
    "authors' plots/routing/simulation_results.csv": ("published", "the authors' result file"),
    "derived from PDF vector": ("published", "ratio of totals in the vector graphic"),
    "recomputed from per-trial CSV, trial 0 dropped": (
        "computed",
        "mean over the authors' trials without trial 0",
    ),
    "solved exactly from simulation_results.csv single-model totals "
    "(6 equations, 3 unknowns, integer to 1e-15)": (
        "computed",
        "alpaca-gpt4, Llama-2 tokenizer, one BOS per string; "
        "solved exactly from the authors' single-model totals",
    ),
    "computed, not published": ("computed", "not published"),
}
FIGURE_COLUMNS = [
    "figure",
    "quantity",
    "system",
    "model",
    "x",
    "value",
    "unit",
    "kind",
    "note",
]


def wilkins_models(source: Path) -> pl.DataFrame:
    """The printed model table, with its one misprinted coefficient corrected."""
    printed = pl.read_csv(source / "wilkins/wilkins_models.csv", infer_schema_length=None)
    table = printed.rename(COEFFICIENTS).with_columns(
        pl.col("measurements_model").replace_strict(MODELS).alias("model"),
        (pl.col("A_K_pct") / 100).round_sig_figs(DIGITS).alias("accuracy"),
        pl.col("min_a100_40gb").alias("min_accelerators"),
        (pl.col("printed_R2_F_p_fit") == "with intercept").alias("statistics_with_intercept"),
        pl.col("note").str.replace("r_b2", "runtime_mn").str.replace("r_b1", "runtime_n"),
    )
    misprint = pl.col("model") == "mistral-7b"  # prints b1 again in the place of b2
    corrected = pl.when(misprint).then(pl.col("r_b2_refit").round_sig_figs(3))
    table = table.with_columns(
        corrected.otherwise("runtime_mn_printed_s").alias("runtime_mn_s")
    ).join(_printed_statistics(source), on="model", validate="1:1")
    return table.select(MODEL_COLUMNS).sort("model")


def _printed_statistics(source: Path) -> pl.DataFrame:
    rows = _paper_figures(source).filter(pl.col("figure") == "HotCarbon/thesis T5.3")
    quantity = pl.col("quantity").str.to_lowercase().str.replace(" ", "_")
    rows = rows.with_columns(_renamed("model", MODELS), quantity)
    return rows.pivot("quantity", index="model", values="reference_value").select(
        "model", *STATISTICS
    )


def wilkins_figures(source: Path) -> pl.DataFrame:
    """Figures that a reproduction is compared with, one a row."""
    rows = _paper_figures(source).filter(pl.col("figure").is_in(list(FIGURES)))
    kinds = {words: kind for words, (kind, _) in ORIGINS.items()}
    table = rows.with_columns(
        _renamed("figure", FIGURES),
        _renamed("quantity", QUANTITIES),
        pl.col("system_or_policy").fill_null("").replace_strict(SYSTEMS).alias("system"),
        pl.coalesce(
            pl.col("quantity").replace_strict(QUERIES_OF, default=None), _renamed("model", MODELS)
        ).alias("model"),
        pl.coalesce("reference_value", "reproduced_value").alias("value"),
        pl.col("provenance").replace_strict(kinds).alias("kind"),
        _note().alias("note"),
    ).select(FIGURE_COLUMNS)
    key = FIGURE_COLUMNS[:5]
    if table.select(key).is_duplicated().any() or table["value"].has_nulls():
        raise ValueError(f"figures without a value or more than once:\n{table}")
    return table.sort(key)


def _note() -> pl.Expr:
    """Short origin and the source's note, unless that is about a column we do not ship."""
    short = {words: origin for words, (_, origin) in ORIGINS.items()}
    note = pl.col("note").fill_null("")
    kept = pl.when(note.str.starts_with("reproduced_value")).then(pl.lit("")).otherwise(note)
    origin = pl.col("provenance").replace_strict(short)
    return pl.concat_str(origin, kept, separator="; ").str.strip_suffix("; ")


def _paper_figures(source: Path) -> pl.DataFrame:
    return pl.read_csv(source / "wilkins/paper_figures.csv", infer_schema_length=None)


# ---------------------------------------------------------------- workloads


def token_counts(path: Path) -> pl.DataFrame:
    """Distinct queries with how often each occurs."""
    counts = pl.read_csv(path, comment_prefix="#", infer_schema_length=None)
    return counts.rename({"queries": "count"}).sort("input_tokens", "output_tokens")


def azure_trace(path: Path) -> pl.DataFrame:
    """Requests in the order of arrival, in seconds since the first."""
    trace = pl.read_csv(path, infer_schema_length=None)
    microseconds = pl.col("TIMESTAMP").str.slice(0, len("2023-11-16 18:15:46.680590"))
    arrival = microseconds.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us")
    return trace.select(
        ((arrival - arrival.min()).dt.total_microseconds() / 1e6).alias("arrival_s"),
        pl.col("ContextTokens").alias("input_tokens"),
        pl.col("GeneratedTokens").alias("output_tokens"),
    ).sort("arrival_s", maintain_order=True)


# ---------------------------------------------------------------- accelerators


def accelerators(source: Path) -> pl.DataFrame:
    """Vendor figures per accelerator; 0 in the source means that there is none."""
    specs = pl.read_csv(source / "facts/gpu_specs_aiconfigurator.csv", infer_schema_length=None)
    table = specs.select(
        pl.col("system").str.replace_all("_", "-").alias("accelerator"),
        pl.col("tdp_w").cast(pl.Float64),
        _scaled("mem_gib", 2**30, "memory_b").round().cast(pl.Int64),
        _scaled("mem_bw_gb_s", 1e9, "memory_bandwidth_b_per_s"),
        pl.col("mem_bw_empirical_scaling").alias("memory_bandwidth_empirical_scaling"),
        _scaled("bf16_tflops", 1e12, "bf16_flops"),
        _scaled("fp8_tflops", 1e12, "fp8_flops"),
        _scaled("fp4_tflops", 1e12, "fp4_flops"),
        pl.col("gpus_per_node").alias("accelerators_per_node"),
        _scaled("intra_node_gb_s", 1e9, "intra_node_b_per_s"),
        _scaled("inter_node_gb_s", 1e9, "inter_node_b_per_s"),
    )
    return table.with_columns(cs.float().replace(0.0, None)).sort("accelerator")


def idle_power(source: Path) -> pl.DataFrame:
    """Published idle powers and upper bounds of them; a single value is both ends."""
    facts = pl.read_csv(source / "facts/published_numbers.csv", infer_schema_length=None)
    ends = pl.col("value").str.split("-")
    return (
        facts.filter(pl.col("topic").is_in(["idle_power", "min_active_power"]))
        .select(
            "what",
            ends.list.first().cast(pl.Float64).alias("idle_power_low_w"),
            ends.list.last().cast(pl.Float64).alias("idle_power_high_w"),
            "source",
            "confidence",
        )
        .sort("what")
    )


def _scaled(column: str, factor: float, name: str) -> pl.Expr:
    return (pl.col(column) * factor).round_sig_figs(DIGITS).alias(name)


# ---------------------------------------------------------------- all of it


def _renamed(column: str, names: dict[str, str]) -> pl.Expr:
    """An unknown name is an error, not passed on."""
    return pl.col(column).fill_null("").replace_strict(names)


PRIOR_TERMS = ("resident_w", "active_weight_w", "compute_w", "memory_root_w")


def power_prior(source: Path) -> pl.DataFrame:
    """Published coefficients of the power of one accelerator under load, cited to 4 digits."""
    facts = json.loads((source / "facts/powertrace_v1_coefficients.json").read_text())
    rows = [
        {"accelerator": name.lower(), **dict(zip(PRIOR_TERMS, values, strict=True))}
        for name, values in facts["dense"].items()
    ]
    return pl.DataFrame(rows).with_columns(cs.float().round_sig_figs(4)).sort("accelerator")


def tables(source: Path) -> dict[str, pl.DataFrame]:
    """Every table by its path below the output folder."""
    workloads = source / "workloads"
    return {
        "wilkins_2024_runs.csv": wilkins_runs(source),
        "wilkins_2024_models.csv": wilkins_models(source),
        "wilkins_2024_figures.csv": wilkins_figures(source),
        "workloads/alpaca.parquet": token_counts(workloads / "alpaca_token_counts.csv"),
        "workloads/alpaca-gpt4-reconstructed.parquet": token_counts(
            workloads / "alpaca_gpt4_token_counts_reconstructed.csv"
        ),
        "workloads/azure-conv-2023.parquet": azure_trace(
            workloads / "AzureLLMInferenceTrace_conv.csv.gz"
        ),
        "workloads/azure-code-2023.parquet": azure_trace(
            workloads / "AzureLLMInferenceTrace_code.csv.gz"
        ),
        "workloads/servegen-rates.parquet": servegen_rates(source),
        "eia_2022_carbon.parquet": eia_carbon(source),
        "accelerators.csv": accelerators(source),
        "idle_power.csv": idle_power(source),
        "power_prior.csv": power_prior(source),
        "splitwise_steps.csv": splitwise_steps(source),
        "mlenergy_v3_steps.csv": mlenergy_steps(source),
        "freesh_slo.csv": freesh_slo(source),
    }


def write(frame: pl.DataFrame, path: Path) -> None:
    """Write beside, then rename, so that no reader sees half a table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.part")
    if path.suffix == ".parquet":
        frame.write_parquet(beside, compression="zstd", compression_level=19)
    else:
        frame.with_columns(cs.string().replace("", None)).write_csv(beside)
    beside.replace(path)


def main() -> None:
    """Make every table and say how large it is."""
    parser = argparse.ArgumentParser(description="Make the built-in tables.")
    parser.add_argument("source", nargs="?", type=Path, default=SOURCE, metavar="SOURCE_DIR")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    for name, frame in tables(arguments.source).items():
        write(frame, arguments.out / name)
        size = (arguments.out / name).stat().st_size
        print(f"{name}: {frame.height} rows, {size} bytes")


if __name__ == "__main__":
    main()
