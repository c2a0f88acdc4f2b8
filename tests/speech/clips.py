"""Real speech with what is said in it (see README.md), and ways to make other audio of it."""

from __future__ import annotations

import io
import math
import re
import struct
import wave
from pathlib import Path

FOLDER = Path(__file__).parent
RATE = 16_000
SAID = {
    "austen-0870": (
        "and mister john dashwood had then leisure to consider how much there might be prudently in his power to do "
        "for them"
    ),
    "austen-0880": "he was not an ill disposed young man",
    "austen-0890": "unless to be rather cold hearted and rather selfish is to be ill disposed",
    "austen-0920": ("had he married a more amiable woman he might have been made still more respectable than he was"),
    "austen-0930": "he might even have been made amiable himself",
}


# The clip that is here in other formats too.
COPIED, FORMATS = "austen-0880", ("flac", "ogg", "mp3")


def path(name: str, form: str = "wav") -> Path:
    """The file of a clip."""
    return FOLDER / f"{name}.{form}"


def frames(name: str) -> bytes:
    """The samples of a clip: 16 bit, mono, RATE a second."""
    with wave.open(str(path(name))) as clip:
        return clip.readframes(clip.getnframes())


def wav(samples: bytes, rate: int = RATE, channels: int = 1) -> bytes:
    """A WAV file of 16-bit samples."""
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples)
    return target.getvalue()


def silence(seconds: float) -> bytes:
    """Nothing, as 16-bit samples."""
    return bytes(2 * int(seconds * RATE))


def tone(seconds: float, hertz: float = 440.0, rate: int = RATE) -> bytes:
    """A sine, as 16-bit samples."""
    count = int(seconds * rate)
    return struct.pack(f"<{count}h", *(int(8000 * math.sin(2 * math.pi * hertz * n / rate)) for n in range(count)))


def words(text: str) -> list[str]:
    """The words of a text, without case and punctuation."""
    return re.sub(r"[^a-z' ]", " ", text.lower().replace("mr.", "mister")).split()


def word_errors(said: str, heard: str) -> int:
    """How many words were put in, left out or replaced: the edit distance of the two texts."""
    expected, found = words(said), words(heard)
    row = list(range(len(found) + 1))
    for index, one in enumerate(expected, 1):
        before, row[0] = row[0], index
        for place, other in enumerate(found, 1):
            before, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, before + (one != other))
    return row[-1]
