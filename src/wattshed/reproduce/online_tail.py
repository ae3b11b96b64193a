"""What round robin's service time would be, had the built-in workload the study's own totals.

The reconstruction has fewer queries than the study's workload, and the lengths of its longest
answers were read off a drawing: the last ones share one length. The totals of the study's
workload are known exactly, so what is missing is known, but not where it lies.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wattshed.reproduce.online_policies import (
    ONLINE,
    QUANTITIES,
    ROUND_ROBIN,
    baselines,
    serve_one,
    summary,
)
from wattshed.reproduce.online_setting import Setting, setting_of, shuffles
from wattshed.reproduce.study import Result, published_value
from wattshed.workload.table import Queries

FROM_TOKENS = (500, 550, 600, 650, 700)
"""Answers of at least so many tokens may be those that were longer."""


class Completion(NamedTuple):
    """A workload with the study's totals of queries and of output tokens.

    Attributes
    ----------
    queries : Queries
    added_queries, tail_answers, tail_tokens : int
        How many queries were added, and how many tokens to how many of the longest answers.
    """

    queries: Queries
    added_queries: int
    tail_answers: int
    tail_tokens: int


def completed(known: Queries, queries: int, output_tokens: int, from_tokens: int) -> Completion:
    """Add the missing queries, at even quantiles of the output lengths, and the missing tokens.

    Parameters
    ----------
    known : Queries
    queries, output_tokens : int
        Totals to reach.
    from_tokens : int
        Answers of at least so many tokens share what is missing then, in exponential parts, the
        longest most. None if no answer is as long: then tokens stay missing.
    """
    order = np.argsort(-known.n, kind="stable")
    m, n = (np.repeat(column[order], known.count[order]) for column in (known.m, known.n))
    more = queries - len(n)
    spread = ((np.arange(more) + 0.5) / more * len(n)).astype(np.int64)
    order = np.argsort(-np.append(n, n[spread]), kind="stable")
    m, n = np.append(m, m[spread])[order], np.append(n, n[spread])[order]
    answers, tokens = int((n >= from_tokens).sum()), output_tokens - int(n.sum())
    n[:answers] += _parts(tokens, answers)
    pairs, count = np.unique(np.stack([m, n]), axis=1, return_counts=True)
    group = np.zeros(len(count), np.int64)
    made = Queries(pairs[0], pairs[1], count.astype(np.int64), group)
    return Completion(made, more, answers, tokens)


def _parts(tokens: int, answers: int) -> NDArray[np.float64]:
    """Whole tokens for each answer that add up, like ordered draws of an exponential."""
    quantiles = -np.log((np.arange(answers) + 0.5) / max(1, answers))
    ends = np.round(np.cumsum(quantiles) / quantiles.sum() * tokens)
    return np.diff(ends, prepend=0.0)


def round_robin_tails(setting: Setting, orders: int, seed: int) -> list[Result]:
    """Round robin's figures over orders of completed workloads, the first without a longer tail.

    Parameters
    ----------
    setting : Setting
        Of the built-in workload.
    orders : int
    seed : int
    """
    total_queries = int(published_value("checksum", "queries"))
    total_tokens = int(published_value("checksum", "sum_output_tokens"))
    nobody = int(setting.distinct.n.max()) + 1
    rows = []
    for from_tokens in (nobody, *FROM_TOKENS):
        made = completed(setting.distinct, total_queries, total_tokens, from_tokens)
        rows.append(_row(made, from_tokens, orders, seed))
    return rows


def _row(made: Completion, from_tokens: int, orders: int, seed: int) -> Result:
    setting = setting_of(made.queries)
    (contender,) = (c for c in baselines(setting) if c.name == ROUND_ROBIN)
    found = [serve_one(contender, setting, order) for order in shuffles(setting, orders, seed)]
    ours = {key: summary([figures[key] for figures in found]) for key in QUANTITIES}
    longer = made.tail_answers > 0
    return {
        "added_queries": made.added_queries,
        "from_tokens": from_tokens if longer else None,
        "tail_answers": made.tail_answers,
        "tail_tokens": made.tail_tokens if longer else 0,
        "missing_tokens": 0 if longer else made.tail_tokens,
        "longest_answer_tokens": int(made.queries.n.max()),
        "orders": orders,
        "ours": ours,
        "deviation_pct": {
            key: 100 * (ours[key]["mean"] / published_value(ONLINE, name, ROUND_ROBIN) - 1)
            for key, name in QUANTITIES.items()
        },
    }
