"""Time `wattshed.simulate_requests` against its targets.

    python benchmarks/simulate.py [--large] [--json]

Each row is a process of its own: start-up, reading the built-in workload, drawing requests,
simulating, writing one row per request as Parquet. *Process* is its CPU time from start to end,
*kernel* that of `simulate_requests` alone, once its compiled code is loaded; the two are never
mixed in one ratio. Compiled code is cached before the clock starts. Poisson arrivals, lengths
drawn from azure-conv-2023.

The replica is Llama-3.3-70B on four H100: time and energy of a step by batch are published
measurements, time per prompt token those of Llama-2-70B on the same GPUs; what a context token
takes is derived from the KV cache's size and the memory's speed, and the energy per prompt
token is made up. This is about speed only.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SIZES = [(10_000, 20.0, 4), (100_000, 200.0, 40), (1_000_000, 5_000.0, 1_000)]
POLICIES = ("round-robin", "least-outstanding", "power-of-two", "ranked", "frugal")
"""``ranked`` is what ``prices`` is compiled to; ``frugal`` weighs each replica for each request."""
TARGET_CPU_S = {10_000: 1.5, 100_000: 2.7, 1_000_000: 10.0}
TARGET_FRUGAL_S = {1_000_000: 60.0}
TARGET_MEMORY_B = {1_000_000: 1e9}
GROWTH = [(10_000, 200.0, 40), (100_000, 200.0, 40), (1_000_000, 200.0, 40)]
LARGE = (10_000_000, 200.0, 40)


def one(queries: int, rate: float, replicas: int, policy: str) -> dict[str, Any]:
    """Run one simulation in this process, and tell what it took."""
    import numpy as np
    import polars as pl

    from wattshed.engines.model import BatchingDeployment, affine_steps
    from wattshed.simulate.arrivals import draw_requests
    from wattshed.simulate.engine import simulate_requests
    from wattshed.simulate.model import Requests
    from wattshed.simulate.policies import Promises
    from wattshed.simulate.result import Simulation
    from wattshed.workload.table import read_workload

    fleet = [
        BatchingDeployment(
            f"llama-3.3-70b/h100x4-{part}",
            replicas // 2,
            affine_steps(256, 16.1e-3, 0.137e-3, 2.6e-8, 0.106e-3),
            affine_steps(256, 27.8, 0.381, 3e-5, 0.25),
            chunk_tokens=2048,
            kv_tokens=400_000,
            idle_power_w=480.0,
        )
        for part in ("a", "b")
    ]
    workload = read_workload("azure-conv-2023")

    def simulate(requests: Requests, gaps: bool = True) -> Simulation:
        count = len(requests)
        # What `prices` weighs: here an even split, by the parity of the output tokens.
        odd = requests.output_tokens % 2
        cost = np.stack([odd, 1 - odd], axis=1).astype(float)
        return simulate_requests(
            fleet,
            requests,
            policy=policy,
            cost=cost if policy == "ranked" else None,
            promises=Promises(*np.tile([[1.0], [0.1], [211.0], [500.0]], count)),
            gaps=gaps,
        )

    requests = draw_requests(workload, queries, rate)
    simulate(draw_requests(workload, 1, 1.0))  # load the kernel
    start = time.process_time()
    found = simulate(requests, queries <= 1_000_000)
    kernel_s = time.process_time() - start
    records = pl.DataFrame(
        {
            "arrival_s": requests.arrival_s,
            "replica": found.replica,
            "ttft_s": found.ttft_s,
            "e2e_s": found.e2e_s,
            "longest_gap_s": found.longest_gap_s,
            "energy_j": found.request_energy_j,
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        records.write_parquet(Path(folder) / "served.parquet")
    return {
        "queries": queries,
        "rate_per_s": rate,
        "replicas": replicas,
        "policy": policy,
        "kernel_cpu_s": kernel_s,
        "process_cpu_s": time.process_time(),
        "peak_memory_b": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "imbalance": found.imbalance,
        "rejected": found.rejected,
        "preemptions": int(found.preemptions.sum()),
        "busy": float(1 - found.time_s[:, 0].sum() / found.time_s.sum()),
        "mean_ttft_s": float(found.ttft_s.mean()),
        "p99_gap_s": found.gaps.quantile_s(0.99) if found.gaps else None,
    }


def in_a_process(queries: int, rate: float, replicas: int, policy: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", json.dumps([queries, rate, replicas, policy])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    row: dict[str, Any] = json.loads(done.stdout)
    return row


def show(row: dict[str, Any]) -> None:
    targets = TARGET_FRUGAL_S if row["policy"] == "frugal" else TARGET_CPU_S
    target, memory = targets.get(row["queries"]), TARGET_MEMORY_B.get(row["queries"])
    print(
        f"{row['queries']:>10,} @{row['rate_per_s']:>5,.0f}/s x {row['replicas']:>5,}"
        f"  {row['policy']:18}"
        f" kernel {row['kernel_cpu_s']:6.2f} s {row['queries'] / row['kernel_cpu_s']:>10,.0f}/s"
        f"  process {row['process_cpu_s']:6.2f} s"
        f"{f' (target {target:g})' if target else '':14}"
        f" {row['queries'] / row['process_cpu_s']:>9,.0f}/s"
        f"  {row['peak_memory_b'] / 1e9:5.2f} GB{f' (target {memory / 1e9:g})' if memory else ''}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--large", action="store_true", help="also 10 million requests")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(*options.one)))
        return
    in_a_process(100, 20.0, 4, "round-robin")  # compile
    cases = [(*size, policy) for size in SIZES for policy in POLICIES]
    cases += [
        (*size, "least-outstanding") for size in [*GROWTH, *([LARGE] if options.large else [])]
    ]
    rows = []
    for case in cases:
        rows.append(in_a_process(*case))
        if not options.json:
            show(rows[-1])
    if options.json:
        print(json.dumps({"results": rows}))


if __name__ == "__main__":
    main()
