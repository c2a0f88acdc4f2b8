"""One call of the library as the event loop sees it: its chunks as they come, its end, and a way to stop it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from catena.core.errors import EngineError

# Longest silence of a running request: one prefill batch of a very slow model.
SILENCE_S = 600.0


class Refused(Exception):
    """The library found the request malformed."""


class Call:
    """Fed by its process. `on_stop` asks for its end; `on_end` runs once the library has let go of it."""

    def __init__(self, on_stop: Callable[[], None], on_end: Callable[[], None], silence_s: float | None) -> None:
        self._arrived: deque[bytes] = deque()
        self._news = asyncio.Event()
        self._on_stop = on_stop
        self._on_end = on_end
        self._silence_s = silence_s
        self._is_stopped = False
        self._has_ended = False
        self._failure: Exception | None = None

    def feed(self, chunk: bytes) -> None:
        """One more chunk came."""
        if not self._is_stopped:
            self._arrived.append(chunk)
            self._news.set()

    def end(self, failure: Exception | None) -> None:
        """No more chunks will come; `failure` is why, unless all is well."""
        self._failure = failure
        self._has_ended = True
        self._news.set()
        self._on_end()

    def stop(self) -> None:
        """Have the library drop the request at its next chunk: within one token, or one batch of the prompt."""
        if not (self._is_stopped or self._has_ended):
            self._is_stopped = True
            self._arrived.clear()
            self._on_stop()

    async def chunk(self) -> bytes | None:
        """The next chunk, None after the last; Refused, or EngineError if the library broke or fell silent."""
        while not self._arrived:
            if self._failure is not None:
                raise self._failure
            if self._has_ended:
                return None
            self._news.clear()
            try:
                async with asyncio.timeout(self._silence_s):
                    await self._news.wait()
            except TimeoutError:
                raise EngineError(f"llama.cpp has been silent for {self._silence_s:.0f} s") from None
        return self._arrived.popleft()
