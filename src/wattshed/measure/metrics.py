"""Metrics of energy and power that exporters are known to offer, and rules for others.

Kepler's names are those before version 0.10 (a metric per component), and since (one with zones).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import get_args

from wattshed.errors import ParameterError
from wattshed.records.common import Kind
from wattshed.records.measure import Scope
from wattshed.units import (
    JOULES_PER_KWH,
    JOULES_PER_MICROJOULE,
    JOULES_PER_MILLIJOULE,
    SECONDS_PER_HOUR,
    WATTS_PER_KW,
)

Labels = Mapping[str, str]

ENERGY_UNITS = {
    "J": 1.0,
    "mJ": JOULES_PER_MILLIJOULE,
    "uJ": JOULES_PER_MICROJOULE,
    "Wh": SECONDS_PER_HOUR,
    "kWh": JOULES_PER_KWH,
}
POWER_UNITS = {"W": 1.0, "mW": 1e-3, "uW": 1e-6, "kW": WATTS_PER_KW}

DCGM_BLANK = 2.0**47
"""From here on DCGM means "no value"; integers are blank from 2^63 - 16 on."""

KEPLER_INFO = "kepler_node_info"
"""Its labels tell whether Kepler reads counters or estimates."""

SIMULATED = "wattshed_simulated_energy_joules_total"

UUIDS = ("UUID", "gpu_uuid", "uuid")


@dataclass(frozen=True)
class Rule:
    """How a metric is read.

    Attributes
    ----------
    metric : str
    scope : Scope
    unit : str
        One of `ENERGY_UNITS` or `POWER_UNITS`.
    component : callable
        What a sample with these labels is of; None if the rule is not for it.
    repeats : bool
        Samples of a component repeat one value; otherwise they are its parts.
    blank : float
        Values from here on mean that there is none.
    whole : bool
        It covers all other components of the page, too.
    provenance : Kind
    averaging_s : float
    source_label : str
        Label of `KEPLER_INFO` that tells where its values come from.
    limit_w : float or None
        As of `MeterInfo`.
    """

    metric: str
    scope: Scope
    unit: str
    component: Callable[[Labels], str | None]
    repeats: bool = False
    blank: float = math.inf
    whole: bool = False
    provenance: Kind = "measured"
    averaging_s: float = 0.0
    source_label: str = ""
    limit_w: float | None = None

    @property
    def is_energy(self) -> bool:
        """Whether it counts energy; otherwise it says power."""
        return self.unit in ENERGY_UNITS

    @property
    def factor(self) -> float:
        """To J or W."""
        return ENERGY_UNITS[self.unit] if self.is_energy else POWER_UNITS[self.unit]


def uuid_of(labels: Labels) -> str | None:
    """UUID of a GPU, under any of the names that exporters give it."""
    return next((labels[name] for name in UUIDS if labels.get(name)), None)


def gpu(labels: Labels) -> str:
    """A GPU by its UUID, or its index if there is none."""
    return uuid_of(labels) or f"gpu-{labels.get('gpu') or labels.get('index') or '0'}"


def numbered(name: str) -> Callable[[Labels], str]:
    """A component of the package that a label names."""
    return lambda labels: f"{name}-{labels.get('package') or '0'}"


def zone(name: str) -> Callable[[Labels], str | None]:
    """A component by Kepler's zone, which may be the sum over packages, the first among them."""

    def component(labels: Labels) -> str | None:
        found = re.fullmatch(rf"{name}(?:-(\d+))?", labels.get("zone", ""))
        return None if found is None else f"{name}-{found[1] or '0'}"

    return component


def the(name: str) -> Callable[[Labels], str]:
    """The only component of its kind."""
    return lambda _: name


def simulated(labels: Labels) -> str:
    """A simulated engine."""
    return f"simulated-{labels.get('engine') or '0'}"


def _kepler(
    metric: str, scope: Scope, component: Callable[[Labels], str | None], whole: bool = False
) -> Rule:
    sources = {"gpu": "", "node": "platform_power_source"}  # it reads GPUs, or leaves them out
    source = sources.get(scope, "components_power_source")
    return Rule(f"kepler_node_{metric}", scope, "J", component, whole=whole, source_label=source)


def _macmon(metric: str, scope: Scope, name: str) -> Rule:
    # macmon averages over its interval, 1 s unless told. Only the system's power is a sensor's: the
    # others come from IOReport, which is believed to estimate.
    kind: Kind = "measured" if scope == "node" else "modelled"
    return Rule(
        f"macmon_{metric}_power_watts",
        scope,
        "W",
        the(f"apple-{name}"),
        whole=scope == "node",
        provenance=kind,
        averaging_s=1.0,
    )


RULES = (
    Rule("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "gpu", "mJ", gpu, repeats=True, blank=DCGM_BLANK),
    # NVML averages over 1 s on Ampere and later, except GA100 (A100, A30).
    Rule(
        "DCGM_FI_DEV_POWER_USAGE", "gpu", "W", gpu, repeats=True, blank=DCGM_BLANK, averaging_s=1.0
    ),
    _kepler("gpu_joules_total", "gpu", gpu),
    _kepler("package_joules_total", "cpu_package", numbered("package")),
    _kepler("dram_joules_total", "dram", numbered("dram")),
    _kepler("platform_joules_total", "node", the("platform"), whole=True),
    _kepler("cpu_joules_total", "cpu_package", zone("package")),
    _kepler("cpu_joules_total", "dram", zone("dram")),
    _kepler("cpu_joules_total", "soc", zone("psys"), whole=True),
    # Of the engines of wattshed serve --demo: some accelerators as one, at any speed.
    Rule(SIMULATED, "gpu", "J", simulated, provenance="modelled", limit_w=1e9),
    _macmon("cpu", "cpu_package", "cpu"),
    _macmon("gpu", "gpu", "gpu"),
    _macmon("ram", "dram", "dram"),
    _macmon("ane", "soc", "ane"),
    _macmon("sys", "node", "system"),
)

OPTIONS = ("metric", "scope", "unit")


def rule_of(options: Mapping[str, str]) -> Rule:
    """Rule for ``?metric=NAME&scope=SCOPE&unit=UNIT``: each set of labels is a component.

    Raises
    ------
    ParameterError
    """
    for option, known in (
        ("metric", None),
        ("scope", get_args(Scope)),
        ("unit", (*ENERGY_UNITS, *POWER_UNITS)),
    ):
        value = options.get(option, "")
        if not value or (known is not None and value not in known):
            choice = "the name of a metric" if known is None else f"one of {', '.join(known)}"
            raise ParameterError(f"prometheus: {option}", f"is {value!r}", f"give {choice}")
    metric, scope = options["metric"], next(s for s in get_args(Scope) if s == options["scope"])

    def component(labels: Labels) -> str:
        return f"{metric}{{{','.join(f'{name}={labels[name]}' for name in sorted(labels))}}}"

    return Rule(metric, scope, options["unit"], component)
