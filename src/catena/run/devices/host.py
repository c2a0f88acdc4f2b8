"""Cores, memory and CPU features of this machine; Linux below any root folder, macOS and Windows by their own calls."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import psutil
from msgspec import Struct

from catena.run.devices.cgroups import Groups

# Names that Catena uses, by the name in /proc/cpuinfo. Only what a kernel of a model engine asks for.
_X86 = (
    "sse4_2 avx avx2 fma f16c bmi2 avx_vnni avx512f avx512bw avx512vl avx512_vnni avx512_bf16 avx512_fp16 "
    "amx_tile amx_int8 amx_bf16"
)
_ARM = {
    "asimd": "neon",
    "neon": "neon",
    "asimdhp": "fp16",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
    "bf16": "bf16",
    "sve": "sve",
    "sve2": "sve2",
    "sme": "sme",
}
_LINUX = {**{name: name for name in _X86.split()}, **_ARM}
# `sysctl` of macOS: words of machdep.cpu.features and .leaf7_features on Intel, keys of value 1 on Apple silicon.
_DARWIN = {
    "SSE4.2": "sse4_2",
    "AVX1.0": "avx",
    "AVX2": "avx2",
    "FMA": "fma",
    "F16C": "f16c",
    "BMI2": "bmi2",
    "AVX512F": "avx512f",
    "AdvSIMD": "neon",
    "FEAT_FP16": "fp16",
    "FEAT_DotProd": "dotprod",
    "FEAT_I8MM": "i8mm",
    "FEAT_BF16": "bf16",
    "FEAT_SME": "sme",
}
# Numbers: learn.microsoft.com/windows/win32/api/processthreadsapi/nf-processthreadsapi-isprocessorfeaturepresent
_WINDOWS = {38: "sse4_2", 39: "avx", 40: "avx2", 41: "avx512f", 19: "neon", 43: "dotprod"}
SYSCTL_TIMEOUT_S = 5.0


class Memory(Struct, frozen=True):
    """`free_bytes` can be had without pushing anybody's data out; caches that can be dropped count as free."""

    total_bytes: int
    free_bytes: int


class CPU(Struct, frozen=True):
    """`model` as the maker calls it ("" if unknown); `cores` present, of which `owned` are ours; features by name."""

    model: str
    architecture: str
    cores: int
    owned: int
    features: tuple[str, ...]


class Machine:
    """This machine; `root` is where its `/proc` and `/sys` are. It also is the Headroom of device `cpu`."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._groups = Groups(root)

    def owned_cores(self) -> int:
        """Cores that this process may keep busy: affinity and control groups, a fraction rounded down, at least 1."""
        cores = _affinity()
        quota = self._groups.cores()
        return max(1, cores if quota is None else min(cores, int(quota)))

    def memory(self) -> Memory:
        """Memory of the machine, or of the tightest control group around this process."""
        total, free = self._physical()
        limits = self._groups.memory()
        return Memory(
            min([total, *(limit.limit_bytes for limit in limits)]),
            min([free, *(limit.free_bytes for limit in limits)]),
        )

    def free_bytes(self, device: str) -> int:
        """Memory that a new session may use on `device`; 0 on a device that is not here."""
        return self.memory().free_bytes if device == "cpu" else 0

    def cpu(self) -> CPU:
        """The CPU; unknown facts are empty, never guessed."""
        model, features = self._cpu()
        return CPU(model, platform.machine().lower(), os.cpu_count() or 1, self.owned_cores(), features)

    def _physical(self) -> tuple[int, int]:
        try:
            text = (self._root / "proc/meminfo").read_text(encoding="utf-8")
        except OSError:
            found = psutil.virtual_memory()
            return found.total, found.available
        sizes = {name: int(kib) << 10 for name, kib in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}
        # MemAvailable is missing before Linux 3.14 and in some sandboxes.
        free = sizes.get("MemAvailable", sizes.get("MemFree", 0) + sizes.get("Cached", 0))
        return sizes.get("MemTotal", 0), free

    def _cpu(self) -> tuple[str, tuple[str, ...]]:
        if sys.platform == "darwin":
            return _darwin(_sysctl())
        if sys.platform == "win32":
            present = ctypes.windll.kernel32.IsProcessorFeaturePresent
            return platform.processor(), _sorted(name for number, name in _WINDOWS.items() if present(number))
        try:
            text = (self._root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return "", ()
        fields = dict(re.findall(r"^([^\t:]+?)\s*:[ \t]*(.*)$", text, re.MULTILINE))
        words = f"{fields.get('flags', '')} {fields.get('Features', '')}".split()
        return fields.get("model name", ""), _sorted(_LINUX[word] for word in words if word in _LINUX)


def _affinity() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _sysctl() -> str:
    try:
        found = subprocess.run(
            ["/usr/sbin/sysctl", "machdep.cpu", "hw.optional"],
            capture_output=True,
            text=True,
            timeout=SYSCTL_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout


def _darwin(text: str) -> tuple[str, tuple[str, ...]]:
    """Model and features from the output of `sysctl machdep.cpu hw.optional`."""
    fields = dict(re.findall(r"^([\w.]+): (.*)$", text, re.MULTILINE))
    words = f"{fields.get('machdep.cpu.features', '')} {fields.get('machdep.cpu.leaf7_features', '')}".split()
    words += [key.rsplit(".", 1)[1] for key, value in fields.items() if key.startswith("hw.optional") and value == "1"]
    return fields.get("machdep.cpu.brand_string", ""), _sorted(_DARWIN[word] for word in words if word in _DARWIN)


def _sorted(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(names)))
