"""Figures 1 to 3 of the hybrid-cluster study (e-Energy 2024): sweeps and histograms."""

from __future__ import annotations

import numpy as np
import polars as pl

from wattshed.reproduce.study import (
    RUNS,
    Result,
    compare,
    largest_deviation_pct,
    published_rows,
    published_value,
)
from wattshed.runs import has_flag, read_runs
from wattshed.workload.table import Workload

SYSTEMS = {"m1-pro": "M1 Pro", "swing-a100": "A100", "palmetto-v100": "V100"}
MODELS_7B = ("falcon-7b", "llama-2-7b", "mistral-7b")
SWEEPS = {"figure1": "input", "figure2": "output"}
CHECKSUMS = ("queries", "sum_input_tokens", "sum_output_tokens", "sum_input_x_output")


def sweep_rows(experiment: str) -> pl.DataFrame:
    """Rows of one sweep of the three 7B models, warm-up left out.

    Parameters
    ----------
    experiment : {"input", "output"}
        Sweep of the input size (at most 32 output tokens), or of the output limit.

    Returns
    -------
    polars.DataFrame
        Columns `system, model, size, trials, runtime_s, energy_j` (accelerator and host),
        `recorded_tokens`, the total that the study divides by, and `actual_tokens`.
    """
    size = "input_tokens_nominal" if experiment == "input" else "output_token_limit"
    # The study's totals of the M1 input sweep count the tokens asked for, not those sent.
    nominal = (pl.col("system") == "m1-pro") & (pl.col("experiment") == "input")
    recorded_input = pl.when(nominal).then("input_tokens_nominal").otherwise("input_tokens")
    return (
        read_runs(RUNS)
        .table.filter(
            pl.col("experiment") == experiment,
            pl.col("model").is_in(MODELS_7B),
            ~has_flag("warmup"),
        )
        .select(
            "system",
            "model",
            "trials",
            "runtime_s",
            size=pl.col(size),
            energy_j=pl.col("accelerator_energy_j") + pl.col("host_energy_j"),
            recorded_tokens=recorded_input + pl.col("output_tokens"),
            actual_tokens=pl.col("input_tokens") + pl.col("output_tokens"),
        )
    )


def trial_mean(value: pl.Expr) -> pl.Expr:
    """Mean over trials of rows that are themselves means of `trials` trials."""
    return (value * pl.col("trials")).sum() / pl.col("trials").sum()


def sweep_means(rows: pl.DataFrame) -> pl.DataFrame:
    """Means per system, model and size over trials; ratios are averaged, as in the study.

    A trial's J/token is exact here, since rows hold trials of equal token counts; its
    throughput is tokens over the mean runtime of such a row.
    """
    tokens = pl.col("recorded_tokens")
    return (
        rows.group_by("system", "model", "size")
        .agg(
            pl.col("trials").sum().alias("pooled_trials"),
            trial_mean(pl.col("runtime_s")).alias("mean_runtime_s"),
            trial_mean(pl.col("energy_j")).alias("mean_energy_j"),
            trial_mean(pl.col("energy_j") / tokens).alias("energy_per_token_j"),
            trial_mean(tokens / pl.col("runtime_s")).alias("throughput_tokens_per_s"),
        )
        .sort("system", "model", "size")
    )


def sweep_figure(figure: str) -> Result:
    """Points of figure 1 or 2 beside the means over the study's own trials.

    Parameters
    ----------
    figure : {"figure1", "figure2"}
    """
    means = sweep_means(sweep_rows(SWEEPS[figure]))
    reference = _published_points(figure.replace("figure", "fig"))
    points = [_point(row, reference) for row in means.iter_rows(named=True)]
    quantities = ("mean_runtime_s", "mean_energy_j", "energy_per_token_j")
    return {
        "points": points,
        "largest_deviation_pct": {
            q: largest_deviation_pct([point[q] for point in points]) for q in quantities
        },
    }


def _published_points(figure: str) -> dict[str, dict[tuple[str, str, int], float]]:
    names = {
        "mean_runtime": "mean_runtime_s",
        "mean_energy": "mean_energy_j",
        "mean_energy_per_total_token": "energy_per_token_j",
    }
    return {
        ours: {
            (row["system"], row["model"], int(row["x"])): row["value"]
            for row in published_rows(figure, theirs).iter_rows(named=True)
        }
        for theirs, ours in names.items()
    }


def _point(row: Result, reference: dict[str, dict[tuple[str, str, int], float]]) -> Result:
    key = (row["system"], row["model"], row["size"])
    compared = {q: compare(values.get(key), row[q]) for q, values in reference.items()}
    return {
        "system": row["system"],
        "model": row["model"],
        "size_tokens": row["size"],
        "trials": row["pooled_trials"],
        **compared,
        "throughput_tokens_per_s": compare(None, row["throughput_tokens_per_s"]),
    }


def histogram_figure(workloads: list[Workload]) -> Result:
    """Figure 3: histograms of token counts, and the sums that identify a workload."""
    return {
        "checksums": {w.name: checksums(w) for w in workloads},
        "histograms": {w.name: _histograms(w) for w in workloads},
        "remark": (
            "The study cites Alpaca; its code loads alpaca-gpt4, whose answers are longer. The"
            " published sums are those of alpaca-gpt4."
        ),
    }


def checksums(workload: Workload) -> Result:
    """Queries, Σm, Σn and Σmn beside those that the study's totals imply."""
    queries = workload.distinct()
    values = (1.0, queries.m, queries.n, queries.m * queries.n)
    ours = [float((queries.count * value).sum()) for value in values]
    return {
        name: compare(published_value("checksum", name), value)
        for name, value in zip(CHECKSUMS, ours, strict=True)
    }


def _histograms(workload: Workload) -> Result:
    queries = workload.distinct()
    longest = max(queries.m.max(), queries.n.max())
    edges = 2.0 ** np.arange(int(np.ceil(np.log2(longest + 1))) + 1)
    binned = {
        "input": np.histogram(queries.m, edges, weights=queries.count)[0],
        "output": np.histogram(queries.n, edges, weights=queries.count)[0],
    }
    return {
        "edges_tokens": edges.astype(int).tolist(),
        **{name: counts.astype(int).tolist() for name, counts in binned.items()},
    }
