"""The live meter follows a real program that writes a timechart as AMDuProfCLI does."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil
import pytest

from wattshed.errors import InputError, MeterError
from wattshed.measure.meter import open_meters
from wattshed.measure.meters.uprof import cores_of, parse_argument

CORES = max(1, psutil.cpu_count() or 1)
NAMES = ",".join(f"core{i}-power" for i in range(CORES))
HEAD = (
    "AMDPROFILER POWER PROFILE REPORT\n\nSampling Interval:,100 milli-seconds\n\nPROFILE RECORDS\n"
    f"RecordId,Timestamp,socket0-package-power,socket1-package-power,{NAMES}\n"
)
ONES = ",".join(["    1.00"] * CORES)


def program(folder: Path, body: str) -> str:
    path = folder / "AMDuProfCLI"
    path.write_text(
        f"#!{sys.executable}\n"
        "import pathlib, sys, time\n"
        f"HEAD, ONES = {HEAD!r}, {ONES!r}\n"
        "folder = pathlib.Path(sys.argv[-1]) / 'AMDuProf-Timechart_May-07-2024_08-44-14'\n"
        "def write(text):\n"
        "    folder.mkdir(exist_ok=True)\n"
        "    with (folder / 'timechart.csv').open('a') as file: file.write(text)\n"
        "def until(name):\n"
        f"    while not (pathlib.Path({str(folder)!r}) / name).exists(): time.sleep(0.005)\n"
        f"{body}\n"
    )
    path.chmod(0o755)
    return str(path)


GROWS = """
pathlib.Path(sys.argv[0] + '.args').write_text(' '.join(sys.argv[1:]))
write(HEAD + '1,23:59:59:900,  100.00,  50.00,' + ONES + '\\n2,23:59')
until('more')
write(':59:950,  200.00,  60.00,' + ONES + '\\n3,0:00:00:150,  300.00,  70.00,' + ONES + '\\n')
until('end')
"""


def test_it_follows_a_file_that_grows_past_midnight(tmp_path, wait_for):
    path = program(tmp_path, GROWS)
    first, second = open_meters(f"uprof:{path}")
    assert (first.info.id, second.info.covers) == ("uprof:package-0", ("package-1",))
    arguments = Path(path + ".args").read_text().split()
    assert " ".join(arguments[:8]) == "timechart --event power --interval 100 --duration 99999 -o"
    assert (first.read().energy_j, first.read().power_w) == (pytest.approx(10.0, abs=1e-9), 100.0)
    (tmp_path / "more").touch()
    last = wait_for(first, lambda r: r.power_w == 300.0)
    # 100 W * 0.1 s + 200 W * 0.05 s + 300 W * 0.2 s
    assert last.energy_j == pytest.approx(10 + 10 + 60, abs=1e-9)
    assert second.read().energy_j == pytest.approx(5 + 3 + 14, abs=1e-9)
    folder = Path(arguments[-1])
    assert folder.exists()
    del first, second
    assert not folder.exists()


def test_the_cores_of_a_process_are_summed_apart_and_cover_the_sockets(tmp_path):
    path = program(
        tmp_path, "write(HEAD + '1,8:44:14:860,  9.00,  9.00,' + ONES + '\\n')\nuntil('x')"
    )
    *sockets, cores = open_meters(f"uprof:{path},pid={os.getpid()}")
    assert len(sockets) == 2
    assert cores.info.covers == ("package-0", "package-1")
    assert "miss most of the package" in cores.info.note
    power_w = cores.read().power_w
    assert power_w is not None
    assert 1.0 <= power_w <= CORES  # 1 W for each core that one of our threads was seen on


def test_cores_that_the_chart_does_not_have_give_no_data_rather_than_no_meter(tmp_path):
    others = "HEAD.replace('core', 'core99')"
    path = program(
        tmp_path, f"write({others} + '1,8:44:14:860,  9.00,  9.00,' + ONES + '\\n')\nuntil('x')"
    )
    *_, cores = open_meters(f"uprof:{path},pid={os.getpid()}")
    reading = cores.read()
    assert (cores.info.id, reading.power_w, reading.flags) == ("uprof:cores", None, ("no_data",))


def test_cores_are_those_that_threads_run_on():
    found = cores_of(os.getpid())
    assert 1 <= len(found) <= CORES
    assert set(found) <= set(range(CORES))
    assert cores_of(2**22 + 1) == ()


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ("sys.exit('Power profiling needs root permission')", "not_permitted", "needs root"),
        ("print('driver is not loaded'); sys.exit(1)", "not_trusted", "driver is not loaded"),
        ("write('PROFILE RECORDS\\na,b\\n1,2\\n')", "not_trusted", "timechart.csv: line 2"),
    ],
)
def test_why_there_is_no_power_is_told_with_a_cure(tmp_path, body: str, status: str, told: str):
    with pytest.raises(MeterError) as error:
        open_meters(f"uprof:{program(tmp_path, body)}")
    assert error.value.status == status
    assert told in str(error.value)
    assert "install AMD uProf" in str(error.value)


def test_a_missing_program_is_told(tmp_path):
    with pytest.raises(MeterError, match="is not installed here") as error:
        open_meters(f"uprof:{tmp_path / 'none'}")
    assert error.value.status == "missing"


def test_an_argument_names_a_program_and_a_process():
    assert parse_argument("") == ("AMDuProfCLI", None)
    assert parse_argument("/opt/u,pid=7") == ("/opt/u", 7)
    with pytest.raises(InputError, match="'pid=me' has no number"):
        parse_argument("pid=me")
    with pytest.raises(InputError, match="cores of process 4194305 cannot be seen"):
        open_meters("uprof:pid=4194305")
