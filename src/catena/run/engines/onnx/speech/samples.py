"""Audio files as samples: decoded by a process of their own, a block at a time, so that long ones need no memory."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import anyio.to_thread
import msgspec

from catena.core.errors import EngineError, InputError, MissingExtraError, UnsupportedError

try:
    import numpy
    from numpy.typing import NDArray
except ModuleNotFoundError as error:
    raise MissingExtraError(error.name or "numpy", "speech") from error

Samples = NDArray[numpy.float32]
BLOCK_S = 2.0
MIN_RATE, MAX_RATE = 8_000, 192_000
MAX_HEAD_BYTES = 256
# The longest that the decoding process may fall silent.
SILENCE_S = 60.0
# What child.py, which is no module of ours to import, says of bytes that are no audio.
NO_AUDIO = 3
KNOWN = "known are WAV, FLAC, MP3 and Ogg Vorbis"


class Source:
    """An open audio file: `rate` in samples per second, and its blocks in order."""

    def __init__(self, process: anyio.abc.Process, rate: int, first: bytes) -> None:
        self.rate = rate
        self._process = process
        self._waiting = bytearray(first)

    async def blocks(self) -> AsyncGenerator[Samples]:
        """Blocks of BLOCK_S seconds, the last one shorter. Raises InputError for a file that breaks off."""
        size = 4 * int(self.rate * BLOCK_S)
        while piece := await _receive(self._process):
            self._waiting += piece
            while len(self._waiting) >= size:
                block = numpy.frombuffer(bytes(self._waiting[:size]), dtype=numpy.float32)
                del self._waiting[:size]
                yield block
        code = await self._process.wait()
        if code != 0:
            raise InputError("the audio is damaged", param="file") if code == NO_AUDIO else _broken(code)
        if rest := len(self._waiting) // 4 * 4:
            yield numpy.frombuffer(bytes(self._waiting[:rest]), dtype=numpy.float32)


@asynccontextmanager
async def opened(audio: bytes) -> AsyncGenerator[Source]:
    """Decode `audio` for the length of the block. Raises InputError for bytes that are no audio, UnsupportedError for a
    rate that is out of bounds, EngineError when the decoder broke."""
    file = await anyio.to_thread.run_sync(_kept, audio)
    try:
        process = await anyio.open_process(
            [sys.executable, "-I", str(Path(__file__).with_name("child.py"))],
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT") if name in os.environ},
        )
    finally:
        file.close()
    try:
        head, _, first = (await _head(process)).partition(b"\n")
        yield Source(process, _rate(head), first)
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.aclose()


def check_installed() -> None:
    """Raises MissingExtraError where the decoders are not installed."""
    if importlib.util.find_spec("miniaudio") is None:
        raise MissingExtraError("miniaudio", "speech")


async def _head(process: anyio.abc.Process) -> bytes:
    """What comes first, to the end of its first line at least."""
    received = b""
    while b"\n" not in received:
        piece = await _receive(process)
        if not piece:
            code = await process.wait()
            raise InputError("this is no audio file", hint=KNOWN, param="file") if code == NO_AUDIO else _broken(code)
        received += piece
    return received


def _rate(head: bytes) -> int:
    found: dict[str, int] = msgspec.json.decode(head[:MAX_HEAD_BYTES], type=dict[str, int])
    rate = found["rate"]
    if not MIN_RATE <= rate <= MAX_RATE:
        raise UnsupportedError(
            f"the audio has {rate} samples per second", hint=f"from {MIN_RATE} to {MAX_RATE} are read", param="file"
        )
    return rate


async def _receive(process: anyio.abc.Process) -> bytes:
    """The next bytes, none at the end."""
    assert process.stdout is not None
    try:
        with anyio.fail_after(SILENCE_S):
            return await process.stdout.receive(1 << 18)
    except anyio.EndOfStream:
        return b""
    except TimeoutError:
        raise EngineError(f"the audio decoder fell silent for {SILENCE_S:.0f} s") from None


def _broken(code: int) -> EngineError | InputError:
    if code < 0:  # a signal: the limits of its process, or a fault of the library
        return InputError("the audio cannot be decoded", hint=KNOWN, param="file")
    return EngineError(f"the audio decoder ended with code {code}")


def _kept(audio: bytes) -> Any:
    """`audio` as an open file without a name."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the process has it
    file.write(audio)
    file.seek(0)
    return file
