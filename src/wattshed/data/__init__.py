"""Built-in figures, small, each with its source, licence and what was done to it."""

from __future__ import annotations

from wattshed.data.catalog import (
    Dataset,
    dataset_names,
    dataset_path,
    find_dataset,
    list_datasets,
    provenance_of,
    read_table,
)

__all__ = [
    "Dataset",
    "dataset_names",
    "dataset_path",
    "find_dataset",
    "list_datasets",
    "provenance_of",
    "read_table",
]
