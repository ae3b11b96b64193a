"""Why a request went where it went: what its row of the ledger tells, in sentences."""

from __future__ import annotations

from typing import Any

import msgspec

from wattshed.errors import TableError
from wattshed.records import Explanation, WeighedDeployment, WeighedEndpoint
from wattshed.serve.canary import CANARY

ASKED = (
    "tenant",
    "path",
    "model",
    "slo_class",
    "deadline_s",
    "energy_weight",
    "greenest",
    "input_estimate",
    "expected_output_tokens",
    "late_output_tokens",
)
BECAME = (
    "outcome",
    "status",
    "reason",
    "sent_s",
    "first_s",
    "end_s",
    "kept",
    "input_tokens",
    "output_tokens",
    "tokens_counted",
    "joules",
    "idle_joules",
    "low_joules",
    "high_joules",
    "energy_method",
    "boundary",
    "extrapolated",
)


class _Weighed(msgspec.Struct):
    costs: dict[str, float] = {}
    joules: dict[str, float] = {}
    runtime_s: dict[str, float] = {}
    load: dict[str, tuple[int, int]] = {}


def explain(row: dict[str, Any]) -> Explanation:
    """Explain a row of the ledger.

    Parameters
    ----------
    row : dict
        All columns.

    Raises
    ------
    TableError
        If its candidates are not what the gateway writes.
    """
    try:
        weighed = msgspec.json.decode(row["candidates"] or "{}", type=_Weighed)
        tried = msgspec.json.decode(row["tried"] or "{}", type=dict[str, str])
    except msgspec.DecodeError as error:
        cure = "the gateway writes JSON there; read another ledger"
        raise TableError(f"request {row['id']}", str(error), cure) from None
    candidates = _candidates(weighed, row["deployment"])
    return Explanation(
        row["id"],
        row["arrived_at"],
        {name: row[name] for name in ASKED},
        row["policy"],
        row["deployment"],
        row["endpoint"],
        row["shadow_endpoint"],
        candidates,
        tried,
        _why(row, weighed, candidates, tried),
        {name: row[name] for name in BECAME},
    )


def _candidates(weighed: _Weighed, chosen: str | None) -> list[WeighedDeployment]:
    """The deployments that were predicted, least joules first, and others that were open."""
    others = dict.fromkeys(map(_deployment, weighed.load))
    return [
        WeighedDeployment(
            name,
            weighed.joules.get(name),
            weighed.runtime_s.get(name),
            weighed.costs.get(name),
            [
                WeighedEndpoint(end, *load, weighed.costs.get(end))
                for end, load in weighed.load.items()
                if _deployment(end) == name
            ],
            name == chosen,
        )
        for name in dict.fromkeys(
            [*sorted(weighed.joules, key=weighed.joules.__getitem__), *others]
        )
    ]


def _deployment(endpoint: str) -> str:
    """Endpoints are named DEPLOYMENT/NUMBER."""
    return endpoint.rpartition("/")[0]


def _why(
    row: dict[str, Any],
    weighed: _Weighed,
    candidates: list[WeighedDeployment],
    tried: dict[str, str],
) -> list[str]:
    failed = [f"{name} failed it before: {reason}." for name, reason in tried.items()]
    if row["endpoint"] is None:
        return [*failed, "It was sent nowhere."]
    who = f"{row['policy']}, the canary," if row["arm"] == CANARY else row["policy"]
    found = [f"{who} sent it to {row['endpoint']}.", *_by_cost(row, weighed)]
    found += _by_joules(row["deployment"], candidates)
    if row["shadow_endpoint"] is not None:
        same = row["shadow_endpoint"] == row["endpoint"]
        where = "there, too" if same else f"to {row['shadow_endpoint']}"
        found.append(f"The shadow policy would have sent it {where}.")
    return failed + found


def _by_cost(row: dict[str, Any], weighed: _Weighed) -> list[str]:
    """What the policy says of itself."""
    costs = weighed.costs
    if not costs:
        return ["The policy recorded no costs."]
    own = costs.get(row["endpoint"], costs.get(row["deployment"]))
    if own is None:
        return ["It is not among what the policy weighed."]
    less = [name for name, cost in costs.items() if cost < own]
    if not less:
        return [f"Nothing that the policy weighed costs less ({own:.4g}, of {len(costs)})."]
    return [f"{', '.join(less)} would have cost less by what the policy weighed."]


def _by_joules(chosen: str, candidates: list[WeighedDeployment]) -> list[str]:
    """What the predictions say of the choice, whatever the policy weighs."""
    own = next((c.joules for c in candidates if c.deployment == chosen), None)
    if own is None:
        return ["What it takes there was not predicted."]
    others = [c for c in candidates if c.joules is not None and c.joules < own]
    if not others:
        return [f"No deployment was predicted to need less than its {own:.4g} J."]
    found = []
    for each in others:
        words = (
            f"{each.deployment} was predicted to need less: {each.joules:.4g} J, not {own:.4g} J"
        )
        why = "" if each.endpoints else ", but took no requests"
        found.append(f"{words}{why}.")
    return found
