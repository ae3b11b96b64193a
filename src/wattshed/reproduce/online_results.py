"""The online study's figures over orders of the queries, beside those it published."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wattshed.reproduce.online_policies import (
    CODED,
    ONLINE,
    QUANTITIES,
    QUEUE_AWARE,
    QUEUE_WEIGHTS,
    RANDOM,
    ROUND_ROBIN,
    ZETAS_SHOWN,
    Contender,
    Figures,
    accumulated,
    as_printed,
    baselines,
    priced,
    round_robin_waits,
    serve_one,
    summary,
)
from wattshed.reproduce.online_setting import (
    AS_CODED,
    GROUP,
    SCENARIOS,
    Order,
    Scenario,
    Setting,
    make_setting,
    published_queries,
    rate_per_s,
    shuffles,
    system,
)
from wattshed.reproduce.online_system import make_memory
from wattshed.reproduce.online_tail import round_robin_tails
from wattshed.reproduce.online_verdicts import TOLERANCE_PCT, judge
from wattshed.reproduce.study import Result, published_rows, published_value
from wattshed.workload.table import Workload

ZETAS = tuple(round(0.1 * step, 1) for step in range(11))
MEASURED = (*QUANTITIES, "runtime_s")
LEVEL_NORMAL = 1.96
"""Standard errors on either side of a mean that make 95 %."""

Key = tuple[str, str, float | None]
Runs = dict[tuple[Key, Scenario], list[Figures]]


class Sizes(NamedTuple):
    """How many orders of the queries are served.

    Attributes
    ----------
    always : int
        Of round robin, random and the accumulators at ζ = 0 as coded: most verdicts.
    swept : int
        Of these, in which ζ is swept and all other policies are served as coded; and of round
        robin with each completed workload.
    elsewhere : int
        Of these, in which all are served in systems that the study did not run.
    """

    always: int = 100
    swept: int = 20
    elsewhere: int = 5


FULL = Sizes()


def online_results(workload: Workload, seed: int, sizes: Sizes) -> Result:
    """Everything that the study reports.

    Parameters
    ----------
    workload : Workload
    seed : int
        Of the orders, the arrivals and the random policy.
    sizes : Sizes
    """
    setting = make_setting(workload)
    fixed = [*baselines(setting), *priced(setting, workload)]
    contenders = {_key(c): c for c in fixed}
    contenders |= {_key(c): c for e in QUEUE_WEIGHTS for z in ZETAS for c in [accumulated(e, z)]}
    runs: Runs = defaultdict(list)
    waits: list[Figures] = []
    printed: list[Result] = []
    for index, order in enumerate(shuffles(setting, sizes.always, seed)):
        _serve_as_coded(setting, order, fixed, runs, every=index < sizes.swept)
        if index < sizes.swept:
            waits.append(round_robin_waits(setting, order))
            printed += [as_printed(setting, order, zeta) for zeta in ZETAS_SHOWN]
        if index < sizes.elsewhere:
            _serve_elsewhere(setting, order, fixed, runs)
    scale = published_queries() / setting.queries
    policies = [_row(contenders[key], s, found, setting, scale) for (key, s), found in runs.items()]
    return {
        **_setting(setting, scale, sizes),
        "policies": policies,
        "printed": _printed(printed),
        "round_robin_orders": _round_robin(setting, runs, waits),
        "round_robin_tails": round_robin_tails(setting, sizes.swept, seed),
        "queue_aware_orders": _queue_aware(runs, scale),
        "orders_within_1_pct": _orders_within(runs, scale),
    }


def _key(contender: Contender) -> Key:
    return contender.name, contender.experiment, contender.zeta


def _serve_as_coded(
    setting: Setting, order: Order, fixed: list[Contender], runs: Runs, *, every: bool
) -> None:
    """The study's system; ζ is swept as its scripts do, with the memory of the ζ before."""
    for contender in fixed:
        if every or contender.name in {ROUND_ROBIN, RANDOM}:
            runs[_key(contender), AS_CODED].append(serve_one(contender, setting, order))
    for experiment in QUEUE_WEIGHTS:
        memory = make_memory(setting.most)
        for zeta in ZETAS if every else ZETAS[:1]:
            contender = accumulated(experiment, zeta)
            found = serve_one(contender, setting, order, AS_CODED, memory)
            runs[_key(contender), AS_CODED].append(found)


def _serve_elsewhere(setting: Setting, order: Order, fixed: list[Contender], runs: Runs) -> None:
    """Where the study did not run them; the accumulators remember nothing at first."""
    served = [*fixed, *(accumulated(e, z) for e in QUEUE_WEIGHTS for z in ZETAS_SHOWN)]
    for scenario in SCENARIOS:
        if scenario != AS_CODED:
            for contender in served:
                found = serve_one(contender, setting, order, scenario)
                runs[_key(contender), scenario].append(found)


def _setting(setting: Setting, scale: float, sizes: Sizes) -> Result:
    return {
        "queries": setting.queries,
        "published_queries": published_queries(),
        "energy_scale": scale,
        "rate_per_s": rate_per_s(),
        "queries_per_tick": GROUP,
        "orders": sizes._asdict(),
        "instances": {
            "as_coded": dict(zip(setting.names, system(AS_CODED).slots.tolist(), strict=True)),
            "divided": dict(
                zip(setting.names, system(Scenario(divided=True)).slots.tolist(), strict=True)
            ),
        },
    }


