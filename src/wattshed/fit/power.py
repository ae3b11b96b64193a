"""Power that no table of steps holds: a published prior, idle states, the response to the clock."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from wattshed.data.catalog import read_table
from wattshed.fit.forms import Array
from wattshed.fit.physics import Accelerator
from wattshed.records import ClockResponse, Curve, Kind, PowerState
from wattshed.records.iteration import StateName

HOST_LINK_B_PER_S = 25e9
LOAD_B_PER_S = 2e9
INITIALISATION_S = 60.0
WAKE_SOURCE = f"assumed: weights at {HOST_LINK_B_PER_S / 1e9:g} GB/s from host memory"
BOOT_SOURCE = f"assumed: weights at {LOAD_B_PER_S / 1e9:g} GB/s, then {INITIALISATION_S:g} s"
SLEEP_SOURCE = "assumed: the idle power"
RESIDENT_SOURCE = "assumed: the resident power"

MEMORY_KNEE = 0.6
DYNAMIC_EXPONENT = 2.0
CLOCK_SOURCE = "assumed: no open clock sweep of an LLM engine was found"

IDLE_OF = {
    "a100-sxm": "A100-80GB idle before run",
}
RESIDENT_OF = {
    "a100-sxm": "A100 idle floor in serving runs (63 runs)",
    "h100-sxm": "H100 idle floor in serving runs (99 runs)",
}
UPPER_BOUND_OF = {
    "b200-sxm": "B200 lowest mean power over GEMM points (upper bound of idle)",
}
PRIOR_OF = {"a100-sxm": "a100", "h100-sxm": "h100"}


@dataclass(frozen=True)
class Load:
    """What steps do, as the power prior sees it.

    Attributes
    ----------
    duration_s, flops, bytes : arrays (N,)
        Of one step, over all accelerators.
    """

    duration_s: Array
    flops: Array
    bytes: Array


def prior_power_w(name: str, accelerator: Accelerator, degree: int, load: Load) -> Array:
    """Power in watts of all accelerators by the published prior, at the highest clock.

    With ``w`` = 1 (dense models read every weight), ``u_comp`` = operations over the peak rate,
    ``u_mem`` = bytes over the peak bandwidth, ``duty`` = 1; at most the rated power.

    Parameters
    ----------
    name : str
        ``a100-sxm`` or ``h100-sxm``.
    degree : int
        Accelerators that share each step.

    Returns
    -------
    array (N,)
    """
    terms = _prior(PRIOR_OF[name])
    compute = load.flops / (degree * accelerator.flops * load.duration_s)
    memory = load.bytes / (degree * accelerator.bandwidth_b_per_s * load.duration_s)
    each = (
        terms["resident_w"]
        + terms["active_weight_w"]
        + terms["compute_w"] * compute
        + terms["memory_root_w"] * np.sqrt(np.minimum(memory, 1.0))
    )
    return np.asarray(degree * np.minimum(each, accelerator.tdp_w))


@functools.cache
def _prior(name: str) -> dict[str, float]:
    table = read_table("power-prior")
    (row,) = [row for row in table.iter_rows(named=True) if row["accelerator"] == name]
    return {term: value for term, value in row.items() if term != "accelerator"}


@dataclass(frozen=True)
class StatePower:
    """Power of one accelerator in a state, in watts, and where it comes from."""

    power_w: float
    kind: Kind
    source: str


def idle_powers(accelerator: str) -> tuple[StatePower, StatePower]:
    """Power of one accelerator without a model, and with a model but no request.

    Where no idle power is published, the nearest published upper bound stands in and is
    marked as modelled.
    """
    if accelerator in UPPER_BOUND_OF:
        bound = _upper_bound(_published(UPPER_BOUND_OF[accelerator]))
        return bound, bound
    resident = _published(RESIDENT_OF[accelerator])
    if accelerator in IDLE_OF:
        return _published(IDLE_OF[accelerator]), resident
    return _upper_bound(resident), resident


@functools.cache
def _published(what: str) -> StatePower:
    table = read_table("idle-power")
    (row,) = [row for row in table.iter_rows(named=True) if row["what"] == what]
    middle = (row["idle_power_low_w"] + row["idle_power_high_w"]) / 2
    return StatePower(middle, "published", f"idle-power: {what}")


def _upper_bound(power: StatePower) -> StatePower:
    return StatePower(power.power_w, "modelled", f"upper bound: {power.source}")


def power_states(
    accelerator: str, n_accelerators: int, weight_bytes: float
) -> dict[StateName, PowerState]:
    """The states of a replica that serves nothing.

    Transitions are assumptions, and marked as such: no open measurement of them was found.

    Parameters
    ----------
    accelerator : str
    n_accelerators : int
    weight_bytes : float
        Of the whole model.
    """
    bare, held = idle_powers(accelerator)
    resident_w = n_accelerators * held.power_w
    wake_s = weight_bytes / (n_accelerators * HOST_LINK_B_PER_S)
    boot_s = weight_bytes / LOAD_B_PER_S + INITIALISATION_S
    idle_w = n_accelerators * bare.power_w

    def state(power_w: float, origin: StatePower, ready_s: float, ready: str) -> PowerState:
        return PowerState(
            power_w, ready_s, ready_s * resident_w, origin.kind, origin.source, "modelled", ready
        )

    asleep = StatePower(bare.power_w, "modelled", SLEEP_SOURCE)
    booting = StatePower(held.power_w, "modelled", RESIDENT_SOURCE)
    return {
        "idle": state(idle_w, bare, boot_s, BOOT_SOURCE),
        "resident": state(resident_w, held, 0.0, "by definition"),
        "sleep": state(idle_w, asleep, wake_s, WAKE_SOURCE),
        "boot": state(resident_w, booting, boot_s, BOOT_SOURCE),
    }


def clock_response(static_w: float, time: Curve, energy: Curve) -> ClockResponse:
    """The assumed response to the clock; its static power never exceeds what a step draws.

    Parameters
    ----------
    static_w : float
        Power of all accelerators with the model resident.
    time, energy : Curve
        Of decode steps.
    """
    at = np.union1d(time.at, energy.at)
    least = (np.interp(at, energy.at, energy.value) / np.interp(at, time.at, time.value)).min()
    static = float(min(static_w, least))
    return ClockResponse(MEMORY_KNEE, DYNAMIC_EXPONENT, static, "modelled", CLOCK_SOURCE)
