"""What is built in: the entries of catalog.toml, and the files they describe."""

from __future__ import annotations

import difflib
import importlib.resources
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from wattshed.errors import FileError
from wattshed.records import Kind, Provenance

if TYPE_CHECKING:
    import polars as pl

DatasetKind = Literal[
    "runs", "workload", "rates", "signal", "table", "profiles", "iteration-profiles", "fleet"
]


class Dataset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One built-in data set.

    Attributes
    ----------
    name : str
        What commands and functions take.
    kind : DatasetKind
        What it can be used for.
    file : str
        Path below ``wattshed/data``.
    source : str
        Publication and repository.
    commit : str
        Revision of the source; empty where there is none.
    licence : str
        Of the source, and what it lets us ship.
    data_kind : {"measured", "derived", "modelled", "published"}
        Where its figures come from.
    done : str
        What was done to the source.
    """

    name: str
    kind: DatasetKind
    file: str
    title: str
    source: str
    commit: str
    licence: str
    data_kind: Kind
    done: str


class _Catalog(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    dataset: tuple[Dataset, ...]


def list_datasets() -> list[Dataset]:
    """Every built-in data set, in the order of the catalogue."""
    return list(_by_name().values())


def dataset_names(kind: DatasetKind) -> list[str]:
    """Names of the built-in data sets of one kind."""
    return [dataset.name for dataset in list_datasets() if dataset.kind == kind]


def find_dataset(name: str) -> Dataset:
    """Look a built-in data set up by name.

    Raises
    ------
    FileError
        If there is none of that name; the cure lists those that are near.
    """
    datasets = _by_name()
    if name not in datasets:
        near = difflib.get_close_matches(name, datasets, n=3, cutoff=0.4) or list(datasets)
        raise FileError("data", f"no built-in data set {name!r}", f"use one of {', '.join(near)}")
    return datasets[name]


def dataset_path(name: str) -> Path:
    """Path of the installed file of a built-in data set.

    Raises
    ------
    FileError
        If there is none of that name.
    """
    return _folder() / find_dataset(name).file


def provenance_of(name: str) -> Provenance:
    """Where the figures of a built-in data set come from.

    Raises
    ------
    FileError
        If there is none of that name.
    """
    found = find_dataset(name)
    return Provenance(
        found.name, found.source, found.commit, found.licence, found.data_kind, found.done
    )


def users_own(path: Path) -> Provenance:
    """Provenance of a file that is not built in."""
    return Provenance(path.name, str(path), "", "the user's own", "measured")


def read_table(name: str) -> pl.DataFrame:
    """Read a built-in table: runs, a workload, rates, a signal.

    Returns
    -------
    polars.DataFrame
        Units are in the column names. A missing number is null, a missing text empty.

    Raises
    ------
    FileError
        If there is none of that name, or it is not a table.
    """
    import polars as pl
    from polars import selectors as cs

    path = dataset_path(name)
    if path.suffix == ".parquet":
        return pl.read_parquet(path)
    if path.suffix != ".csv":
        kind = find_dataset(name).kind
        raise FileError("data", f"{name!r} is no table but of kind {kind}", f"open {path}")
    # Both are empty in every row of wilkins-2024, so their type cannot be seen.
    empty = {"tensor_parallel": pl.Int64, "clock_mhz": pl.Float64}
    frame = pl.read_csv(path, infer_schema_length=None, schema_overrides=empty)
    return frame.with_columns(cs.string().fill_null(""))


@cache
def _by_name() -> dict[str, Dataset]:
    content = (_folder() / "catalog.toml").read_bytes()
    return {
        dataset.name: dataset for dataset in msgspec.toml.decode(content, type=_Catalog).dataset
    }


def _folder() -> Path:
    return Path(str(importlib.resources.files("wattshed.data")))
