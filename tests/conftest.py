"""Fixtures that several rooms share: profiles and workloads made up for a test."""

from __future__ import annotations

import asyncio
import json
import selectors
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import settings

from wattshed.fleet import Deployment, Fleet
from wattshed.records import Domain, Profile, Provenance, QueryModel
from wattshed.workload.table import Workload

# Speed is measured in benchmarks/, never asserted in a test.
settings.register_profile("wattshed", deadline=None)
settings.load_profile("wattshed")


@pytest.fixture
def make_profile() -> Callable[..., Profile]:
    """A `phase` profile from its per-pass floor and slope, with or without draws."""

    def build(name: str, energy: tuple[float, float], runtime: tuple[float, float]) -> Profile:
        def model(floor: float, slope: float) -> QueryModel:
            return QueryModel("phase", {"n": floor, "s1": slope, "s2": 0.0})

        return Profile(
            name=name,
            system=name,
            model="made-up",
            accelerator="made-up",
            n_accelerators=1,
            boundary="accelerator",
            kind="modelled",
            energy=model(*energy),
            runtime=model(*runtime),
            domain=Domain((1, 4096), (1, 4096)),
        )

    return build


@pytest.fixture
def make_fleet(make_profile: Callable[..., Profile]) -> Callable[..., Fleet]:
    """A fleet from (energy floor, slope, runtime floor, slope) by deployment name."""

    def build(costs: dict[str, tuple[float, float, float, float]], **settings: Any) -> Fleet:
        deployments = [
            Deployment(name, make_profile(name, (e0, e1), (r0, r1)), **settings.get(name, {}))
            for name, (e0, e1, r0, r1) in costs.items()
        ]
        return Fleet("made-up", deployments)

    return build


@pytest.fixture
def make_workload() -> Callable[..., Workload]:
    """A workload from token counts."""

    def build(m: list[int], n: list[int], count: list[int] | None = None) -> Workload:
        table = pl.DataFrame(
            {
                "input_tokens": np.array(m, np.int64),
                "output_tokens": np.array(n, np.int64),
                "count": np.array(count or [1] * len(m), np.int64),
            }
        )
        return Workload("made-up", table, Provenance("made-up", "", "", "", "modelled"), "")

    return build


@pytest.fixture
def wattshed(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the installed command in an empty folder."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "wattshed", *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture
def wattshed_json(
    wattshed: Callable[..., subprocess.CompletedProcess[str]],
) -> Callable[..., dict[str, Any]]:
    """Run the command with --json and read the one object it prints."""

    def run(*arguments: str) -> dict[str, Any]:
        done = wattshed(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return run


class NoWait(selectors.DefaultSelector):
    """Time passes at once when there is nothing else to do."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s
        super().__init__()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if not found and timeout:
            self.now_s += float(timeout)
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on a clock of its own."""

    def __init__(self, begins_s: float = 0.0) -> None:
        self.clock = NoWait(begins_s)
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.now_s


@pytest.fixture
def virtual_loop() -> Callable[..., asyncio.AbstractEventLoop]:
    """Makes event loops whose time passes at once."""
    return VirtualLoop
