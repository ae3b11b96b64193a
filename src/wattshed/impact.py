"""Carbon, water and cost of an energy at a site: arithmetic on records, after they are made."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from wattshed.errors import ParameterError
from wattshed.records import Boundary, Factor, Impact, Signal, Site
from wattshed.series import Array, overlap, when
from wattshed.units import JOULES_PER_KWH


def impact_of(
    energy_j_by_bin: ArrayLike,
    edges_s: ArrayLike,
    site: Site,
    *,
    boundary: Boundary = "accelerator",
) -> Impact:
    """Carbon, water and cost of an energy over time.

    Water is E_IT (WUE + PUE x EWIF), after Li, Yang, Islam and Ren, Making AI Less Thirsty
    (Communications of the ACM 2025).

    Parameters
    ----------
    energy_j_by_bin : array (B,)
        J in each bin of time, spread evenly over it.
    edges_s : array (B + 1,)
        Of the bins, rising; 0 is where the simulation begins.
    site : Site
    boundary : {"accelerator", "host", "wall"}
        Of the energy. What `wall` covers holds the losses of the building already.

    Raises
    ------
    ParameterError
        If the arrays do not fit, the carbon signal does not cover the bins or is missing where
        there is energy, or a PUE would be counted twice.
    """
    energy_j, edges = _checked(energy_j_by_bin, edges_s)
    if boundary == "wall" and site.pue != 1:
        raise ParameterError(
            f"sites.{site.name}.pue", f"{site.pue:g} for energy at the wall", "leave pue out"
        )
    it_j = float(energy_j.sum())
    it_kwh = it_j / JOULES_PER_KWH
    carbon = _carbon_factor(energy_j, edges, site)
    on_site = _times(site.water_l_per_kwh, it_kwh)
    at_source = _times(site.water_source_l_per_kwh, it_kwh * site.pue)
    return Impact(
        it_j,
        it_j * site.pue,
        boundary,
        _times(carbon.value if it_j else 0.0, it_kwh * site.pue) if carbon else None,
        on_site,
        at_source,
        None if on_site is None or at_source is None else on_site + at_source,
        _times(site.price_per_kwh, it_kwh * site.pue),
        site.currency,
        _factors(site, carbon),
    )


def _times(factor: float | None, energy_kwh: float) -> float | None:
    return None if factor is None else factor * energy_kwh


def _carbon_factor(energy_j: Array, edges_s: Array, site: Site) -> Factor | None:
    if site.carbon_signal is not None:
        return _signal_factor(energy_j, edges_s, site, site.carbon_signal)
    return _by_hand(site, "carbon_g_per_kwh")


def _signal_factor(energy_j: Array, edges_s: Array, site: Site, signal: Signal) -> Factor:
    """Mean intensity over the energy, exact for values that hold for a window."""
    windows = np.array(signal.edges_s)
    offset = site.signal_offset_s
    shifted = edges_s + (float(windows[0]) if offset is None else offset)
    where = f"sites.{site.name}.carbon_signal"
    _check_covered(where, shifted, signal)
    inside, window, part = overlap(shifted, windows)
    piece_j, intensity = energy_j[inside] * part, np.array(signal.g_per_kwh, float)[window]
    drawn = piece_j > 0
    _check_known(where, windows[window[drawn]], intensity[drawn], signal)
    total_j = float(piece_j.sum())
    known = intensity[~np.isnan(intensity)]
    mean = float(known.mean()) if len(known) else 0.0
    if total_j > 0:
        mean = float(piece_j[drawn] @ intensity[drawn]) / total_j
    bridged = len(np.intersect1d(window[drawn], signal.bridged))
    note = f", {bridged} of its windows bridged" if bridged else ""
    began = when(float(shifted[0]), signal.origin)
    source = f"{signal.name} from {began}, average intensity{note}: {signal.provenance.source}"
    return Factor("carbon_signal", mean, signal.provenance.kind, source)


def _check_covered(where: str, edges_s: Array, signal: Signal) -> None:
    first, last = float(edges_s[0]), float(edges_s[-1])
    if first < signal.edges_s[0]:
        signal_first = when(signal.edges_s[0], signal.origin)
        found = f"begins at {signal_first}, the energy at {when(first, signal.origin)}"
        raise ParameterError(where, found, "begin later: signal_start or signal_offset_s")
    if last > signal.edges_s[-1]:
        signal_last = when(signal.edges_s[-1], signal.origin)
        found = f"ends at {signal_last}, the energy at {when(last, signal.origin)}"
        raise ParameterError(where, found, "begin earlier, or give a longer signal")


def _check_known(where: str, begins_s: Array, intensity: Array, signal: Signal) -> None:
    missing = np.isnan(intensity)
    if missing.any():
        begins = when(float(begins_s[np.argmax(missing)]), signal.origin)
        raise ParameterError(
            where, f"{signal.name} has no value at {begins}", "begin elsewhere, or fill it in"
        )


def _factors(site: Site, carbon: Factor | None) -> tuple[Factor, ...]:
    keys = ("pue", "water_l_per_kwh", "water_source_l_per_kwh", "price_per_kwh")
    candidates = (carbon, *(_by_hand(site, key) for key in keys))
    return tuple(factor for factor in candidates if factor is not None)


def _by_hand(site: Site, key: str) -> Factor | None:
    value = getattr(site, key)
    where = f"{site.source}: sites.{site.name}.{key}".removeprefix(": ")
    return None if value is None else Factor(key, value, "modelled", where)


def _checked(energy_j_by_bin: ArrayLike, edges_s: ArrayLike) -> tuple[Array, Array]:
    energy = np.atleast_1d(np.asarray(energy_j_by_bin, float))
    edges = np.asarray(edges_s, float)
    if energy.ndim != 1 or edges.shape != (len(energy) + 1,) or not len(energy):
        raise ParameterError(
            "edges_s", f"shape {edges.shape} for {energy.shape}", "give one more than bins"
        )
    if not np.isfinite(edges).all() or (np.diff(edges) <= 0).any():
        raise ParameterError("edges_s", "not rising", "give finite times, each after the other")
    if not ((energy >= 0) & (energy < np.inf)).all():
        raise ParameterError("energy_j_by_bin", "below 0 or not finite", "give joules from 0 on")
    return energy, edges
