"""Any log as a trace: recognised by content, with the energy of the formulas."""

from __future__ import annotations

from pathlib import Path

import pytest

from wattshed.errors import FileError
from wattshed.measure.logs.traces import trace_of_log
from wattshed.measure.trace import Manifest, Trace, TraceFile
from wattshed.records import MeterInfo, Reading

POWERMETRICS = """\
*** Sampled system activity (Mon Apr  8 13:24:56 2024 +0100) (200.00ms elapsed) ***

CPU Power: 1000 mW
GPU Power: 10000 mW

*** Sampled system activity (Mon Apr  8 13:24:56 2024 +0100) (300.00ms elapsed) ***

CPU Power: 3000 mW
GPU Power: 0 mW

*** Sampled system activity (Mon Apr  8 13:26:56 2024 +0100) (500.00ms elapsed) ***

CPU Power: 4000 mW
GPU Power: 2000 mW
"""
UPROF = """\
Sampling Interval:,100 milli-seconds
PROFILE RECORDS
RecordId,Timestamp,socket0-package-power,socket1-package-power,core0-power
1,23:59:59:950,  100.00,  200.00,  1.00
2,0:00:00:050,  110.00,  210.00,  1.00
3,0:00:00:1"""
SMI = """\
timestamp, uuid, power.draw [W]
2024/04/10 09:01:30.400, GPU-aa, 50.00 W
2024/04/10 09:01:30.500, GPU-bb, 70.00 W
2024/04/10 09:01:31.400, GPU-aa, [N/A]
"""
RAPL = "t_s,package-0_uj\n5.0,1000000\n5.5,2000000\n"


def trace(folder: Path, text: str) -> Trace:
    path = folder / "some.log"
    path.write_text(text)
    return trace_of_log(path)


def said(trace: Trace, meter: str) -> list[tuple[int, float | None, float | None]]:
    return [(r.t_ns, r.energy_j, r.power_w) for r in trace.readings[meter]]


def test_powermetrics_is_a_sum_that_changes_at_the_ends_of_samples_and_stops_at_a_gap(tmp_path):
    found = trace(tmp_path, POWERMETRICS)
    infos = found.manifest.meters
    assert [i.id for i in infos] == ["powermetrics:cpu", "powermetrics:gpu"]
    assert {i.kind for i in infos} == {"log"}
    assert [i.scope for i in infos] == ["cpu_package", "gpu"]
    readings = said(found, "powermetrics:cpu")
    first, late = readings[:5], readings[5:]
    assert first == [
        (0, 0.0, 1.0),
        (199_999_999, 0.0, 1.0),
        (200_000_000, pytest.approx(0.2, abs=1e-9), 1.0),
        (499_999_999, pytest.approx(0.2, abs=1e-9), 1.0),
        (500_000_000, pytest.approx(0.2 + 0.9, abs=1e-9), 3.0),
    ]
    assert late[0][1:] == (None, None)  # two minutes of which nothing is known
    assert found.readings["powermetrics:cpu"][5].flags == ("no_data",)
    assert [r[1] for r in late[1:]] == [0.0, 0.0, pytest.approx(2.0, abs=1e-9)]
    assert late[3][0] - late[1][0] == 500_000_000


def test_uprof_gives_its_sockets_past_midnight_and_tells_that_it_was_cut_off(tmp_path):
    found = trace(tmp_path, UPROF)
    assert [i.covers for i in found.manifest.meters] == [("package-0",), ("package-1",)]
    assert all("cut off" in i.note for i in found.manifest.meters)
    assert said(found, "uprof:package-1")[-1] == (
        200_000_000,
        pytest.approx(20 + 21, abs=1e-9),
        210.0,
    )


def test_cores_alone_are_no_meter(tmp_path):
    text = "PROFILE RECORDS\nRecordId,Timestamp,core0-power\n1,0:00:00:100,  1.00\n"
    with pytest.raises(FileError, match="cores only, which miss most of a package"):
        trace(tmp_path, text)


def test_nvidia_smi_gives_powers_by_gpu_and_says_what_it_does_not_know(tmp_path):
    found = trace(tmp_path, SMI)
    assert said(found, "nvidia-smi:GPU-aa")[0] == (0, None, 50.0)
    assert said(found, "nvidia-smi:GPU-bb")[0][0] == pytest.approx(100_000_000, abs=1000)
    assert found.readings["nvidia-smi:GPU-aa"][1].flags == ("no_data",)
    assert [i.averaging_s for i in found.manifest.meters] == [1.0, 1.0]
    assert all("taken for the mean of a second" in i.note for i in found.manifest.meters)


def test_rapl_gives_counters(tmp_path):
    found = trace(tmp_path, RAPL)
    assert said(found, "rapl:package-0") == [(0, 1.0, None), (500_000_000, 2.0, None)]


def test_a_trace_is_read_as_it_is(tmp_path):
    info = MeterInfo("nvml:0", "nvml", "counter", "gpu", ("GPU-aa",))
    path = tmp_path / "trace.jsonl"
    file = TraceFile(path, Manifest([info]))
    file.add("nvml:0", Reading(5, 1.0, 2.0, 3.0))
    file.close()
    assert trace_of_log(path).readings == {"nvml:0": [Reading(5, 1.0, 2.0, 3.0)]}


@pytest.mark.parametrize("text", ["", "hello\n", "a,b\n1,2\n"])
def test_what_is_no_known_log_is_refused(tmp_path, text: str):
    with pytest.raises(FileError, match="no log that is known here"):
        trace(tmp_path, text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileError, match=r"none\.log: cannot be read"):
        trace_of_log(tmp_path / "none.log")
