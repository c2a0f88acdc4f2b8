"""The lines of a batch's input: one JSON object each, checked all together before any of them is run."""

from __future__ import annotations

from collections.abc import Callable, Container
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import msgspec
from msgspec import Struct

from catena.core.errors import InputError, IntegrityError
from catena.reach.batches.batch import Problem
from catena.reach.gateway.wire import decode, unknown_field

MAX_PROBLEMS = 100
MAX_CUSTOM_ID_CHARS = 512
FIELDS = {"custom_id": str, "method": str, "url": str, "body": dict}


class Line(Struct, frozen=True):
    """One request: its name, unique in the batch, and its body as JSON."""

    custom_id: str
    body: bytes


class Checked(Struct, frozen=True):
    """What the check of an input found; `model` where all lines name the same."""

    num_lines: int
    problems: tuple[Problem, ...]
    model: str | None


class _Raw(Struct, frozen=True):
    custom_id: str
    body: msgspec.Raw


class Source:
    """Reads an input line by line; at most `max_line_bytes` each. Used by one thread at a time.

    `content` is where it lies, or what opens it. Raises IntegrityError when there is no such file.
    """

    def __init__(self, content: Path | Callable[[], BinaryIO], max_line_bytes: int) -> None:
        try:
            self._file: BinaryIO = content.open("rb") if isinstance(content, Path) else content()
        except OSError as error:
            raise IntegrityError(f"the content of the input cannot be read: {error.strerror}") from error
        self._max_line_bytes = max_line_bytes

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def raw(self) -> bytes | None:
        """The next line that is not blank, None at the end. Raises InputError for one that is too long."""
        while line := self._file.readline(self._max_line_bytes + 1):
            if len(line) > self._max_line_bytes:
                raise InputError(f"a line is longer than {self._max_line_bytes} bytes")
            if line.strip():
                return line
        return None

    def next(self, done: Container[str]) -> Line | None:
        """The next request whose name is not in `done`, None at the end. The input was checked before."""
        while (raw := self.raw()) is not None:
            found = msgspec.json.decode(raw, type=_Raw)
            if found.custom_id not in done:
                return Line(found.custom_id, bytes(found.body))
        return None


def check(
    content: Path | Callable[[], BinaryIO], endpoint: str, *, max_lines: int, max_line_bytes: int, max_depth: int
) -> Checked:
    """Read every line. Of many problems the first MAX_PROBLEMS are told, each in the words of this API."""
    problems: list[Problem] = []
    names: set[str] = set()
    models: set[Any] = set()
    num_lines = 0
    with Source(content, max_line_bytes) as source:
        while len(problems) < MAX_PROBLEMS:
            try:
                raw = source.raw()
            except InputError as error:
                problems.append(Problem("line_too_long", error.message, line=num_lines + 1))
                break
            if raw is None:
                break
            num_lines += 1
            if num_lines > max_lines:
                problems.append(Problem("too_many_requests", f"a batch has at most {max_lines} requests"))
                break
            try:
                body = _checked(raw, endpoint, names, max_depth)
            except InputError as error:
                problems.append(Problem(error.code, error.message, error.param, num_lines))
            else:
                models.add(body.get("model") if isinstance(body.get("model"), str) else None)
    if not num_lines and not problems:
        problems.append(Problem("empty_file", "the input file has no requests"))
    return Checked(num_lines, tuple(problems), models.pop() if len(models) == 1 else None)


def _checked(raw: bytes, endpoint: str, names: set[str], max_depth: int) -> dict[str, Any]:
    """The body of a request. Raises InputError, whose code says what is wrong with the line."""
    try:
        line = decode(raw, max_depth)
    except InputError as error:
        raise _wrong("invalid_json_line", error.message.replace("the body", "the line")) from None
    for name in line:
        if name not in FIELDS:
            raise unknown_field(name, FIELDS)
    for name, kind in FIELDS.items():
        if name not in line:
            raise _wrong("missing_required_parameter", f"{name} is missing", name)
        if not isinstance(line[name], kind):
            raise _wrong("invalid_type", f"{name} must be {'a text' if kind is str else 'an object'}", name)
    custom_id: str = line["custom_id"]
    if not 1 <= len(custom_id) <= MAX_CUSTOM_ID_CHARS:
        raise _wrong("invalid_custom_id", f"custom_id has 1 to {MAX_CUSTOM_ID_CHARS} characters", "custom_id")
    if custom_id in names:
        raise _wrong("duplicate_custom_id", "this custom_id was used on a line before", "custom_id")
    names.add(custom_id)
    if line["method"] != "POST":
        raise _wrong("invalid_method", "method must be POST", "method")
    if line["url"] != endpoint:
        raise _wrong("mismatched_url", f"url must be the batch's endpoint, {endpoint}", "url")
    body: dict[str, Any] = line["body"]
    for name in ("stream", "background"):
        if body.get(name):
            raise _wrong("unsupported", f"a request of a batch cannot ask for {name}", f"body.{name}")
    return body


def _wrong(code: str, message: str, param: str | None = None) -> InputError:
    error = InputError(message, param=param)
    error.code = code
    return error
