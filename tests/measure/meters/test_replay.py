"""Replay: what was said then is said again, at the same distance from the start."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wattshed.errors import InputError
from wattshed.measure.clock import VirtualClock
from wattshed.measure.meter import open_meters
from wattshed.measure.meters.replay import trace_of_log
from wattshed.measure.trace import Manifest, TraceFile
from wattshed.records import MeterInfo, Reading

INFO = MeterInfo("nvml:0", "nvml", "counter", "gpu", ("GPU-aa",))
OTHER = MeterInfo("nvml:1", "nvml", "counter", "gpu", ("GPU-bb",))


def record(path: Path, readings: list[tuple[MeterInfo, Reading]]) -> str:
    file = TraceFile(path, Manifest([INFO, OTHER]))
    for info, reading in readings:
        file.add(info.id, reading)
    file.close()
    return f"replay:{path}"


values = st.none() | st.floats(0, 1e6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(1, 10**9), values, values), min_size=1, max_size=20),
    st.integers(0, 10**12),
)
def test_it_says_what_was_recorded_and_then_nothing(tmp_path, rows, now_ns):
    t_ns, readings = 10**15, []
    for step_ns, energy_j, power_w in rows:
        t_ns += step_ns
        flags = ("stale",) if energy_j is None else ()
        readings.append(Reading(t_ns, 1.0, energy_j, power_w, flags=flags))
    text = record(tmp_path / "trace.jsonl", [(INFO, reading) for reading in readings])
    clock = VirtualClock(now_ns)
    meter, other = open_meters(text, clock)
    assert meter.info == INFO
    for reading in readings:
        clock.now_ns = now_ns + reading.t_ns - readings[0].t_ns
        again = meter.read()
        assert (again.energy_j, again.power_w, again.flags) == (
            reading.energy_j,
            reading.power_w,
            reading.flags,
        )
        assert again.t_ns == clock.now_ns
    assert other.read().flags == ("no_data",)  # it has no readings
    clock.sleep(1e-3)
    finished = meter.read()
    assert (finished.energy_j, finished.power_w, finished.flags) == (None, None, ("no_data",))


def test_between_two_readings_the_earlier_one_is_current(tmp_path):
    readings = [
        (INFO, Reading(0, 0.0, 1.0)),
        (OTHER, Reading(50, 0.0, 7.0)),
        (INFO, Reading(100, 0.0, 2.0)),
    ]
    clock = VirtualClock(1000)
    meter, other = open_meters(record(tmp_path / "t.jsonl", readings), clock)
    clock.now_ns = 1049
    assert other.read().flags == ("no_data",)  # it began later
    clock.now_ns = 1099
    assert (meter.read().energy_j, other.read().flags) == (1.0, ("no_data",))


def test_a_log_of_another_tool_is_played_too(tmp_path):
    path = tmp_path / "rapl.csv"
    path.write_text("t_s,package-0_uj\n5.0,1000000\n5.5,2000000\n")
    clock = VirtualClock()
    (meter,) = open_meters(f"replay:{path}", clock)
    assert meter.info == trace_of_log(path).info("rapl:package-0")
    clock.sleep(0.4)
    assert meter.read().energy_j == 1.0
    clock.sleep(0.1)
    assert meter.read().energy_j == 2.0


def test_a_file_is_needed_and_must_have_readings(tmp_path):
    with pytest.raises(InputError, match="'replay' needs a file; use replay:FILE"):
        open_meters("replay", VirtualClock())
    with pytest.raises(InputError, match="has no reading"):
        open_meters(record(tmp_path / "empty.jsonl", []), VirtualClock())
