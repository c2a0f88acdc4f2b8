"""Examines this machine: what it has, what is missing, and the command that mends it. Loads no engine to find out."""

from __future__ import annotations

import os
import platform
import re
import shutil
import stat
import sys
from importlib import metadata
from pathlib import Path
from typing import Literal

import psutil
from msgspec import Struct

from catena.core import registry
from catena.core.settings import RunSettings
from catena.core.units import bytes_text
from catena.run.devices import CPU, Accelerator, Machine, Memory, accelerators
from catena.run.devices.choice import choices
from catena.run.served.installation import Installation

# The extra of Catena that brings an engine's libraries. An engine from outside brings its own.
EXTRAS = {"llama_cpp": "llama", "onnx": "onnx", "openvino": "openvino", "sklearn": "sklearn", "torch": "torch"}
# Below this much room the audit log and a pull will soon fail; below that much memory no useful model fits.
LEAST_DISK_BYTES, LOW_DISK_BYTES, LOW_MEMORY_BYTES = 64 << 20, 2 << 30, 512 << 20
FAST = {"x86_64": "avx2", "amd64": "avx2", "aarch64": "neon", "arm64": "neon"}

State = Literal["good", "missing", "broken"]


class Finding(Struct, frozen=True):
    """One line of the page. `missing` can be lived with, `broken` cannot; `command` mends it ("" if none does)."""

    topic: str
    state: State
    text: str
    command: str = ""


class EngineFound(Struct, frozen=True):
    """An engine, the versions of its libraries that are installed, and the ones that are not."""

    name: str
    versions: dict[str, str]
    absent: tuple[str, ...]
    command: str


class HomeFound(Struct, frozen=True):
    """The state folder; `mode` as octal digits, sizes in bytes, of the disk that it is or would be on."""

    path: str
    exists: bool
    mode: str
    file_system: str
    free_bytes: int


class Report(Struct, frozen=True):
    """Everything found; `ok` is False if anything is broken."""

    ok: bool
    version: str
    python: str
    platform: str
    cpu: CPU
    memory: Memory
    accelerators: tuple[Accelerator, ...]
    engines: tuple[EngineFound, ...]
    home: HomeFound
    findings: tuple[Finding, ...]


def examine(home: Path, settings: RunSettings, *, root: Path = Path("/")) -> Report:
    """Look at the machine whose `/proc` and `/sys` are below `root`, and at the state folder `home`."""
    machine = Machine(root)
    cpu, memory = machine.cpu(), machine.memory()
    devices = accelerators(root)
    served = {name: _served(name, settings) for name in registry.names("engines") if hasattr(settings, name)}
    engines = tuple(
        _server(name, served[name]) if name in served else _engine(name) for name in registry.names("engines")
    )
    folder = _home(home)
    python = platform.python_version()
    chosen = choices(settings, [one.name for one in engines if not one.absent], devices)
    findings = [
        Finding("python", "good", f"{python} at {sys.executable}"),
        *_cpu(cpu, settings),
        _memory(memory, settings),
        *_accelerators(devices),
        *(Finding("devices", "broken" if one.problem else "good", one.text, one.command) for one in chosen),
        *(_engine_finding(one) for one in engines if one.name not in served),
        *(_server_finding(name, one, home) for name, one in served.items()),
        *_home_findings(home, folder),
    ]
    return Report(
        ok=is_ok(findings),
        version=metadata.version("catena"),
        python=python,
        platform=platform.platform(),
        cpu=cpu,
        memory=memory,
        accelerators=devices,
        engines=engines,
        home=folder,
        findings=tuple(findings),
    )


def is_ok(findings: list[Finding]) -> bool:
    """Whether nothing is broken."""
    return all(finding.state != "broken" for finding in findings)


def _cpu(cpu: CPU, settings: RunSettings) -> list[Finding]:
    found: list[Finding] = []
    text = f"{cpu.model or cpu.architecture}: {cpu.owned} of {cpu.cores} cores are ours"
    if settings.threads > cpu.owned:
        # More threads than cores wait for one another: over ten times slower under load (docs/decisions/0007).
        text += f", but run.threads is {settings.threads}"
        found.append(Finding("cores", "missing", text, "set run.threads to 0 in catena.toml"))
    else:
        found.append(Finding("cores", "good", text))
    wanted = FAST.get(cpu.architecture)
    names = ", ".join(cpu.features) or "none known"
    if wanted is None or wanted in cpu.features:
        found.append(Finding("cpu features", "good", names))
    else:
        found.append(Finding("cpu features", "missing", f"{names}; without {wanted} models run slowly"))
    return found


def _memory(memory: Memory, settings: RunSettings) -> Finding:
    text = f"{bytes_text(memory.free_bytes)} free of {bytes_text(memory.total_bytes)}"
    if settings.memory_bytes > memory.total_bytes:
        text += f", but run.memory_bytes is {settings.memory_bytes}"
        return Finding("memory", "missing", text, "set run.memory_bytes to 0 in catena.toml")
    if memory.free_bytes < LOW_MEMORY_BYTES:
        return Finding("memory", "missing", f"{text}: too little for most models, close other programs")
    return Finding("memory", "good", text)


