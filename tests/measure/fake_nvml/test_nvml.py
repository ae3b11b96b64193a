"""The NVIDIA meter on the real pynvml, over a library whose GPUs are made up."""

from __future__ import annotations

import ctypes.util
import itertools
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wattshed.errors import MeterError, ParameterError
from wattshed.measure.clock import SYSTEM_CLOCK
from wattshed.measure.meter import Meter, open_meters
from wattshed.measure.recorder import Recorder

NOT_SUPPORTED, NO_PERMISSION, DRIVER_NOT_LOADED, LIBRARY_NOT_FOUND = 3, 4, 9, 12
GPU_IS_LOST, VERSION_MISMATCH = 15, 18
GPU, MODULE, MEMORY = 0, 1, 2


def no_module_no_fields(gpu: Any) -> None:
    """As drivers before R525: only `nvmlDeviceGetPowerUsage`."""
    for results in (gpu.instant_result, gpu.average_result):
        results[:] = [NOT_SUPPORTED] * 4


def test_two_gpus_are_two_meters(machine: Any) -> None:
    infos = [meter.info for meter in open_meters("nvml")]
    assert [info.id for info in infos] == ["nvml:0", "nvml:1"]
    assert [info.covers for info in infos] == [("GPU-00000000-feed",), ("GPU-00000001-feed",)]
    for info in infos:
        assert (info.kind, info.scope, info.boundary) == ("counter", "gpu", "accelerator")
        assert (info.vendor, info.model) == ("NVIDIA", "NVIDIA H200")
        assert (info.resolution_j, info.update_period_s, info.averaging_s) == (1e-3, None, 0.0)
        assert (info.rel_error, info.rel_error_source) == (0.0, "")
        assert "not documented" in info.note


def test_counter_and_power_come_in_one_reading(machine: Any) -> None:
    for meter, gpu in zip(open_meters("nvml"), machine.gpus, strict=False):
        before_ns = time.monotonic_ns()
        reading = meter.read()
        after_ns = time.monotonic_ns()
        assert before_ns <= reading.t_ns <= after_ns
        assert reading.power_w == gpu.power_mw * 1e-3
        assert reading.flags == ()
        power_w, tick_ns = gpu.power_mw * 1e-3, gpu.tick_ns
        assert reading.energy_j is not None
        assert reading.energy_j <= power_w * (after_ns - gpu.t0_ns) * 1e-9
        assert reading.energy_j >= power_w * (before_ns - tick_ns - gpu.t0_ns) * 1e-9 - 1e-3


def test_counter_moves_by_whole_ticks_while_recorded(machine: Any) -> None:
    (meter,) = open_meters("nvml:1")
    with Recorder([meter], interval_s=0.002) as recorder:
        SYSTEM_CLOCK.sleep(0.1)
    energies_j = sorted(set(recorder.trace.series("nvml:1").energy_j))
    assert len(energies_j) >= 2
    for earlier_j, later_j in itertools.pairwise(energies_j):
        ticks = round((later_j - earlier_j) / 10.0)  # of 500 W for 20 ms
        assert ticks >= 1
        assert later_j - earlier_j == pytest.approx(10.0 * ticks, abs=2e-3)


def test_probe_finds_nothing_wrong(machine: Any) -> None:
    (meter,) = open_meters("nvml:0")
    health = meter.probe()
    assert (health.meter, health.status) == ("nvml:0", "ok"), health
    assert health.readings > 10


def test_average_power_where_there_is_no_instant_power(machine: Any) -> None:
    machine.gpus[0].instant_result[GPU] = NOT_SUPPORTED
    meter, other = open_meters("nvml")
    assert (meter.info.averaging_s, meter.read().power_w) == (1.0, 395.0)
    assert (other.info.averaging_s, other.read().power_w) == (0.0, 500.0)


@pytest.mark.parametrize(
    ("capability", "averaging_s"),
    [((7, 0), 0.0), ((8, 0), 0.0), ((8, 6), 1.0), ((9, 0), 1.0), ((10, 0), 1.0)],
    ids=["V100", "A100", "A40", "H100", "B200"],
)
def test_power_usage_is_averaged_after_ga100(
    machine: Any, capability: tuple[int, int], averaging_s: float
) -> None:
    gpu = machine.gpus[0]
    no_module_no_fields(gpu)
    gpu.usage_mw = 321_000
    gpu.major, gpu.minor = capability
    meter = open_meters("nvml:0")[0]
    assert (meter.info.averaging_s, meter.read().power_w) == (averaging_s, 321.0)


