"""fleet.toml: the deployments that a plan may use, validated key by key."""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any

import msgspec

from wattshed.data.catalog import dataset_names, dataset_path
from wattshed.errors import FileError, FleetError, ParameterError, ProfileError
from wattshed.profiles import load_profile
from wattshed.records import Profile, Site
from wattshed.sites import check_site, read_sites

Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Tokens = Annotated[int, msgspec.Meta(ge=1)]
DEFAULT_CLASS = "default"
"""SLO of queries of no class, and of classes that have none of their own."""

Part = Annotated[float, msgspec.Meta(ge=0, le=1)]


class DeploymentKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Keys of one ``[[deployments]]`` table; see docs/reference/files.md."""

    name: Annotated[str, msgspec.Meta(min_length=1)]
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


class Slo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Latency promise of one class of queries, in seconds.

    Attributes
    ----------
    ttft_s : float or None
        Time to the first token.
    tbt_s : float or None
        Time between tokens.
    e2e_s : float or None
        Time to the last token.
    """

    ttft_s: Positive | None = None
    tbt_s: Positive | None = None
    e2e_s: Positive | None = None


class FleetKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Top level of fleet.toml."""

    deployments: Annotated[list[DeploymentKeys], msgspec.Meta(min_length=1)]
    slo: dict[str, Slo] = {}
    sites: dict[str, Any] = {}  # read key by key in `wattshed.sites`


class Deployment(msgspec.Struct, frozen=True):
    """A profile with its settings in this fleet.

    Attributes
    ----------
    idle_power_w : float or None
        Power of one idle replica that stays on whatever the plan decides: it is inside
        the profile's gross energy, and no plan can save it. None if unknown.
    host_power_w : float
        Power added for the time a query runs, where the profile leaves the host out.
    accuracy : float or None
        Overrides the profile's.
    min_share, max_share : float or None
        Bounds on the part of the queries that it gets.
    max_queries, max_tokens : int or None
        Bounds on its queries, and on their input and output tokens together.
    utilisation : float
        Part of replicas x horizon that it may be busy, where a horizon is given.
    site : str or None
        Where it stands: a key of `Fleet.sites`.
    """

    name: str
    profile: Profile
    replicas: int = 1
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    max_context_tokens: int | None = None
    idle_power_w: float | None = None
    host_power_w: float = 0.0
    accuracy: float | None = None
    min_share: float | None = None
    max_share: float | None = None
    max_queries: int | None = None
    max_tokens: int | None = None
    utilisation: float = 1.0
    site: str | None = None


class Fleet(msgspec.Struct, frozen=True):
    """Deployments with unique names, and the SLO classes.

    Attributes
    ----------
    slo : dict
        By class of query; see `DEFAULT_CLASS`.
    sites : dict
        By name: factors of carbon, water and cost.
    """

    name: str
    deployments: list[Deployment]
    slo: dict[str, Slo] = {}
    content_hash: str = ""
    sites: dict[str, Site] = {}


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


def _decode(label: str, raw: dict[str, Any]) -> FleetKeys:
    try:
        return msgspec.convert(raw, FleetKeys)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at ")
        place = where.strip("`").removeprefix("$").removeprefix(".")
        unknown = re.search(r"unknown field `(.+)`", message)
        if unknown:
            place = f"{place}.{unknown[1]}".removeprefix(".")
            known = (
                DeploymentKeys if "deployments" in place else Slo if "slo" in place else FleetKeys
            )
            cure = f"use one of {', '.join(known.__struct_fields__)}"
            raise FleetError(f"{label}: {place}", "unknown key", cure) from None
        value = _lookup(raw, place)
        found = message[0].lower() + message[1:] + (f" ({value!r})" if value is not None else "")
        raise FleetError(f"{label}: {place}", found, "correct the value") from None


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
    try:
        profile = load_profile(key.profile, relative_to=folder)
    except ProfileError as error:
        raise ProfileError(
            f"{label}: deployments[{index}].profile", error.found, error.cure
        ) from None
    settings = {name: getattr(key, name) for name in key.__struct_fields__}
    return Deployment(**{**settings, "profile": profile})
