"""NVIDIA GPUs for the real pynvml: `fake_nvml.c`, compiled, and its state as ctypes."""

from __future__ import annotations

import ctypes
import mmap
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

NOT_SUPPORTED = 3
N = ctypes.c_int64
GPU, MODULE, MEMORY = 0, 1, 2


class Gpu(ctypes.Structure):
    _fields_ = (
        ("uuid", ctypes.c_char * 48),
        ("name", ctypes.c_char * 48),
        *((name, N) for name in ("major", "minor", "lost", "mig", "mig_result", "c2c")),
        *((name, N) for name in ("power_mw", "t0_ns", "tick_ns", "energy_result")),
        *((name, N * 4) for name in ("instant_mw", "instant_result")),
        *((name, N * 4) for name in ("average_mw", "average_result")),
        *((name, N) for name in ("usage_mw", "usage_result")),
        *((name, N) for name in ("limit_mw", "limit_min_mw", "limit_max_mw")),
        *((name, N) for name in ("limit_get_result", "limit_set_result", "limit_stuck")),
        *((name, N) for name in ("clock_mhz", "clock_min_mhz", "clock_max_mhz", "clock_step_mhz")),
        *((name, N) for name in ("lock_mhz", "lock_result", "lock_stuck", "writes")),
        *((name, N) for name in ("temperature_c", "temperature_result")),
        *((name, N) for name in ("reasons", "reasons_result")),
    )


class Machine(ctypes.Structure):
    _fields_ = (("init_result", N), ("n_gpus", N), ("gpus", Gpu * 4))

    def settings(self) -> list[tuple[int, int]]:
        """Power limit in mW and lock in MHz, of each GPU."""
        return [(gpu.limit_mw, gpu.lock_mhz) for gpu in self.gpus[: self.n_gpus]]


def set_up(gpu: Any, number: int) -> None:
    """An H200 as its driver shows it: power of GPU and memory, no module."""
    gpu.uuid, gpu.name = b"GPU-0000000%d-feed" % number, b"NVIDIA H200"
    gpu.major, gpu.minor = 9, 0
    gpu.t0_ns, gpu.tick_ns = time.monotonic_ns() - 10**12, 20_000_000
    gpu.power_mw = gpu.usage_mw = 400_000 + 100_000 * number
    for scope, milliwatts in ((GPU, gpu.power_mw), (MEMORY, 90_000)):
        gpu.instant_mw[scope], gpu.average_mw[scope] = milliwatts, milliwatts - 5_000
    for result in (gpu.instant_result, gpu.average_result):
        result[MODULE] = NOT_SUPPORTED
    gpu.limit_mw, gpu.limit_min_mw, gpu.limit_max_mw = 700_000, 200_000, 700_000
    gpu.clock_mhz = gpu.clock_max_mhz = 1980
    gpu.clock_min_mhz, gpu.clock_step_mhz = 345, 15


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled library, in a folder of its own."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if sys.platform != "linux":
        pytest.skip("NVIDIA's library is found by another name there")
    assert compiler, "install a C compiler: these tests stand in for NVIDIA's library"
    path = tmp_path_factory.mktemp("fake_nvml") / "libnvidia-ml.so.1"
    source = Path(__file__).with_name("fake_nvml.c")
    options = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", f"-Wl,-soname,{path.name}"]
    subprocess.run([compiler, *options, "-o", path, source], check=True)
    return path


@pytest.fixture
def machine(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Two H200: what is changed in it is what the library says, here and in other processes.

    The loader takes a library that is loaded already for one of the same name, so the real pynvml
    finds this one. Without FAKE_NVML_STATE, as in other tests, it says that no driver is loaded.
    """
    ctypes.CDLL(str(library))
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library.parent))  # for processes that are started
    path = tmp_path / "gpus"
    path.write_bytes(bytes(ctypes.sizeof(Machine)))
    monkeypatch.setenv("FAKE_NVML_STATE", str(path))
    with path.open("r+b") as file:
        found = Machine.from_buffer(mmap.mmap(file.fileno(), 0))
    found.n_gpus = 2
    for number in range(2):
        set_up(found.gpus[number], number)
    return found


@pytest.fixture
def start(machine: Machine, tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Start Python code in another process, which finds the library as it would a real one."""
    started = []

    def run(code: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()
