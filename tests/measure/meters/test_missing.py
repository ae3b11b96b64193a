"""Where the hardware is not there, every adapter says so with a cure: no empty list, no zero."""

from __future__ import annotations

import gc
import importlib.util
import sys
from pathlib import Path

import pytest

from wattshed.errors import MeterError
from wattshed.measure.clock import VirtualClock
from wattshed.measure.meter import open_meters


@pytest.mark.parametrize(
    "name",
    [
        "rapl:{root}/sys/class/powercap",
        "rapl:{root}",
        "zeusd:{root}/zeusd.sock",
        "zeusd:127.0.0.1:9",
        "prometheus:127.0.0.1:9",
        "prometheus:http://127.0.0.1:9/metrics?metric=joules&scope=node&unit=J",
        "amdsmi",
        "apple",
    ],
)
# httpcore 1.0 does not close a Unix socket that it cannot connect: its collection warns.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_no_hardware_is_an_error_with_a_cure(name: str, tmp_path: Path) -> None:
    if name == "amdsmi" and Path("/dev/kfd").exists():
        pytest.skip("this machine has an AMD GPU")
    if (
        name == "apple"
        and sys.platform == "darwin"
        and importlib.util.find_spec("zeus_apple_silicon")
    ):
        pytest.skip("this machine is a Mac")
    with pytest.raises(MeterError) as caught:
        open_meters(name.format(root=tmp_path), VirtualClock())
    assert caught.value.status == "missing"
    assert caught.value.found
    assert caught.value.cure
    assert "\n" not in str(caught.value)
    del caught
    gc.collect()
