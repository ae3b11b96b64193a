"""Collapse runs to cells: one (m, n) with the mean, spread and number of its trials."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from wattshed.errors import ParameterError
from wattshed.fit.forms import Array
from wattshed.records import Boundary, Domain, Rule
from wattshed.runs import has_flag, on_host_alone


@dataclass(frozen=True)
class Cells:
    """Cells of one deployment, arrays (N,).

    Attributes
    ----------
    m, n : input and output tokens
    energy_j, runtime_s : means over a cell's trials; energy is nan where a trial has none
    energy_error_j, runtime_error_s : standard errors of those means, 0 for a single trial
    trials : number of trials
    """

    m: Array
    n: Array
    energy_j: Array
    runtime_s: Array
    energy_error_j: Array
    runtime_error_s: Array
    trials: Array

    def __len__(self) -> int:
        return len(self.m)

    @property
    def have_energy(self) -> bool:
        """Whether each cell has."""
        return not np.isnan(self.energy_j).any()

    @property
    def domain(self) -> Domain:
        """The box that the cells span."""
        return Domain(
            (int(self.m.min()), int(self.m.max())), (int(self.n.min()), int(self.n.max()))
        )


def choose_boundary(
    table: pl.DataFrame, boundary: str
) -> tuple[pl.DataFrame, Boundary, list[Rule]]:
    """Decide what the energy of a deployment covers, and drop rows that cannot say.

    ``auto`` takes the host in where its energy was measured for every row: an assumed
    constant power is no measurement. Rows with a negative host energy are then dropped.

    Raises
    ------
    ParameterError
        If ``accelerator`` is asked for where only the host has energy.
    """
    if boundary == "accelerator" and on_host_alone(table):
        raise ParameterError("--boundary", "accelerator, but only the host has energy", "use host")
    constant = table.filter(has_flag("host_constant_power")).height
    measured = on_host_alone(table) or (constant == 0 and table["host_energy_j"].null_count() == 0)
    if boundary == "accelerator" or (boundary == "auto" and not measured):
        return table, "accelerator", []
    kept = table.filter(~has_flag("negative_host_energy") & pl.col("host_energy_j").is_not_null())
    rule = Rule("negative_host_energy", "dropped", table.height - kept.height)
    return kept, "host", [rule] if rule.rows else []


def make_cells(table: pl.DataFrame, boundary: Boundary) -> Cells:
    """Pool the rows of each (m, n): trial-weighted mean and standard error of the mean.

    Parameters
    ----------
    table : polars.DataFrame
        Rows of one deployment; each is a mean of `trials` trials.
    boundary : {"accelerator", "host"}
        Whether host energy is added.
    """
    accelerator = pl.lit(0.0) if on_host_alone(table) else pl.col("accelerator_energy_j")
    energy = accelerator + pl.col("host_energy_j") if boundary == "host" else accelerator
    variance = pl.col("accelerator_energy_sd_j").fill_null(0) ** 2
    if boundary == "host":
        variance = variance + pl.col("host_energy_sd_j").fill_null(0) ** 2
    pooled = (
        table.with_columns(
            energy.fill_null(np.nan).alias("energy"),
            variance.sqrt().alias("energy_sd"),
            pl.col("runtime_sd_s").fill_null(0).alias("runtime_sd"),
            pl.col("runtime_s").alias("runtime"),
        )
        .group_by("input_tokens", "output_tokens")
        .agg(
            pl.col("trials").sum(),
            *_pooled("energy"),
            *_pooled("runtime"),
        )
        .sort("input_tokens", "output_tokens")
    )

    def array(name: str) -> Array:
        return pooled[name].cast(pl.Float64).to_numpy()

    return Cells(
        array("input_tokens"),
        array("output_tokens"),
        array("energy"),
        array("runtime"),
        np.nan_to_num(array("energy_error")),
        np.nan_to_num(array("runtime_error")),
        array("trials"),
    )


def _pooled(name: str) -> tuple[pl.Expr, pl.Expr]:
    """Mean, and standard error of the mean, of groups of pooled trials."""
    k, mean = pl.col("trials"), pl.col(name)
    centre = (k * mean).sum() / k.sum()
    within = ((k - 1) * pl.col(f"{name}_sd") ** 2).sum()
    between = (k * (mean - centre) ** 2).sum()
    error = ((within + between) / (k.sum() - 1) / k.sum()).sqrt()
    return centre.alias(name), pl.when(k.sum() > 1).then(error).otherwise(0.0).alias(
        f"{name}_error"
    )
