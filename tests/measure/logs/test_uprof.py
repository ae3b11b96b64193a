"""uProf timecharts: the file that AMDuProfCLI 4.1 writes, totals by hand, midnight, cut-offs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattshed.errors import InputError
from wattshed.measure.formulas import (
    core_sum_flags,
    uprof_core_energy_j,
    uprof_mean_core_energy_j,
)
from wattshed.measure.logs.uprof import parse_uprof

HEAD = """\
AMDPROFILER POWER PROFILE REPORT

AMDuProfCLI Version 4.1.424.0

LAUNCHED APPLICATION DETAILS
Target Path:,python3,

PROFILE DETAILS
CPU Details:,Family(0x17) Model(0x31)
Sampling Interval:,100 milli-seconds
Profile Start Time:,May-07-2024_08-44-14,
Profile Duration:,99999 seconds

PROFILED COUNTERS
COUNTER ID,NAME,CATEGORY,UNIT,DESCRIPTION
768.,socket0-package-power,Power,W,Socket0-Average Package Power reported in Watts.
772.,core0-power,Power,W,Core0-Average Power reported in Watts.

PROFILE RECORDS
RecordId,Timestamp,socket0-package-power,socket1-package-power,core0-power,core1-power,core2-power
"""
RECORDS = """\
1,8:44:14:860,  113.46,  154.86,    0.22,    3.16,    1.00
2,8:44:14:960,  113.99,  154.87,    0.32,    3.17,    2.00
3,8:44:15:060,  113.56,  157.38,    0.30,    3.10,    3.00
4,8:44:15:260,  104.79,  150.10,    0.27,    2.98,    4.00
"""
FIRST = HEAD.count("\n") + 1


def test_the_energies_of_a_log_are_those_computed_by_hand():
    log = parse_uprof(HEAD + RECORDS)
    assert log.dt_s == pytest.approx([0.1, 0.1, 0.1, 0.2])  # the first by the sampling interval
    assert (log.sockets, log.cores) == ((0, 1), (0, 1, 2))
    # cores 1 and 2: (3.16+1+3.17+2+3.10+3) * 0.1 + (2.98+4) * 0.2
    fixed_j = 1.543 + 1.396
    assert uprof_core_energy_j(log.core_power_w, [1, 2], log.dt_s) == pytest.approx(
        fixed_j, abs=1e-9
    )
    # the process moves: core 1, cores 0 and 1, no core, core 2
    moving_j = 0.316 + (0.32 + 3.17) * 0.1 + 0.0 + 4.00 * 0.2
    assert uprof_core_energy_j(log.core_power_w, [[1], [0, 1], [], [2]], log.dt_s) == pytest.approx(
        moving_j, abs=1e-9
    )
    # the scripts: mean power of fixed cores times runtime
    mean_w = (3.16 + 3.17 + 3.10 + 2.98) / 4 + (1 + 2 + 3 + 4) / 4
    assert uprof_mean_core_energy_j(log.core_power_w, [1, 2], 12.5) == pytest.approx(
        mean_w * 12.5, abs=1e-9
    )


def test_columns_without_a_name_are_counted_but_for_the_last():
    text = (HEAD + RECORDS).replace("core1-power", "").replace("core2-power", "core2-power,")
    assert parse_uprof(text).core_power_w[:, 1].tolist() == [1.0, 2.0, 3.0, 4.0]


def test_cores_that_miss_most_of_the_package_are_flagged():
    log = parse_uprof(HEAD + RECORDS)
    assert core_sum_flags(log.core_power_w, log.socket_power_w) == ("cores_miss_package",)
    assert core_sum_flags(log.core_power_w * 100, log.socket_power_w) == ()
    assert core_sum_flags(log.core_power_w, np.empty((4, 0))) == ()


@given(
    st.integers(86_400_000 - 3000, 86_400_000 - 1),
    st.lists(st.integers(1, 2000), min_size=1, max_size=20),
)
def test_time_runs_on_past_midnight(start_ms: int, steps_ms: list[int]):
    times = np.cumsum([start_ms, *steps_ms])
    lines = []
    for i, ms in enumerate(times.tolist(), 1):
        h, rest = divmod(ms % 86_400_000, 3_600_000)
        m, rest = divmod(rest, 60_000)
        s, part = divmod(rest, 1000)
        lines.append(f"{i},{h}:{m:02}:{s:02}:{part:03},  100.00,   50.00,   1.00,   1.00,   1.00\n")
    log = parse_uprof(HEAD + "".join(lines))
    assert log.dt_s[1:] == pytest.approx(np.array(steps_ms) * 1e-3, abs=1e-12)


@given(st.integers(0, len(RECORDS) - 1))
def test_a_record_that_was_cut_off_is_left_out_and_told(length: int):
    records = RECORDS[:length]
    whole = records.count("\n")
    if whole == 0:
        with pytest.raises(InputError, match="no record of power"):
            parse_uprof(HEAD + records)
        return
    log = parse_uprof(HEAD + records)
    assert len(log.dt_s) == whole
    assert log.cut_off == (not records.endswith("\n"))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("5,8:44:15:360,  1.00,  1.00,  1.00,  1.00", "has 6 values, expected 7"),
        ("5,half past,  1.00,  1.00,  1.00,  1.00,  1.00", "is no time H:M:S:ms: 'half past'"),
        ("5,8:44:15:360,  1.00,  1.00,  1.00,  -nan,  1.00", "expected a power in W, got '-nan'"),
        ("5,8:44:15:160,  1.00,  1.00,  1.00,  1.00,  1.00", "is not later than the record"),
    ],
)
def test_a_bad_line_is_named(line: str, told: str):
    with pytest.raises(InputError) as error:
        parse_uprof(f"{HEAD}{RECORDS}{line}\n", "timechart.csv")
    assert str(error.value).startswith(f"timechart.csv: line {FIRST + 4}: {told}")


@pytest.mark.parametrize(
    "text", ["", "nothing here\n", "PROFILE RECORDS\n", "PROFILE RECORDS\na,b\n1\n"]
)
def test_what_is_no_timechart_is_refused(text: str):
    with pytest.raises(InputError, match="timechart"):
        parse_uprof(text)
