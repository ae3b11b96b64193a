"""Figures 1 to 15 of the study, simulated."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from wattshed.engines.model import Array
from wattshed.reproduce.greener_load import FULL, MEDIUM, Bench, Loads
from wattshed.reproduce.greener_settings import (
    AS_IN_PROFILE,
    BATCHES,
    CLOCKS_MHZ,
    DEGREES,
    HIGHEST_MHZ,
    TYPES,
    Assumed,
    Setting,
    by_degree,
)
from wattshed.reproduce.study import Result
from wattshed.simulate.pairing import interval_of

OWN_LOAD = "half of each setting's own highest throughput within the SLO"
SAME = "_same_load"
QUANTITIES = ("ttft_s", "tbt_s", "power_w", "energy_j")

TITLES = {
    "ttft_s": "mean time to the first token",
    "tbt_s": "mean time between tokens",
    "power_w": "mean power of the replica",
    "energy_j": "energy of a request, idling included",
    "throughput_per_s": "highest throughput within the SLO",
}


def estimate(values: Array) -> Result:
    """Mean over replications with its 95 % interval (Student); null with one replication."""
    mean = float(values.mean())
    if len(values) == 1:
        return {"value": mean, "low": None, "high": None}
    interval = interval_of(values)
    return {"value": mean, "low": interval.low, "high": interval.high}


def simulate_figures(bench: Bench, assumed: Assumed = AS_IN_PROFILE) -> Result:
    """All figures by name.

    Each is `{quantity, title, load, clock_mhz, reference, series: {NAME: {value, low, high,
    ratio}}}` with lists over the clocks; `ratio` is to the highest clock of the series named in
    `reference`. Latency, power and energy are those at the medium load of each setting.
    """
    kinds, degrees, batches = _settings(assumed)
    return (
        _at(bench, kinds, None, _numbered(1, 2, 4, 5), OWN_LOAD)
        | {"figure3": _maximum(bench, kinds)}
        | _at(bench, degrees, None, _numbered(6, 7, 9, 10), OWN_LOAD, "TP8")
        | {"figure8": _maximum(bench, degrees, "TP8")}
        | _at(bench, batches, None, _numbered(11, 12, 14, 15), OWN_LOAD, "64")
        | {"figure13": _maximum(bench, batches, "64")}
        | _low_loads(bench, batches)
    )


def _settings(
    assumed: Assumed,
) -> tuple[dict[str, Setting], dict[str, Setting], dict[str, Setting]]:
    """Series of the figures: workload types, degrees, batches."""
    return (
        {name: Setting(name, assumed=assumed) for name in TYPES},
        {f"TP{d}": replace(by_degree(d), assumed=assumed) for d in DEGREES},
        {f"{b}": Setting(max_batch=b, assumed=assumed) for b in BATCHES},
    )


def _numbered(*numbers: int, suffix: str = "") -> dict[str, str]:
    """Figures of latencies, then of power and energy, to their quantities."""
    return dict(zip((f"figure{n}{suffix}" for n in numbers), QUANTITIES, strict=False))


def _low_loads(bench: Bench, batches: dict[str, Setting]) -> Result:
    """Latency and energy by batch at one load for all of them, which even a batch of 4 serves."""
    most, full = bench.maximum(batches["4"]), bench.maximum(batches["4"], FULL)
    names = _numbered(11, 12, suffix="_low_load")
    return (
        _same(bench, batches, MEDIUM * most, _numbered(11, 12, suffix=SAME), "64")
        | _same(bench, batches, most / 10, names, "64", "a tenth of the same")
        | _same(
            bench,
            batches,
            full / 2,
            {"figure14_low_load": "power_w", "figure15_low_load": "energy_j"},
            "64",
            "half of what always full batches of 4 serve",
        )
    )


def at_the_same_loads(bench: Bench) -> Result:
    """Latency figures at one load for all clocks: another reading of "medium load"."""
    kinds, degrees, _ = _settings(AS_IN_PROFILE)
    each = {name: bench.medium(setting) for name, setting in kinds.items()}
    load = "half of the highest throughput within the SLO at the highest clock"
    return _at(bench, kinds, each, _numbered(1, 2, suffix=SAME), load) | _same(
        bench,
        degrees,
        bench.medium(degrees["TP2"]),
        _numbered(6, 7, suffix=SAME),
        "TP8",
        f"{load} and TP2",
    )


def _same(
    bench: Bench,
    settings: dict[str, Setting],
    rates: Array,
    names: dict[str, str],
    reference: str,
    load: str = "half of the highest throughput within the SLO of batch 4 at the highest clock",
) -> Result:
    return _at(bench, settings, dict.fromkeys(settings, rates), names, load, reference)


def _clocked(setting: Setting) -> Iterable[Setting]:
    return (replace(setting, clock_mhz=clock) for clock in CLOCKS_MHZ)


def _maximum(bench: Bench, settings: dict[str, Setting], reference: str | None = None) -> Result:
    """A figure of highest throughputs."""
    found = {
        name: [bench.maximum(clocked) for clocked in _clocked(setting)]
        for name, setting in settings.items()
    }
    return _figure("throughput_per_s", found, "at the SLO", reference)


def _at(
    bench: Bench,
    settings: dict[str, Setting],
    rates: dict[str, Array] | None,
    names: dict[str, str],
    load: str,
    reference: str | None = None,
) -> Result:
    """Figures of several quantities of the same simulations.

    Parameters
    ----------
    rates : dict or None
        Of each series, (S,); the medium load of each setting without it.
    names : dict
        Figure to quantity.
    """
    found = {
        name: [
            bench.at(clocked, bench.medium(clocked) if rates is None else rates[name])
            for clocked in _clocked(setting)
        ]
        for name, setting in settings.items()
    }
    return {
        figure: _figure(quantity, _picked(found, quantity), load, reference)
        for figure, quantity in names.items()
    }


def _picked(found: dict[str, list[Loads]], quantity: str) -> dict[str, list[Array]]:
    return {name: [getattr(loads, quantity) for loads in row] for name, row in found.items()}


def _figure(
    quantity: str, found: dict[str, list[Array]], load: str, reference: str | None
) -> Result:
    series = {name: _series(values, found[reference or name][-1]) for name, values in found.items()}
    return {
        "quantity": quantity,
        "title": TITLES[quantity],
        "load": load,
        "clock_mhz": list(CLOCKS_MHZ),
        "reference": f"{reference or 'each series'} at {HIGHEST_MHZ} MHz",
        "series": series,
    }


def _series(values: list[Array], reference: Array) -> Result:
    rows = [estimate(value) for value in values]
    columns = {key: [row[key] for row in rows] for key in ("value", "low", "high")}
    return {**columns, "ratio": [float((value / reference).mean()) for value in values]}
