"""What the rows of a ledger add up to: pure functions of rows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import polars as pl

from wattshed.errors import TableError
from wattshed.records import LedgerDrift, LedgerForecast, LedgerGroup, LedgerSummary
from wattshed.serve.drift import Drift
from wattshed.serve.metered import ATTRIBUTED, ESTIMATED, MODELLED
from wattshed.units import SECONDS_PER_HOUR

COLUMNS = (
    "id",
    "arrived_at",
    "tenant",
    "model",
    "endpoint",
    "deployment",
    "candidates",
    "expected_output_tokens",
    "input_tokens",
    "output_tokens",
    "joules",
    "idle_joules",
    "energy_method",
    "boundary",
    "extrapolated",
    "kept",
    "outcome",
    "stands_for",
    "policy",
    "arm",
    MODELLED,
)
"""Of the ledger, that a summary is made of."""

_REQUESTS = pl.col("stands_for").fill_null(1)
"""Requests that a row stands for: of a flood that was refused, more than one."""
_KNOWN = pl.col("joules").is_not_null()
_WITH_OUTPUT = _KNOWN & (pl.col("output_tokens") > 0)
"""Whose energy is laid on output tokens: an embedding has none to bear its own."""
_SUMS = (
    _REQUESTS.sum().alias("requests"),
    pl.col("input_tokens").sum(),
    pl.col("output_tokens").sum(),
    _KNOWN.sum().alias("with_energy"),
    (_KNOWN & pl.col("idle_joules").is_null()).sum().alias("without_idle"),
    pl.col("joules").sum(),
    pl.col("idle_joules").filter(_KNOWN).sum(),
    pl.col("output_tokens").filter(_WITH_OUTPUT).sum().alias("tokens_with_energy"),
    pl.col("joules").filter(_WITH_OUTPUT).sum().alias("joules_of_output"),
    pl.col("idle_joules").filter(_WITH_OUTPUT).sum().alias("idle_joules_of_output"),
    pl.col("extrapolated").sum(),
    pl.col("energy_method").drop_nulls().unique().sort().alias("methods"),
    pl.col("boundary").drop_nulls().unique().sort().alias("boundaries"),
    pl.col("kept").is_not_null().sum().alias("promised"),
    pl.col("kept").sum(),
)


class _Weighed(msgspec.Struct):
    joules: dict[str, float] = {}


def summarise(rows: pl.DataFrame) -> LedgerSummary:
    """Add up the rows of a ledger.

    Parameters
    ----------
    rows : DataFrame
        At least one, with `COLUMNS`.

    Raises
    ------
    TableError
        If the candidates of a row are not what the gateway writes.
    """
    hour = pl.col("arrived_at").floordiv(SECONDS_PER_HOUR)
    by_hour = [
        msgspec.structs.replace(each, name=_hour(each.name)) for each in groups_of(rows, hour)
    ]
    return LedgerSummary(
        float(rows["arrived_at"].item(0)),
        float(rows["arrived_at"].item(-1)),
        groups_of(rows, pl.lit("total"))[0],
        groups_of(rows, pl.col("tenant")),
        groups_of(rows, pl.col("model")),
        groups_of(rows, pl.col("endpoint")),
        by_hour,
        forecasts_of(rows),
        drifts=drifts_of(rows),
    )


def groups_of(rows: pl.DataFrame, key: pl.Expr) -> list[LedgerGroup]:
    """Rows that share a key, added up; in order of the key, None last."""
    keyed = rows.with_columns(key.alias("key"))
    sums = keyed.group_by("key").agg(_SUMS).sort("key", nulls_last=True)
    outcomes: dict[Any, dict[str, int]] = {}
    counted = keyed.group_by("key", "outcome").agg(_REQUESTS.sum()).sort("outcome")
    for found, outcome, number in counted.iter_rows():
        outcomes.setdefault(found, {})[outcome] = number
    return [_group(row, outcomes[row["key"]]) for row in sums.iter_rows(named=True)]


def _group(row: dict[str, Any], outcomes: dict[str, int]) -> LedgerGroup:
    known, tokens = row["with_energy"], row["tokens_with_energy"]
    all_idle = row["without_idle"] == 0
    gross_j = row["joules"] + row["idle_joules"]
    output_j = row["joules_of_output"]
    return LedgerGroup(
        name=None if row["key"] is None else str(row["key"]),
        outcomes=outcomes,
        dynamic_j=row["joules"] if known else None,
        idle_j=row["idle_joules"] if known > row["without_idle"] else None,
        energy_per_request_j=_per(gross_j, known),
        energy_per_output_token_j=_per(output_j + row["idle_joules_of_output"], tokens),
        net_energy_per_request_j=_per(row["joules"], known) if all_idle else None,
        net_energy_per_output_token_j=_per(output_j, tokens) if all_idle else None,
        attainment=_per(row["kept"], row["promised"]),
        **{
            name: row[name]
            for name in (
                "requests",
                "input_tokens",
                "output_tokens",
                "with_energy",
                "without_idle",
                "extrapolated",
                "methods",
                "boundaries",
                "promised",
                "kept",
            )
        },
    )


def _per(value: float, of: int) -> float | None:
    return value / of if of else None


def _hour(number: str | None) -> str:
    """Start of an hour since 1970."""
    start = datetime.fromtimestamp(float(number or 0) * SECONDS_PER_HOUR, UTC)
    return start.strftime("%Y-%m-%dT%H:%MZ")


def forecasts_of(rows: pl.DataFrame) -> list[LedgerForecast]:
    """Predicted against final energy of the served requests of each endpoint."""
    served = rows.filter(_KNOWN & (pl.col("outcome") == "served"))
    known = served.with_columns(predicted_j(served)).drop_nulls("predicted_j")
    sums = known.group_by("endpoint").agg(
        pl.len(),
        pl.col("predicted_j").sum(),
        pl.col("joules").sum(),
        pl.col("expected_output_tokens").sum(),
        pl.col("output_tokens").sum(),
    )
    return [
        LedgerForecast(name, number, before, after, _less_one(after, before), expected, tokens)
        for name, number, before, after, expected, tokens in sums.sort("endpoint").iter_rows()
    ]


def drifts_of(rows: pl.DataFrame) -> list[LedgerDrift]:
    """Metered against modelled energy of the served requests of each endpoint."""
    both = rows.filter(
        (pl.col("outcome") == "served") & pl.col("energy_method").is_in([ATTRIBUTED, ESTIMATED])
    ).drop_nulls([MODELLED, "joules"])
    sums: dict[str, Drift] = {}
    for endpoint, before, after in both.select("endpoint", MODELLED, "joules").iter_rows():
        sums.setdefault(endpoint, Drift()).add(before, after)
    found = (drift.found(endpoint) for endpoint, drift in sorted(sums.items()))
    return [each for each in found if each is not None]


def _less_one(after_j: float, before_j: float) -> float | None:
    return after_j / before_j - 1 if before_j > 0 else None


def predicted_j(rows: pl.DataFrame) -> pl.Series:
    """What each request was predicted to take where it went; null where that is not known.

    Raises
    ------
    TableError
    """
    decoder, found = msgspec.json.Decoder(_Weighed), []
    for name, text, deployment in rows.select("id", "candidates", "deployment").iter_rows():
        try:
            weighed = decoder.decode(text or "{}")
        except msgspec.DecodeError as error:
            cure = "the gateway writes JSON there; read another ledger"
            raise TableError(f"request {name}: candidates", str(error), cure) from None
        found.append(weighed.joules.get(deployment))
    return pl.Series("predicted_j", found, pl.Float64)
