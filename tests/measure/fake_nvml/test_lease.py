"""Leases on clocks and power limits: what was there is put back, on GPUs that are made up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from wattshed.errors import FileError, MeterError, ParameterError
from wattshed.measure.doctor import examine_knobs, may_administer
from wattshed.measure.knobs import Settings, plan_settings
from wattshed.measure.lease import restore_leftover, settings_lease

NOT_SUPPORTED, NO_PERMISSION, GPU_IS_LOST = 3, 4, 15
UNTOUCHED = [(700_000, 0), (650_000, 0)]
"""Power limit in mW and lock in MHz, of each GPU, as `machine` begins here."""

HOLD = """
import os, signal, time
from pathlib import Path
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # it is ignored where tests run under nohup
from wattshed.measure.lease import settings_lease
with settings_lease("nvml", clock_mhz=1200, power_limit_w=300, state_file=Path("state")):
    child = {child}
    if child:
        print(child, flush=True)
    time.sleep(60)
"""
"""A process with a lease; it prints a number when it has it."""


@pytest.fixture(autouse=True)
def limits_differ(machine: Any) -> None:
    machine.gpus[1].limit_mw = 650_000
    assert machine.settings() == UNTOUCHED


@pytest.fixture
def state_file(tmp_path: Path) -> Path:
    return tmp_path / "state"


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def holder(machine: Any, start: Callable[[str], subprocess.Popen[str]]) -> subprocess.Popen[str]:
    """Another process with a lease on both GPUs."""
    process = start(HOLD.format(child=1))
    assert process.stdout is not None
    assert process.stdout.readline() == "1\n"
    assert machine.settings() == [(300_000, 1200)] * 2
    return process


def test_settings_last_as_long_as_the_lease(machine: Any, state_file: Path) -> None:
    with settings_lease("nvml", clock_mhz=1200, power_limit_w=300, state_file=state_file) as lease:
        assert machine.settings() == [(300_000, 1200)] * 2
        assert state_file.exists()
    assert machine.settings() == UNTOUCHED
    assert not state_file.exists()
    assert lease.notes == ()
    assert lease.settings == {
        "GPU-00000000-feed": {"clock_mhz": 1200, "power_limit_w": 300},
        "GPU-00000001-feed": {"clock_mhz": 1200, "power_limit_w": 300},
    }


def test_only_what_is_asked_for_is_touched(machine: Any, state_file: Path) -> None:
    machine.gpus[0].lock_mhz = 990  # by somebody else
    machine.gpus[1].lock_result = NO_PERMISSION
    with settings_lease("nvml", power_limit_w=250.5, state_file=state_file):
        assert machine.settings() == [(250_500, 990), (250_500, 0)]
    assert machine.settings() == [(700_000, 990), (650_000, 0)]
    with settings_lease("nvml:0", clock_mhz=345, state_file=state_file) as lease:
        assert machine.settings() == [(700_000, 345), (650_000, 0)]
    assert machine.settings() == UNTOUCHED, "a lock cannot be told from none: it is lifted"
    assert lease.changes[0].earlier == Settings(power_limit_w=700.0)


def test_nothing_asked_for_is_nothing_done(
    machine: Any, state_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FAKE_NVML_STATE")  # so that NVML could not even be opened
    with settings_lease("nvml", state_file=state_file) as lease:
        assert list(state_file.parent.iterdir()) == [state_file.parent / "gpus"]
    assert (lease.changes, lease.notes, lease.settings) == ((), (), {})


def test_an_exception_ends_the_lease(machine: Any, state_file: Path) -> None:
    def work() -> None:
        with settings_lease("nvml", clock_mhz=1200, power_limit_w=300, state_file=state_file):
            raise KeyError("of the work")

    with pytest.raises(KeyError, match="of the work"):
        work()
    assert machine.settings() == UNTOUCHED
    assert not state_file.exists()


def test_other_threads_may_lease_too(machine: Any, state_file: Path) -> None:
    seen = []

    def work() -> None:
        with settings_lease("nvml:1", clock_mhz=1200, state_file=state_file):
            seen.append(machine.settings())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [[(700_000, 0), (650_000, 1200)]]
    assert machine.settings() == UNTOUCHED


@pytest.mark.parametrize("wanted", [{"clock_mhz": 1200}, {"power_limit_w": 300}])
def test_without_permission_one_line_and_nothing_changed(
    machine: Any, state_file: Path, wanted: dict[str, float]
) -> None:
    for gpu in machine.gpus[:2]:
        gpu.limit_set_result = gpu.lock_result = NO_PERMISSION
    before = bytes(machine)
    with (
        pytest.raises(
            MeterError, match=r"nvml:0: .* may not be set by this user; run as root"
        ) as e,
        settings_lease("nvml", **wanted, state_file=state_file),
    ):
        pytest.fail("it was not set")
    assert e.value.status == "not_permitted"
    assert "\n" not in str(e.value)
    assert "zeusd" in e.value.cure
    assert bytes(machine) == before
    assert not state_file.exists()


@pytest.mark.parametrize("refused", ["limit_set_result", "lock_result"])
@pytest.mark.parametrize("result", [NO_PERMISSION, GPU_IS_LOST])
def test_when_the_second_gpu_refuses_the_first_is_put_back(
    machine: Any, state_file: Path, refused: str, result: int
) -> None:
    setattr(machine.gpus[1], refused, result)
    with (
        pytest.raises(MeterError, match="nvml:1"),
        settings_lease("nvml", clock_mhz=1200, power_limit_w=300, state_file=state_file),
    ):
        pytest.fail("it was not set")
    assert machine.gpus[0].writes == 4, "it was set and put back, clock and limit"
    assert machine.settings() == UNTOUCHED


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({"power_limit_w": 199}, "199 W is outside what the GPU supports; give 200 to 700 W"),
        ({"power_limit_w": 701}, "701 W is outside"),
        ({"power_limit_w": float("nan")}, "nan W is outside"),
        ({"clock_mhz": 330}, "330 MHz is outside what the GPU supports; give 345 to 1980 MHz"),
        ({"clock_mhz": 1995}, "1995 MHz is outside"),
        ({"clock_mhz": 1201}, "1201 MHz is none of the GPU's steps; give 1200 or 1215 MHz"),
    ],
)
def test_values_outside_the_range_are_refused_with_it(
    machine: Any, state_file: Path, wanted: dict[str, float], says: str
) -> None:
    before = bytes(machine)
    with pytest.raises(ParameterError, match=says):
        plan_settings("nvml", **wanted)
    with (
        pytest.raises(ParameterError, match=says),
        settings_lease("nvml", **wanted, state_file=state_file),
    ):
        pytest.fail("it was not set")
    assert bytes(machine) == before


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        ("limit_get_result", NOT_SUPPORTED, {"power_limit_w": 300}),
        ("clock_step_mhz", 0, {"clock_mhz": 1200}),
    ],
)
def test_knobs_that_a_gpu_has_not_are_refused(
    machine: Any, field: str, value: int, wanted: dict[str, float]
) -> None:
    setattr(machine.gpus[1], field, value)
    with pytest.raises(MeterError, match=r"nvml:1: .*; leave it out"):
        plan_settings("nvml", **wanted)


def test_unknown_knobs_are_refused() -> None:
    with pytest.raises(ParameterError, match="'rocm' is unknown; use one of nvml"):
        plan_settings("rocm:0", clock_mhz=1200)


def test_a_plan_changes_nothing(machine: Any) -> None:
    before = bytes(machine)
    plan = plan_settings("nvml:1", clock_mhz=1200, power_limit_w=300)
    assert [str(change) for change in plan] == [
        "nvml:1: clock_mhz unknown -> 1200",
        "nvml:1: power_limit_w 650 -> 300",
    ]
    assert bytes(machine) == before


@pytest.mark.parametrize(
    ("stuck", "says"),
    [
        ("limit_stuck", "nvml:1: power limit: was set to 300 W, but is 650.0 W"),
        ("lock_stuck", "nvml:1: clock: was set to 1200 MHz, but is 1980 MHz"),
    ],
)
def test_what_has_no_effect_is_found_out(
    machine: Any, state_file: Path, stuck: str, says: str
) -> None:
    setattr(machine.gpus[1], stuck, 1)
    with (
        pytest.raises(MeterError, match=says) as caught,
        settings_lease("nvml", clock_mhz=1200, power_limit_w=300, state_file=state_file),
    ):
        pytest.fail("it was not set")
    assert caught.value.status == "not_trusted"
    assert machine.settings() == UNTOUCHED


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, -2)]
)
def test_signals_end_the_lease(
    machine: Any, state_file: Path, holder: subprocess.Popen[str], signum: int, code: int
) -> None:
    holder.send_signal(signum)
    assert holder.wait(20) == code
    assert machine.settings() == UNTOUCHED
    assert not state_file.exists()


def test_handlers_of_the_program_stay(machine: Any, state_file: Path) -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        with settings_lease("nvml", clock_mhz=1200, state_file=state_file):
            signal.raise_signal(signal.SIGTERM)
            assert machine.settings()[0][1] == 1200, "the program goes on, and so does the lease"
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]


def test_default_handlers_come_back(machine: Any, state_file: Path) -> None:
    with settings_lease("nvml", clock_mhz=1200, state_file=state_file):
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_the_watchdog_puts_back_what_a_killed_process_set(
    machine: Any, state_file: Path, holder: subprocess.Popen[str]
) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    said = holder.communicate(timeout=20)[1]  # ends when the watchdog does
    assert holder.returncode == -signal.SIGKILL
    assert machine.settings() == UNTOUCHED
    assert not state_file.exists()
    assert f"process {holder.pid} is gone; put back nvml:0: clock_mhz" in said


def test_a_fork_of_the_killed_process_does_not_delay_it(
    machine: Any, state_file: Path, start: Callable[[str], subprocess.Popen[str]]
) -> None:
    holder = start(HOLD.format(child="os.fork()"))
    assert holder.stdout is not None
    child = int(holder.stdout.readline())
    try:
        assert machine.settings() == [(300_000, 1200)] * 2
        holder.kill()
        wait_for(lambda: machine.settings() == UNTOUCHED and not state_file.exists())
        with settings_lease("nvml:1", clock_mhz=990, state_file=state_file):
            assert psutil.pid_exists(child)
            assert machine.settings() == [(700_000, 0), (650_000, 990)]
    finally:
        os.kill(child, signal.SIGKILL)


def test_the_next_start_puts_back_what_a_crash_left(
    machine: Any, state_file: Path, holder: subprocess.Popen[str]
) -> None:
    (watchdog,) = psutil.Process(holder.pid).children()
    watchdog.kill()  # as when the machine crashes: nobody is left
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait(20)
    assert machine.settings() == [(300_000, 1200)] * 2
    with settings_lease("nvml", state_file=state_file) as lease:
        assert machine.settings() == UNTOUCHED
    (note,) = lease.notes
    assert f"process {holder.pid}, begun 20" in note
    assert "had left settings behind, put back now: nvml:0: clock_mhz" in note
    assert restore_leftover(state_file) is None


def test_two_processes_exclude_each_other(
    machine: Any, state_file: Path, holder: subprocess.Popen[str]
) -> None:
    with (
        pytest.raises(ParameterError, match=f"process {holder.pid} holds nvml:0: clock_mhz"),
        settings_lease("nvml:1", clock_mhz=990, state_file=state_file),
    ):
        pytest.fail("it was not set")
    with settings_lease("nvml:1", state_file=state_file) as lease:
        assert f"process {holder.pid} holds" in lease.notes[0]
    assert machine.settings() == [(300_000, 1200)] * 2
    holder.terminate()
    holder.wait(20)
    with settings_lease("nvml:1", clock_mhz=990, state_file=state_file):
        assert machine.settings() == [(700_000, 0), (650_000, 990)]


def test_what_cannot_be_put_back_is_told_and_kept(machine: Any, state_file: Path) -> None:
    def work() -> None:
        with settings_lease("nvml", power_limit_w=300, state_file=state_file):
            machine.gpus[0].lost = GPU_IS_LOST

    with pytest.raises(MeterError, match="could not be put back: nvml:0: power_limit_w") as caught:
        work()
    assert "nvml:1" not in str(caught.value)
    assert machine.settings() == [(300_000, 0), (650_000, 0)]
    machine.gpus[0].lost = 0
    assert "put back now" in (restore_leftover(state_file) or "")
    assert machine.settings() == UNTOUCHED


def test_without_a_watchdog_nothing_is_set(
    machine: Any, state_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = bytes(machine)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with (
        pytest.raises(MeterError, match="the watchdog did not start"),
        settings_lease("nvml", clock_mhz=1200, state_file=state_file),
    ):
        pytest.fail("it was not set")
    assert bytes(machine) == before
    assert not state_file.exists()


def test_a_state_file_that_cannot_be_written_is_told_first(machine: Any, tmp_path: Path) -> None:
    before = bytes(machine)
    (tmp_path / "file").touch()
    with (
        pytest.raises(FileError, match="cannot be written"),
        settings_lease("nvml", clock_mhz=1200, state_file=tmp_path / "file" / "state"),
    ):
        pytest.fail("it was not set")
    assert bytes(machine) == before


@pytest.mark.parametrize(
    "text", ["{}", '{"pid": 1, "begun_s": 0.0, "changes": [], "schema": "wattshed/settings/9"}']
)
def test_a_state_file_that_is_none_is_told(machine: Any, state_file: Path, text: str) -> None:
    state_file.write_text(text)
    with pytest.raises(FileError, match="reset clocks and power limits by hand"):
        restore_leftover(state_file)


def test_doctor_tells_who_may_set_clocks_and_changes_nothing(machine: Any) -> None:
    before = machine.settings()
    found = examine_knobs()
    assert [each.name for each in found] == ["nvml:0", "nvml:1"]
    assert all(each.power_limit_w for each in found)
    wanted = "ok" if may_administer() else "not_permitted"
    assert {each.status for each in found} == {wanted}
    assert machine.settings() == before
