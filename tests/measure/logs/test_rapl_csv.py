"""CSV of RAPL packages: names of columns in many styles, net energy by hand."""

from __future__ import annotations

import numpy as np
import pytest

from wattshed.errors import InputError
from wattshed.measure.formulas import rapl_net_energy_j
from wattshed.measure.logs.rapl_csv import is_header, parse_rapl_csv

ENERGY = """\
t_s,package-0_uj,package-1_uj
100.0,1000000,5000000
100.5,51000000,45000000
101.5,151000000,105000000
"""


def test_the_net_energy_of_a_log_is_that_computed_by_hand():
    log = parse_rapl_csv(ENERGY)
    # package 0: 50 J in 0.5 s = 100 W, 100 J in 1 s = 100 W; package 1: 80 W and 60 W
    power_w, dt_s = log.mean_power_w(), np.diff(log.t_s)
    assert power_w == pytest.approx(np.array([[100.0, 80.0], [100.0, 60.0]]))
    # net of idle: 62.5 + 40.5 W for 0.5 s, then 62.5 + 20.5 W for 1 s
    net_j = 103.0 * 0.5 + 83.0
    assert rapl_net_energy_j(power_w, [37.5, 39.5], dt_s) == pytest.approx(net_j, abs=1e-9)
    # idle above what was drawn: below 0, and left so
    assert rapl_net_energy_j(power_w, [110.0, 90.0], dt_s) == pytest.approx(-20 * 0.5 - 40 * 1.0)


@pytest.mark.parametrize(
    ("header", "row", "unit", "value"),
    [
        ("t,package-0 energy (uJ)", "1,2000000", "J", 2.0),
        ("time_ms;pkg0_mj", "1000;2000", "J", 2.0),
        ("timestamp\tcpu0 [W]", "1\t2", "W", 2.0),
        ("time (s),Package_0_Power_mW,comment", "1,2000,x", "W", 2.0),
        ("t_ns,socket0 uW", "1000000000,2000000", "W", 2.0),
    ],
)
def test_columns_are_named_in_many_styles(header: str, row: str, unit: str, value: float):
    assert is_header(header)
    log = parse_rapl_csv(f"{header}\n{row}\n")
    assert (log.packages, log.unit, log.cut_off) == ((0,), unit, False)
    assert log.t_s.tolist() == [1.0]
    assert log.values[0, 0] == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "rapl: line 1: has no column of the time"),
        ("t,package-0\n1,2\n", "rapl: line 1: has no column of the time, or none of a package"),
        ("t,package-0_uj,package-1_w\n1,2,3\n", "rapl: line 1: has energy and power"),
        ("t,package-0_uj\n", "rapl: has no reading"),
        ("t,package-0_uj\n1,2\n1,3\n", "rapl: line 3: is not later"),
        ("t,package-0_uj\n1,2\n2\n", "rapl: line 3: has 1 values, expected 2"),
        ("t,package-0_uj\n1000000000,2\n2000000000,3\n", "rapl: lasts 1e+09 s; name the unit"),
        ("t,package-0_uj\n1,none\n", "rapl: line 2: expected a number for package-0_uj"),
    ],
)
def test_a_bad_line_is_named(text: str, told: str):
    with pytest.raises(InputError) as error:
        parse_rapl_csv(text)
    assert str(error.value).startswith(told)


def test_a_cut_off_line_is_left_out_and_told():
    log = parse_rapl_csv(ENERGY + "102.0,1510")
    assert len(log.t_s) == 3
    assert log.cut_off


def test_a_counter_that_went_back_gives_no_power():
    log = parse_rapl_csv(ENERGY + "102.0,1000,106000000\n")
    with pytest.raises(InputError, match="reading at 102 s: its counter is lower"):
        log.mean_power_w()
