"""Steps of deployments as plain arrays, for rules that are compiled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wattshed.engines.model import (
    Array,
    BatchingDeployment,
    ClockedSteps,
    Deployment,
    PromptCurve,
    StepModel,
)

Records = NDArray[np.void]

CLOCK = np.dtype(
    [
        ("clock", "f8"),
        ("s_context", "f8"),  # per context token ...
        ("j_context", "f8"),
        ("s_pair", "f8"),  # ... and per prompt pair: time and energy
        ("j_pair", "f8"),
        ("s_saved", "f8"),
        ("j_saved", "f8"),
        ("piece", "i8"),  # its prompt curve in `World.pieces`
        ("piece_end", "i8"),
    ]
)
PIECE = np.dtype(
    [
        ("start", "f8"),
        ("s_fixed", "f8"),
        ("s_token", "f8"),
        ("j_fixed", "f8"),
        ("j_token", "f8"),
    ]
)


class Tables(NamedTuple):
    """Steps at every clock (F) of all deployments, one deployment after the other."""

    clocks: Any  # CLOCK (F,)
    pieces: Any  # PIECE
    seconds: Array  # (F, b + 1): time of a step by batch
    joules: Array  # (F, b + 1)


def tabulate(deployments: Sequence[Deployment]) -> tuple[Tables, NDArray[np.int64]]:
    """Steps of deployments (K), and where the clocks of each begin (K + 1,), the lowest first.

    One that serves a query at a time has a clock without steps.
    """
    rows = [d.clocks if isinstance(d, BatchingDeployment) else (None,) for d in deployments]
    first = np.cumsum([0, *map(len, rows)])
    steps = [each for clocks in rows for each in clocks]
    widest = max((each.time.max_batch for each in steps if each), default=0)
    clocks = np.zeros(len(steps), CLOCK)
    seconds, joules = np.zeros((2, len(steps), widest + 1))
    pieces = [_pieces(each) if each else np.zeros(0, PIECE) for each in steps]
    ends = np.cumsum([len(each) for each in pieces], dtype=np.int64)
    clocks["piece"], clocks["piece_end"] = ends - [len(each) for each in pieces], ends
    for f, each in enumerate(steps):
        if each:
            _write_clock(clocks[f : f + 1], each)
            seconds[f, : len(each.time.by_batch)] = each.time.by_batch
            joules[f, : len(each.time.by_batch)] = each.energy.by_batch
    return Tables(clocks, np.concatenate(pieces), seconds, joules), first


def _write_clock(row: Records, steps: ClockedSteps) -> None:
    time, energy = steps.time, steps.energy
    row["clock"] = steps.clock
    for name, model in (("s", time), ("j", energy)):
        row[f"{name}_context"] = model.per_context_token
        row[f"{name}_pair"] = model.per_prompt_pair
        row[f"{name}_saved"] = model.saved


def _pieces(steps: ClockedSteps) -> Records:
    """Both prompt curves, cut where either is, with what each token costs in any case."""
    curves = {"s": steps.time, "j": steps.energy}
    starts = [m.prompt.tokens_from for m in curves.values() if m.prompt is not None]
    at = np.unique(np.concatenate([np.zeros(1), *(start[1:] for start in starts)]))
    rows = np.zeros(len(at), PIECE)
    rows["start"] = at
    for name, model in curves.items():
        fixed, token = _curve_at(model, at)
        rows[f"{name}_fixed"], rows[f"{name}_token"] = fixed, token
    return rows


def _curve_at(model: StepModel, at: Array) -> tuple[Array, Array]:
    token = np.full(len(at), model.per_prompt_token)
    curve: PromptCurve | None = model.prompt
    if curve is None:
        return np.zeros(len(at)), token
    piece = curve.pieces(at)
    return curve.fixed[piece], token + curve.per_token[piece]
