"""What a model server prints: the end of it, in a file of its owner only, without secrets, for whoever mends it.

Nothing of it goes into Catena's own log, an error or the audit log: a server may print what it was asked.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Collection, Iterable
from pathlib import Path

MAX_BYTES = 512 << 10
MAX_LINE_BYTES = 8 << 10
_ENDS = re.compile(rb"[\r\n]+")
_SECRETS = re.compile(rb"(?i)\b(?:hf_|sk-)[a-z0-9_-]{8,}|(?<=bearer )[^\s\"']+")
_HIDDEN = b"***"


class Output:
    """The last MAX_BYTES of what was printed, line by line, in memory and in the file at `path`."""

    def __init__(self, path: Path, secrets: Iterable[str] = ()) -> None:
        self.path = path
        self._secrets = tuple(secret.encode() for secret in secrets)
        self._lines: deque[bytes] = deque()
        self._num_bytes = 0  # of the lines that are kept
        self._file_bytes = 0
        self._rest = b""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        os.fchmod(descriptor, 0o600)
        self._file = os.fdopen(descriptor, "wb", buffering=0)

    def feed(self, data: bytes) -> None:
        """More was printed."""
        *lines, self._rest = _ENDS.split(self._rest + data)
        while len(self._rest) > MAX_LINE_BYTES:
            lines.append(self._rest[:MAX_LINE_BYTES])
            self._rest = self._rest[MAX_LINE_BYTES:]
        for line in lines:
            if line:
                self._keep(line)

    def end(self) -> None:
        """Nothing more will be printed."""
        if self._rest:
            self._keep(self._rest)
            self._rest = b""
        self._file.close()

    def has(self, words: Collection[str]) -> bool:
        """Whether one of `words` was printed lately."""
        wanted = [word.encode() for word in words]
        return any(word in line for line in self._lines for word in wanted)

    def last(self, words: Collection[str]) -> str:
        """Which of `words` was printed last; "" if none was."""
        wanted = {word: word.encode() for word in words}
        return next((word for line in reversed(self._lines) for word, form in wanted.items() if form in line), "")

    def _keep(self, line: bytes) -> None:
        for secret in self._secrets:
            line = line.replace(secret, _HIDDEN)
        line = _SECRETS.sub(_HIDDEN, line[:MAX_LINE_BYTES]) + b"\n"
        self._lines.append(line)
        self._num_bytes += len(line)
        while self._num_bytes > MAX_BYTES // 2:
            self._num_bytes -= len(self._lines.popleft())
        if self._file_bytes + len(line) > MAX_BYTES:
            self._file.seek(0)
            self._file.truncate()
            self._file_bytes = self._file.write(b"".join(self._lines))
        else:
            self._file_bytes += self._file.write(line)
