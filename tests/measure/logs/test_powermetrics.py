"""powermetrics: text as macOS prints it, totals by hand, and what is cut off or broken."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattshed.errors import InputError
from wattshed.measure.formulas import apple_cpu_energy_j, apple_gpu_energy_j
from wattshed.measure.logs.powermetrics import parse_powermetrics

# As printed with -i 200 --samplers tasks,cpu_power,gpu_power --show-process-energy (shortened).
LOG = """\
Machine model: MacBookPro18,3
OS version: 23E224
Boot arguments:
Boot time: Mon Apr  1 08:00:00 2024



*** Sampled system activity (Mon Apr  8 13:24:56 2024 +0100) (217.49ms elapsed) ***


*** Running tasks ***

Name                               ID     CPU ms/s  User%  Deadlines (<2 ms, 2-5 ms)  Wakeups \
(Intr, Pkg idle)  Energy Impact
python3.12                         4711   980.10    91.20  0.00    0.00               4.60    \
0.00               1340.31
python3.12                         4712   12.00     50.00  0.00    0.00               0.00    \
0.00               9.69
Google Chrome Helper 2             801    44.10     74.31  0.00    0.00               27.58   \
0.00               50.00
DEAD_TASKS                         -1     0.00      0.00   0.00    0.00               0.00    \
0.00               0.00
ALL_TASKS                          -2     1100.10   88.00  0.00    0.00               60.00   \
0.00               1500.00


**** Processor usage ****

E-Cluster HW active frequency: 1332 MHz
CPU 0 frequency: 1044 MHz
CPU Power: 2538 mW
GPU Power: 41 mW
ANE Power: 0 mW
Combined Power (CPU + GPU + ANE): 2579 mW

**** GPU usage ****

GPU HW active frequency: 338 MHz
GPU idle residency:  99.65%
GPU Power: 41 mW


*** Sampled system activity (Mon Apr  8 13:24:56 2024 +0100) (252.40ms elapsed) ***


*** Running tasks ***

Name                               ID     CPU ms/s  User%  Deadlines (<2 ms, 2-5 ms)  Wakeups \
(Intr, Pkg idle)  Energy Impact
WindowServer                       431    400.63    72.68  215.33  0.00               641.70  \
8.61               600.00
ALL_TASKS                          -2     1146.77   77.23  215.33  0.00               654.62  \
17.22              800.00


**** Processor usage ****

CPU Power: 1000 mW
GPU Power: 15191 mW
ANE Power: 7 mW
Combined Power (CPU + GPU + ANE): 16198 mW

**** GPU usage ****

GPU Power: 15191 mW


