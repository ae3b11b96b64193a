"""Carbon signals: built in and the user's own; short gaps are bridged, long ones are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from wattshed.data import read_table
from wattshed.errors import FileError, TableError
from wattshed.signals import bridge, read_signal

ZONES = ["AZPS", "BPAT", "CISO", "ERCO", "MISO", "NYIS", "PJM", "SOCO"]
HOUR = 3600.0


@pytest.mark.parametrize("zone", ZONES)
def test_built_in_zones_are_as_tabulated(zone: str) -> None:
    signal = read_signal(f"eia-2022-carbon#{zone}")
    table = read_table("eia-2022-carbon")[zone].fill_null(np.nan).to_numpy()
    np.testing.assert_array_equal(signal.edges_s, np.arange(8761) * HOUR)
    value, kept = np.array(signal.g_per_kwh, float), np.ones(8760, bool)
    kept[list(signal.bridged)] = False
    np.testing.assert_array_equal(value[kept], table[kept])
    assert signal.provenance.kind == "derived"


def test_what_is_missing_for_longer_stays_missing() -> None:
    pjm = read_signal("eia-2022-carbon#PJM")
    assert len(pjm.bridged) == 2
    assert pjm.g_per_kwh.count(None) == 22 + 4
    miso = read_signal("eia-2022-carbon#MISO")
    assert len(miso.bridged) == 3
    assert None not in miso.g_per_kwh


def test_a_bridge_is_straight_and_at_most_as_long_as_allowed() -> None:
    nan = np.nan
    value = np.array([nan, 1, nan, nan, 4, nan, nan, nan, nan, 9, nan])
    filled = bridge(np.arange(12) * HOUR, value, 3 * HOUR)
    np.testing.assert_allclose(filled, [nan, 1, 2, 3, 4, nan, nan, nan, nan, 9, nan])
    np.testing.assert_array_equal(
        np.isnan(value), np.isnan([nan, 1, *[nan] * 2, 4, *[nan] * 4, 9, nan])
    )


def test_a_bridge_runs_through_the_middles_of_uneven_windows() -> None:
    edges = np.array([0.0, 2, 4, 10])  # middles 1, 3, 7
    filled = bridge(edges, np.array([1.0, np.nan, 7.0]), 2.0)
    np.testing.assert_allclose(filled, [1, 3, 7])
    assert np.isnan(bridge(edges, np.array([1.0, np.nan, 7.0]), 1.9)[1])


def test_own_file_and_column(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"datetime_utc": ["2024-01-01 00:00", "2024-01-01 01:00"], "ci_direct": [200.0, 180.0]}
    )
    frame.write_csv(tmp_path / "zone.csv")
    signal = read_signal("zone.csv#ci_direct", relative_to=tmp_path)
    assert signal.g_per_kwh == (200, 180)
    assert signal.provenance.source.endswith("zone.csv")
    with pytest.raises(TableError, match=r"'g_per_kwh'; name a column as in .*zone\.csv#ci_direct"):
        read_signal(tmp_path / "zone.csv")


def test_unknown_signals_and_zones_are_told_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="'eia-2023'; use a file or one of eia-2022-carbon"):
        read_signal("eia-2023")
    with pytest.raises(TableError, match=f"'XX'; .*{', '.join(ZONES)}"):
        read_signal("eia-2022-carbon#XX")
    with pytest.raises(TableError, match="'datetime_utc'"):
        read_signal("eia-2022-carbon#datetime_utc")
    with pytest.raises(FileError, match="no such file"):
        read_signal("none.csv", relative_to=tmp_path)
