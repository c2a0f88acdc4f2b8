"""Sees to what the tests need from the machine: a Chromium for the console's tests, and a font with Chinese characters.

Usage: python setup/machine.py

On Debian and its kin, as root, missing packages are installed. Elsewhere it prints what to install and which tests are
left out; where `CI` is set nothing may be left out, and it exits with 1.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parents[1] / "tests"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class Need(NamedTuple):
    """Something that tests with `marker` need, the Debian package that brings it, and what it is in words."""

    marker: str
    package: str
    what: str


BROWSER = Need("browser", "chromium", "a Chromium or Chrome on the PATH (or CATENA_TEST_BROWSER)")
FONT = Need("browser", "fonts-noto-cjk", "a font with Chinese characters")


def missing() -> list[Need]:
    """What this machine lacks."""
    browser = os.environ.get("CATENA_TEST_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
    return [need for need, is_there in ((BROWSER, browser), (FONT, has_chinese_font())) if not is_there]


def has_chinese_font() -> bool:
    """Whether fontconfig knows a font for Chinese; on systems without fontconfig the system brings one."""
    if shutil.which("fc-list") is None:
        return sys.platform != "linux"
    listed = subprocess.run(["fc-list", ":lang=zh", "family"], capture_output=True, text=True, check=False)
    return bool(listed.stdout.strip())


def can_install() -> bool:
    """Whether packages may be installed here: as root, where apt-get is."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(needs: list[Need]) -> None:
    """Install the packages of `needs`, printing apt-get's words only if it fails."""
    packages = [need.package for need in needs]
    print(f"Installing {' '.join(packages)}", flush=True)
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update"], ["apt-get", "install", "--yes", "--no-install-recommends", *packages]):
        done = subprocess.run(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if done.returncode:
            sys.stdout.buffer.write(done.stdout[-4000:])


def left_out(marker: str) -> Iterator[str]:
    """The test files that are marked, as a whole, with `marker`."""
    for path in sorted(TESTS.rglob("test_*.py")):
        names = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        if marker in names:
            yield str(path.relative_to(TESTS.parent))


def main() -> int:
    needs = missing()
    if needs and can_install():
        install(needs)
        needs = missing()
    for need in needs:
        print(f"missing: {need.what} (Debian: apt-get install {need.package})")
    if needs:
        files = sorted({path for need in needs for path in left_out(need.marker)})
        print(f"these tests need it: {', '.join(files)}")
    return 1 if needs and os.environ.get("CI") else 0


if __name__ == "__main__":
    sys.exit(main())