"""


def sample(ms: float, gpu_mw: int, date: str = "Mon Apr  8 13:24:56 2024 +0100") -> str:
    return (
        f"*** Sampled system activity ({date}) ({ms:.2f}ms elapsed) ***\n\n"
        f"CPU Power: 1000 mW\nGPU Power: {gpu_mw} mW\nANE Power: 0 mW\n\n"
    )


def test_the_energies_of_a_log_are_those_computed_by_hand():
    log = parse_powermetrics(LOG)
    # 0.041 W * 0.21749 s + 15.191 W * 0.2524 s
    gpu_j = 0.00891709 + 3.8342084
    assert apple_gpu_energy_j(log.gpu_power_w, log.dt_s) == pytest.approx(gpu_j, abs=1e-9)
    # alpha = (1340.31 + 9.69) / 1500 = 0.9, then 0, for the process is not listed:
    cpu_j = 0.9 * 2.538 * 0.21749
    alpha = log.energy_share("python3.12")
    assert alpha == pytest.approx([0.9, 0.0], abs=1e-12)
    assert apple_cpu_energy_j(log.cpu_power_w, alpha, log.dt_s) == pytest.approx(cpu_j, abs=1e-9)
    assert log.ane_power_w == pytest.approx([0.0, 0.007])
    assert not log.cut_off


def test_a_process_is_found_by_its_id_and_by_a_name_with_spaces_and_digits():
    log = parse_powermetrics(LOG)
    assert log.energy_share(4711)[0] == pytest.approx(1340.31 / 1500)
    assert log.energy_share("Google Chrome Helper 2")[0] == pytest.approx(50 / 1500)
    assert [task.pid for task in log.samples[0].tasks] == [4711, 4712, 801, -1]


def test_samples_follow_one_another_and_their_dates_place_them():
    log = parse_powermetrics(LOG)
    assert log.begin_s == pytest.approx([0.0, 0.21749])
    first_end = log.wall_start_s + 0.21749
    printed = datetime(2024, 4, 8, 12, 24, 56, tzinfo=UTC).timestamp()
    assert printed <= first_end < first_end + 0.2524 <= printed + 1


def test_a_gap_that_the_dates_show_is_a_gap():
    late = "Mon Apr  8 13:25:56 2024 +0100"
    log = parse_powermetrics(sample(200, 5) + sample(200, 5, late))
    assert 58.5 < log.begin_s[1] - (log.begin_s[0] + log.dt_s[0]) <= 60


def test_without_the_table_of_tasks_the_share_is_not_known():
    log = parse_powermetrics(sample(200, 5))
    assert np.isnan(log.energy_share("python3.12")).all()
    with pytest.raises(InputError, match="not known"):
        apple_cpu_energy_j(log.cpu_power_w, log.energy_share("python3.12"), log.dt_s)


@given(st.integers(min_value=1, max_value=len(LOG) - 1))
def test_a_log_cut_off_anywhere_gives_its_whole_samples_or_says_that_there_is_none(length: int):
    whole = parse_powermetrics(LOG)
    text = LOG[:length]
    first_whole = LOG.index("GPU Power: 41 mW\n") + len("GPU Power: 41 mW\n")
    if length < first_whole:
        with pytest.raises(InputError, match="no whole sample"):
            parse_powermetrics(text)
        return
    log = parse_powermetrics(text)
    n = len(log.dt_s)
    assert log.gpu_power_w.tolist() == whole.gpu_power_w[:n].tolist()
    assert log.dt_s.tolist() == whole.dt_s[:n].tolist()
    assert n == 2 or log.cut_off or "Sampled" not in text[first_whole:]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("(217.49ms elapsed)", "(soon)", "line 8: is no header of a sample"),
        ("(217.49ms elapsed)", "(0.00ms elapsed)", "line 8: no time elapsed"),
        ("Mon Apr  8 13:24:56 2024 +0100", "yesterday", "line 8: is no date: 'yesterday'"),
        ("CPU Power: 2538 mW", "CPU Power: many mW", "line 25: expected a power in mW, got 'many'"),
        ("CPU Power: 2538 mW", "CPU Power: 2.5 W", "line 25: is no power in mW: '2.5 W'"),
        ("0.00               50.00", "0.00               lots", "line 16: expected an energy"),
    ],
)
def test_a_bad_line_is_named(old: str, new: str, told: str):
    assert old in LOG
    with pytest.raises(InputError) as error:
        parse_powermetrics(LOG.replace(old, new, 1), "power.txt")
    assert str(error.value).startswith(f"power.txt: {told}")
    assert "\n" not in str(error.value)


@given(
    st.lists(st.tuples(st.integers(100, 900), st.integers(0, 30_000)), min_size=1, max_size=30),
    st.floats(0, 1),
)
def test_dates_are_kept_for_contiguous_samples(rows: list[tuple[int, int]], fraction: float):
    start = datetime(2024, 4, 8, tzinfo=UTC)
    now, text = start + timedelta(seconds=fraction), ""
    for ms, gpu_mw in rows:
        now += timedelta(milliseconds=ms)
        text += sample(ms, gpu_mw, now.strftime("%a %b %d %H:%M:%S %Y +0000"))
    log = parse_powermetrics(text)
    assert log.begin_s[1:] == pytest.approx(np.cumsum(log.dt_s)[:-1])
    assert abs(log.wall_start_s - start.timestamp() - fraction) <= 0.5 + 1e-6
