"""Tables over time, made by `build_data.py` from the reference folder: rates and intensities.

What was not recorded is empty, also where the source has a number in its place.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

WORKLOADS = {
    "language/m-large": "m-large",
    "language/m-mid": "m-mid",
    "language/m-small": "m-small",
    "reason/deepseek-r1": "deepseek-r1",
    "multimodal/mm-image": "mm-image",
}
LEAST_RATE = 0.02  # part of the median; below it few clients were recorded, beside gaps
INTENSITY = "avg_ci_gco2_per_kwh"
FUELS = ("WND", "SUN", "WAT", "OIL", "NG", "COL", "NUC", "OTH")
LEAST_GENERATION = 0.1  # part of the median; below it most of the generation was not recorded


def servegen_rates(source: Path) -> pl.DataFrame:
    """Requests per second by workload and window of 600 s."""
    path = source / "workloads/servegen_rate_10min.csv.gz"
    rows = pl.read_csv(path, infer_schema_length=None).select(
        pl.col("workload").replace_strict(WORKLOADS),
        pl.col("t_s").cast(pl.Float64).alias("start_s"),
        pl.col("rate_req_s").alias("rate_per_s"),
    )
    return _without_low(rows, "workload", pl.col("rate_per_s"), "rate_per_s", LEAST_RATE).sort(
        "workload", "start_s"
    )


def eia_carbon(source: Path) -> pl.DataFrame:
    """Average carbon intensity, a column per balancing authority, g/kWh to 0.1."""
    rows = pl.read_csv(source / "grid/eia_us_hourly_mix_2022.csv.gz", infer_schema_length=None)
    kept = _without_low(rows, "ba", pl.sum_horizontal(*FUELS), INTENSITY, LEAST_GENERATION)
    return (
        kept.with_columns(pl.col(INTENSITY).round(1))
        .sort("ba", "timestamp_utc")
        .pivot("ba", index="timestamp_utc", values=INTENSITY)
        .rename({"timestamp_utc": "datetime_utc"})
        .sort("datetime_utc")
    )


def _without_low(
    rows: pl.DataFrame, group: str, size: pl.Expr, column: str, least: float
) -> pl.DataFrame:
    """Empty `column` where `size` is less than a part of its median in the group."""
    present = size >= least * size.median().over(group)
    return rows.with_columns(pl.when(present).then(column).alias(column))
