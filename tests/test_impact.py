"""Carbon, water and cost: formulas, conservation, and what is not known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from wattshed import impact_of
from wattshed.errors import ParameterError
from wattshed.records import Signal, Site
from wattshed.signals import read_signal
from wattshed.units import JOULES_PER_KWH

SITE = Site(
    "here",
    pue=1.2,
    carbon_g_per_kwh=400.0,
    water_l_per_kwh=0.5,
    water_source_l_per_kwh=2.0,
    price_per_kwh=0.1,
    currency="EUR",
)
HOUR = 3600.0
KWH = JOULES_PER_KWH


@pytest.fixture
def signal(tmp_path: Path) -> Signal:
    """Four hours: 100, 300, unknown for 4 hours, 500 g/kWh."""
    path = tmp_path / "signal.csv"
    starts = [0.0, HOUR, 2 * HOUR, 6 * HOUR, 7 * HOUR]
    pl.DataFrame({"start_s": starts, "g_per_kwh": [100.0, 300.0, None, 500.0, 600.0]}).write_csv(
        path
    )
    return read_signal(path)


def at(signal: Signal, offset_s: float | None = None) -> Site:
    return Site("here", carbon_signal=signal, signal_offset_s=offset_s)


def test_formulas() -> None:
    found = impact_of([KWH, 3 * KWH], [0, 10, 20], SITE)
    assert found.energy_it_j == 4 * KWH
    assert found.energy_facility_j == pytest.approx(4.8 * KWH)
    assert found.carbon_g == pytest.approx(4.8 * 400)
    assert found.water_site_l == pytest.approx(4 * 0.5)
    assert found.water_source_l == pytest.approx(4 * 1.2 * 2.0)
    assert found.water_l == pytest.approx(4 * (0.5 + 1.2 * 2.0))
    assert (found.cost, found.currency) == (pytest.approx(0.48), "EUR")
    assert {factor.name: factor.value for factor in found.factors} == {
        "pue": 1.2,
        "carbon_g_per_kwh": 400.0,
        "water_l_per_kwh": 0.5,
        "water_source_l_per_kwh": 2.0,
        "price_per_kwh": 0.1,
    }
    assert {factor.kind for factor in found.factors} == {"modelled"}


def test_what_is_not_known_is_none() -> None:
    found = impact_of([KWH], [0, 1], Site("here"))
    assert found.energy_facility_j == KWH
    assert (found.carbon_g, found.cost, found.currency) == (None, None, None)
    assert (found.water_site_l, found.water_source_l, found.water_l) == (None, None, None)
    half = impact_of([KWH], [0, 1], Site("here", water_l_per_kwh=0.5))
    assert (half.water_site_l, half.water_source_l, half.water_l) == (0.5, None, None)


def test_known_to_be_nothing_is_0() -> None:
    found = impact_of([0.0], [0, 1], SITE)
    assert (found.carbon_g, found.water_l, found.cost) == (0, 0, 0)
    assert impact_of([KWH], [0, 1], Site("here", carbon_g_per_kwh=0.0)).carbon_g == 0


def test_bins_are_split_where_hours_change(signal: Signal) -> None:
    # Half an hour before the change and a quarter after it.
    found = impact_of([3 * KWH], [HOUR / 2, 1.25 * HOUR], at(signal))
    assert found.carbon_g == pytest.approx(2 * 100 + 1 * 300)
    (mean, _) = found.factors
    assert (mean.name, mean.value) == ("carbon_signal", pytest.approx(500 / 3))


def test_a_signal_begins_where_it_is_told(signal: Signal) -> None:
    assert impact_of([KWH], [0, HOUR], at(signal)).carbon_g == pytest.approx(100)
    assert impact_of([KWH], [0, HOUR], at(signal, HOUR)).carbon_g == pytest.approx(300)
    assert impact_of([KWH], [0, HOUR], at(signal, HOUR / 4)).carbon_g == pytest.approx(150)


@given(
    energy=st.lists(st.floats(0, 1e9), min_size=2, max_size=12),
    cut=st.integers(1, 11),
    offset_s=st.floats(0, 8000 * HOUR),
)
def test_impacts_add_up_over_time(energy: list[float], cut: int, offset_s: float) -> None:
    site = replace(SITE, carbon_g_per_kwh=None, carbon_signal=AZPS, signal_offset_s=offset_s)
    edges = np.linspace(0, 30 * HOUR, len(energy) + 1)
    cut = min(cut, len(energy) - 1)
    whole = impact_of(energy, edges, site)
    parts = [
        impact_of(energy[:cut], edges[: cut + 1], site),
        impact_of(energy[cut:], edges[cut:], site),
    ]
    for figure in ("energy_facility_j", "carbon_g", "water_l", "cost"):
        total = sum(getattr(part, figure) for part in parts)
        assert getattr(whole, figure) == pytest.approx(total, rel=1e-9, abs=1e-9)
    # Finer bins of the same power are the same energy.
    fine = np.interp(np.linspace(0, 1, 7 * len(energy) + 1), np.linspace(0, 1, len(edges)), edges)
    again = impact_of(np.repeat(np.array(energy) / 7, 7), fine, site)
    assert again.carbon_g == pytest.approx(whole.carbon_g, rel=1e-9, abs=1e-9)


AZPS = read_signal("eia-2022-carbon#AZPS")


def test_a_constant_signal_is_the_number(tmp_path: Path) -> None:
    path = tmp_path / "flat.csv"
    path.write_text("start_s,g_per_kwh\n0,400\n7,400\n40,400\n")
    site = replace(SITE, carbon_g_per_kwh=None, carbon_signal=read_signal(path))
    energy, edges = [1e6, 2e5, 7e6], [0.0, 3.0, 22.0, 50.0]
    found, constant = (impact_of(energy, edges, s) for s in (site, SITE))
    assert found.carbon_g == pytest.approx(constant.carbon_g, rel=1e-12)


def test_a_whole_year_of_constant_power_has_the_mean_intensity() -> None:
    found = impact_of([8760 * KWH], [0, 8760 * HOUR], at(AZPS))
    assert found.carbon_g == pytest.approx(8760 * np.mean(AZPS.g_per_kwh), rel=1e-9)


def test_a_signal_that_ends_too_early_is_an_error_with_both_ends(signal: Signal) -> None:
    told = "sites.here.carbon_signal: ends at 28800 s, the energy at 30000 s"
    with pytest.raises(ParameterError, match=told):
        impact_of([1.0], [0, 30_000], at(signal))
    told = "ends at 2023-01-01T00:00:00Z, the energy at 2023-01-01T01:00:00Z"
    with pytest.raises(ParameterError, match=told):
        impact_of([1.0], [0, 2 * HOUR], at(AZPS, 8759 * HOUR))
    with pytest.raises(ParameterError, match="begins at 0 s, the energy at -10 s"):
        impact_of([1.0], [0, 1], at(signal, -10.0))


def test_missing_hours_matter_only_where_there_is_energy(signal: Signal) -> None:
    edges = np.array([0, 1, 2, 6, 7]) * HOUR
    assert impact_of([KWH, KWH, 0, KWH], edges, at(signal)).carbon_g == pytest.approx(900)
    with pytest.raises(ParameterError, match="no value at 7200 s"):
        impact_of([KWH, KWH, 1.0, KWH], edges, at(signal))


def test_bridged_hours_are_told() -> None:
    miso = read_signal("eia-2022-carbon#MISO")
    first = miso.edges_s[miso.bridged[0]]
    (mean, _) = impact_of([KWH], [0, 2 * HOUR], at(miso, first)).factors
    assert "1 of its windows bridged" in mean.source
    assert "average intensity" in mean.source
    assert mean.kind == "derived"
    (mean, _) = impact_of([KWH], [0, 2 * HOUR], at(miso)).factors
    assert "bridged" not in mean.source


def test_energy_at_the_wall_has_no_second_pue() -> None:
    with pytest.raises(ParameterError, match=r"sites\.here\.pue: 1.2 for energy at the wall"):
        impact_of([1.0], [0, 1], SITE, boundary="wall")
    wall = impact_of([KWH], [0, 1], replace(SITE, pue=1.0), boundary="wall")
    assert wall.energy_facility_j == wall.energy_it_j == KWH
    assert wall.boundary == "wall"


@pytest.mark.parametrize(
    ("energy", "edges", "told"),
    [
        ([1.0], [0.0], "edges_s: shape"),
        ([], [0.0], "edges_s: shape"),
        ([1.0], [0.0, 0.0], "edges_s: not rising"),
        ([1.0], [0.0, np.inf], "edges_s: not rising"),
        ([-1.0], [0.0, 1.0], "energy_j_by_bin: below 0"),
        ([np.nan], [0.0, 1.0], "energy_j_by_bin: below 0 or not finite"),
    ],
)
def test_bad_arrays_are_refused(energy: list[float], edges: list[float], told: str) -> None:
    with pytest.raises(ParameterError, match=told):
        impact_of(energy, edges, SITE)
