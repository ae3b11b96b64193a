"""What the models and accelerators of the measured steps are: sizes, rates and assumptions.

Everything a formula takes that the tables of measured steps do not hold is here, with its source.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from wattshed.data.catalog import read_table

BYTES_PER_WEIGHT = {"bfloat16": 2.0, "fp8": 1.0, "mxfp4": 4.25 / 8}
"""mxfp4: 4 bits and one 8-bit scale for each 32 weights (OCP Microscaling Formats 1.0)."""


@dataclass(frozen=True)
class ModelSize:
    """A language model in 16 bits.

    Attributes
    ----------
    params : float
    kv_bytes_per_token : float
        Keys and values of all layers.
    """

    params: float
    kv_bytes_per_token: float

    @property
    def weight_bytes(self) -> float:
        """Bytes of the weights."""
        return BYTES_PER_WEIGHT["bfloat16"] * self.params


MODELS = {
    # 80 layers, 8 key-value heads of 128 (Touvron et al. 2023, grouped-query attention)
    "llama-2-70b": ModelSize(68.98e9, 2 * 2 * 80 * 8 * 128),
    # 70 layers, 112 heads of 128 (BigScience 2022)
    "bloom-176b": ModelSize(176.25e9, 2 * 2 * 70 * 112 * 128),
}
ATTENTION_EFFICIENCY = {"a100-sxm": 0.745, "h100-sxm": 0.935}
"""Share of the memory bandwidth at which attention reads keys and values: middles of our fits of
the kernel tables of aiconfigurator @095f58a (A100 0.68 to 0.81, H100 0.92 to 0.95)."""


@dataclass(frozen=True)
class Accelerator:
    """Vendor figures of one accelerator, and what is published of its power.

    Attributes
    ----------
    bandwidth_b_per_s, flops : float
        Peak, 16 bits.
    efficiency : float
        Published share of the peak bandwidth that kernels reach.
    tdp_w : float
    """

    bandwidth_b_per_s: float
    efficiency: float
    flops: float
    tdp_w: float


@functools.cache
def find_accelerator(name: str) -> Accelerator:
    """Vendor figures of an accelerator of the built-in table."""
    table = read_table("accelerators")
    (row,) = [row for row in table.iter_rows(named=True) if row["accelerator"] == name]
    return Accelerator(
        row["memory_bandwidth_b_per_s"],
        row["memory_bandwidth_empirical_scaling"],
        row["bf16_flops"],
        row["tdp_w"],
    )


@functools.cache
def memory_b(name: str) -> float | None:
    """Bytes of memory of an accelerator of the built-in table; None if it is not there."""
    table = read_table("accelerators")
    found = [row["memory_b"] for row in table.iter_rows(named=True) if row["accelerator"] == name]
    return float(found[0]) if found else None


def weight_pass_s(weight_bytes: float, accelerator: Accelerator, degree: int) -> float:
    """Time in seconds to read the weights once at the published efficiency."""
    rate = degree * accelerator.bandwidth_b_per_s * accelerator.efficiency
    return weight_bytes / rate
