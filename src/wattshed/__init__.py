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
    from wattshed.impact import impact_of
    from wattshed.iterations import (
        load_iteration_profile,
        load_iteration_profiles,
        save_iteration_profiles,
    )
    from wattshed.plan.assign import Assignment, assign
    from wattshed.plan.bound import energy_bound
    from wattshed.plan.files import load_plan
    from wattshed.plan.pareto import find_pareto
    from wattshed.plan.planner import plan_workload
    from wattshed.profiles import load_profile, load_profiles, predict, save_profiles
    from wattshed.route.registry import load_policy
    from wattshed.runs import read_runs
    from wattshed.serve.application import gateway
    from wattshed.simulate.engine import simulate_requests
    from wattshed.simulate.fleet import simulate_fleet
    from wattshed.simulate.scenario import Arrivals
    from wattshed.steps import modelled_parts, predict_steps, step_coefficients
    from wattshed.workload.rates import read_rates
    from wattshed.workload.table import read_workload

_HOME = {
    "Arrivals": "wattshed.simulate.scenario",
    "Assignment": "wattshed.plan.assign",
    "InfeasibleError": "wattshed.errors",
    "InputError": "wattshed.errors",
    "WattshedError": "wattshed.errors",
    "assign": "wattshed.plan.assign",
    "energy_bound": "wattshed.plan.bound",
    "find_pareto": "wattshed.plan.pareto",
    "fit_profiles": "wattshed.fit.campaign",
    "gateway": "wattshed.serve.application",
    "impact_of": "wattshed.impact",
    "load_fleet": "wattshed.fleet",
    "load_plan": "wattshed.plan.files",
    "load_policy": "wattshed.route.registry",
    "load_iteration_profile": "wattshed.iterations",
    "load_iteration_profiles": "wattshed.iterations",
    "load_profile": "wattshed.profiles",
    "load_profiles": "wattshed.profiles",
    "modelled_parts": "wattshed.steps",
    "plan_workload": "wattshed.plan.planner",
    "predict": "wattshed.profiles",
    "predict_steps": "wattshed.steps",
    "read_rates": "wattshed.workload.rates",
    "read_runs": "wattshed.runs",
    "read_workload": "wattshed.workload.table",
    "save_iteration_profiles": "wattshed.iterations",
    "save_profiles": "wattshed.profiles",
    "step_coefficients": "wattshed.steps",
    "simulate_fleet": "wattshed.simulate.fleet",
    "simulate_requests": "wattshed.simulate.engine",
}

__all__ = [
    "Arrivals",
    "Assignment",
    "InfeasibleError",
    "InputError",
    "WattshedError",
    "assign",
    "energy_bound",
    "find_pareto",
    "fit_profiles",
    "gateway",
    "impact_of",
    "load_fleet",
    "load_iteration_profile",
    "load_iteration_profiles",
    "load_plan",
    "load_policy",
    "load_profile",
    "load_profiles",
    "modelled_parts",
    "plan_workload",
    "predict",
    "predict_steps",
    "read_rates",
    "read_runs",
    "read_workload",
    "save_iteration_profiles",
    "save_profiles",
    "simulate_fleet",
    "simulate_requests",
    "step_coefficients",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    message = f"module 'wattshed' has no attribute {name!r}"
    raise AttributeError(message)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
