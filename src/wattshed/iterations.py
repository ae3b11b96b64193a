"""Iteration profiles on disk: built-in, or from a file."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np

from wattshed import __version__
from wattshed.data.catalog import dataset_path, list_datasets, provenance_of
from wattshed.errors import ProfileError
from wattshed.files import read_json, write_atomically
from wattshed.profiles import BUILT_IN as BUILT_IN_QUERY
from wattshed.profiles import load_profile, load_profiles, pick_profile, split_reference
from wattshed.records import Curve, IterationFile, IterationProfile, Profile, Provenance

BUILT_IN = "iteration-profiles"
SCHEMA = "wattshed/iteration-profiles"


class _Head(msgspec.Struct, frozen=True):
    """What tells the kind of a profiles file."""

    schema: str = ""


def _read(path: Path) -> IterationFile:
    found = read_json(path, IterationFile, "write it with `save_iteration_profiles`")
    for profile in found.profiles:
        for name in ("decode_time_s", "decode_energy_j", "prefill_time_s", "prefill_energy_j"):
            _check_curve(f"{path}: {profile.name}: {name}", getattr(profile, name))
    return found


def _check_curve(where: str, curve: Curve | None) -> None:
    if curve is None:
        return
    at, value = np.array(curve.at), np.array(curve.value)
    if len(at) != len(value) or len(at) < 2:
        raise ProfileError(where, f"{len(at)} knots, {len(value)} values", "give as many, from 2")
    rising = (np.diff(at) > 0).all() and (np.diff(value) >= 0).all()
    if not rising or not (value > 0).all() or not np.isfinite([at, value]).all():
        raise ProfileError(where, "the curve falls or is not positive", "make it rise from above 0")


@functools.cache
def _built_in() -> tuple[IterationProfile, ...]:
    """Read once: unlike a user's file, it does not change."""
    return tuple(_read(dataset_path(BUILT_IN)).profiles)


def load_iteration_profiles(source: str | Path | None = None) -> list[IterationProfile]:
    """All iteration profiles of a file, or the built-in ones.

    Raises
    ------
    FileError, ProfileError
    """
    return _read(Path(source)).profiles if source else list(_built_in())


def load_iteration_profile(reference: str, *, relative_to: Path | None = None) -> IterationProfile:
    """One iteration profile by its built-in name, or by ``path.json#name``.

    Parameters
    ----------
    reference : str
    relative_to : Path, optional
        Folder against which a relative path is resolved.

    Raises
    ------
    ProfileError
        If there is no such profile; near names are offered.
    """
    path, name, source = split_reference(reference, relative_to)
    return pick_profile(load_iteration_profiles(source), name, path, BUILT_IN)


def load_any_profile(
    reference: str, *, relative_to: Path | None = None
) -> Profile | IterationProfile:
    """A profile of single queries or of steps, by its built-in name or by ``path.json#name``.

    The schema of a file says which it holds.

    Parameters
    ----------
    reference : str
    relative_to : Path, optional
        Folder against which a relative path is resolved.

    Raises
    ------
    FileError, ProfileError
        If there is no such profile; near names of both kinds are offered.
    """
    path, name, source = split_reference(reference, relative_to)
    if source is not None:
        head = read_json(source, _Head, "write it with `wattshed fit -o`")
        if head.schema == SCHEMA:
            return load_iteration_profile(reference, relative_to=relative_to)
        return load_profile(reference, relative_to=relative_to)
    queries = load_profiles()
    if any(profile.name == name for profile in queries):
        return load_profile(name)
    both: list[Profile | IterationProfile] = [*queries, *load_iteration_profiles()]
    return pick_profile(both, name, path, BUILT_IN_QUERY, BUILT_IN)


def sources_of(profile: Profile | IterationProfile) -> list[Provenance]:
    """Provenance of the data behind a profile; of an iteration profile, the data sets it names."""
    if isinstance(profile, Profile):
        return profile.provenance
    known = {dataset.name for dataset in list_datasets()}
    return [
        provenance_of(name)
        if name in known
        else Provenance(name, f"named by the iteration profile {profile.name}", "", "", "modelled")
        for name in profile.data
    ]


def save_iteration_profiles(
    profiles: Iterable[IterationProfile],
    path: str | Path,
    *,
    inputs: dict[str, str] | None = None,
) -> None:
    """Write iteration-profiles.json, one profile a line, whole or not at all."""
    profiles = list(profiles)
    names = dict.fromkeys(name for profile in profiles for name in profile.data)
    content = IterationFile(
        [], [provenance_of(name) for name in names], f"wattshed {__version__}", inputs or {}
    )
    head = msgspec.json.encode(content).decode()
    lines = ",\n".join(msgspec.json.encode(profile).decode() for profile in profiles)
    text = head.replace('{"profiles":[]', '{"profiles":[\n' + lines + "\n]", 1)
    write_atomically(Path(path), f"{text}\n")
