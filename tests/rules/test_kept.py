"""What is kept in the project names no machine of ours and no package registry, and pins what it installs."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from email.message import Message
from importlib.metadata import PackageMetadata, metadata
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tests.rules.reading import ROOT, texts

# Spelled with `~` in them, so that this file may be kept.
FOREIGN = re.compile(
    r"(?<![\w.{}/])/(?:wo~rk|ro~ot|Use~rs)/[\w.]|(?<![\w.{}/])/ho~me/\w+/|/opt/(?:py~pi|wh~eels)"
    r"|py~pi\.org|pytho~nhosted\.org|npm~js\.(?:org|com)|deb~ian\.org|hugging~face\.co\b".replace("~", "")
)
# Where a source leads unless the environment says otherwise: the file, and the one address it may name.
LED_TO = {"src/catena/store/pull/huggingface.py": "hugging~face.co".replace("~", "")}
COPYLEFT = re.compile(r"(?<![L])A?GPL|(?<!Lesser )General Public|SSPL|Commons Clause|BUSL")
READ_BY_HAND = {"pyreqwest": "Apache-2.0", "axe-playwright-python": "MIT, by its licence file"}
RUNTIME, DEVELOPMENT = ROOT / "requirements.txt", ROOT / "requirements-dev.txt"


class Pin(NamedTuple):
    """One line of a requirements file with its continuation."""

    requirement: Requirement
    num_hashes: int


def foreign(root: Path = ROOT) -> list[str]:
    """Lines that name a folder of one machine, or the address of a registry."""
    return [
        f"{name}:{number} {match[0]}"
        for name, text in texts(root)
        for number, line in enumerate(text.splitlines(), 1)
        if (match := FOREIGN.search(line)) and LED_TO.get(name) != match[0]
    ]


def pins(text: str) -> list[Pin]:
    """The pinned requirements of a file; anything that is neither one nor a hash of one raises."""
    found: list[Pin] = []
    for line in text.replace("\\\n", " ").splitlines():
        if words := line.partition("#")[0].strip():
            requirement, *hashes = words.split("--hash=sha256:")
            found.append(Pin(Requirement(requirement.strip()), len(hashes)))
    return found


def loose(text: str) -> list[str]:
    """Requirements without an exact version or without a hash."""
    return [
        str(pin.requirement)
        for pin in pins(text)
        if not pin.num_hashes or not re.fullmatch(r"==[\w.!+]+", str(pin.requirement.specifier))
    ]


def unmet(declared: list[Requirement], text: str) -> list[str]:
    """Declared dependencies that no pin satisfies."""
    pinned = pins(text)
    return [
        str(wanted)
        for wanted in declared
        if not any(
            canonicalize_name(pin.requirement.name) == canonicalize_name(wanted.name)
            and wanted.specifier.contains(str(pin.requirement.specifier)[2:], prereleases=True)
            for pin in pinned
        )
    ]


def declared(*extras: str) -> list[Requirement]:
    """What pyproject.toml asks for, with these extras and the build group."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    optional = project["project"]["optional-dependencies"]
    lines = [*project["project"]["dependencies"], *project["dependency-groups"]["build"]]
    queue = list(extras)
    while queue:
        for line in optional[queue.pop()]:
            wanted = Requirement(line)
            if wanted.name == "catena":
                queue += wanted.extras
            else:
                lines.append(line)
    return [Requirement(line) for line in lines]


def licence(metadata: PackageMetadata) -> str:
    """What a package says of its licence, in whichever of the three places it says it."""
    classifiers = [line.split("::")[-1] for line in metadata.get_all("Classifier") or () if line.startswith("License")]
    said = (metadata.get("License-Expression"), *(metadata.get("License") or "").splitlines()[:1], *classifiers)
    return "; ".join(word.strip() for word in said if word)


