"""Ratios of highest throughputs under every reading of "highest throughput within the SLO"."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from wattshed.engines.model import Array
from wattshed.reproduce.greener_figures import estimate
from wattshed.reproduce.greener_load import FULL, MAIN, READINGS, STATIC, TEXTS, Bench, full_batches
from wattshed.reproduce.greener_settings import (
    BATCHES,
    DEGREES,
    HALF_MHZ,
    TYPES,
    Assumed,
    Setting,
    by_degree,
)
from wattshed.reproduce.study import Result

BY_TYPE = (MAIN, FULL, STATIC)
CHANCE = tuple(name for name, reading in READINGS.items() if not reading.even)
"""Readings with random arrivals; the others have no interval."""


def simulate_readings(bench: Bench) -> Result:
    """Ratios by claim and reading, each `{value, low, high}`.

    C7 holds throughputs by type instead of ratios; C12 and C13 of the types are apart, under
    ``C12_by_type`` and ``C13_by_type``.
    """
    batches = {b: Setting(max_batch=b) for b in BATCHES}
    degrees = {d: by_degree(d) for d in DEGREES}
    return {
        "C1": ratios(bench, Setting("SS", clock_mhz=HALF_MHZ), Setting("SS")),
        "C7": {reading: _by_type(bench, reading) for reading in TEXTS},
        "C12": ratios(bench, degrees[4], degrees[2]),
        "C13": ratios(bench, degrees[8], degrees[4]),
        "C18": ratios(bench, batches[64], batches[4]),
        "C19": {f"{b}/{a}": ratios(bench, batches[b], batches[a]) for a, b in pairwise(BATCHES)},
        "C12_by_type": _ratios_by_type(bench, 4, 2),
        "C13_by_type": _ratios_by_type(bench, 8, 4),
    }


def ratios(bench: Bench, above: Setting, below: Setting) -> Result:
    """Ratio of the highest throughputs of two settings by reading."""
    return {reading: _ratio(bench, above, below, reading) for reading in TEXTS}


def _ratio(bench: Bench, above: Setting, below: Setting, reading: str) -> Result:
    return _known(bench.maximum(above, reading) / bench.maximum(below, reading), reading)


def _known(values: Array, reading: str) -> Result:
    """Estimate, without an interval where chance has no part."""
    return estimate(values if reading in CHANCE else values[:1])


def _by_type(bench: Bench, reading: str) -> Result:
    return {kind: _known(bench.maximum(Setting(kind), reading), reading) for kind in TYPES}


def _ratios_by_type(bench: Bench, above: int, below: int) -> Result:
    return {
        reading: {
            kind: _ratio(bench, by_degree(above, kind), by_degree(below, kind), reading)
            for kind in TYPES
        }
        for reading in BY_TYPE
    }


def slo_of_full_batches() -> Result:
    """What part of TTFT and TBT keeps the SLO when batches are always full, by batch."""
    found = {}
    for setting in (
        *(Setting(max_batch=b) for b in BATCHES),
        *(by_degree(d) for d in DEGREES[:-1]),
    ):
        rate, ttft, tbt = full_batches(setting)
        found[f"TP{setting.degree}, {setting.max_batch}"] = {
            "throughput_per_s": rate,
            "ttft_within": ttft,
            "tbt_within": tbt,
        }
    return found


def energy_exponents(bench: Bench, assumed: Assumed, target: float = 0.8) -> Result:
    """From which exponent of the dynamic energy on 1.6 GHz needs less than a part of the energy.

    Times do not depend on the exponent, and energy is A + B φ^γ in it, so two simulations at each
    clock give it exactly. Null where even no dynamic energy at all would not do.

    Returns
    -------
    dict
        By batch.
    """
    return {
        str(b): _exponent(bench, Setting(max_batch=b, assumed=assumed), target) for b in BATCHES
    }


def _exponent(bench: Bench, setting: Setting, target: float, clock_mhz: int = 1600) -> float | None:
    slow = replace(setting, clock_mhz=clock_mhz)
    phi = clock_mhz / setting.clock_mhz
    full, two, three = (_energy(bench, *at) for at in ((setting, 2.0), (slow, 2.0), (slow, 3.0)))
    dynamic = (two - three) / (phi**2 - phi**3)
    room = target * full - (two - dynamic * phi**2)
    return float(np.log(room / dynamic) / np.log(phi)) if room > 0 else None


def _energy(bench: Bench, setting: Setting, exponent: float) -> float:
    """Mean energy of a request at medium load."""
    assumed = replace(setting.assumed, dynamic_exponent=exponent)
    found = bench.at(replace(setting, assumed=assumed), bench.medium(setting))
    return float(found.energy_j.mean())