def _row(
    contender: Contender, scenario: Scenario, found: list[Figures], setting: Setting, scale: float
) -> Result:
    ours = {key: summary([figures[key] for figures in found]) for key in MEASURED}
    ours["energy_kwh_scaled"] = {key: scale * v for key, v in ours["energy_kwh"].items()}
    published = _published(contender) if scenario == AS_CODED else None
    row = {
        "name": contender.name,
        "experiment": contender.experiment or None,
        "zeta": contender.zeta,
        "queue_weight": None if contender.zeta is None else contender.weights.queue_weight,
        "arrivals": scenario.arrivals,
        "release": scenario.release,
        "instances": "divided" if scenario.divided else "as_coded",
        "orders": len(found),
        "published": published,
        "ours": ours,
        "shares": {k: float(np.mean([f[k] for f in found])) for k in setting.names},
    }
    return {**row, **judge(published, ours)}


def _published(contender: Contender) -> dict[str, float | None] | None:
    """What the study published; of all queries on one model, without waiting."""
    if not contender.experiment:
        return None
    system_name = contender.name if contender.zeta is None else ONLINE
    found: dict[str, Any] = dict.fromkeys(MEASURED)
    for key, quantity in QUANTITIES.items():
        for row in published_rows(contender.experiment, quantity).iter_rows(named=True):
            if row["system"] == system_name and row["x"] == (contender.zeta or 0.0):
                found[key] = row["value"]
    if found["wait_s"] is None:
        found["runtime_s"], found["service_s"] = found["service_s"], None
    return found


def _printed(runs: list[Result]) -> list[Result]:
    """Algorithm 1 to the letter at each ζ, over orders."""
    found = []
    for zeta in ZETAS_SHOWN:
        those = [run for run in runs if run["zeta"] == zeta]
        keys = ("queries_until_overflow", "largest_total_after_60", "share_of_most")
        found.append(
            {
                "zeta": zeta,
                "orders": len(those),
                **{key: summary([float(run[key]) for run in those]) for key in keys},
                "most_to": sorted({run["most_to"] for run in those}),
            }
        )
    return found


def _round_robin(setting: Setting, runs: Runs, waits: list[Figures]) -> Result:
    """Why round robin's service time hangs on the order, and where the published one lies."""
    key = ROUND_ROBIN, ONLINE, None
    service_s = np.array([figures["service_s"] for figures in runs[key, AS_CODED]])
    error = LEVEL_NORMAL * service_s.std(ddof=1) / np.sqrt(len(service_s))
    published = published_value(ONLINE, "mean_service_time", ROUND_ROBIN)
    smallest = setting.runtime_s[:, 0]
    fills_s = float(system(AS_CODED).slots[0] / (GROUP * rate_per_s() / len(setting.names)))
    return {
        "orders": len(service_s),
        "published_service_s": published,
        "service_s": {
            **summary(service_s.tolist()),
            "mean_low": float(service_s.mean() - error),
            "mean_high": float(service_s.mean() + error),
            "p2_5": float(np.quantile(service_s, 0.025)),
            "p97_5": float(np.quantile(service_s, 0.975)),
        },
        "orders_below_published": float((service_s < published).mean()),
        "wait_by_model_s": {k: float(np.mean([w[k] for w in waits])) for k in setting.names},
        "slots_filled_in_s": fills_s,
        "longest_runtime_s": float(smallest.max()),
        "share_longer": float((smallest > fills_s).mean()),
    }


def _queue_aware(runs: Runs, scale: float) -> Result:
    """How far the queue-aware accumulators at ζ = 0 hang on the order, and on what in it."""
    found = runs[(CODED, QUEUE_AWARE, 0.0), AS_CODED]
    energy_kwh = scale * np.array([figures["energy_kwh"] for figures in found])
    published = published_value(QUEUE_AWARE, "total_energy", ONLINE, 0.0)
    return {
        "orders": len(found),
        "published_energy_kwh": published,
        "energy_kwh_scaled": summary(energy_kwh.tolist()),
        "quartiles_kwh_scaled": np.quantile(energy_kwh, [0.25, 0.75]).tolist(),
        "orders_within_2_pct": float((np.abs(energy_kwh / published - 1) < 0.02).mean()),
        "least_to_70b_of_1000": float(np.median([f["least_to_largest"] for f in found])),
        "most_to_70b_of_1000": float(np.median([f["most_to_largest"] for f in found])),
    }


def _orders_within(runs: Runs, scale: float) -> dict[str, int]:
    """Orders in which energy, accuracy and service time all are within 1 % of the published."""
    robin = _within(runs[(ROUND_ROBIN, ONLINE, None), AS_CODED], scale, ONLINE, ROUND_ROBIN)
    aware = _within(runs[(CODED, QUEUE_AWARE, 0.0), AS_CODED], scale, QUEUE_AWARE, ONLINE, 0.0)
    names = ("round_robin", "queue_aware", "both")
    held = (robin, aware, robin & aware)
    return dict(zip(names, (int(each.sum()) for each in held), strict=True))


def _within(found: list[Figures], scale: float, *published: Any) -> NDArray[np.bool_]:
    """Whether each order is, array (orders,)."""
    figure, *rest = published
    ours = np.array([[scale * f["energy_kwh"], f["accuracy_pct"], f["service_s"]] for f in found])
    keys = ("energy_kwh", "accuracy_pct", "service_s")
    theirs = np.array([published_value(figure, QUANTITIES[key], *rest) for key in keys])
    held: NDArray[np.bool_] = (np.abs(ours / theirs - 1) <= TOLERANCE_PCT / 100).all(axis=1)
    return held
