"""Sites: what the electricity and water of a place cost, from fleet.toml."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec

from wattshed.errors import FleetError, InputError, ParameterError
from wattshed.records import Signal, Site
from wattshed.records.site import FACTORS
from wattshed.signals import read_signal


class SiteKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Keys of one ``[sites.NAME]`` table; see docs/reference/files.md."""

    pue: float = 1.0
    carbon_g_per_kwh: float | None = None
    carbon_signal: str | None = None
    signal_offset_s: float | None = None
    signal_start: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    water_l_per_kwh: float | None = None
    water_source_l_per_kwh: float | None = None
    price_per_kwh: float | None = None
    currency: str | None = None


def read_sites(label: str, raw: Mapping[str, Any], folder: Path) -> dict[str, Site]:
    """Sites by name from the ``[sites.NAME]`` tables of a file.

    Parameters
    ----------
    label : str
        Name of the file, for errors.
    raw : mapping
        Tables by name.
    folder : Path
        What paths of signals are relative to.

    Raises
    ------
    FleetError
        Naming the key, the value and the cure.
    """
    return {name: _site(label, name, table, folder) for name, table in raw.items()}


def check_site(where: str, name: str | None, sites: Mapping[str, Site]) -> None:
    """Refuse the name of a site that there is not.

    Raises
    ------
    FleetError
    """
    if name is not None and name not in sites:
        known = f"use one of {', '.join(sites)}" if sites else f"add a table [sites.{name}]"
        raise FleetError(where, f"no site named {name!r}", known)


def _site(label: str, name: str, raw: Any, folder: Path) -> Site:
    where = f"{label}: sites.{name}"
    keys = _keys(where, raw)
    try:
        signal = read_signal(keys.carbon_signal, relative_to=folder) if keys.carbon_signal else None
    except InputError as error:
        found = f"{error.where}: {error.found}"
        raise FleetError(f"{where}.carbon_signal", found, error.cure) from None
    offset_s = _offset_s(where, keys, signal)
    try:
        return Site(
            name,
            keys.pue,
            keys.carbon_g_per_kwh,
            signal,
            offset_s,
            **{key: getattr(keys, key) for key in (*FACTORS[1:], "currency")},
            source=label,
        )
    except ParameterError as error:
        raise FleetError(f"{label}: {error.where}", error.found, error.cure) from None


def _keys(where: str, raw: Any) -> SiteKeys:
    try:
        return msgspec.convert(raw, SiteKeys)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at ")
        unknown = re.search(r"unknown field `(.+)`", message)
        if unknown:
            cure = f"use one of {', '.join(SiteKeys.__struct_fields__)}"
            raise FleetError(f"{where}.{unknown[1]}", "unknown key", cure) from None
        key = path.strip("`").removeprefix("$").removeprefix(".")
        value = f" ({raw[key]!r})" if isinstance(raw, dict) and key in raw else ""
        found = message[0].lower() + message[1:] + value
        raise FleetError(f"{where}.{key}".rstrip("."), found, "correct the value") from None


def _offset_s(where: str, keys: SiteKeys, signal: Signal | None) -> float | None:
    """Time of the signal at which the simulation begins."""
    if keys.signal_start is None:
        if keys.signal_offset_s is not None and signal is None:
            raise FleetError(f"{where}.signal_offset_s", "no carbon_signal", "add one")
        return keys.signal_offset_s
    key = f"{where}.signal_start"
    if keys.signal_offset_s is not None:
        raise FleetError(key, "beside signal_offset_s", "keep one of them")
    if signal is None:
        raise FleetError(key, "no carbon_signal", "add one")
    if signal.origin is None:
        raise FleetError(key, f"{signal.name} has no dates", "give signal_offset_s")
    return (keys.signal_start - signal.origin).total_seconds()
