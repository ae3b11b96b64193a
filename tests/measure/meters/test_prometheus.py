"""Exporters, as real servers that show what they do, with made-up values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattshed.errors import MeterError, ParameterError
from wattshed.measure.clock import VirtualClock
from wattshed.measure.exposition import read_page
from wattshed.measure.meter import Meter, open_meters
from wattshed.measure.metrics import RULES

GPU_A, GPU_B = (
    "GPU-1f027ee8-6e1e-2b8c-0108-3d370e5f0418",
    "GPU-4e75c9ab-0ed7-8a57-75f5-23761b9f053f",
)
CARD = 'device="nvidia0",modelName="NVIDIA A100-SXM4-80GB",Hostname="node1"'

DCGM = f"""\
# HELP DCGM_FI_DEV_SM_CLOCK SM clock frequency (in MHz).
# TYPE DCGM_FI_DEV_SM_CLOCK gauge
DCGM_FI_DEV_SM_CLOCK{{gpu="0",UUID="{GPU_A}",{CARD}}} 1410
# HELP DCGM_FI_DEV_POWER_USAGE Power draw (in W).
# TYPE DCGM_FI_DEV_POWER_USAGE gauge
DCGM_FI_DEV_POWER_USAGE{{gpu="0",UUID="{GPU_A}",{CARD}}} 54.581000
DCGM_FI_DEV_POWER_USAGE{{gpu="1",UUID="{GPU_B}",{CARD}}} 57.145000
# HELP DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION Total energy consumption since boot (in mJ).
# TYPE DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION counter
DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{{gpu="0",UUID="{GPU_A}",{CARD}}} 257858316
DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{{gpu="1",UUID="{GPU_B}",{CARD}}} 7299606661
"""

MIG = "\n".join(
    f'{metric}{{gpu="0",UUID="{GPU_A}",{CARD},GPU_I_PROFILE="2g.20gb",GPU_I_ID="{part}"}} {value}'
    for metric, value in (
        ("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", 257858316),
        ("DCGM_FI_DEV_POWER_USAGE", 110.5),
    )
    for part in (3, 5, 6)
)

KEPLER_OLD = """\
kepler_node_info{components_power_source="rapl-sysfs",cpu_architecture="Coffee Lake",\
platform_power_source="acpi",source="os"} 1
# TYPE kepler_node_package_joules_total counter
kepler_node_package_joules_total{instance="n1",mode="dynamic",package="0",source="rapl-sysfs"} 20.5
kepler_node_package_joules_total{instance="n1",mode="idle",package="0",source="rapl-sysfs"} 100
kepler_node_package_joules_total{instance="n1",mode="dynamic",package="1",source="rapl-sysfs"} 7
kepler_node_package_joules_total{instance="n1",mode="idle",package="1",source="rapl-sysfs"} 90
# TYPE kepler_node_dram_joules_total counter
kepler_node_dram_joules_total{instance="n1",mode="dynamic",package="0",source="rapl-sysfs"} 3
kepler_node_dram_joules_total{instance="n1",mode="idle",package="0",source="rapl-sysfs"} 4
kepler_node_core_joules_total{instance="n1",mode="idle",package="0",source="rapl-sysfs"} 50
kepler_node_platform_joules_total{instance="n1",mode="dynamic",source="acpi"} 300
kepler_node_platform_joules_total{instance="n1",mode="idle",source="acpi"} 200
kepler_container_package_joules_total{container_id="x"} 1
"""

ZONE = 'node_name="n1",path="/sys/class/powercap/intel-rapl:0"'
KEPLER_NEW = f"""\
# TYPE kepler_node_cpu_joules_total counter
kepler_node_cpu_joules_total{{{ZONE},zone="package"}} 11
kepler_node_cpu_joules_total{{{ZONE},zone="core"}} 5
kepler_node_cpu_joules_total{{{ZONE},zone="dram"}} 2
kepler_node_cpu_joules_total{{{ZONE},zone="psys"}} 30
kepler_node_cpu_watts{{{ZONE},zone="package"}} 9
# TYPE kepler_node_gpu_joules_total counter
kepler_node_gpu_joules_total{{gpu="0",gpu_uuid="{GPU_A}",node_name="n1",vendor="nvidia"}} 77
"""

MACMON = """\
# HELP macmon_cpu_power_watts CPU power consumption in Watts
# TYPE macmon_cpu_power_watts gauge
macmon_cpu_power_watts{chip="Apple M3 Max"} 4.5

