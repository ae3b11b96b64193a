"""What a reproduction consists of, and how a published figure is set beside ours."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import polars as pl

from wattshed import __version__
from wattshed.data.catalog import dataset_path, provenance_of, read_table
from wattshed.records import Provenance
from wattshed.report.document import Cell, Document, Section

Result = dict[str, Any]
FIGURES = "wilkins-2024-figures"
MODELS = "wilkins-2024-models"
RUNS = "wilkins-2024"


class Study(msgspec.Struct, frozen=True):
    """A study recomputed.

    Attributes
    ----------
    name : str
        Name in `STUDIES`.
    results : dict
        Figures in SI units, or in the unit that a key ends with (``_kwh``, ``_pct``).
        Each published figure is ``{published, ours, deviation_pct}``.
    document : Document
        The same for people.
    provenance : list of Provenance
    inputs : dict
        Name of each data set used to the SHA-256 of its file.
    """

    name: str
    results: dict[str, Any]
    document: Document
    provenance: list[Provenance]
    inputs: dict[str, str]


def make_study(
    name: str,
    results: Result,
    text: tuple[str, str],
    sections: list[Section],
    datasets: tuple[str, ...],
    seed: int,
) -> Study:
    """Put results and sections together with the sources of their data sets.

    Parameters
    ----------
    name : str
    results : dict
    text : (str, str)
        Title and abstract of the document.
    sections : list of Section
    datasets : tuple of str
        Names of the built-in data sets that were used.
    seed : int
    """
    sources = [provenance_of(dataset) for dataset in datasets]
    document = Document(
        title=text[0],
        abstract=text[1],
        sections=sections,
        sources=sources,
        created_by=f"wattshed {__version__}",
        command=f"wattshed reproduce {name} --seed {seed}",
        seed=seed,
    )
    inputs = {d: hashlib.sha256(dataset_path(d).read_bytes()).hexdigest() for d in datasets}
    return Study(name, results, document, sources, inputs)


def compare(published: float | None, ours: float) -> Result:
    """A published figure, ours, and how far ours lies from it in percent.

    `published` is None where the study gives no such figure; so is the deviation.
    """
    deviation = None if published is None else 100 * (ours / published - 1)
    return {"published": published, "ours": ours, "deviation_pct": deviation}


def published_rows(figure: str, quantity: str) -> pl.DataFrame:
    """Rows of one quantity of a published figure: `system, model, x, value, unit, note`."""
    table = read_table(FIGURES)
    return table.filter(pl.col("figure") == figure, pl.col("quantity") == quantity)


def published_value(figure: str, quantity: str, system: str = "", x: float | None = None) -> float:
    """One value of a published figure, told by its system and x where it has several."""
    rows = published_rows(figure, quantity)
    if system:
        rows = rows.filter(pl.col("system") == system)
    if x is not None:
        rows = rows.filter(pl.col("x") == x)
    return float(rows["value"].item())


def largest_deviation_pct(comparisons: list[Result]) -> float:
    """Largest absolute deviation among comparisons that have one, in percent."""
    deviations = [c["deviation_pct"] for c in comparisons if c["deviation_pct"] is not None]
    return float(max(abs(deviation) for deviation in deviations))


def cell(value: float | None, digits: int = 5) -> Cell:
    """A figure as a table shows it: rounded to significant digits."""
    return None if value is None else float(f"{value:.{digits}g}")


def compared_cells(comparison: Result, digits: int = 5) -> list[Cell]:
    """Published, ours and deviation, for three columns of a table."""
    return [
        cell(comparison["published"], digits),
        cell(comparison["ours"], digits),
        cell(comparison["deviation_pct"], 3),
    ]
