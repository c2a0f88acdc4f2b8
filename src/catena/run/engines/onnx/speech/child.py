"""The process that decodes an audio file: standard input is the file, standard output its samples, within hard limits.

Decoders read what strangers send, so they run apart: a bad file ends this process and nothing else. It imports nothing
of Catena. First a line of JSON (`rate` in Hz), then mono float32 samples of this machine's byte order, until the end.
Exit codes: 0 all was decoded, 3 this is no audio that is known here.
"""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any, cast

if __name__ == "__main__":
    sys.modules["numpy"] = cast(Any, None)  # miniaudio can do without it, and starts in half the time
import miniaudio

try:
    import resource
except ModuleNotFoundError:  # not on every system
    resource = None

NO_AUDIO = 3
MAX_MEMORY_BYTES, MAX_CPU_S = 2 << 30, 1800
FRAMES = 65_536
# https://github.com/irmen/pyminiaudio: each looks at the header of one format.
_READERS: tuple[Any, ...] = (
    miniaudio.wav_get_info,
    miniaudio.flac_get_info,
    miniaudio.vorbis_get_info,
    miniaudio.mp3_get_info,
)


def main() -> int:
    """Decode standard input to standard output."""
    if resource is not None:
        for kind, limit in ((resource.RLIMIT_AS, MAX_MEMORY_BYTES), (resource.RLIMIT_CPU, MAX_CPU_S)):
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(kind, (limit, limit))
    data = sys.stdin.buffer.read()
    rate = _rate(data)
    if rate is None:
        return NO_AUDIO
    sys.stdout.buffer.write(json.dumps({"rate": rate}).encode() + b"\n")
    try:
        blocks = cast(Any, miniaudio).stream_memory(data, miniaudio.SampleFormat.FLOAT32, 1, rate, FRAMES)
        for block in blocks:
            sys.stdout.buffer.write(block.tobytes())
    except miniaudio.MiniaudioError:
        return NO_AUDIO
    sys.stdout.buffer.flush()
    return 0


def _rate(data: bytes) -> int | None:
    """Samples per second of the file; None if no reader knows it."""
    for reader in _READERS:
        try:
            rate = int(reader(data).sample_rate)
        except miniaudio.MiniaudioError:
            continue
        if rate > 0:
            return rate
    return None


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:
        sys.stderr.close()  # whoever listened has gone
        sys.exit(0)
