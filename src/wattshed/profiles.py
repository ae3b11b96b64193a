"""Profiles on disk and in use: built-in or from a file, predictions and their warnings."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from wattshed import __version__
from wattshed.data.catalog import dataset_path
from wattshed.errors import ProfileError
from wattshed.files import read_json, write_atomically
from wattshed.fit.forms import FORMS, Array
from wattshed.records import Profile, ProfileFile, QueryModel

BUILT_IN = "wilkins-2024-profiles"


def _read(path: Path) -> ProfileFile:
    found = read_json(path, ProfileFile, "write it with `wattshed fit -o`")
    for profile in found.profiles:
        for model in (profile.energy, profile.runtime):
            if model:
                _check_model(str(path), profile.name, model)
    return found


def _check_model(path: str, name: str, model: QueryModel) -> None:
    form = FORMS.get(model.form)
    if form is None:
        raise ProfileError(
            f"{path}: {name}", f"unknown form {model.form!r}", f"use one of {', '.join(FORMS)}"
        )
    if set(form.parameters) != set(model.coefficients):
        raise ProfileError(
            f"{path}: {name}",
            f"form {model.form} has coefficients {sorted(model.coefficients)}",
            f"give {', '.join(form.parameters)}",
        )


@functools.cache
def _built_in() -> tuple[Profile, ...]:
    """Read once: unlike a user's file, it does not change."""
    return tuple(_read(dataset_path(BUILT_IN)).profiles)


def load_profiles(source: str | Path | None = None) -> list[Profile]:
    """All profiles of a file, or the built-in ones.

    Raises
    ------
    FileError, ProfileError
    """
    return _read(Path(source)).profiles if source else list(_built_in())


def load_profile(reference: str, *, relative_to: Path | None = None) -> Profile:
    """One profile by its built-in name, or by ``path.json#name``.

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
    return pick_profile(load_profiles(source), name, path, BUILT_IN)


def split_reference(reference: str, relative_to: Path | None) -> tuple[str, str, Path | None]:
    """Path as written, name, and file of ``path.json#name``; no file for a built-in name."""
    path, _, name = reference.rpartition("#")
    return path, name, (relative_to or Path()) / path if path else None


class _Named(Protocol):
    @property
    def name(self) -> str: ...


N = TypeVar("N", bound=_Named)


def pick_profile(profiles: Sequence[N], name: str, path: str, *built_in: str) -> N:
    """The profile of that name; `built_in` are the data sets to look names up in.

    Raises
    ------
    ProfileError
        If there is none; near names are offered.
    """
    named = {profile.name: profile for profile in profiles}
    if name not in named:
        near = difflib.get_close_matches(name, named, n=3, cutoff=0.4) or sorted(named)[:3]
        where = " or ".join(f"`wattshed data show {dataset}`" for dataset in built_in)
        raise ProfileError(
            path or "profile",
            f"no profile named {name!r}",
            f"did you mean {', '.join(near)}? See {where}",
        )
    return named[name]


def save_profiles(
    profiles: list[Profile],
    path: str | Path,
    *,
    inputs: dict[str, str] | None = None,
    seed: int = 0,
) -> None:
    """Write profiles.json, whole or not at all."""
    content = ProfileFile(profiles, f"wattshed {__version__}", inputs or {}, seed)
    write_atomically(Path(path), msgspec.json.format(msgspec.json.encode(content), indent=1))


@dataclass(frozen=True)
class Prediction:
    """Predicted energy and runtime of queries.

    Attributes
    ----------
    energy_j, runtime_s : arrays (Q,)
    extrapolated : bool array (Q,)
        Queries outside the profile's domain.
    negative : bool array (Q,)
        Queries whose energy or runtime came out negative: only `bilinear` can do that.
    """

    energy_j: Array
    runtime_s: Array
    extrapolated: NDArray[np.bool_]
    negative: NDArray[np.bool_]


def predict(profile: Profile, m: ArrayLike, n: ArrayLike) -> Prediction:
    """Predict energy and runtime of queries with m input and n output tokens.

    Parameters
    ----------
    profile : Profile
    m, n : array-like (Q,)

    Returns
    -------
    Prediction
        Values are never clipped; what is outside the domain or negative is marked.

    Raises
    ------
    ProfileError
        If the profile has no energy model.
    """
    m = np.atleast_1d(np.asarray(m, float))
    n = np.atleast_1d(np.asarray(n, float))
    model = energy_model(profile)
    energy = _evaluate(model, _coefficients(model), m, n)
    runtime = _evaluate(profile.runtime, _coefficients(profile.runtime), m, n)
    outside = np.zeros(len(m), bool)
    if profile.domain:
        (m_low, m_high), (n_low, n_high) = profile.domain.input_tokens, profile.domain.output_tokens
        outside = (m < m_low) | (m > m_high) | (n < n_low) | (n > n_high)
    return Prediction(energy, runtime, outside, (energy < 0) | (runtime < 0))


def predict_draws(profile: Profile, m: Array, n: Array) -> tuple[Array, Array] | None:
    """Bootstrap predictions of energy (B, Q) and runtime (B, Q); None without draws."""
    energy = energy_model(profile)
    if not energy.draws or not profile.runtime.draws:
        return None
    return (
        _evaluate(energy, np.array(energy.draws), m, n),
        _evaluate(profile.runtime, np.array(profile.runtime.draws), m, n),
    )


def energy_model(profile: Profile) -> QueryModel:
    """The energy model of a profile.

    Raises
    ------
    ProfileError
        If it has none.
    """
    if profile.energy is None:
        raise ProfileError(
            f"profile {profile.name}",
            "has no energy model: its runs have no energy",
            "measure with a meter, or estimate with --meter model:..., and fit again",
        )
    return profile.energy


def _coefficients(model: QueryModel) -> Array:
    return np.array([model.coefficients[name] for name in FORMS[model.form].parameters])


def _evaluate(model: QueryModel, theta: Array, m: Array, n: Array) -> Array:
    return FORMS[model.form].predict(theta, m, n)