def test_memory_has_power_and_no_counter(machine: Any) -> None:
    meter, _ = open_meters("nvml:/memory")
    info, reading = meter.info, meter.read()
    assert (info.id, info.kind, info.scope) == ("nvml:0/memory", "power", "gpu_memory")
    assert info.covers == ("GPU-00000000-feed",), "the GPU's counter has it too"
    assert (reading.energy_j, reading.power_w, info.resolution_j) == (None, 90.0, None)


def test_superchip_is_metered_as_a_module_and_says_so(machine: Any) -> None:
    gpu = machine.gpus[0]
    gpu.name = b"NVIDIA GH200 480GB"
    gpu.instant_result[GPU] = gpu.average_result[GPU] = NOT_SUPPORTED
    gpu.instant_result[MODULE] = 0
    gpu.instant_mw[MODULE] = 650_000
    widened, plain = open_meters("nvml")
    assert (widened.info.id, widened.info.scope, widened.info.kind) == (
        "nvml:0",
        "module",
        "counter",
    )
    assert "whole module" in widened.info.note
    reading = widened.read()
    assert (reading.power_w, reading.flags) == (650.0, ("scope_widened",))
    assert reading.energy_j is not None
    assert (plain.info.scope, plain.read().flags) == ("gpu", ())


def test_the_gpu_of_a_superchip_alone_has_no_counter(machine: Any) -> None:
    gpu = machine.gpus[0]
    gpu.instant_result[MODULE], gpu.instant_mw[MODULE], gpu.c2c = 0, 650_000, 1
    (widened,) = open_meters("nvml:0")
    (alone,) = open_meters("nvml:0/gpu")
    (module,) = open_meters("nvml:0/module")
    assert (alone.info.kind, alone.info.scope, alone.read().power_w) == ("power", "gpu", 400.0)
    assert alone.read().energy_j is None
    assert (widened.info.kind, widened.info.scope) == ("counter", "module")
    assert widened.read().flags == ("scope_widened",)
    assert (module.info.kind, module.info.scope, module.read().flags) == ("counter", "module", ())


def test_module_power_alone_does_not_make_a_superchip(machine: Any) -> None:
    machine.gpus[0].instant_result[MODULE], machine.gpus[0].instant_mw[MODULE] = 0, 650_000
    (plain,) = open_meters("nvml:0")
    (module,) = open_meters("nvml:0/module")
    assert (plain.info.kind, plain.info.scope, plain.read().power_w) == ("counter", "gpu", 400.0)
    assert (module.info.kind, module.info.scope, module.read().power_w) == (
        "power",
        "module",
        650.0,
    )


def test_without_a_counter_there_is_power(machine: Any) -> None:
    machine.gpus[0].energy_result = NOT_SUPPORTED
    (meter,) = open_meters("nvml:0")
    reading = meter.read()
    assert (meter.info.kind, meter.info.resolution_j) == ("power", None)
    assert (reading.energy_j, reading.power_w, reading.flags) == (None, 400.0, ())


def test_without_power_there_is_a_counter(machine: Any) -> None:
    no_module_no_fields(machine.gpus[0])
    machine.gpus[0].usage_result = NOT_SUPPORTED
    (meter,) = open_meters("nvml:0")
    reading = meter.read()
    assert (meter.info.kind, reading.power_w, reading.flags) == ("counter", None, ())


def test_with_neither_there_is_no_meter(machine: Any) -> None:
    no_module_no_fields(machine.gpus[1])
    machine.gpus[1].usage_result = machine.gpus[1].energy_result = NOT_SUPPORTED
    with pytest.raises(MeterError, match="nvml:1: NVIDIA H200 gives neither energy nor power"):
        open_meters("nvml")


def test_kepler_states_its_error(machine: Any) -> None:
    machine.gpus[0].major, machine.gpus[0].minor = 3, 5
    info = open_meters("nvml:0")[0].info
    assert info.rel_error == 0.05
    assert "NVML reference" in info.rel_error_source


@pytest.mark.parametrize("asked", ["nvml", "nvml:1", "nvml:MIG-1234"])
def test_mig_is_refused(machine: Any, asked: str) -> None:
    machine.gpus[1].mig = 1
    with pytest.raises(MeterError, match="MIG is on") as caught:
        open_meters(asked)
    assert caught.value.status == "not_trusted"
    assert "nvidia-smi -mig 0" in caught.value.cure
    assert [meter.info.id for meter in open_meters("nvml:0")] == ["nvml:0"]


