"""The live meter follows a real program that prints as powermetrics does."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from wattshed.errors import MeterError
from wattshed.measure.clock import SYSTEM_CLOCK
from wattshed.measure.meter import open_meters
from wattshed.measure.meters.following import Channel
from wattshed.measure.meters.powermetrics import command_of

BLOCK = """\
*** Sampled system activity (Mon Apr  8 13:24:56 2024 +0100) ({ms}ms elapsed) ***

CPU Power: {cpu} mW
GPU Power: {gpu} mW
ANE Power: 0 mW
Combined Power (CPU + GPU + ANE): 1 mW

**** GPU usage ****

GPU idle residency:  99.65%
GPU Power: {gpu} mW

"""


def program(folder: Path, body: str, name: str = "powermetrics") -> str:
    """A program that prints, then does as told; `say` prints a sample, `wait` waits to be ended."""
    path = folder / name
    path.write_text(
        f"#!{sys.executable}\n"
        "import pathlib, sys, time\n"
        f"BLOCK = {BLOCK!r}\n"
        "def say(ms, cpu, gpu):\n"
        "    print(BLOCK.format(ms=ms, cpu=cpu, gpu=gpu), end='', flush=True)\n"
        "def until(name):\n"
        f"    while not (pathlib.Path({str(folder)!r}) / name).exists(): time.sleep(0.005)\n"
        f"{body}\n"
    )
    path.chmod(0o755)
    return str(path)


def test_it_says_the_last_sample_and_the_energy_so_far_and_flags_an_old_one(tmp_path, wait_for):
    path = program(
        tmp_path,
        "print('Machine model: MacBookPro18,3')\n"
        "pathlib.Path(sys.argv[0] + '.args').write_text(' '.join(sys.argv[1:]))\n"
        "say(50, 1000, 10000)\nuntil('more')\nsay(300, 2000, 20000)\nuntil('end')",
    )
    cpu, gpu, ane = open_meters(f"powermetrics:{path}")
    assert [m.info.id for m in (cpu, gpu, ane)] == [
        f"powermetrics:{n}" for n in ("cpu", "gpu", "ane")
    ]
    arguments = Path(path + ".args").read_text()
    assert arguments == ("-i 200 -b 1 --samplers tasks,cpu_power,gpu_power --show-process-energy")
    first = gpu.read()
    assert (first.energy_j, first.power_w) == (pytest.approx(0.5, abs=1e-9), 10.0)
    wait_for(gpu, lambda r: r.flags == ("stale",))  # nothing new for five samples' time
    assert isinstance(gpu, Channel)
    assert gpu.age_s >= 0.25
    (tmp_path / "more").touch()
    second = wait_for(gpu, lambda r: r.power_w == 20.0)
    assert second.energy_j == pytest.approx(0.5 + 6.0, abs=1e-9)
    assert cpu.read().energy_j == pytest.approx(0.05 + 0.6, abs=1e-9)
    (tmp_path / "end").touch()
    over = wait_for(gpu, lambda r: r.flags == ("no_data",))
    assert (over.energy_j, over.power_w) == (None, None)


def test_the_program_ends_when_its_meters_are_forgotten(tmp_path):
    path = program(
        tmp_path,
        "import os\npathlib.Path(sys.argv[0] + '.pid').write_text(str(os.getpid()))\n"
        "say(200, 1, 1)\nuntil('never')",
    )
    meters = open_meters(f"powermetrics:{path}")
    pid = int(Path(path + ".pid").read_text())
    assert len(meters) == 3
    assert psutil.pid_exists(pid)
    del meters
    assert not psutil.pid_exists(pid)


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (
            "sys.exit('powermetrics must be invoked as the superuser')",
            "not_permitted",
            "must be invoked as the superuser",
        ),
        ("sys.exit('sudo: a password is required')", "not_permitted", "a password is required"),
        ("pass", "not_trusted", "said nothing"),
        ("print('*** Sampled system activity (never) ***')\nsay(1, 2, 3)", "not_trusted", "line 1"),
    ],
)
def test_why_there_is_no_power_is_told_with_a_cure(tmp_path, body: str, status: str, told: str):
    path = program(tmp_path, body)
    with pytest.raises(MeterError) as error:
        open_meters(f"powermetrics:{path}")
    assert error.value.status == status
    assert told in str(error.value)
    assert "the meter apple, which needs neither" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_program_and_one_that_may_not_be_run_are_told(tmp_path):
    with pytest.raises(MeterError, match="is not installed here") as missing:
        open_meters(f"powermetrics:{tmp_path / 'none'}")
    assert missing.value.status == "missing"
    path = Path(program(tmp_path, "pass"))
    path.chmod(0o644)
    with pytest.raises(MeterError, match="cannot be run") as refused:
        open_meters(f"powermetrics:{path}")
    assert refused.value.status == "not_permitted"


def test_sudo_is_used_only_if_asked_for_and_never_with_a_password():
    assert command_of("")[:1] == ["powermetrics"]
    assert command_of("/opt/pm")[:1] == ["/opt/pm"]
    assert command_of("sudo")[:3] == ["sudo", "-n", "powermetrics"]
    assert command_of("sudo:/opt/pm")[:3] == ["sudo", "-n", "/opt/pm"]


def test_a_log_that_breaks_later_gives_no_data(tmp_path, wait_for):
    path = program(
        tmp_path, "say(200, 1, 1)\nprint('*** Sampled system activity x', flush=True)\nsay(1, 1, 1)"
    )
    cpu, *_ = open_meters(f"powermetrics:{path}", SYSTEM_CLOCK)
    wait_for(cpu, lambda r: r.flags == ("no_data",))
