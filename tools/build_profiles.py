"""Make the built-in profiles: fits of the built-in runs, and the models the study printed.

    python tools/build_profiles.py [--out src/wattshed/data/profiles.json]

Run it after `tools/build_data.py`, or when a form, a solver or a rule changes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from msgspec import structs

from wattshed.data.catalog import provenance_of, read_table
from wattshed.fit.campaign import fit_profiles
from wattshed.profiles import save_profiles
from wattshed.records import Domain, Profile, QueryModel
from wattshed.runs import read_runs

DEFAULT = Path(__file__).parent.parent / "src/wattshed/data/profiles.json"
ACCURACY_SOURCE = "Open LLM leaderboard average, as printed in the study (dissertation, table 4.1)"
STUDY_DOMAIN = Domain((8, 2048), (8, 2048))


def built_in_profiles() -> list[Profile]:
    """Our fits with the study's accuracies, then the study's own models."""
    table = {row["model"]: row for row in read_table("wilkins-2024-models").iter_rows(named=True)}
    fitted = [
        structs.replace(p, accuracy=table[p.model]["accuracy"], accuracy_source=ACCURACY_SOURCE)
        for p in fit_profiles(read_runs("wilkins-2024"))
    ]
    return [*fitted, *(printed_profile(row) for row in table.values())]


def printed_profile(row: dict[str, Any]) -> Profile:
    """The bilinear energy and runtime models that the study printed for one model."""
    return Profile(
        name=f"wilkins-2024-ols/swing-a100/{row['model']}",
        system="swing-a100",
        model=row["model"],
        accelerator="a100-sxm-40gb",
        n_accelerators=row["min_accelerators"],
        boundary="accelerator",
        kind="published",
        energy=_printed(row, "energy", "j"),
        runtime=_printed(row, "runtime", "s"),
        domain=STUDY_DOMAIN,
        kv_cache=False,
        cells=row["n_cells"],
        accuracy=row["accuracy"],
        accuracy_source=ACCURACY_SOURCE,
        provenance=[provenance_of("wilkins-2024-models")],
    )


def _printed(row: dict[str, Any], quantity: str, unit: str) -> QueryModel:
    return QueryModel(
        form="bilinear",
        coefficients={name: row[f"{quantity}_{name}_{unit}"] for name in ("m", "n", "mn")},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=DEFAULT)
    out = parser.parse_args().out
    inputs = {"wilkins-2024": read_runs("wilkins-2024").content_hash}
    save_profiles(built_in_profiles(), out, inputs=inputs)


if __name__ == "__main__":
    main()
