"""nvidia-smi CSV: with and without units, values that are not known, several GPUs."""

from __future__ import annotations

import numpy as np
import pytest

from wattshed.errors import InputError
from wattshed.measure.logs.nvidia_smi import parse_nvidia_smi

TWO = """\
timestamp, index, uuid, power.draw [W], power.draw.instant [W], utilization.gpu [%]
2024/04/10 09:01:30.437, 0, GPU-aa, 54.19 W, 60.00 W, 0 %
2024/04/10 09:01:30.444, 1, GPU-bb, 52.61 W, [N/A], 0 %
2024/04/10 09:01:30.558, 0, GPU-aa, 54.25 W, 61.50 W, 0 %
2024/04/10 09:01:30.563, 1, GPU-bb, [Not Supported], N/A, 0 %
"""


def test_gpus_are_told_apart_and_the_best_column_with_values_is_taken():
    first, second = parse_nvidia_smi(TWO).gpus
    assert (first.device, first.column) == ("GPU-aa", "power.draw.instant")
    assert first.power_w.tolist() == [60.0, 61.5]
    assert np.diff(first.t_s) == pytest.approx([0.121], abs=1e-6)
    assert (second.device, second.column) == ("GPU-bb", "power.draw")
    assert second.power_w[0] == 52.61
    assert np.isnan(second.power_w[1])  # never 0


@pytest.mark.parametrize(
    "text",
    [
        "timestamp, index, power.draw [W]\n2024/04/10 09:01:30.437, 0, 54.19 W\n",
        "timestamp, index, power.draw [W]\n2024/04/10 09:01:30.437, 0, 54.19\n",
        "timestamp,index,power.draw\r\n2024/04/10 09:01:30.437,0,54.19\r\n",
        "timestamp, power.draw [W]\n2024/04/10 09:01:30.437, 54.19 W\n2024/04/10 09:01:30.5, 5",
    ],
)
def test_units_are_optional(text: str):
    logs = parse_nvidia_smi(text)
    assert [log.device for log in logs.gpus] == ["0"]
    assert logs.gpus[0].power_w.tolist() == [54.19]
    assert logs.cut_off == text.endswith("5")


def test_lines_in_bursts_without_an_index_are_of_several_gpus_and_refused():
    rows = [
        f"2024/04/10 09:01:3{i}.{ms}, 54.19 W" for i in range(5) for ms in ("100", "107", "113")
    ]
    with pytest.raises(InputError, match="of several GPUs") as error:
        parse_nvidia_smi("\n".join(["timestamp, power.draw [W]", *rows, ""]), "smi.csv")
    assert "index or uuid" in str(error.value)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("2024/04/10 09:01:31.000, 0, GPU-aa, 54.19 W, 60 W", "has 5 values, expected 6"),
        ("10 April, 0, GPU-aa, 54.19 W, 60 W, 0 %", "expected a time like"),
        ("2024/04/10 09:01:31.000, 0, GPU-aa, hot, 60 W, 0 %", "expected a power in W, got 'hot'"),
        ("2024/04/10 09:01:29.000, 0, GPU-aa, 54 W, 60 W, 0 %", "is earlier than the line before"),
    ],
)
def test_a_bad_line_is_named(line: str, told: str):
    with pytest.raises(InputError) as error:
        parse_nvidia_smi(f"{TWO}{line}\n", "smi.csv")
    assert str(error.value).startswith(f"smi.csv: line 6: {told}")


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "timestamp, power.draw [W]\n"])
def test_what_is_no_log_is_refused(text: str):
    with pytest.raises(InputError, match="smi"):
        parse_nvidia_smi(text, "smi.csv")
