"""One row for each request of a replay, in the columns of a simulation's, and some more."""

from __future__ import annotations

import polars as pl

from wattshed.engines.model import Array
from wattshed.replay.outcome import Replay
from wattshed.simulate.layout import FATES


def request_table(found: Replay, policy: str) -> pl.DataFrame:
    """Requests in order of arrival; what is not known is empty."""
    requests, trips, receipts = found.requests, found.trips, found.receipts
    assert requests.group is not None
    known = {
        "start_s": None,
        "first_token_s": found.first_token_s,
        "finish_s": found.finish_s,
        "ttft_s": found.ttft_s,
        "tpot_s": found.tpot_s,
        "longest_gap_s": found.longest_gap_s,
        "e2e_s": found.e2e_s,
        "prefill_energy_j": None,
        "decode_energy_j": None,
        "static_energy_j": found.static_energy_j,
        "preemptions": None,
        "retries": None,
        "sent_s": found.sent_s,
        "lag_s": found.lag_s,
        "dynamic_energy_j": found.dynamic_energy_j,
        "energy_low_j": found.low_j,
        "energy_high_j": found.high_j,
        "input_counted": found.input_counted,
        "output_counted": found.output_counted,
    }
    return pl.DataFrame(
        {
            "policy": [policy] * len(requests),
            "controller": ["live"] * len(requests),
            "request": range(len(requests)),
            "arrival_s": requests.arrival_s,
            "input_tokens": requests.input_tokens,
            "output_tokens": requests.output_tokens,
            "class": pl.Series(list(requests.classes)).gather(requests.group),
            "fate": pl.Series(list(FATES)).gather(found.fate),
            "endpoint": pl.Series([trip.endpoint for trip in trips], dtype=pl.String),
            **{name: _column(values, len(requests)) for name, values in known.items()},
            "energy_method": _text([r.method if r else None for r in receipts]),
            "boundary": _text([r.boundary if r else None for r in receipts]),
            "request_id": _text([trip.id for trip in trips]),
            "status": pl.Series([trip.status for trip in trips], dtype=pl.Int64),
            "error": _text([trip.error or None for trip in trips]),
        }
    )


def _column(values: Array | None, rows: int) -> pl.Series:
    if values is None:
        return pl.Series([None] * rows, dtype=pl.Float64)
    return pl.Series(values, dtype=pl.Float64).fill_nan(None)


def _text(values: list[str | None]) -> pl.Series:
    return pl.Series(values, dtype=pl.String)
