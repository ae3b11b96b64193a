"""Stands in for the library `zeus_apple_silicon` 1.1: its two classes and their fields.

A test sets `METRICS` (fields that it leaves out are None), and `FAILURE` to have it raise.
"""

from __future__ import annotations

METRICS: dict[str, int] = {}
FAILURE: str | None = None
CALLS: list[str] = []


class AppleEnergyMetrics:
    def __init__(self) -> None:
        for field in (
            "cpu_total_mj",
            "efficiency_cores_mj",
            "performance_cores_mj",
            "efficiency_cluster_mj",
            "performance_cluster_mj",
            "efficiency_core_manager_mj",
            "performance_core_manager_mj",
            "dram_mj",
            "gpu_mj",
            "gpu_sram_mj",
            "ane_mj",
        ):
            setattr(self, field, METRICS.get(field))


class AppleEnergyMonitor:
    def __init__(self) -> None:
        _fail()

    def get_cumulative_energy(self) -> AppleEnergyMetrics:
        CALLS.append("get_cumulative_energy")
        _fail()
        return AppleEnergyMetrics()


def _fail() -> None:
    if FAILURE is not None:
        raise RuntimeError(FAILURE)
