"""The error tree: each class has a code, a status and an exit code, and the drawn tree is the real one."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from catena.core import errors
from catena.core.errors import EXIT_CODE, HTTP_STATUS, BusyError, CatenaError, ContextError, MissingExtraError

# Codes are words that other programs rely on: this list may grow, but no code may change or go.
STABLE_CODES = {
    *("internal", "invalid_input", "unsupported", "context_overflow", "too_large", "malformed_file", "invalid_config"),
    *("not_found", "conflict", "unauthenticated", "forbidden", "refused", "busy", "expired", "cancelled", "integrity"),
    *("audit_unavailable", "out_of_resources", "missing_extra", "engine_failed", "network"),
}


def family(root: type[CatenaError]) -> Iterator[type[CatenaError]]:
    """`root` and every class below it that core defines."""
    yield root
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from family(child)


def drawn() -> dict[str, tuple[str, str]]:
    """Class → (parent, code), as the docstring draws them."""
    found: dict[str, tuple[str, str]] = {}
    path: list[str] = ["CatenaError"]
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"([│ ]*)[├└]── (\w+) +(\w+) +\S", line):
            depth = len(match[1]) // 4 + 1
            path[depth:] = [match[2]]
            found[match[2]] = (path[depth - 1], match[3])
    return found


def test_the_drawn_tree_is_the_real_one() -> None:
    real = {kind.__name__: (kind.__bases__[0].__name__, kind.code) for kind in family(CatenaError)}
    del real["CatenaError"]
    assert drawn() == real


@pytest.mark.parametrize("kind", list(family(CatenaError)), ids=lambda kind: kind.__name__)
def test_each_error_has_a_status_and_an_exit_code(kind: type[CatenaError]) -> None:
    assert 400 <= HTTP_STATUS[kind.code] < 600
    assert 0 < EXIT_CODE[kind.code] < 256


def test_each_error_has_a_code_of_its_own_and_no_table_names_another() -> None:
    codes = [kind.code for kind in family(CatenaError)]
    assert len(codes) == len(set(codes))
    assert set(codes) == set(HTTP_STATUS) == set(EXIT_CODE)
    assert set(codes) >= STABLE_CODES


def test_the_callers_fault_is_a_status_of_the_400s_and_ours_is_not() -> None:
    assert {HTTP_STATUS[kind.code] // 100 for kind in family(errors.InputError)} == {4}
    for kind in (errors.EngineError, errors.IntegrityError, errors.AuditError, errors.ResourceError, CatenaError):
        assert HTTP_STATUS[kind.code] // 100 == 5


def test_an_error_reads_as_a_sentence_with_its_hint() -> None:
    assert str(CatenaError("the door is shut")) == "the door is shut"
    assert str(CatenaError("the door is shut", hint="knock")) == "the door is shut (hint: knock)"


def test_a_context_error_gives_both_numbers() -> None:
    error = ContextError(9000, 8192)
    assert (error.needed, error.available) == (9000, 8192)
    assert "9000" in error.message and "8192" in error.message and error.hint


def test_a_busy_error_says_when_to_come_back() -> None:
    assert BusyError("full", retry_after_s=2.0).hint == "try again in 2 s"


def test_a_missing_extra_says_what_to_install() -> None:
    assert MissingExtraError("onnxruntime", "onnx").hint == "pip install 'catena[onnx]'"
