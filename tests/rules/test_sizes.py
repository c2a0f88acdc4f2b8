"""Files and functions stay small enough to read."""

from __future__ import annotations

from pathlib import Path

from tests.rules import sizes


def test_no_file_and_no_function_is_too_large() -> None:
    print(sizes.report())
    assert sizes.too_large() == []


def test_a_long_file_and_a_long_function_are_found(tmp_path: Path) -> None:
    (tmp_path / "src" / "catena").mkdir(parents=True)
    long_function = "def long() -> None:\n" + "    pass\n" * sizes.MAX_FUNCTION_LINES
    (tmp_path / "src" / "catena" / "long.py").write_text(long_function)
    (tmp_path / "src" / "catena" / "page.js").write_text("\n" * (sizes.MAX_FILE_LINES + 1))
    assert sizes.too_large(tmp_path) == ["src/catena/page.js: 601 lines", "src/catena/long.py:1 long: 81 lines"]


def test_what_is_just_within_the_limits_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    function = "def f() -> None:\n" + "    pass\n" * (sizes.MAX_FUNCTION_LINES - 1)
    (tmp_path / "tests" / "fits.py").write_text(function + "\n" * (sizes.MAX_FILE_LINES - sizes.MAX_FUNCTION_LINES))
    assert sizes.too_large(tmp_path) == []
