"""Places, what their electricity causes, and what an energy caused there."""

from __future__ import annotations

import math
from datetime import datetime

import msgspec

from wattshed.errors import ParameterError
from wattshed.records.common import Boundary, Kind, Provenance

FACTORS = (
    "carbon_g_per_kwh",
    "water_l_per_kwh",
    "water_source_l_per_kwh",
    "price_per_kwh",
)
"""Keys of a site that are factors of an energy, but the PUE."""


class Signal(msgspec.Struct, frozen=True):
    """Carbon intensity by window of time (W).

    Attributes
    ----------
    name : str
        As it was asked for.
    edges_s : tuple of float, length W + 1
        Rising.
    g_per_kwh : tuple of float or None, length W
        None where it is missing and not bridged.
    bridged : tuple of int
        Windows that were missing and lie on a straight line between their neighbours.
    origin : datetime or None
        What `edges_s` counts from, where the file has dates.
    provenance : Provenance
    content_hash : str
        SHA-256 of the file.
    """

    name: str
    edges_s: tuple[float, ...]
    g_per_kwh: tuple[float | None, ...]
    bridged: tuple[int, ...]
    origin: datetime | None
    provenance: Provenance
    content_hash: str


class Site(msgspec.Struct, frozen=True):
    """A place with its factors; None where one is not known.

    Attributes
    ----------
    name : str
    pue : float
        Energy of the building per energy of the IT equipment, at least 1.
    carbon_g_per_kwh : float or None
        Average carbon intensity of the electricity, where it is taken as constant.
    carbon_signal : Signal or None
        The same over time.
    signal_offset_s : float or None
        Time of the signal at which the simulation begins; the signal's own start if None.
    water_l_per_kwh : float or None
        Water used on site per kWh of IT energy (WUE).
    water_source_l_per_kwh : float or None
        Water used to make a kWh of electricity (EWIF).
    price_per_kwh : float or None
        In `currency`.
    currency : str or None
    source : str
        File that the figures come from.

    Raises
    ------
    ParameterError
        Naming the key, if a figure is out of range or two of them say the same.
    """

    name: str
    pue: float = 1.0
    carbon_g_per_kwh: float | None = None
    carbon_signal: Signal | None = None
    signal_offset_s: float | None = None
    water_l_per_kwh: float | None = None
    water_source_l_per_kwh: float | None = None
    price_per_kwh: float | None = None
    currency: str | None = None
    source: str = ""

    def __post_init__(self) -> None:
        """Refuse figures that cannot be."""
        if not 1 <= self.pue < math.inf:
            raise self._wrong("pue", f"{self.pue:g}", "give a number from 1 on")
        for key in FACTORS:
            value = getattr(self, key)
            if value is not None and not 0 <= value < math.inf:
                raise self._wrong(key, f"{value:g}", "give a finite number from 0 on")
        if self.carbon_g_per_kwh is not None and self.carbon_signal is not None:
            cure = "keep one of carbon_g_per_kwh and carbon_signal"
            raise self._wrong("carbon_signal", "beside carbon_g_per_kwh", cure)
        if self.signal_offset_s is not None and not math.isfinite(self.signal_offset_s):
            raise self._wrong("signal_offset_s", f"{self.signal_offset_s:g}", "give seconds")
        if self.price_per_kwh is not None and not self.currency:
            raise self._wrong("price_per_kwh", "no currency", 'add one, e.g. currency = "EUR"')

    def _wrong(self, key: str, found: str, cure: str) -> ParameterError:
        return ParameterError(f"sites.{self.name}.{key}", found, cure)


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