macmon_gpu_power_watts{chip="Apple M3 Max"} 11.25
macmon_ane_power_watts{chip="Apple M3 Max"} 0
macmon_all_power_watts{chip="Apple M3 Max"} 15.75
macmon_sys_power_watts{chip="Apple M3 Max"} 31.5
macmon_ram_power_watts{chip="Apple M3 Max"} 1.25
"""


@pytest.fixture
def exporter(serve: Callable[..., Any]) -> Callable[[str], Any]:
    return lambda text: serve({"/metrics": (200, text.encode())})


def show(served: Any, text: str) -> None:
    served.answers["/metrics"] = (200, text.encode())


def opened(address: str, clock: VirtualClock | None = None) -> dict[str, Meter]:
    meters = open_meters(f"prometheus:{address}", clock or VirtualClock())
    return {meter.info.id.split("/", 1)[1]: meter for meter in meters}


def energies(meters: dict[str, Meter]) -> dict[str, float | None]:
    return {name: meter.read().energy_j for name, meter in meters.items()}


@pytest.mark.parametrize("form", ["{}", "http://{}", "http://{}/", "http://{}/metrics"])
def test_gpus_of_dcgm_are_read_by_their_uuid(exporter: Callable[..., Any], form: str) -> None:
    served = exporter(DCGM)
    meters = opened(form.format(served.url))
    assert list(meters) == [GPU_A, GPU_B]
    reading = meters[GPU_B].read()
    assert (reading.energy_j, reading.power_w) == (pytest.approx(7_299_606.661), 57.145)
    assert reading.flags == ()
    info = meters[GPU_A].info
    assert (info.kind, info.scope, info.covers) == ("counter", "gpu", (GPU_A,))
    assert (info.model, info.resolution_j) == ("NVIDIA A100-SXM4-80GB", 0.001)
    assert info.id == f"prometheus:{served.url}/{GPU_A}"


def test_power_alone_makes_a_meter_of_averaged_power(exporter: Callable[..., Any]) -> None:
    text = "\n".join(line for line in DCGM.splitlines() if "ENERGY" not in line)
    meter = opened(exporter(text).url)[GPU_A]
    assert (meter.info.kind, meter.info.averaging_s) == ("power", 1.0)
    reading = meter.read()
    assert (reading.energy_j, reading.power_w, reading.flags) == (None, 54.581, ())


def test_parts_of_a_gpu_repeat_its_counter_which_is_read_once(
    exporter: Callable[..., Any],
) -> None:
    (meter,) = opened(exporter(MIG).url).values()
    reading = meter.read()
    assert meter.info.covers == (GPU_A,)
    assert (reading.energy_j, reading.power_w) == (pytest.approx(257_858.316), 110.5)
    assert reading.flags == ("mig",)


def test_parts_that_differ_give_the_latest_count_but_no_power(
    exporter: Callable[..., Any],
) -> None:
    text = MIG.replace("257858316", "257859000", 1).replace("110.5", "99.5", 1)
    (meter,) = opened(exporter(text).url).values()
    reading = meter.read()
    assert (reading.energy_j, reading.power_w) == (pytest.approx(257_859.0), None)


@pytest.mark.parametrize("blank", ["9223372036854775794", "140737488355328.000000", "NaN", "-1"])
def test_what_means_no_value_is_no_data(exporter: Callable[..., Any], blank: str) -> None:
    served = exporter(DCGM)
    meters = opened(served.url)
    show(served, DCGM.replace("257858316", blank))
    meters[GPU_A].read()  # the answer of the opening
    reading = meters[GPU_A].read()
    assert (reading.energy_j, reading.flags) == (None, ("no_data",))
    assert meters[GPU_B].read().energy_j is not None


def test_kepler_before_zones_is_the_sum_of_idle_and_dynamic(exporter: Callable[..., Any]) -> None:
    meters = opened(exporter(KEPLER_OLD).url)
    assert energies(meters) == {
        "package-0": 120.5,
        "package-1": 97.0,
        "dram-0": 7.0,
        "platform": 500.0,
    }
    platform = meters["platform"].info
    assert platform.scope == "node"
    assert platform.covers == ("platform", "package-0", "package-1", "dram-0")
    assert platform.provenance == "measured"


def test_kepler_that_estimates_says_so(exporter: Callable[..., Any]) -> None:
    text = KEPLER_OLD.replace(
        'components_power_source="rapl-sysfs"', 'components_power_source="estimator"'
    )
    meters = opened(exporter(text).url)
    assert meters["package-0"].info.provenance == "modelled"
    assert meters["platform"].info.provenance == "measured"


def test_kepler_with_zones(exporter: Callable[..., Any]) -> None:
    meters = opened(exporter(KEPLER_NEW).url)
    assert energies(meters) == {GPU_A: 77.0, "package-0": 11.0, "dram-0": 2.0, "psys-0": 30.0}
    assert meters["psys-0"].info.covers == ("psys-0", "package-0", "dram-0")


def test_macmon_says_power_most_of_it_modelled(exporter: Callable[..., Any]) -> None:
    meters = opened(exporter(MACMON).url)
    said = {name: (m.info.scope, m.info.provenance, m.read().power_w) for name, m in meters.items()}
    assert said == {
        "apple-cpu": ("cpu_package", "modelled", 4.5),
        "apple-gpu": ("gpu", "modelled", 11.25),
        "apple-dram": ("dram", "modelled", 1.25),
        "apple-ane": ("soc", "modelled", 0.0),
        "apple-system": ("node", "measured", 31.5),
    }
    assert set(meters["apple-system"].info.covers) == set(meters)
    assert {meter.info.averaging_s for meter in meters.values()} == {1.0}


def test_any_metric_is_read_by_name_scope_and_unit(exporter: Callable[..., Any]) -> None:
    served = exporter(
        'bmc_energy{psu="1"} 2\nbmc_energy{psu="2"} 3\n'
        f'smi_energy_total{{UUID="{GPU_A}",slot="3"}} 5e6\n'
    )
    meters = opened(f"{served.url}?metric=bmc_energy&scope=wall&unit=Wh")
    assert energies(meters) == {"bmc_energy{psu=1}": 7_200.0, "bmc_energy{psu=2}": 10_800.0}
    assert {meter.info.boundary for meter in meters.values()} == {"wall"}
    (gpu,) = opened(f"{served.url}?metric=smi_energy_total&scope=gpu&unit=uJ").values()
    assert gpu.info.covers == (GPU_A,)
    assert gpu.read().energy_j == pytest.approx(5.0)


def test_other_options_stay_in_the_address(exporter: Callable[..., Any]) -> None:
    served = exporter(DCGM)
    opened(f"http://{served.url}/metrics?name=gpu&metric=DCGM_FI_DEV_SM_CLOCK&scope=gpu&unit=W")
    assert served.asked == ["/metrics?name=gpu"]


# ---------------------------------------------------------------- staleness and failures


def flags(meter: Meter, clock: VirtualClock) -> tuple[str, ...]:
    clock.sleep(0.6)
    return meter.read().flags


def test_a_page_that_is_not_refreshed_for_a_second_is_stale(exporter: Callable[..., Any]) -> None:
    served, clock = exporter(DCGM), VirtualClock()
    meter = opened(served.url, clock)[GPU_A]
    assert [flags(meter, clock) for _ in range(3)] == [(), ("stale",), ("stale",)]
    show(served, DCGM.replace("7299606661", "7299606700"))  # of the other GPU: it did look
    assert [flags(meter, clock) for _ in range(3)] == [(), (), ("stale",)]


def test_what_else_is_on_a_page_makes_it_no_fresher(exporter: Callable[..., Any]) -> None:
    served, clock = exporter(DCGM), VirtualClock()
    meter = opened(served.url, clock)[GPU_A]
    flags(meter, clock)
    show(served, DCGM + "process_cpu_seconds_total 5\n")
    assert flags(meter, clock) == ("stale",)


def test_a_sample_with_the_same_timestamp_is_stale_whatever_else_changed(
    exporter: Callable[..., Any],
) -> None:
    served = exporter('joules{a="1"} 5 1700000000000\njoules{a="2"} 5 1700000000000')
    clock = VirtualClock()
    first, second = opened(f"{served.url}?metric=joules&scope=node&unit=J", clock).values()
    flags(first, clock)
    show(served, 'joules{a="1"} 5 1700000000000\njoules{a="2"} 6 1700000001000')
    assert flags(first, clock) == ("stale",)
    assert second.read().flags == ()


def test_meters_share_one_scrape_per_round(exporter: Callable[..., Any]) -> None:
    served, clock = exporter(DCGM), VirtualClock()
    meters = opened(served.url, clock)
    clock.sleep(1)
    readings = [meter.read() for meter in meters.values()]
    assert len(served.asked) == 2  # one of them to open
    assert {reading.t_ns for reading in readings} == {1_000_000_000}


def test_an_exporter_that_goes_or_loses_a_gpu_is_no_data(exporter: Callable[..., Any]) -> None:
    served, clock = exporter(DCGM), VirtualClock()
    meter = opened(served.url, clock)[GPU_A]
    served.is_gone = True
    assert flags(meter, clock) == ("no_data",)
    served.is_gone = False
    show(served, DCGM.replace(GPU_A, GPU_B))
    assert flags(meter, clock) == ("no_data",)
    served.answers["/metrics"] = (401, b"")
    assert flags(meter, clock) == ("not_permitted",)
    show(served, DCGM.replace("257858316", "257859000"))
    assert flags(meter, clock) == ()


@pytest.mark.parametrize("garbage", ["DCGM_FI_DEV_POWER_USAGE{", "DCGM_FI_DEV_POWER_USAGE much"])
def test_garbage_is_no_data_and_refused_when_it_is_there_from_the_start(
    exporter: Callable[..., Any], garbage: str
) -> None:
    served, clock = exporter(DCGM), VirtualClock()
    meter = opened(served.url, clock)[GPU_A]
    show(served, garbage)
    assert flags(meter, clock) == ("no_data",)
    with pytest.raises(MeterError, match="answers something else"):
        opened(served.url)


@pytest.mark.parametrize("text", ["", "<html>hello</html>", "process_cpu_seconds_total 5\n"])
def test_a_page_without_energy_is_missing_with_a_cure(
    exporter: Callable[..., Any], text: str
) -> None:
    with pytest.raises(MeterError, match="shows no metric of energy") as caught:
        opened(exporter(text).url)
    assert "metric=NAME" in caught.value.cure


def test_no_exporter_is_missing_and_one_with_a_lock_not_permitted(
    serve: Callable[..., Any],
) -> None:
    with pytest.raises(MeterError, match="does not answer") as missing:
        opened("127.0.0.1:9")
    with pytest.raises(MeterError, match="401") as locked:
        opened(serve({"/metrics": (401, b"")}).url)
    assert (missing.value.status, locked.value.status) == ("missing", "not_permitted")


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ("metric=a&scope=gpu", "unit"),
        ("metric=a&scope=gpu&unit=MWh", "unit: is 'MWh'"),
        ("metric=a&scope=rack&unit=J", "scope: is 'rack'; give one of gpu"),
        ("scope=gpu&unit=J", "metric"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: str, wrong: str) -> None:
    with pytest.raises(ParameterError, match=wrong):
        opened(f"host?{options}")


def test_an_address_with_a_password_is_refused_and_not_repeated() -> None:
    """The name of a meter goes into journals and certificates."""
    with pytest.raises(ParameterError, match="an address with a user") as error:
        opened("me:hunter2@host:9400")
    assert "hunter2" not in str(error.value)


@given(st.text(st.sampled_from('{}",=\\ \n\t#_abeE+-.0159NaInf')), st.booleans())
def test_whatever_a_line_holds_it_is_read_or_refused(rest: str, known: bool) -> None:
    text = f"DCGM_FI_DEV_POWER_USAGE{rest}" if known else rest
    try:
        page = read_page(text, RULES)
    except ValueError:
        return
    for point in page.values():
        assert point.power_w is None or (math.isfinite(point.power_w) and point.power_w >= 0)
        assert (point.power_w is None) == ("no_data" in point.flags)
