"""A replay beside another run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from wattshed.errors import FileError
from wattshed.replay.compare import load_others, paired_saving


def test_a_paired_saving_is_found_and_its_interval_covers_it() -> None:
    """Requests cost what they cost; the one needs 20 % less of it, give or take, in streaks."""
    inside = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        theirs = rng.lognormal(3, 1, 200)
        noise = np.repeat(rng.normal(1, 0.05, 25), 8)
        ours = 0.8 * theirs * noise
        truth = 1 - 0.8
        saving, interval = paired_saving(ours, theirs, seed)
        assert interval.low <= saving <= interval.high
        inside += interval.low <= truth <= interval.high
    assert inside >= 50  # of 57 that 95 % would be; blocks of neighbours are a bit narrow


def test_equal_energies_save_nothing() -> None:
    energy = np.arange(1.0, 50.0)
    saving, interval = paired_saving(energy, energy)
    assert (saving, interval.low, interval.high) == (0, 0, 0)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("{}", "holds neither simulation nor replay"),
        ("no json", "holds neither simulation nor replay"),
        ('{"schema": "wattshed/replay"}', "holds neither simulation nor replay"),
        ('{"schema": "wattshed/replay", "replay": {}}', "is of another version"),
    ],
)
def test_what_is_no_run_is_refused(tmp_path: Path, content: str, found: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(FileError, match=f"other.json: {found}.*give a folder"):
        load_others(path, "frugal")
    with pytest.raises(FileError, match=r"has neither replay.json nor simulation.json"):
        load_others(tmp_path, "frugal")
