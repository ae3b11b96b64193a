"""Why a request went where it went: what its row of the ledger tells, in sentences."""

from __future__ import annotations

from typing import Any

import msgspec

from wattshed.errors import TableError
from wattshed.records import Explanation, Told, Weighed, WeighedDeployment, WeighedEndpoint
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
    told: Told | None = None


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
    predicted = weighed_of(weighed.told) if weighed.told else {}
    if not weighed.costs:
        weighed.costs = {name: each.joules + each.price_j for name, each in predicted.items()}
    candidates = _candidates(weighed, predicted, row["deployment"])
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
        _why(row, weighed, predicted, candidates, tried),
        {name: row[name] for name in BECAME},
    )


def weighed_of(told: Told) -> dict[str, Weighed]:
    """What a policy predicted of each endpoint, and which promise is nearest to being broken."""
    found = {}
    columns = (told.joules, told.price_j, told.ttft_s, told.tbt_s)
    for name, joules, price_j, ttft_s, tbt_s in zip(told.endpoints, *columns, strict=True):
        e2e_s = ttft_s + max(told.output_tokens - 1.0, 0.0) * tbt_s
        latency = {"ttft": ttft_s, "tbt": tbt_s, "e2e": e2e_s}
        used = {
            key: latency[key] / (limit_s * told.usable) for key, limit_s in told.limits_s.items()
        }
        binding = max(used, key=used.__getitem__, default="")
        found[name] = Weighed(joules, price_j, ttft_s, tbt_s, binding, used.get(binding, 0.0))
    return found


def _candidates(
    weighed: _Weighed, predicted: dict[str, Weighed], chosen: str | None
) -> list[WeighedDeployment]:
    """The deployments that were predicted, least joules first, and others that were open."""
    others = dict.fromkeys(map(_deployment, weighed.load))
    return [
        WeighedDeployment(
            name,
            weighed.joules.get(name),
            weighed.runtime_s.get(name),
            weighed.costs.get(name),
            [
                WeighedEndpoint(end, *load, weighed.costs.get(end), predicted.get(end))
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
    predicted: dict[str, Weighed],
    candidates: list[WeighedDeployment],
    tried: dict[str, str],
) -> list[str]:
    failed = [f"{name} failed it before: {reason}." for name, reason in tried.items()]
    if row["endpoint"] is None:
        return [*failed, "It was sent nowhere."]
    who = f"{row['policy']}, the canary," if row["arm"] == CANARY else row["policy"]
    found = [f"{who} sent it to {row['endpoint']}.", *_by_cost(row, weighed)]
    found += by_promises(row["endpoint"], predicted)
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


def by_promises(chosen: str, weighed: dict[str, Weighed]) -> list[str]:
    """Which promise bound the choice, of a policy that tells what it predicted."""
    if chosen not in weighed:
        return []
    own = weighed[chosen]
    if own.used > 1:
        return [f"No endpoint was predicted to keep its promises: it is late by {_late(own)}."]
    cost_j = own.joules + own.price_j
    less = {n: e for n, e in weighed.items() if e.joules + e.price_j < cost_j and e.used > 1}
    found = [
        f"{name} would have added less, {each.joules:.4g} J, but broken a promise: {_late(each)}."
        for name, each in less.items()
    ]
    if own.binding:
        part = f"{100 * own.used:.3g} % of what may be used"
        found.append(f"Its promise nearest to being broken is {own.binding}: {part}.")
    return found


def _late(each: Weighed) -> str:
    """By which promise an endpoint is late, and how far."""
    seconds = {"ttft": each.ttft_s, "tbt": each.tbt_s}.get(each.binding)
    value = "" if seconds is None else f" of {seconds:.3g} s"
    return f"{each.binding}{value}, {each.used:.3g} times what may be used"


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