def _accelerators(devices: tuple[Accelerator, ...]) -> list[Finding]:
    found = [_accelerator(one) for one in devices]
    kinds = {one.kind for one in devices}
    return found + [Finding(kind, "missing", "none found") for kind in ("gpu", "npu") if kind not in kinds]


def _accelerator(one: Accelerator) -> Finding:
    text = one.name + (f", {bytes_text(one.memory_bytes)}" if one.memory_bytes else "")
    if not one.driver:
        return Finding(one.kind, "missing", f"{text}: no driver holds it")
    return Finding(one.kind, "missing", f"{text}, driver {one.driver}: for engines that run.devices puts there")


def _engine(name: str) -> EngineFound:
    versions: dict[str, str] = {}
    absent: list[str] = []
    extra = EXTRAS.get(name)
    for package in _packages(extra) if extra else _outside(name):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            absent.append(package)
    command = f"pip install 'catena[{extra}]'" if absent and extra else ""
    return EngineFound(name, versions, tuple(absent), command)


def _packages(extra: str) -> list[str]:
    """The packages that an extra of Catena asks for, as its own metadata says."""
    found: list[str] = []
    for line in metadata.requires("catena") or ():
        requirement, _, marker = line.partition(";")
        if re.search(rf"""extra\s*==\s*["']{extra}["']""", marker):
            found.extend(re.findall(r"^\s*([A-Za-z0-9._-]+)", requirement))
    return found


def _outside(name: str) -> list[str]:
    """The package that brings an engine from outside, by its entry point."""
    points = metadata.entry_points(group="catena.engines", name=name)
    return [point.dist.name for point in points if point.dist is not None]


def _engine_finding(one: EngineFound) -> Finding:
    versions = ", ".join(f"{package} {version}" for package, version in one.versions.items())
    if one.absent:
        return Finding(f"engine {one.name}", "missing", f"{', '.join(one.absent)} not installed", one.command)
    return Finding(f"engine {one.name}", "good", versions or "part of Catena")


def _served(name: str, settings: RunSettings) -> Installation:
    """How an engine that is a server of its own is installed; such an engine loads no library."""
    return registry.find("engines", name)(getattr(settings, name)).installation()


def _server(name: str, found: Installation) -> EngineFound:
    versions = {} if found.reason else {name: found.version or "of unknown version"}
    return EngineFound(name, versions, (name,) if found.reason else (), "")


def _server_finding(name: str, found: Installation, home: Path) -> Finding:
    if found.reason:
        return Finding(f"engine {name}", "missing", found.reason)
    prints = home / "run" / f"{name}-*.log"
    text = f"{name} {found.version or 'of unknown version'} by {found.command[0]}; its servers print to {prints}"
    return Finding(f"engine {name}", "good", text)


def _home(home: Path) -> HomeFound:
    exists = home.exists()
    standing = next(folder for folder in (home, *home.parents) if folder.exists())
    mode = f"{stat.S_IMODE(home.stat().st_mode):04o}" if exists else ""
    return HomeFound(str(home), exists, mode, _file_system(standing), shutil.disk_usage(standing).free)


def _file_system(folder: Path) -> str:
    """The kind of file system that holds `folder`: the one mounted deepest above it; "" if unknown."""
    mounts = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    real = folder.resolve()
    return next((mounts[above] for above in (real, *real.parents) if above in mounts), "")


def _home_findings(home: Path, folder: HomeFound) -> list[Finding]:
    disk = f"{bytes_text(folder.free_bytes)} free" + (f" on {folder.file_system}" if folder.file_system else "")
    if folder.free_bytes < LEAST_DISK_BYTES:
        room = Finding("disk", "broken", f"{disk}: answers stop when it is full, because each must be recorded")
    elif folder.free_bytes < LOW_DISK_BYTES:
        room = Finding("disk", "missing", f"{disk}: little for models", "catena gc")
    else:
        room = Finding("disk", "good", disk)
    return [_folder(home, folder), room]


def _folder(home: Path, folder: HomeFound) -> Finding:
    if not folder.exists:
        return Finding("state folder", "missing", f"{home} does not exist yet", "catena tour")
    if not home.is_dir():
        return Finding("state folder", "broken", f"{home} is not a folder", "set CATENA_HOME to a folder")
    if not os.access(home, os.R_OK | os.W_OK | os.X_OK):
        return Finding("state folder", "broken", f"{home} cannot be written by this user", f"chown $USER {home}")
    if os.name == "posix" and int(folder.mode, 8) & 0o077:
        return Finding("state folder", "broken", f"{home} is open to others ({folder.mode})", f"chmod 700 {home}")
    return Finding("state folder", "good", f"{home} ({folder.mode})")
