"""Named rules that drop or correct rows before a fit, and say so."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from wattshed.errors import ParameterError
from wattshed.records import Rule
from wattshed.runs import MODELLED, SIMULATED, has_flag, on_host_alone

FLAGS: dict[str, str] = {
    "warmup": "first trial of a process: up to 18x the runtime of the others",
    "early_stop": "the model stopped before the asked number of tokens",
    "hand_edited": "changed by hand in the source",
    "imputed": "apparently filled in from other cells in the source",
    "no_raw_row": "present in the merged source, absent from its raw rows",
    "debugging_run": "odd output limits left over from debugging",
    "host_constant_power": "host energy is a constant power times the runtime",
    "negative_host_energy": "host energy net of idle came out negative",
    MODELLED: "the energy is an estimate that no meter made; so is the profile then",
    SIMULATED: "a simulated engine answered, and nothing was measured: the profile is modelled",
    "shared_equally": "energy of a whole benchmark, an equal part for each of its queries",
    "shared_by_token": "energy of an output token, times the output tokens of the mean query",
    "mixed_lengths": "a mean over queries of unlike lengths",
}
"""What each flag means; rows carrying other flags are kept."""

DROPPED = ("warmup", "imputed", "no_raw_row", "debugging_run")
"""Flags whose rows are left out of fits unless asked for."""

PAUSE_FLAG = "pause_2s"
PAUSE_S = 2.0
GRID = "grid"
MIN_GRID_CELLS = 25


def drop_flagged(table: pl.DataFrame, flags: Iterable[str]) -> tuple[pl.DataFrame, list[Rule]]:
    """Leave out rows that carry any of `flags`; a row counts for the first that it carries.

    Raises
    ------
    ParameterError
        If a flag is unknown both to us and to the table.
    """
    used = set(table["flags"].str.split("|").explode().unique().drop_nulls().to_list())
    rules = []
    for flag in flags:
        if flag not in FLAGS and flag not in used:
            known = ", ".join(sorted({*FLAGS, *used} - {""}))
            raise ParameterError("flag", f"{flag!r} is unknown", f"use one of {known}")
        kept = table.filter(~has_flag(flag))
        rules.append(Rule(flag, "dropped", table.height - kept.height))
        table = kept
    return table, rules


def subtract_pause(table: pl.DataFrame) -> tuple[pl.DataFrame, list[Rule]]:
    """Take the pause inside the timed call off the runtime of rows flagged `pause_2s`."""
    flagged = has_flag(PAUSE_FLAG)
    rows = table.filter(flagged).height
    shorter = pl.when(flagged).then(pl.col("runtime_s") - PAUSE_S).otherwise(pl.col("runtime_s"))
    return table.with_columns(shorter.alias("runtime_s")), [
        Rule(PAUSE_FLAG, f"runtime reduced by {PAUSE_S:g} s", rows)
    ]


def drop_without_energy(table: pl.DataFrame) -> tuple[pl.DataFrame, list[Rule]]:
    """Leave out rows without energy, but where no row has any: then the runtime alone is fitted.

    A profile's energy and runtime thus rest on the same rows, and share their bootstrap draws.
    Where no accelerator is named, the host's energy will do: its CPU computes.
    """
    energy = "host_energy_j" if on_host_alone(table) else "accelerator_energy_j"
    kept = table.filter(pl.col(energy).is_not_null())
    if not kept.height:
        return table, []
    return kept, [Rule("no_energy", "dropped", table.height - kept.height)]


def pick_experiment(table: pl.DataFrame, experiment: str) -> tuple[pl.DataFrame, list[Rule]]:
    """Keep one experiment's rows of one deployment.

    With ``auto`` that is the factorial grid where one of at least 25 cells was run (one
    session, both axes varied); otherwise everything.
    """
    if experiment == "all":
        return table, []
    name = experiment
    if experiment == "auto":
        grid = table.filter(pl.col("experiment") == GRID)
        if grid.select("input_tokens", "output_tokens").n_unique() < MIN_GRID_CELLS:
            return table, []
        name = GRID
    kept = table.filter(pl.col("experiment").is_in(name.split("+")))
    return kept, [Rule(f"experiment={name}", "others left out", table.height - kept.height)]
