"""Sites in fleet.toml: every key read, every mistake told with its place and cure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from wattshed import impact_of, load_fleet
from wattshed.errors import FleetError, ParameterError
from wattshed.fleet import Fleet
from wattshed.records import Site

DEPLOYMENT = '[[deployments]]\nname = "m1"\nprofile = "wilkins-2024/m1-pro/llama-2-7b"\n'
SIGNAL = 'carbon_signal = "eia-2022-carbon#PJM"\n'
HOUR = 3600.0


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], Fleet]:
    def load(text: str) -> Fleet:
        path = tmp_path / "fleet.toml"
        path.write_text(text)
        return load_fleet(path)

    return load


def test_a_deployment_has_its_site(load: Callable[[str], Fleet]) -> None:
    fleet = load(
        DEPLOYMENT + 'site = "oslo"\n[sites.oslo]\npue = 1.1\ncarbon_g_per_kwh = 30\n'
        "water_l_per_kwh = 0.2\nwater_source_l_per_kwh = 5.0\n"
        'price_per_kwh = 0.8\ncurrency = "NOK"\n[sites.other]\n'
    )
    assert fleet.deployments[0].site == "oslo"
    source = fleet.name
    assert fleet.sites["oslo"] == Site("oslo", 1.1, 30.0, None, None, 0.2, 5.0, 0.8, "NOK", source)
    assert fleet.sites["other"] == Site("other", source=source)


def test_no_site_is_needed(load: Callable[[str], Fleet]) -> None:
    fleet = load(DEPLOYMENT)
    assert (fleet.deployments[0].site, fleet.sites) == (None, {})


@pytest.mark.parametrize(
    "begins",
    [
        "signal_offset_s = 7200",
        "signal_start = 2022-01-01T02:00:00Z",
        "signal_start = 2021-12-31T21:00:00-05:00",
        'signal_start = "2022-01-01T02:00:00Z"',
    ],
)
def test_a_signal_begins_at_an_offset_or_a_date(load: Callable[[str], Fleet], begins: str) -> None:
    site = load(f"{DEPLOYMENT}[sites.east]\n{SIGNAL}{begins}\n").sites["east"]
    assert site.signal_offset_s == 7200
    assert site.carbon_signal is not None
    carbon = impact_of([3.6e6], [0, HOUR], site).carbon_g
    assert carbon == pytest.approx(site.carbon_signal.g_per_kwh[2])


def test_files_are_relative_to_the_fleet(load: Callable[[str], Fleet], tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("start_s,g_per_kwh\n0,100\n60,200\n")
    site = load(f'{DEPLOYMENT}[sites.mine]\ncarbon_signal = "mine.csv"\n').sites["mine"]
    assert impact_of([3.6e6], [0, 120], site).carbon_g == pytest.approx(150)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ("pue = 0.9", r"sites.x.pue: 0.9; give a number from 1 on"),
        ("pue = nan", r"sites.x.pue: nan; give a number from 1 on"),
        ('pue = "low"', r"sites.x.pue: expected `float`, got `str` \('low'\)"),
        ("PUE = 1.2", r"sites.x.PUE: unknown key; use one of pue, carbon_g_per_kwh"),
        ("carbon_g_per_kwh = -1", r"sites.x.carbon_g_per_kwh: -1; give a finite number"),
        ("water_l_per_kwh = inf", r"sites.x.water_l_per_kwh: inf"),
        ("price_per_kwh = 0.1", r"sites.x.price_per_kwh: no currency; add one"),
        (f"carbon_g_per_kwh = 4\n{SIGNAL}", r"carbon_signal: beside carbon_g_per_kwh; keep one"),
        ('carbon_signal = "none.csv"', r"sites.x.carbon_signal: .*none.csv: no such file"),
        ('carbon_signal = "eia-2022-carbon"', r"sites.x.carbon_signal: .*eia-2022-carbon#AZPS"),
        ("signal_offset_s = 1", r"sites.x.signal_offset_s: no carbon_signal"),
        (f"signal_offset_s = inf\n{SIGNAL}", r"sites.x.signal_offset_s: inf; give seconds"),
        ("signal_start = 2022-01-01T00:00:00Z", r"sites.x.signal_start: no carbon_signal"),
        (f"{SIGNAL}signal_start = 2022-01-01T00:00:00", r"sites.x.signal_start: .*timezone"),
        (
            f"{SIGNAL}signal_offset_s = 1\nsignal_start = 2022-01-01T00:00:00Z",
            r"sites.x.signal_start: beside signal_offset_s; keep one",
        ),
        (
            'carbon_signal = "s.csv"\nsignal_start = 2022-01-01T00:00:00Z',
            r"sites.x.signal_start: .*s.csv has no dates; give signal_offset_s",
        ),
    ],
)
def test_mistakes_are_told(
    load: Callable[[str], Fleet], tmp_path: Path, keys: str, told: str
) -> None:
    (tmp_path / "s.csv").write_text("start_s,g_per_kwh\n0,100\n60,200\n")
    with pytest.raises(FleetError, match=rf"fleet\.toml: .*{told}"):
        load(f"{DEPLOYMENT}[sites.x]\n{keys}\n")


def test_a_table_is_needed(load: Callable[[str], Fleet]) -> None:
    with pytest.raises(FleetError, match=r"sites\.x: expected `object`, got `int`"):
        load(f"{DEPLOYMENT}[sites]\nx = 1\n")


def test_unknown_sites_are_told_with_those_that_there_are(load: Callable[[str], Fleet]) -> None:
    text = f'{DEPLOYMENT}site = "oslo"\n'
    with pytest.raises(
        FleetError, match=r"deployments\[0\]\.site: no site named 'oslo'; use one of a, b"
    ):
        load(f"{text}[sites.a]\n[sites.b]\n")
    with pytest.raises(FleetError, match=r"'oslo'; add a table \[sites.oslo\]"):
        load(text)


def test_a_site_made_by_hand_is_checked_too() -> None:
    with pytest.raises(ParameterError, match=r"sites\.x\.pue: 0\.5"):
        Site("x", pue=0.5)
