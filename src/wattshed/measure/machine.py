"""Why a machine has no RAPL: what is there instead tells a virtual machine from a container."""

from __future__ import annotations

from pathlib import Path

from wattshed.errors import MeterError

HYPERVISORS = (
    "QEMU", "KVM", "VMware", "VirtualBox", "Virtual Machine", "Xen", "Bochs", "OpenStack",
    "Google Compute Engine", "Parallels",
)  # fmt: skip
CONTAINER_MARKS = (".dockerenv", "run/.containerenv")
CONTAINER_GROUPS = ("docker", "kubepods", "containerd", "libpod", "lxc")


def why_no_powercap(powercap: Path) -> MeterError:
    """Say what keeps RAPL from a directory, and the cure.

    Parameters
    ----------
    powercap : Path
        Of any root: ``ROOT/sys/class/powercap``; else the machine's own root is looked at.
    """
    root = _root_of(powercap)
    state = "has no RAPL counters" if powercap.is_dir() else "is not there"
    if not (root / "sys").is_dir():
        reason, cure = "this is no Linux", "on a Mac use apple or powermetrics"
    elif (machine := hypervisor(root)) is not None:
        reason = f"this is a virtual machine ({machine}), which is not shown them"
        cure = "measure on the host, or through zeusd there: zeusd:HOST:4938"
    elif in_container(root):
        reason = "this is a container, which is not shown them"
        cure = (
            "mount the host's: 'docker run --volume /sys/devices/virtual/powercap:/powercap:ro', "
            "then rapl:/powercap; or use zeusd on the host"
        )
    else:
        reason = "no driver of the kernel offers them"
        cure = (
            "run 'sudo modprobe intel_rapl_msr', also for AMD, which needs Linux 5.11 or later; "
            "processors other than those of Intel and AMD have none"
        )
    return MeterError(str(powercap), f"{state}: {reason}", cure)


def hypervisor(root: Path) -> str | None:
    """Name of what a virtual machine runs on; None on bare metal, as far as can be seen."""
    for name in ("product_name", "sys_vendor"):
        text = _text(root / "sys/class/dmi/id" / name)
        if any(mark in text for mark in HYPERVISORS):
            return text
    for line in _text(root / "proc/cpuinfo").splitlines():
        if line.startswith("flags") and "hypervisor" in line.split():
            return _text(root / "sys/class/dmi/id/sys_vendor") or "of an unknown kind"
    return None


def in_container(root: Path) -> bool:
    """Whether the usual marks of a container are there."""
    if any((root / mark).exists() for mark in CONTAINER_MARKS):
        return True
    groups = _text(root / "proc/1/cgroup")
    return any(group in groups for group in CONTAINER_GROUPS)


def _root_of(powercap: Path) -> Path:
    if powercap.parts[-3:] == ("sys", "class", "powercap"):
        return powercap.parents[2]
    return Path("/")


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return ""
