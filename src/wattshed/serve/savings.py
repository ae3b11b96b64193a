"""What choosing has saved against a baseline, as far as the recorded decisions tell.

Each decision left predictions behind: what the request takes on every deployment that may serve
it. Own and baseline are both predictions, for the batches that plans assume, so that they can be
laid side by side; that another policy would have filled the batches differently is not in them.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from wattshed.serve.recent import Ended

BATCHES = 20
"""Runs of consecutive requests whose sums are compared: neighbours are alike."""
FEWEST = 3 * BATCHES
"""Requests below which no interval is given."""
LEVEL = 0.95


class Saved(msgspec.Struct, frozen=True):
    """Predicted energy that was saved.

    Attributes
    ----------
    baseline : str
        ``shadow``: where the shadow policy would have sent each request. ``even``: any endpoint
        that was open, each as likely, which is where round robin sends them in the mean.
    policy : str
        That was obeyed.
    requests : int
        That both predictions are known of.
    saved_j : float
    share : float or None
        saved_j as a part of the baseline; None where that is no energy above 0.
    low, high : float or None
        95 % interval of `share` over which requests came; None below `FEWEST` requests.
    verdict : str
        ``saves``, ``costs more``, ``not significant`` or ``too few requests``.
    """

    baseline: str
    policy: str
    requests: int
    saved_j: float
    share: float | None
    low: float | None
    high: float | None
    verdict: str


def saved(records: Sequence[Ended], policy: str) -> Saved:
    """What a policy has saved, against the shadow policy where there is one.

    Parameters
    ----------
    records : sequence of Ended
        In the order of their ends.
    policy : str
        Whose decisions count.
    """
    own = [r for r in records if r.policy == policy and r.own_j is not None]
    shadowed = [(r.own_j, r.shadow_j) for r in own if r.shadow_j is not None]
    even = [(r.own_j, r.even_j) for r in own if r.even_j is not None]
    baseline, pairs = ("shadow", shadowed) if shadowed else ("even", even)
    found = np.array(pairs, float).reshape(-1, 2)
    took_j, baseline_j = found.T
    share = low = high = None
    if baseline_j.sum() > 0:
        share = float(1 - took_j.sum() / baseline_j.sum())
        if len(found) >= FEWEST:
            low, high = share_interval(took_j, baseline_j)
    saved_j = float(baseline_j.sum() - took_j.sum())
    return Saved(baseline, policy, len(found), saved_j, share, low, high, _verdict(low, high))


def share_interval(
    took_j: NDArray[np.float64], baseline_j: NDArray[np.float64]
) -> tuple[float, float]:
    """Interval of 1 - took / baseline, from the sums of consecutive runs of requests.

    The ratio of the sums is linearised, and Student's t taken for the number of runs.

    Parameters
    ----------
    took_j, baseline_j : arrays (R,)
        At least `BATCHES` requests, in order.
    """
    took = np.array([part.sum() for part in np.array_split(took_j, BATCHES)])
    base = np.array([part.sum() for part in np.array_split(baseline_j, BATCHES)])
    ratio = took.sum() / base.sum()
    spread = np.sqrt(BATCHES / (BATCHES - 1) * np.sum((took - ratio * base) ** 2)) / base.sum()
    half = float(stdtrit(BATCHES - 1, (1 + LEVEL) / 2) * spread)
    return float(1 - ratio) - half, float(1 - ratio) + half


def _verdict(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "too few requests"
    if low > 0:
        return "saves"
    return "costs more" if high < 0 else "not significant"
