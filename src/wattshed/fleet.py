"""fleet.toml: the deployments that a plan may use, validated key by key."""

from __future__ import annotations

import hashlib
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any

import msgspec

from wattshed.data.catalog import dataset_names, dataset_path
from wattshed.errors import FileError, FleetError, ParameterError, ProfileError
from wattshed.files import find_not_finite
from wattshed.iterations import load_any_profile
from wattshed.records import Deployment, Fleet, IterationProfile, Slo, Upstream
from wattshed.serving import engine_settings, refuse_engine_keys
from wattshed.sites import check_site, read_sites
from wattshed.upstreams import check_upstream, keys_of, placed_upstream

__all__ = [
    "DEFAULT_CLASS",
    "Deployment",
    "DeploymentKeys",
    "Fleet",
    "FleetKeys",
    "Slo",
    "describe_slo",
    "engine_keys",
    "load_fleet",
    "with_idle_power",
]

NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Tokens = Annotated[int, msgspec.Meta(ge=1)]
DEFAULT_CLASS = "default"
"""SLO of queries of no class, and of classes that have none of their own."""

Part = Annotated[float, msgspec.Meta(ge=0, le=1)]
Clock = Annotated[float, msgspec.Meta(gt=0, le=1)]
NAME = r"^[^\x00-\x1f\x7f]+\Z"
"""Without control characters: the gateway sends names in headers."""


class DeploymentKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Keys of one ``[[deployments]]`` table; see docs/reference/files.md."""

    name: Annotated[str, msgspec.Meta(pattern=NAME)]
    profile: str
    replicas: Annotated[int, msgspec.Meta(ge=1)] = 1
    max_input_tokens: Tokens | None = None
    max_output_tokens: Tokens | None = None
    max_context_tokens: Tokens | None = None
    idle_power_w: NotNegative | None = None
    host_power_w: NotNegative = 0.0
    accuracy: Part | None = None
    min_share: Part | None = None
    max_share: Part | None = None
    max_queries: Annotated[int, msgspec.Meta(ge=0)] | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=0)] | None = None
    utilisation: Part = 1.0
    site: str | None = None
    max_batch: Tokens | None = None
    chunk_tokens: Tokens | None = None
    kv_tokens: Tokens | None = None
    clock: Clock | None = None
    sleep_after_s: NotNegative | None = None
    upstream: Upstream | None = None


class FleetKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Top level of fleet.toml."""

    deployments: Annotated[list[DeploymentKeys], msgspec.Meta(min_length=1)]
    slo: dict[str, Slo] = {}
    sites: dict[str, Any] = {}  # read key by key in `wattshed.sites`


def describe_slo(slo: Slo) -> str:
    """An SLO for people, e.g. ``ttft 0.5 s, tbt 0.1 s``."""
    stated = ((key, getattr(slo, key)) for key in slo.__struct_fields__)
    return ", ".join(f"{key.removesuffix('_s')} {value:g} s" for key, value in stated if value)


