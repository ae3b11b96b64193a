"""Make the built-in iteration profiles: fits of the built-in tables of measured steps.

    python tools/build_iteration_profiles.py [--out src/wattshed/data/iteration_profiles.json]

Run it after `tools/build_data.py`, or when a form, a rule or an assumption of the fit changes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from wattshed.data.catalog import dataset_path, read_table
from wattshed.files import sha256
from wattshed.fit.iteration import fit_steps
from wattshed.fit.phases import fit_phases
from wattshed.iterations import save_iteration_profiles
from wattshed.records import IterationProfile

DEFAULT = Path(__file__).parent.parent / "src/wattshed/data/iteration_profiles.json"
TABLES = ("splitwise-steps", "mlenergy-v3-steps", "accelerators", "idle-power", "power-prior")


def built_in_profiles() -> list[IterationProfile]:
    """Profiles of isolated phases, then those of steady serving."""
    return [
        *fit_phases(read_table("splitwise-steps")),
        *fit_steps(read_table("mlenergy-v3-steps")),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=DEFAULT)
    out = parser.parse_args().out
    inputs = {name: sha256(dataset_path(name)) for name in TABLES}
    save_iteration_profiles(built_in_profiles(), out, inputs=inputs)


if __name__ == "__main__":
    main()
