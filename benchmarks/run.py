"""Time the installed `wattshed` command against the times it promises.

Every figure is the wall time of a whole process, as a user waits for it. The first run of the demo
starts with empty caches; the second one repeats it in the same place.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

WATTSHED = str(Path(sys.executable).with_name("wattshed"))
IMPORT_S = "import time; t = time.perf_counter(); import wattshed; print(time.perf_counter() - t)"


@dataclass(frozen=True, slots=True)
class Timing:
    name: str
    wall_s: float
    target_s: float | None
    runs: int
    error: str | None = None

    @property
    def verdict(self) -> str:
        if self.error is not None:
            return "failed"
        if self.target_s is None:
            return "-"
        return "met" if self.wall_s <= self.target_s else "missed"


def timings(scratch: Path) -> Iterator[Timing]:
    empty_caches = {
        **os.environ,
        "MPLCONFIGDIR": str(scratch / "matplotlib"),
        "XDG_CACHE_HOME": str(scratch / "cache"),
        "NUMBA_CACHE_DIR": str(scratch / "numba"),
    }
    demo = [WATTSHED, "demo", "-o", str(scratch / "demo")]
    yield process("wattshed --help", [WATTSHED, "--help"], target_s=0.3, runs=7)
    yield import_time(runs=7)
    yield process("fit all built-in profiles", [WATTSHED, "fit", "--json"], target_s=10.0)
    yield process("demo, first run", demo, target_s=60.0, env=empty_caches)
    yield process("demo, second run", demo, target_s=15.0, env=empty_caches)
    yield process("plan on the built-in fleet", [WATTSHED, "plan", "--json"])


def process(
    name: str,
    command: list[str],
    *,
    target_s: float | None = None,
    runs: int = 1,
    env: dict[str, str] | None = None,
) -> Timing:
    """Time a command (median of `runs`); one that fails is reported with its last line."""
    walls = []
    for _ in range(runs):
        start = time.perf_counter()
        done = subprocess.run(
            command, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        walls.append(time.perf_counter() - start)
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
            return Timing(name, walls[-1], target_s, 1, f"exit {done.returncode}: {said[-1]}")
    return Timing(name, statistics.median(walls), target_s, runs)


def import_time(runs: int) -> Timing:
    """Time `import wattshed` inside a fresh interpreter, whose own start is not counted."""
    command = [sys.executable, "-c", IMPORT_S]
    printed = [subprocess.run(command, capture_output=True, check=True).stdout for _ in range(runs)]
    return Timing("import wattshed", statistics.median(map(float, printed)), None, runs)


def envelope(rows: list[Timing]) -> dict[str, object]:
    machine = {
        "wattshed": version("wattshed"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
    }
    return {
        "schema": "wattshed.benchmarks/1",
        "inputs": machine,
        "results": {"timings": [{**asdict(row), "verdict": row.verdict} for row in rows]},
        "provenance": [
            {"kind": "measured", "method": "wall time of whole processes; median of runs"}
        ],
    }


def table(rows: list[Timing]) -> Iterator[str]:
    yield f"{'what':<28}{'wall s':>9}{'target s':>10}{'runs':>6}  verdict"
    for row in rows:
        target = "-" if row.target_s is None else f"{row.target_s:g}"
        note = "" if row.error is None else f" ({row.error})"
        yield f"{row.name:<28}{row.wall_s:>9.3f}{target:>10}{row.runs:>6}  {row.verdict}{note}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object instead of a table"
    )
    as_json = parser.parse_args().json
    with tempfile.TemporaryDirectory(prefix="wattshed-bench-") as scratch:
        rows = list(timings(Path(scratch)))
    print(json.dumps(envelope(rows), indent=2) if as_json else "\n".join(table(rows)))
    return int(any(row.error is not None for row in rows))


if __name__ == "__main__":
    sys.exit(main())
