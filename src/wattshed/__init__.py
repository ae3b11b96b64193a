"""Measure, model and plan the energy of LLM inference across different machines.

The whole public surface is listed in ``__all__``; each name is imported on first
use, so ``import wattshed`` stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from wattshed.errors import InfeasibleError, InputError, WattshedError
    from wattshed.fit.campaign import fit_profiles
    from wattshed.fleet import load_fleet
    from wattshed.plan.assign import Assignment, assign
    from wattshed.plan.pareto import find_pareto
    from wattshed.plan.planner import plan_workload
    from wattshed.profiles import load_profile, load_profiles, predict, save_profiles
    from wattshed.runs import read_runs
    from wattshed.simulate.engine import simulate_requests
    from wattshed.workload.table import read_workload

_HOME = {
    "Assignment": "wattshed.plan.assign",
    "InfeasibleError": "wattshed.errors",
    "InputError": "wattshed.errors",
    "WattshedError": "wattshed.errors",
    "assign": "wattshed.plan.assign",
    "find_pareto": "wattshed.plan.pareto",
    "fit_profiles": "wattshed.fit.campaign",
    "load_fleet": "wattshed.fleet",
    "load_profile": "wattshed.profiles",
    "load_profiles": "wattshed.profiles",
    "plan_workload": "wattshed.plan.planner",
    "predict": "wattshed.profiles",
    "read_runs": "wattshed.runs",
    "read_workload": "wattshed.workload.table",
    "save_profiles": "wattshed.profiles",
    "simulate_requests": "wattshed.simulate.engine",
}

__all__ = [
    "Assignment",
    "InfeasibleError",
    "InputError",
    "WattshedError",
    "assign",
    "find_pareto",
    "fit_profiles",
    "load_fleet",
    "load_profile",
    "load_profiles",
    "plan_workload",
    "predict",
    "read_runs",
    "read_workload",
    "save_profiles",
    "simulate_requests",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    message = f"module 'wattshed' has no attribute {name!r}"
    raise AttributeError(message)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
