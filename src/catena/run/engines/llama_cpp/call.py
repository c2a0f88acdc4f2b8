"""One call of the library on a thread of its own, its chunks brought to the event loop as they come.

The library blocks the calling thread and hands each chunk to a callback on that thread. The callback here only
appends and, when the loop is not already on its way, wakes it: many chunks may share one wake-up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from catena.core.errors import EngineError

# Longest silence of a running request: one prefill batch of a very slow model.
SILENCE_S = 600.0

Handle = Callable[[bytes, Callable[[bytes], bool]], object]


class Refused(Exception):
    """The library found the request malformed."""


class Call:
    """`handle(body, callback)` running on `threads`; `on_end` runs on the loop once the library has let go of it."""

    def __init__(self, handle: Handle, body: bytes, threads: ThreadPoolExecutor, on_end: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._arrived: deque[bytes] = deque()
        self._news = asyncio.Event()
        self._on_end = on_end
        self._is_waking = False
        self._is_stopped = False
        self._has_ended = False
        self._failure: Exception | None = None
        threads.submit(self._run, handle, body)

    def stop(self) -> None:
        """Have the library drop the request at its next chunk: within one token, or one batch of the prompt."""
        self._is_stopped = True

    async def chunk(self) -> bytes | None:
        """The next chunk, None after the last; Refused, or EngineError if the library broke or fell silent."""
        while not self._arrived:
            if self._failure is not None:
                raise self._failure
            if self._has_ended:
                return None
            self._news.clear()
            try:
                async with asyncio.timeout(SILENCE_S):
                    await self._news.wait()
            except TimeoutError:
                raise EngineError(f"llama.cpp has been silent for {SILENCE_S:.0f} s") from None
        return self._arrived.popleft()

    def _run(self, handle: Handle, body: bytes) -> None:
        failure: Exception | None = None
        try:
            handle(body, self._receive)
        except ValueError:  # its words may quote the prompt, so they end here
            failure = Refused()
        except RuntimeError:
            failure = EngineError("llama.cpp broke on a request")
        finally:
            self._post(partial(self._end, failure))

    def _receive(self, chunk: bytes) -> bool:
        # An exception in here would be swallowed by the library and end the stream as if it were complete.
        if self._is_stopped:
            return True
        self._arrived.append(chunk)
        if not self._is_waking:
            self._is_waking = True
            return not self._post(self._wake)
        return False

    def _post(self, function: Callable[[], None]) -> bool:
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:  # the loop was closed under a running request
            return False
        return True

    def _wake(self) -> None:
        self._is_waking = False
        self._news.set()

    def _end(self, failure: Exception | None) -> None:
        self._failure = failure
        self._has_ended = True
        self._news.set()
        self._on_end()
