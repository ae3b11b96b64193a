"""Clock and power limit of NVIDIA GPUs, by NVML; setting them needs root or CAP_SYS_ADMIN."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

from wattshed.errors import MeterError, ParameterError
from wattshed.measure.clock import SYSTEM_CLOCK
from wattshed.measure.knobs import Knobs, Settings
from wattshed.measure.nvidia import WATTS_PER_MILLIWATT, Gpu, explained, find_gpus, is_one_of

NVML_CLOCK_GRAPHICS = 0
LIMIT_TOLERANCE_W = 0.5
CLOCK_TOLERANCE_MHZ = 30
"""About two steps; and only from above, since an idle or hot GPU is slower than its lock."""
PATIENCE_S = 1.0
POLL_S = 0.02

NOT_PERMITTED = "run as root or with CAP_SYS_ADMIN, set it through zeusd, or leave it out"


class NvidiaKnobs:
    """Those of one GPU.

    NVML does not tell whether the clock is locked: `read` gives None for it, and `restore` unlocks.

    Parameters
    ----------
    gpu : Gpu
    """

    def __init__(self, gpu: Gpu) -> None:
        self._gpu, self._nvml = gpu, gpu.nvml

    @property
    def id(self) -> str:
        """See `Knobs`."""
        return self._gpu.id

    @property
    def component(self) -> str:
        """See `Knobs`."""
        return self._gpu.uuid

    def read(self) -> Settings:
        """See `Knobs`."""
        query = self._nvml.nvmlDeviceGetPowerManagementLimit
        limit_mw: int | None = self._gpu.has(lambda: query(self._gpu.handle))
        return Settings(power_limit_w=None if limit_mw is None else limit_mw * WATTS_PER_MILLIWATT)

    def check(self, wanted: Settings) -> None:
        """See `Knobs`."""
        if wanted.power_limit_w is not None:
            self._check_limit(wanted.power_limit_w)
        if wanted.clock_mhz is not None:
            self._check_clock(wanted.clock_mhz)

    def _check_limit(self, limit_w: float) -> None:
        query = self._nvml.nvmlDeviceGetPowerManagementLimitConstraints
        range_mw = self._gpu.has(lambda: query(self._gpu.handle))
        if range_mw is None or self.read().power_limit_w is None:
            raise MeterError(f"{self.id}: power limit", "this GPU has none", "leave it out")
        low_w, high_w = (limit_mw * WATTS_PER_MILLIWATT for limit_mw in range_mw)
        if not low_w <= limit_w <= high_w:
            raise ParameterError(
                f"{self.id}: power limit",
                f"{limit_w:g} W is outside what the GPU supports",
                f"give {low_w:g} to {high_w:g} W",
            )

    def _check_clock(self, clock_mhz: float) -> None:
        clocks = sorted(self._clocks())
        if not clocks:
            raise MeterError(
                f"{self.id}: clock", "the GPU does not tell its clocks", "leave it out"
            )
        if clock_mhz in clocks:
            return
        where = f"{self.id}: clock"
        if not clocks[0] <= clock_mhz <= clocks[-1]:
            raise ParameterError(
                where,
                f"{clock_mhz:g} MHz is outside what the GPU supports",
                f"give {clocks[0]} to {clocks[-1]} MHz",
            )
        at = bisect_left(clocks, clock_mhz)
        raise ParameterError(
            where,
            f"{clock_mhz:g} MHz is none of the GPU's steps",
            f"give {clocks[at - 1]} or {clocks[at]} MHz",
        )

    def _clocks(self) -> Sequence[int]:
        """Those of cores, in MHz, while memory is at its fastest."""
        handle, nvml = self._gpu.handle, self._nvml
        memory = self._gpu.has(lambda: nvml.nvmlDeviceGetSupportedMemoryClocks(handle))
        if not memory:
            return ()
        query = nvml.nvmlDeviceGetSupportedGraphicsClocks
        found: list[int] | None = self._gpu.has(lambda: query(handle, max(memory)))
        return found or ()

    def set(self, wanted: Settings) -> None:
        """See `Knobs`."""
        if wanted.clock_mhz is not None:
            self._lock(round(wanted.clock_mhz))
        if wanted.power_limit_w is not None:
            self._limit(wanted.power_limit_w)

    def verify(self, wanted: Settings) -> None:
        """See `Knobs`."""
        if wanted.clock_mhz is not None:
            self._see_clock(wanted.clock_mhz)
        if wanted.power_limit_w is not None:
            self._see_limit(wanted.power_limit_w)

    def restore(self, earlier: Settings, wanted: Settings) -> None:
        """See `Knobs`."""
        if wanted.clock_mhz is not None:
            self._unlock()
        if wanted.power_limit_w is not None and earlier.power_limit_w is not None:
            self._limit(earlier.power_limit_w)
            self._see_limit(earlier.power_limit_w)

    def _lock(self, clock_mhz: int) -> None:
        handle = self._gpu.handle
        self._do(
            "clock", lambda: self._nvml.nvmlDeviceSetGpuLockedClocks(handle, clock_mhz, clock_mhz)
        )

    def _unlock(self) -> None:
        self._do("clock", lambda: self._nvml.nvmlDeviceResetGpuLockedClocks(self._gpu.handle))

    def _limit(self, limit_w: float) -> None:
        handle, limit_mw = self._gpu.handle, round(limit_w / WATTS_PER_MILLIWATT)
        self._do(
            "power limit", lambda: self._nvml.nvmlDeviceSetPowerManagementLimit(handle, limit_mw)
        )

    def _see_limit(self, wanted_w: float) -> None:
        found_w = self.read().power_limit_w
        if found_w is None or abs(found_w - wanted_w) > LIMIT_TOLERANCE_W:
            raise self._ineffective("power limit", f"{wanted_w:g} W", f"{found_w} W")

    def _see_clock(self, wanted_mhz: float) -> None:
        """Wait for the clock to come down, if the GPU tells it."""
        query = self._nvml.nvmlDeviceGetClockInfo
        for _ in range(round(PATIENCE_S / POLL_S)):
            found = self._gpu.has(lambda: query(self._gpu.handle, NVML_CLOCK_GRAPHICS))
            if found is None or found <= wanted_mhz + CLOCK_TOLERANCE_MHZ:
                return
            SYSTEM_CLOCK.sleep(POLL_S)
        raise self._ineffective("clock", f"{wanted_mhz:g} MHz", f"{found} MHz")

    def _ineffective(self, what: str, wanted: str, found: str) -> MeterError:
        return MeterError(
            f"{self.id}: {what}",
            f"was set to {wanted}, but is {found}",
            "see whether another program sets it too (nvidia-smi -q)",
            "not_trusted",
        )

    def _do(self, what: str, action: Callable[[], object]) -> None:
        where = f"{self.id}: {what}"
        try:
            action()
        except self._nvml.NVMLError as error:
            if is_one_of(self._nvml, error, "NO_PERMISSION"):
                raise MeterError(
                    where, "may not be set by this user", NOT_PERMITTED, "not_permitted"
                ) from None
            raise explained(self._nvml, error, where) from None


def open_knobs(components: str) -> list[Knobs]:
    """Knobs of GPUs by index or UUID, as `wattshed.measure.nvidia.find_gpus` takes them."""
    return [NvidiaKnobs(gpu) for gpu in find_gpus(components)]
