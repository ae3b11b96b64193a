"""Where zeusd listens, what it says, and what that is in joules and watts by component."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from wattshed.errors import ParameterError
from wattshed.measure.shared import NO_DATA, Flags, Said
from wattshed.measure.web import take_options
from wattshed.records import MeterInfo
from wattshed.records.measure import Scope
from wattshed.units import JOULES_PER_MICROJOULE, JOULES_PER_MILLIJOULE

SOCKETS = ("/run/zeusd/zeusd.sock", "/var/run/zeusd.sock")
"""Where it listens unless told, now and in earlier versions."""

PORT = 4938
WATTS_PER_MILLIWATT = 1e-3


def parse_address(argument: str) -> tuple[str, str | None, str]:
    """Base of URLs, path of the Unix socket or None, and token or nothing.

    Raises
    ------
    ParameterError
    """
    if not argument or argument.startswith(("/", "?")):
        path, options = take_options(f"http://zeusd{argument}", ["token_file"])
        there = [socket for socket in SOCKETS if Path(socket).exists()]
        socket = path.removeprefix("http://zeusd") or (there or SOCKETS)[0]
        return "http://localhost", socket, _read_token(options)
    url = argument if "://" in argument else f"http://{argument}"
    url, options = take_options(url, ["token_file"])
    if "?" in url:
        raise ParameterError("meter", f"zeusd:{argument} has an unknown option", "use token_file")
    parts = urlsplit(url)
    return (
        (url if parts.port else f"{parts.scheme}://{parts.netloc}:{PORT}"),
        None,
        _read_token(options),
    )


def _read_token(options: Mapping[str, str]) -> str:
    if "token_file" not in options:
        return ""
    where = f"token_file={options['token_file']}"
    try:
        token = Path(options["token_file"]).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError("meter", f"{where} cannot be read: {error}", "check it") from None
    if not token or not token.isprintable():
        raise ParameterError("meter", f"{where} holds no token", "put it there, in one line")
    return token


class Gpu(msgspec.Struct):
    """A GPU in ``/discover``."""

    id: int
    name: str = ""


class Cpu(msgspec.Struct):
    """A CPU package in ``/discover``."""

    id: int
    dram_available: bool = False


class Discovery(msgspec.Struct):
    """Answer of ``/discover``; earlier versions gave indices only."""

    enabled_api_groups: list[str]
    gpus: list[Gpu] = []
    cpus: list[Cpu] = []
    gpu_ids: list[int] = []
    cpu_ids: list[int] = []
    dram_available: list[bool] = []

    def all_gpus(self) -> list[Gpu]:
        """GPUs, of either version."""
        return self.gpus or [Gpu(number) for number in self.gpu_ids]

    def all_cpus(self) -> list[Cpu]:
        """CPU packages, of either version."""
        both = zip(self.cpu_ids, self.dram_available, strict=False)
        return self.cpus or [Cpu(number, dram) for number, dram in both]


class ServerTime(msgspec.Struct):
    """Answer of ``/time``."""

    timestamp_ms: int


class GpuEnergy(msgspec.Struct):
    """Of one GPU in ``/gpu/get_cumulative_energy``."""

    energy_mj: int


class GpuPower(msgspec.Struct):
    """Answer of ``/gpu/get_power``."""

    power_mw: dict[str, int]


class CpuEnergy(msgspec.Struct):
    """Of one package in ``/cpu/get_cumulative_energy``; wrap-around is corrected there."""

    cpu_energy_uj: int | None = None
    dram_energy_uj: int | None = None


@dataclass(frozen=True)
class Round:
    """Energy and power by component (``gpu-0``, ``package-0``, ``dram-0``), and why some lack."""

    energy_j: Mapping[str, float]
    power_w: Mapping[str, float] = field(default_factory=dict)
    flags: Flags = ()

    def say(self, component: str) -> Said:
        """Reading of a component."""
        energy_j = self.energy_j.get(component)
        flags = () if energy_j is not None else self.flags or NO_DATA
        return energy_j, self.power_w.get(component), flags


def gpu_round(
    energy: Mapping[str, GpuEnergy] | None, power: GpuPower | None, flags: Flags
) -> Round:
    """What the daemon says of GPUs; `flags` if it does not say their energy."""
    power_mw = {} if power is None else power.power_mw
    return Round(
        {
            f"gpu-{key}": gpu.energy_mj * JOULES_PER_MILLIJOULE
            for key, gpu in (energy or {}).items()
        },
        {f"gpu-{key}": each * WATTS_PER_MILLIWATT for key, each in power_mw.items()},
        flags,
    )


def cpu_round(energy: Mapping[str, CpuEnergy]) -> Round:
    """What the daemon says of packages and their dram."""
    found = {}
    for key, one in energy.items():
        for name, value_uj in (("package", one.cpu_energy_uj), ("dram", one.dram_energy_uj)):
            if value_uj is not None:
                found[f"{name}-{key}"] = value_uj * JOULES_PER_MICROJOULE
    return Round(found)


def infos_of(found: Discovery, place: str, note: str) -> dict[str, MeterInfo]:
    """Counters that the daemon has, by component.

    Parameters
    ----------
    found : Discovery
    place : str
        Put before what tells components apart; empty for this machine.
    note : str
    """

    def info(component: str, scope: Scope, model: str = "") -> MeterInfo:
        # RAPL's step is not known: the processor counts in units of its own.
        step_j = JOULES_PER_MILLIJOULE if scope == "gpu" else None
        name = f"{place}{component}"
        return MeterInfo(
            id=f"zeusd:{name}",
            source="zeusd",
            kind="counter",
            scope=scope,
            covers=(name,),
            model=model,
            resolution_j=step_j,
            note=note,
        )

    infos = {f"gpu-{gpu.id}": info(f"gpu-{gpu.id}", "gpu", gpu.name) for gpu in found.all_gpus()}
    for cpu in found.all_cpus():
        infos[f"package-{cpu.id}"] = info(f"package-{cpu.id}", "cpu_package")
        if cpu.dram_available:
            infos[f"dram-{cpu.id}"] = info(f"dram-{cpu.id}", "dram")
    return infos