def test_gpus_that_know_no_mig_are_read(machine: Any) -> None:
    machine.gpus[0].mig_result = NOT_SUPPORTED
    assert open_meters("nvml:0")[0].read().power_w == 400.0


def test_gpus_are_chosen_by_index_or_uuid(machine: Any) -> None:
    assert [m.info.id for m in open_meters("nvml:1,GPU-00000000-feed")] == ["nvml:1", "nvml:0"]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("nvml:2", "'2' is no GPU here; give an index from 0 to 1, or a UUID"),
        ("nvml:first", "'first' is no GPU here"),
        ("nvml:GPU-unheard-of", "'GPU-unheard-of' is no GPU here"),
        ("nvml:0,", "'' is no GPU here"),
        ("nvml:0,GPU-00000000-feed", "GPU 0 is named twice"),
        ("nvml:0/fan", "scope 'fan' is unknown; use gpu, module, memory"),
        ("nvml:0/", "scope '' is unknown"),
    ],
)
def test_what_is_not_there_is_refused(machine: Any, asked: str, says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        open_meters(asked)


@pytest.mark.parametrize(
    ("result", "flag"), [(GPU_IS_LOST, "no_data"), (NO_PERMISSION, "not_permitted")]
)
def test_what_is_lost_while_reading_is_flagged(machine: Any, result: int, flag: str) -> None:
    (meter,) = open_meters("nvml:0")
    machine.gpus[0].lost = result
    reading = meter.read()
    assert (reading.energy_j, reading.power_w, reading.flags) == (None, None, (flag,))
    machine.gpus[0].lost = 0
    assert meter.read().power_w == 400.0


def test_a_counter_may_be_lost_alone(machine: Any) -> None:
    (meter,) = open_meters("nvml:0")
    machine.gpus[0].energy_result = NO_PERMISSION
    reading = meter.read()
    assert (reading.energy_j, reading.power_w, reading.flags) == (None, 400.0, ("not_permitted",))


@pytest.mark.parametrize(
    ("result", "status", "cure"),
    [
        (DRIVER_NOT_LOADED, "missing", "modprobe nvidia"),
        (NO_PERMISSION, "not_permitted", "/dev/nvidia"),
        (VERSION_MISMATCH, "missing", "reboot"),
        (999, "missing", "nvidia-smi"),
    ],
)
def test_a_library_that_refuses_is_explained(
    machine: Any, result: int, status: str, cure: str
) -> None:
    machine.init_result = result
    with pytest.raises(MeterError, match="nvml: NVML says") as caught:
        open_meters("nvml")
    assert caught.value.status == status
    assert cure in caught.value.cure
    assert "\n" not in str(caught.value)


def test_a_lost_gpu_is_named_when_it_is_opened(machine: Any) -> None:
    machine.gpus[1].lost = GPU_IS_LOST
    with pytest.raises(MeterError, match="nvml:1: NVML says 'GPU is lost'"):
        open_meters("nvml")
    assert open_meters("nvml:0")[0].read().flags == ()


def test_a_query_may_be_forbidden_when_it_is_opened(machine: Any) -> None:
    machine.gpus[0].energy_result = NO_PERMISSION
    with pytest.raises(MeterError, match="nvml:0: NVML says 'Insufficient Permissions'") as caught:
        open_meters("nvml")
    assert caught.value.status == "not_permitted"


def test_no_gpu_is_no_meter(machine: Any) -> None:
    machine.n_gpus = 0
    with pytest.raises(MeterError, match="no GPU that NVML knows"):
        open_meters("nvml")


def test_nvidia_ml_py_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # how Python marks what cannot be imported
    with pytest.raises(MeterError, match=r"pip install 'wattshed\[nvidia\]'") as caught:
        open_meters("nvml")
    assert caught.value.status == "missing"


def test_the_library_may_be_missing(tmp_path: Path) -> None:
    if ctypes.util.find_library("nvidia-ml"):
        pytest.skip("this machine has NVIDIA's library")
    code = "from wattshed.measure.meter import open_meters; open_meters('nvml')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert "NVML Shared Library Not Found" in done.stderr
    assert "docker run --gpus all" in done.stderr


def test_other_processes_find_the_library_by_its_name(
    start: Callable[[str], subprocess.Popen[str]],
) -> None:
    code = (
        "from wattshed.measure.meter import open_meters\n"
        "print(*[m.read().power_w for m in open_meters('nvml')])"
    )
    assert start(code).communicate(timeout=60)[0] == "400.0 500.0\n"


def test_meters_keep_to_the_seam(machine: Any) -> None:
    assert all(isinstance(meter, Meter) for meter in open_meters("nvml"))
