"""Named rules that keep artefacts of the tables of measured steps out of fits."""

from __future__ import annotations

import polars as pl

from wattshed.records import Rule

STEP_RULES: dict[str, str] = {
    "out_of_memory": "the request took more than twice its phases: memory ran out and was emptied",
    "truncated_e2e": "the phases last longer than the whole request: generation ended early",
    "power_at_idle": "the mean power equals that of an idle accelerator: the window was missed",
    "other_lengths": "other prompt or output lengths than the series over batches",
    "repeated_batch": "the same configuration twice: averaged",
    "zero_rate": "no request was served within the SLO",
    "placeholder_tbt": "less than 5 ms between tokens: a placeholder, no measurement",
}
"""What each rule means."""

TRUNCATED = 1.02
UNEXPLAINED = 2.0
IDLE_POWER_FRACTION = 0.2
"""Of the rated power; idle A100s draw 59 to 70 W of 400 W, serving ones at least twice that."""
PLACEHOLDER_TBT_S = 0.005


def phases_s() -> pl.Expr:
    """Prefill and all decode steps of a request, in seconds; the first token is of the prefill."""
    return pl.col("prefill_time_s") + (pl.col("output_tokens") - 1) * pl.col("decode_time_s")


def clean_steps(cells: pl.DataFrame) -> tuple[pl.DataFrame, list[Rule]]:
    """Leave out cells of isolated phases that are artefacts, and powers that are.

    Parameters
    ----------
    cells : polars.DataFrame
        Columns of the data set ``splitwise-steps``.
    """
    cells, memory = _left_out(cells, "out_of_memory", pl.col("e2e_s") > UNEXPLAINED * phases_s())
    cells, early = _left_out(cells, "truncated_e2e", phases_s() > TRUNCATED * pl.col("e2e_s"))
    missed = (pl.col("mean_power_fraction") < IDLE_POWER_FRACTION).fill_null(False)
    rows = cells.filter(missed).height
    power = pl.when(~missed).then("mean_power_fraction").alias("mean_power_fraction")
    return cells.with_columns(power), [memory, early, Rule("power_at_idle", "power left out", rows)]


def pick_series(
    cells: pl.DataFrame, input_tokens: int, output_tokens: int
) -> tuple[pl.DataFrame, Rule]:
    """Keep the series over batches at one pair of lengths."""
    other = (pl.col("input_tokens") != input_tokens) | (pl.col("output_tokens") != output_tokens)
    return _left_out(cells, "other_lengths", other)


def average_repeats(table: pl.DataFrame, key: list[str]) -> tuple[pl.DataFrame, Rule]:
    """Average rows of one configuration that share `key`."""
    numbers = pl.col(pl.Float64).mean()
    averaged = table.group_by(key, maintain_order=True).agg(numbers)
    return averaged, Rule("repeated_batch", "averaged", table.height - averaged.height)


def clean_slo(table: pl.DataFrame) -> tuple[pl.DataFrame, list[Rule]]:
    """Leave out rows of ``freesh-slo`` that hold no measurement of a served load."""
    table, zero = _left_out(table, "zero_rate", pl.col("max_throughput_per_s") <= 0)
    table, placeholder = _left_out(table, "placeholder_tbt", pl.col("tbt_s") < PLACEHOLDER_TBT_S)
    return table, [zero, placeholder]


def _left_out(table: pl.DataFrame, name: str, where: pl.Expr) -> tuple[pl.DataFrame, Rule]:
    kept = table.filter(~where)
    return kept, Rule(name, "left out", table.height - kept.height)
