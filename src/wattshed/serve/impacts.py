"""Carbon, water and cost of the rows of a ledger at the sites of a fleet."""

from __future__ import annotations

from datetime import UTC

import numpy as np
import polars as pl
from msgspec import structs

from wattshed.fleet import Fleet
from wattshed.impact import impact_of
from wattshed.records import Impact, LedgerImpact, LedgerSummary, Site
from wattshed.units import SECONDS_PER_HOUR


def with_impacts(summary: LedgerSummary, rows: pl.DataFrame, fleet: Fleet) -> LedgerSummary:
    """A summary with what the energy of its rows caused.

    Dynamic and idle energy of a request fall into the hour of its arrival, evenly. Carbon signals
    with dates are read at the time of the ledger; others, and those of which the fleet says where
    to begin, begin there with its first hour.

    Raises
    ------
    ParameterError
        See `impact_of`.
    """
    sites = {d.name: d.site for d in fleet.deployments if d.site is not None}
    known = rows.filter(pl.col("joules").is_not_null()).with_columns(
        pl.col("deployment").replace_strict(sites, default=None, return_dtype=pl.String),
        pl.col("joules") + pl.col("idle_joules").fill_null(0.0),
        pl.col("arrived_at").floordiv(SECONDS_PER_HOUR).cast(pl.Int64).alias("hour"),
    )
    first = int(summary.first_at // SECONDS_PER_HOUR)
    placed = known.drop_nulls("deployment").sort("deployment", "boundary")
    impacts = [
        LedgerImpact(str(name), part.height, _impact(part, first, fleet.sites[str(name)]))
        for (name, _), part in placed.group_by("deployment", "boundary", maintain_order=True)
    ]
    return structs.replace(summary, impacts=impacts, no_site=known.height - placed.height)


def _impact(rows: pl.DataFrame, first: int, site: Site) -> Impact:
    bins = rows["hour"].to_numpy() - first
    energy_j = np.bincount(bins, rows["joules"].to_numpy())
    edges_s = SECONDS_PER_HOUR * np.arange(len(energy_j) + 1)
    there = _begin_at(site, first * SECONDS_PER_HOUR)
    return impact_of(energy_j, edges_s, there, boundary=rows["boundary"].item(0))


def _begin_at(site: Site, start_s: float) -> Site:
    """The site with its signal, where that has dates, from a time since 1970 on."""
    signal = site.carbon_signal
    if signal is None or signal.origin is None or site.signal_offset_s is not None:
        return site
    origin = signal.origin if signal.origin.tzinfo else signal.origin.replace(tzinfo=UTC)
    return structs.replace(site, signal_offset_s=start_s - origin.timestamp())
