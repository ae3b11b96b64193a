"""Time `wattshed.assign` with binding busy-time capacities, beside HiGHS on the same problems.

    python benchmarks/assign.py [--seed 1] [--highs-seconds 120] [--json]

CPU seconds of one process; the kernel is compiled and cached before the clock starts.
Energies and runtimes are made up: log-normal tokens, eight deployments that differ in speed
and thrift. λ = 1 minimises energy; λ near 0 makes costs nearly proportional to what the
capacities bound, which is the hard case.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import csr_matrix, kron
from scipy.sparse import eye as sparse_eye

import wattshed as ws

Array = NDArray[np.float64]
DEPLOYMENTS = 8
TARGET_CPU_S = {1_000_000: 3.0, 100_000: 0.8}
TARGET_GAP = {1_000_000: 5e-6, 100_000: 2e-5}


def problem(queries: int, weight: float, skewed: bool, seed: int = 1) -> tuple[Array, Array, Array]:
    """Cost (J-equivalents) and runtime of each query on each deployment, and capacities."""
    rng = np.random.default_rng(seed)
    m, n = rng.lognormal(6, 1, (queries, 1)), rng.lognormal(5, 1, (queries, 1))
    speed, thrift = rng.uniform(0.5, 3, (2, DEPLOYMENTS))
    reach = rng.uniform(500, 5000, (2, DEPLOYMENTS))
    runtime = speed * n * 0.01 * (1 + m / reach[0])
    energy = thrift * n * (1 + m / reach[1]) + rng.uniform(0.01, 0.1, DEPLOYMENTS) * m
    cost = weight * energy + (1 - weight) * runtime * energy.mean() / runtime.mean()
    even = np.full(DEPLOYMENTS, 1 / DEPLOYMENTS)
    part = rng.dirichlet(np.ones(DEPLOYMENTS)) if skewed else even
    return cost, runtime, 1.1 * part * runtime.sum(axis=0)


def merged(queries: int, seed: int = 0) -> tuple[Array, Array, Array, Array]:
    """As many queries with the lengths of Alpaca: equal rows are one row with a count."""
    rows = ws.read_workload("alpaca").distinct()
    rng = np.random.default_rng(seed)
    count = rng.multinomial(queries, rows.count / rows.count.sum()).astype(float)
    keep = count > 0
    m, n, count = rows.m[keep][:, None], rows.n[keep][:, None], count[keep]
    speed, thrift = rng.uniform(0.5, 3, (2, DEPLOYMENTS))
    runtime = speed * n * 0.01 * (1 + m / rng.uniform(500, 5000, DEPLOYMENTS))
    energy = thrift * n * (1 + m / rng.uniform(500, 5000, DEPLOYMENTS))
    return energy, runtime, 1.1 / DEPLOYMENTS * (count @ runtime), count


def timed(cost: Array, runtime: Array, busy: Array, count: Array | None = None) -> dict[str, Any]:
    start = time.process_time()
    plan = ws.assign(cost, runtime, max_busy_s=busy, count=count)
    return {
        "cpu_s": time.process_time() - start,
        "gap": plan.gap,
        "lp_gap": plan.lp_gap,
        "fractional": plan.fractional,
        "passes": plan.passes,
        "converged": plan.converged,
        "binding": int((plan.busy_price_j_per_s > 0).sum()),
        "bound": plan.lower_bound_j,
    }


def highs(cost: Array, runtime: Array, busy: Array, seconds: float) -> dict[str, Any]:
    """The same linear program, whole, by HiGHS."""
    queries = len(cost)
    rows = np.tile(np.arange(DEPLOYMENTS), queries)
    columns = np.arange(cost.size)
    below = csr_matrix((runtime.ravel(), (rows, columns)), (DEPLOYMENTS, cost.size))
    one = kron(sparse_eye(queries), np.ones((1, DEPLOYMENTS)), format="csr")
    start = time.process_time()
    found = linprog(
        cost.ravel() / cost.mean(),
        A_ub=below,
        b_ub=busy,
        A_eq=one,
        b_eq=np.ones(queries),
        bounds=(0, None),
        method="highs",
        options={"time_limit": seconds},
    )
    took = time.process_time() - start
    solved = found.status == 0
    return {
        "cpu_s": took,
        "solved": solved,
        "value": float(found.fun * cost.mean()) if solved else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--highs-seconds", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    timed(*problem(5_000, 0.5, skewed=False))  # compile
    results: list[dict[str, Any]] = []
    for queries in (10_000, 100_000, 1_000_000):
        for weight in (1.0, 0.5, 0.02, 0.0):
            for skewed in (False, True):
                arrays = problem(queries, weight, skewed, options.seed)
                row = {"queries": queries, "lambda": weight, "skewed": skewed, **timed(*arrays)}
                if queries <= 100_000 and weight == 0.5 and not skewed:
                    row["highs"] = highs(*arrays, options.highs_seconds)
                results.append(row)
                if not options.json:
                    show(row)
    energy, runtime, busy, count = merged(1_000_000, options.seed - 1)
    row = {"queries": 1_000_000, "rows": len(energy), **timed(energy, runtime, busy, count)}
    results.append({"merged": True, **row})
    peak_b = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if options.json:
        print(json.dumps({"results": results, "peak_memory_b": peak_b}))
        return
    print(
        f"Alpaca-like, {len(energy):,} distinct of 1,000,000:"
        f" {row['cpu_s']:.2f} s (target 0.5), gap {row['gap']:.1e}"
    )
    print(f"peak memory of the whole run {peak_b / 1e9:.2f} GB")


def show(row: dict[str, Any]) -> None:
    target = TARGET_CPU_S.get(row["queries"])
    line = (
        f"{row['queries']:>9,} x {DEPLOYMENTS}  λ {row['lambda']:<4}"
        f" {'skewed' if row['skewed'] else 'even':6}"
        f"  {row['cpu_s']:5.2f} s{f' (target {target:g})' if target else '':13}"
        f"  gap {row['gap']:.1e}  LP gap {row['lp_gap']:.1e}  {row['binding']} capacities bind"
        f"  {row['fractional']} split before repair"
    )
    print(line)
    if "highs" in row:
        other = row["highs"]
        ratio = other["cpu_s"] / row["cpu_s"]
        done = "solved" if other["solved"] else "stopped unsolved"
        print(
            f"{'':13}HiGHS, the same linear program:"
            f" {other['cpu_s']:.1f} s ({done}), ratio {ratio:.0f}"
        )


if __name__ == "__main__":
    main()