def unusable(packages: Iterable[PackageMetadata]) -> list[str]:
    """Packages under a licence that asks for more than we can promise, or under none that can be read."""
    return [
        f"{metadata['Name']}: {found or 'unknown'}"
        for metadata in packages
        if not (found := licence(metadata) or READ_BY_HAND.get(metadata["Name"], "")) or COPYLEFT.search(found)
    ]


def installed() -> list[PackageMetadata]:
    """The metadata of every pinned package that is installed here."""
    found: list[PackageMetadata] = []
    for pin in pins(DEVELOPMENT.read_text()):
        if pin.requirement.marker is None or pin.requirement.marker.evaluate():
            found.append(metadata(pin.requirement.name))
    return found


def test_every_installed_package_has_a_licence_that_lets_anybody_use_it() -> None:
    assert unusable(installed()) == []


def test_an_unusable_licence_is_found() -> None:
    packages = [Message() for _ in range(4)]
    for package, name in zip(packages, ("free", "viral", "network", "silent"), strict=True):
        package["Name"] = name
    packages[0]["License-Expression"] = "MIT OR LGPL-3.0-only"
    packages[1]["Classifier"] = "License :: OSI Approved :: GNU General Public License v3 (GPLv3)"
    packages[2]["License"] = "AGPL-3.0"
    found = unusable(packages)  # type: ignore[arg-type]
    assert [line.partition(":")[0] for line in found] == ["viral", "network", "silent"]


def test_nothing_that_is_kept_names_a_machine_or_a_registry() -> None:
    assert foreign() == []


def test_every_requirement_has_one_version_and_hashes_and_no_address() -> None:
    for path in (RUNTIME, DEVELOPMENT):
        text = path.read_text()
        assert loose(text) == []
        assert "://" not in text


def test_the_pins_satisfy_what_is_declared() -> None:
    assert unmet(declared("local"), RUNTIME.read_text()) == []
    assert unmet(declared("dev"), DEVELOPMENT.read_text()) == []


def test_development_adds_to_what_runs_and_changes_nothing() -> None:
    runtime = {str(pin.requirement) for pin in pins(RUNTIME.read_text())}
    assert runtime <= {str(pin.requirement) for pin in pins(DEVELOPMENT.read_text())}


def test_every_version_of_python_is_served_by_exactly_one_pin_of_a_package() -> None:
    for version in ("3.11", "3.12", "3.13", "3.14"):
        environment = {"python_full_version": f"{version}.0", "python_version": version}
        names = [
            pin.requirement.name
            for pin in pins(DEVELOPMENT.read_text())
            if (pin.requirement.marker or Marker("python_version > '3'")).evaluate(environment)
        ]
        assert len(names) == len(set(names))
        assert {"numpy", "xllamacpp", "pytest"} <= set(names)


def test_what_builds_the_package_is_what_is_pinned_for_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["build-system"]["requires"] == project["dependency-groups"]["build"]


@pytest.mark.parametrize(
    "line",
    [
        "path = '/wo~rk/main'",
        "see https://py~pi.org/simple",
        "cd /ro~ot/x",
        "/ho~me/ann/catena",
        "https://files.pytho~nhosted.org/x",
    ],
)
def test_a_foreign_word_is_found(tmp_path: Path, line: str) -> None:
    (tmp_path / "kept.md").write_text(f"fine\n{line}\n".replace("~", ""))
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "made.txt").write_text(line.replace("~", ""))
    assert [place.partition(" ")[0] for place in foreign(tmp_path)] == ["kept.md:2"]


def test_a_loose_requirement_is_found() -> None:
    digest = "--hash=sha256:" + "0" * 64
    text = f"a==1.0 {digest}\nb>=2 \\\n    {digest}\nc==3\nd==4.* {digest}\n"
    assert loose(text) == ["b>=2", "c==3", "d==4.*"]


def test_an_unmet_requirement_is_found() -> None:
    text = "a==1.0 --hash=sha256:00\n"
    wanted = [Requirement("a>=0.9"), Requirement("a>=2"), Requirement("b")]
    assert unmet(wanted, text) == ["a>=2", "b"]
