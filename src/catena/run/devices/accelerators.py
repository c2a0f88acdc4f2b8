"""GPUs and NPUs that the kernel knows of, and whether a driver holds them; no vendor library is loaded."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Literal

from msgspec import Struct

# PCI vendor ids, https://pci-ids.ucw.cz; others make displays, not something to compute on.
_VENDORS = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel"}
_NPU_NAMES = {"intel_vpu": "Intel NPU", "amdxdna": "AMD XDNA NPU"}
QUERY_TIMEOUT_S = 5.0
_QUERY = ("--query-gpu=pci.bus_id,name,memory.total,driver_version", "--format=csv,noheader,nounits")


class Accelerator(Struct, frozen=True):
    """One device. `driver` is "" where no driver holds it; `memory_bytes` None: unknown, or shared with the CPU."""

    kind: Literal["gpu", "npu"]
    vendor: str
    name: str
    driver: str
    address: str
    memory_bytes: int | None = None


def accelerators(root: Path = Path("/")) -> tuple[Accelerator, ...]:
    """Every GPU and NPU that `/sys` and `/proc` below `root` show; NVIDIA's memory by `nvidia-smi`, if it answers."""
    found = _class(root, "drm", "card", "gpu") + _class(root, "accel", "accel", "npu")
    nvidia = _nvidia(root)
    known = {one.address for one in nvidia}
    return tuple(nvidia + [one for one in found if one.address not in known])


def _class(root: Path, name: str, prefix: str, kind: Literal["gpu", "npu"]) -> list[Accelerator]:
    """Devices of a class of `/sys/class`; several nodes of one PCI device count once."""
    found: dict[str, Accelerator] = {}
    for node in sorted((root / "sys/class" / name).glob(f"{prefix}*")):
        if not re.fullmatch(rf"{prefix}\d+", node.name):
            continue
        device = node / "device"
        vendor = _VENDORS.get(_word(device / "vendor"))
        if vendor is None:
            continue
        driver = _link(device / "driver")
        number = _word(device / "device").removeprefix("0x")
        fallback = f"{vendor} {kind.upper()} {number}".rstrip()
        label = _word(device / "product_name") or _NPU_NAMES.get(driver, fallback)
        address = _link(device) or node.name
        memory = _word(device / "mem_info_vram_total")
        size = int(memory) if memory.isdecimal() else None
        found.setdefault(address, Accelerator(kind, vendor, label, driver, address, size))
    return list(found.values())


def _nvidia(root: Path) -> list[Accelerator]:
    """NVIDIA GPUs held by NVIDIA's own driver."""
    found: list[Accelerator] = []
    sizes: dict[str, int] | None = None
    for file in sorted((root / "proc/driver/nvidia/gpus").glob("*/information")):
        fields = dict(re.findall(r"^([^:\n]+):[ \t]*(.*)$", _word(file), re.MULTILINE))
        address = fields.get("Bus Location", file.parent.name).strip().lower()
        if sizes is None:
            sizes = _nvidia_sizes() if root == Path("/") else {}
        name = fields.get("Model", "NVIDIA GPU").strip()
        found.append(Accelerator("gpu", "NVIDIA", name, "nvidia", address, sizes.get(address)))
    return found


def _nvidia_sizes() -> dict[str, int]:
    """Memory in bytes by PCI address, from `nvidia-smi`; empty where it is missing, fails or hangs."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    try:
        found = subprocess.run(  # noqa: S603 - found on PATH, and every argument is a constant
            [program, *_QUERY], capture_output=True, text=True, timeout=QUERY_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return parse_query(found.stdout) if found.returncode == 0 else {}


def parse_query(text: str) -> dict[str, int]:
    """Lines `00000000:01:00.0, NAME, MIB, DRIVER`; the address loses the upper half of its domain, as /proc has it."""
    sizes: dict[str, int] = {}
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 4 and parts[2].isdecimal():
            sizes[parts[0].lower()[-12:]] = int(parts[2]) << 20
    return sizes


def _word(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _link(path: Path) -> str:
    """The last part of what a link points to; "" where there is none."""
    try:
        return path.resolve(strict=True).name if path.is_symlink() else ""
    except OSError:
        return ""
