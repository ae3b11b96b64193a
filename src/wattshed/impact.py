"""Carbon, water and cost of an energy at a site: arithmetic on records, after they are made."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from wattshed.errors import ParameterError
from wattshed.records import Boundary, Kind
from wattshed.series import Array, overlap
from wattshed.signals import Signal
from wattshed.sites import Site
from wattshed.units import JOULES_PER_KWH


class Factor(msgspec.Struct, frozen=True):
    """What an energy was multiplied by.

    Attributes
    ----------
    name : str
        As the key of the site.
    value : float
        Of a carbon signal its mean over the energy; nan if there was no energy.
    kind : Kind
        "modelled" for a number that was written by hand.
    source : str
    """

    name: str
    value: float
    kind: Kind
    source: str


class Impact(msgspec.Struct, frozen=True):
    """What an energy causes; None where the site does not say.

    Attributes
    ----------
    energy_it_j : float
        Of the IT equipment, as given.
    energy_facility_j : float
        Of the building: energy_it_j x PUE.
    boundary : {"accelerator", "host", "wall"}
        Of `energy_it_j`.
    carbon_g : float or None
        Of the facility's energy, g CO2e by average intensity.
    water_site_l, water_source_l, water_l : float or None
        On site, E_IT x WUE; where the electricity is made, E_IT x PUE x EWIF; both together.
    cost : float or None
        Of the facility's energy, in `currency`.
    currency : str or None
    factors : tuple of Factor
        Behind each figure; the figures are derived.
    """

    energy_it_j: float
    energy_facility_j: float
    boundary: Boundary
    carbon_g: float | None
    water_site_l: float | None
    water_source_l: float | None
    water_l: float | None
    cost: float | None
    currency: str | None
    factors: tuple[Factor, ...]


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
    windows = signal.series.edges_s
    offset = site.signal_offset_s
    shifted = edges_s + (float(windows[0]) if offset is None else offset)
    where = f"sites.{site.name}.carbon_signal"
    _check_covered(where, shifted, signal)
    inside, window, part = overlap(shifted, windows)
    piece_j, intensity = energy_j[inside] * part, signal.series.value[window]
    drawn = piece_j > 0
    _check_known(where, windows[window[drawn]], intensity[drawn], signal)
    total_j = float(piece_j.sum())
    mean = float(piece_j[drawn] @ intensity[drawn]) / total_j if total_j else np.nan
    bridged = int(signal.bridged[np.unique(window[drawn])].sum())
    note = f", {bridged} of its windows bridged" if bridged else ""
    began = signal.series.when(float(shifted[0]))
    source = f"{signal.name} from {began}, average intensity{note}: {signal.provenance.source}"
    return Factor("carbon_signal", mean, signal.provenance.kind, source)


def _check_covered(where: str, edges_s: Array, signal: Signal) -> None:
    windows, when = signal.series.edges_s, signal.series.when
    first, last = float(edges_s[0]), float(edges_s[-1])
    if first < windows[0]:
        found = f"begins at {when(float(windows[0]))}, the energy at {when(first)}"
        raise ParameterError(where, found, "begin later: signal_start or signal_offset_s")
    if last > windows[-1]:
        found = f"ends at {when(float(windows[-1]))}, the energy at {when(last)}"
        raise ParameterError(where, found, "begin earlier, or give a longer signal")


def _check_known(where: str, begins_s: Array, intensity: Array, signal: Signal) -> None:
    missing = np.isnan(intensity)
    if missing.any():
        begins = signal.series.when(float(begins_s[np.argmax(missing)]))
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