def load_fleet(source: str | Path) -> Fleet:
    """Read fleet.toml, or the built-in fleet of that name.

    Raises
    ------
    FileError, FleetError, ProfileError
        Naming the key, the value and the cure.
    """
    built_in = str(source) in dataset_names("fleet")
    path = dataset_path(str(source)) if built_in else Path(source)
    label = str(source)
    try:
        text = path.read_text(encoding="utf-8")
        raw = tomllib.loads(text)
    except OSError as error:
        raise FileError(
            label,
            f"cannot be read: {error.strerror}",
            f"give a fleet.toml or one of {', '.join(dataset_names('fleet'))}",
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FleetError(label, f"is not TOML: {error}", "correct the syntax") from None
    _refuse_not_finite(label, raw)
    keys = _decode(label, raw)
    _refuse_duplicates(label, keys)
    deployments = [
        _deployment(label, index, key, path.parent) for index, key in enumerate(keys.deployments)
    ]
    sites = read_sites(label, keys.sites, path.parent)
    for index, key in enumerate(keys.deployments):
        check_site(f"{label}: deployments[{index}].site", key.site, sites)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Fleet(label, deployments, keys.slo, digest, sites)


def with_idle_power(fleet: Fleet, idle_power_w: dict[str, float]) -> Fleet:
    """Change the idle power of deployments, by name.

    Parameters
    ----------
    fleet : Fleet
    idle_power_w : dict
        Watts of one idle replica that stays on; deployments that are not named keep theirs.

    Raises
    ------
    ParameterError
        If no deployment has that name, or a power is negative.
    """
    names = [d.name for d in fleet.deployments]
    for name, power in idle_power_w.items():
        if name not in names:
            raise ParameterError(
                "--idle-power", f"no deployment named {name!r}", f"use one of {', '.join(names)}"
            )
        if not power >= 0:
            raise ParameterError("--idle-power", f"{name}={power:g}", "give watts, 0 or more")
    changed = [
        msgspec.structs.replace(d, idle_power_w=idle_power_w.get(d.name, d.idle_power_w))
        for d in fleet.deployments
    ]
    return msgspec.structs.replace(fleet, deployments=changed)


def engine_keys(fleet: Fleet) -> dict[str, str]:
    """The API keys that engines are sent, by deployment; only of those that name one.

    Raises
    ------
    FleetError
        If one is not there, or no header can hold it. It never shows the key.
    """
    return keys_of(fleet, os.environ)


def _refuse_not_finite(label: str, raw: dict[str, Any]) -> None:
    """Only in what is read here: `wattshed.sites` knows what each of its figures may be."""
    wrong = find_not_finite({key: value for key, value in raw.items() if key != "sites"})
    if wrong:
        place, value = wrong
        raise FleetError(f"{label}: {place}", f"{value:g}", "give a finite number, or leave it out")


def _decode(label: str, raw: dict[str, Any]) -> FleetKeys:
    try:
        return msgspec.convert(raw, FleetKeys)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at ")
        place = where.strip("`").removeprefix("$").removeprefix(".")
        unknown = re.search(r"unknown field `(.+)`", message)
        if unknown:
            place = f"{place}.{unknown[1]}".removeprefix(".")
            cure = f"use one of {', '.join(_known_keys(place))}"
            raise FleetError(f"{label}: {place}", "unknown key", cure) from None
        value = _lookup(raw, place)
        found = message[0].lower() + message[1:] + (f" ({value!r})" if value is not None else "")
        cure = "add it" if "missing required field" in message else "correct the value"
        raise FleetError(f"{label}: {place}".removesuffix(": "), found, cure) from None


def _known_keys(place: str) -> tuple[str, ...]:
    """Keys of the table that a place such as ``deployments[2].upstream.url`` is in."""
    tables = {"upstream.": Upstream, "deployments": DeploymentKeys, "slo": Slo}
    table = next((kind for part, kind in tables.items() if part in place), FleetKeys)
    return table.__struct_fields__


def _lookup(raw: Any, place: str) -> Any:
    """The value at a path such as ``deployments[2].idle_power_w``, or None."""
    for key, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", place):
        try:
            raw = raw[int(index)] if index else raw[key]
        except (KeyError, IndexError, TypeError):
            return None
    return raw if isinstance(raw, str | int | float | bool) else None


def _refuse_duplicates(label: str, keys: FleetKeys) -> None:
    first: dict[str, int] = {}
    for index, key in enumerate(keys.deployments):
        if key.name in first:
            raise FleetError(
                f"{label}: deployments[{index}].name",
                f"{key.name!r} is also the name of deployments[{first[key.name]}]",
                "give each deployment its own name",
            )
        first[key.name] = index


def _deployment(label: str, index: int, key: DeploymentKeys, folder: Path) -> Deployment:
    place = f"{label}: deployments[{index}]"
    try:
        profile = load_any_profile(key.profile, relative_to=folder)
    except ProfileError as error:
        raise ProfileError(f"{place}.profile", error.found, error.cure) from None
    if key.upstream is not None:
        check_upstream(f"{place}.upstream", key.upstream, key.replicas)
    settings = {name: getattr(key, name) for name in key.__struct_fields__}
    settings["upstream"] = placed_upstream(key.upstream, folder)
    deployment = Deployment(**{**settings, "profile": profile})
    try:
        if isinstance(profile, IterationProfile):
            engine_settings(deployment)
        else:
            refuse_engine_keys(deployment)
    except FleetError as error:
        wrong = error.where.removeprefix(f"{key.name}.")
        raise FleetError(f"{place}.{wrong}", error.found, error.cure) from None
    return deployment
