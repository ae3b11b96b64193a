"""Time decisions of every policy: how long one takes, and how many there are in a second.

    python benchmarks/route.py [--decisions 20000] [--json]

Wall time of one process. The requests are those of Alpaca, their true lengths as forecasts;
the fleet is the built-in one of three systems with 4 or 64 endpoints. A size of request that
was seen before is remembered; the first time costs a prediction for each deployment.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

import wattshed as ws
from wattshed.fleet import Fleet
from wattshed.plan.rule import energy_rule
from wattshed.records import Endpoint, Request
from wattshed.route.policy import Policy
from wattshed.route.registry import POLICIES

TARGET_US = {4: 20.0, 64: 50.0}


def requests(decisions: int, seed: int = 0) -> list[Request]:
    rows = ws.read_workload("alpaca").distinct()
    rng = np.random.default_rng(seed)
    drawn = rng.choice(len(rows.m), decisions, p=rows.count / rows.count.sum())
    return [
        Request(str(k), int(rows.m[row]), float(rows.n[row]))
        for k, row in enumerate(drawn.tolist())
    ]


def endpoints(fleet: Fleet, number: int) -> list[Endpoint]:
    names = [d.name for d in fleet.deployments]
    return [Endpoint(f"e{k}", names[k % len(names)], running=k % 5) for k in range(number)]


def per_decision_us(policy: Policy, asked: list[Request], there: Sequence[Endpoint]) -> float:
    start = time.perf_counter()
    for request in asked:
        policy.decide(request, there, 0.0)
    return 1e6 * (time.perf_counter() - start) / len(asked)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--decisions", type=int, default=20_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    fleet = ws.load_fleet("hybrid-2024")
    settings: dict[str, dict[str, Any]] = {
        "prices": {"rule": energy_rule(fleet)},
        "single": {"deployment": "a100"},
        "threshold": {"small": "m1-pro", "large": "a100", "t_in": 32},
    }
    asked = requests(options.decisions)
    first_us = per_decision_us(
        ws.load_policy("prices", fleet=fleet, **settings["prices"]),
        list({(r.input_tokens, r.expected_output_tokens): r for r in asked}.values()),
        endpoints(fleet, 4),
    )
    results: list[dict[str, Any]] = []
    for name in POLICIES:
        for number, target in TARGET_US.items():
            policy = ws.load_policy(name, fleet=fleet, **settings.get(name, {}))
            there = endpoints(fleet, number)
            per_decision_us(policy, asked, there)  # from here on every size was seen
            took = min(per_decision_us(policy, asked, there) for _ in range(3))
            results.append({"policy": name, "endpoints": number, "us": took, "target_us": target})
    if options.json:
        print(json.dumps({"results": results, "first_time_us": first_us}))
        return
    for row in results:
        print(
            f"{row['policy']:13} {row['endpoints']:>3} endpoints  {row['us']:6.1f} us a decision"
            f" (target {row['target_us']:g})  {1e6 / row['us']:>9,.0f} a second"
        )
    print(
        f"{'prices':13}   4 endpoints  {first_us:6.1f} us where a size is seen for the first time"
    )


if __name__ == "__main__":
    main()
