"""Plan a workload of 100 million queries, and show the time and memory that it takes.

The queries are Alpaca's, each length multiplied by log-normal noise, so that there are many more
distinct ones than in the built-in workload. They are written and planned by processes of their
own: this one stays small, because a child's peak memory includes what its parent held.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

TARGET_BYTES = 2_000_000_000
ROW_GROUP = 1_000_000
JITTER = 0.2
SEED = 0


def generate(path: Path, rows: int) -> None:
    """Write the workload, one row group at a time."""
    import polars as pl
    from polars.io.plugins import register_io_source

    def source(
        columns: list[str] | None, predicate: pl.Expr | None, limit: int | None, batch: int | None
    ) -> Iterator[pl.DataFrame]:
        del columns, predicate, limit, batch
        return row_groups(rows)

    schema = {"input_tokens": pl.Int32, "output_tokens": pl.Int32}
    register_io_source(source, schema=schema).sink_parquet(path, row_group_size=ROW_GROUP)


def row_groups(rows: int) -> Iterator["pl.DataFrame"]:
    import numpy as np
    import polars as pl

    from wattshed import read_workload

    queries = read_workload("alpaca").distinct()
    part = np.cumsum(queries.count) / queries.count.sum()
    rng = np.random.default_rng(SEED)
    for start in range(0, rows, ROW_GROUP):
        size = min(ROW_GROUP, rows - start)
        drawn = np.searchsorted(part, rng.random(size), side="right")
        noise = rng.lognormal(0, JITTER, (2, size))
        lengths = np.stack([queries.m[drawn], queries.n[drawn]]) * noise
        m, n = np.maximum(1, np.rint(lengths)).astype(np.int32)
        yield pl.DataFrame({"input_tokens": m, "output_tokens": n})


def run(command: list[str]) -> tuple[float, int]:
    """Wall time in s and peak memory in bytes of a command that must succeed."""
    start = time.perf_counter()
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    wall_s = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
    return wall_s, peak_bytes(usage)


def peak_bytes(usage: resource.struct_rusage) -> int:
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=lambda text: int(float(text)), default=100_000_000)
    parser.add_argument("--write", type=Path, help="only write the workload to this file")
    options = parser.parse_args()
    if options.write:
        generate(options.write, options.rows)
        return 0
    with tempfile.TemporaryDirectory(prefix="wattshed-bench-") as scratch:
        path = Path(scratch) / "workload.parquet"
        rows = str(options.rows)
        written = run([sys.executable, __file__, "--rows", rows, "--write", str(path)])
        size = path.stat().st_size
        command = [sys.executable, "-m", "wattshed", "plan", "--workload", str(path), "--json"]
        planned = run(command)
    print(f"{options.rows} queries, {size / 1e6:.0f} MB of Parquet, {os.cpu_count()} CPUs")
    for what, (wall_s, peak) in (("write", written), ("plan", planned)):
        print(f"{what:<6}{wall_s:8.1f} s{peak / 1e6:8.0f} MB at most")
    met = planned[1] <= TARGET_BYTES
    print(f"target {TARGET_BYTES / 1e6:.0f} MB: {'met' if met else 'missed'}")
    return int(not met)


if __name__ == "__main__":
    sys.exit(main())
