"""The registry: implementations are found by name, inside and outside Catena, and nothing loads unasked."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from catena.core import registry
from catena.core.errors import MissingExtraError, NotFoundError

PLUG_IN = """\
print("loaded", __name__)

class Engine:
    made = 0

    def __init__(self):
        Engine.made += 1

command = "a verb from outside"
"""


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A distribution as pip leaves it: a module, and metadata with entry points."""
    (tmp_path / "stranger.py").write_text(PLUG_IN)
    info = tmp_path / "stranger-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[catena.engines]\nforeign = stranger:Engine\necho = stranger:Engine\n[catena.verbs]\nwave = stranger:command\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield tmp_path
    sys.modules.pop("stranger", None)


@pytest.mark.parametrize("seam", sorted(registry.ROOMS))
def test_every_implementation_inside_exports_what_its_room_promises(seam: str) -> None:
    names = registry.names(seam, all=True)
    assert names == sorted(names) and names
    for name in names:
        try:
            assert registry.find(seam, name) is not None
        except MissingExtraError as error:
            # The one extra that the tests' own leaves out: gigabytes on many machines.
            assert (name, error.hint) == ("torch", "pip install 'catena[torch]'")


def test_listing_imports_no_implementation() -> None:
    code = (
        "import sys; from catena.core import registry\n"
        "for seam, room in registry.ROOMS.items():\n"
        "    registry.names(seam, all=True)\n"
        "print([m for m in sys.modules for room in registry.ROOMS.values() if m.startswith(room.package + '.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_an_engine_for_tests_is_left_out_unless_asked_for() -> None:
    assert "echo" not in registry.names("engines")
    assert "echo" in registry.names("engines", all=True)
    assert registry.find("engines", "echo").__module__ == "catena.run.engines.echo"


def test_every_name_on_request_exists() -> None:
    for seam, name in registry.ON_REQUEST:
        assert name in registry.names(seam, all=True)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(NotFoundError) as caught:
        registry.find("engines", "steam")
    assert "'steam'" in caught.value.message and "llama_cpp" in caught.value.hint


@pytest.mark.parametrize("name", ["", "../core", "a.b", "os.path", "__init__", "echo "])
def test_a_name_is_never_a_path(name: str) -> None:
    with pytest.raises(NotFoundError):
        registry.find("engines", name)


def test_a_plug_in_is_found_by_its_entry_point(outside: Path) -> None:
    assert "foreign" in registry.names("engines")
    assert registry.find("engines", "foreign").__module__ == "stranger"
    assert registry.find("verbs", "wave") == "a verb from outside"


def test_a_plug_in_is_not_loaded_before_it_is_asked_for(outside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    registry.names("engines", all=True)
    assert "stranger" not in sys.modules
    registry.find("engines", "foreign")
    assert capsys.readouterr().out == "loaded stranger\n"


def test_our_own_implementation_wins_over_a_plug_in_of_the_same_name(outside: Path) -> None:
    assert registry.find("engines", "echo").__module__ == "catena.run.engines.echo"
    assert registry.names("engines", all=True).count("echo") == 1


def test_a_removed_plug_in_is_gone(outside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(outside)])
    assert "foreign" not in registry.names("engines")


def test_made_makes_each_once_and_only_when_asked(outside: Path) -> None:
    made = registry.Made("engines", ["foreign", "echo"])
    assert list(made) == ["foreign", "echo"] and len(made) == 2
    assert "stranger" not in sys.modules
    first = made["foreign"]
    assert made["foreign"] is first and type(first).made == 1
    with pytest.raises(KeyError):
        made["steam"]
