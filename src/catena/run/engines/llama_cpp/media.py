"""Pictures and sounds as the library takes them, once their first bytes show a kind and size that it can bear.

The media type that a caller states counts for nothing: what the library decodes is told by the bytes alone.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable
from typing import Any

from catena.core.errors import InputError, TooLargeError, UnsupportedError
from catena.core.messages import Audio, Image, Message, Text

MAX_PICTURES = 16
# Decoded, a picture takes 3 bytes a pixel, however small its file is.
MAX_PIXELS = 1 << 24
MAX_SIDE = 16_384
# Decoded to 16 kHz floats, this is 35 minutes of 8-bit speech, or of the thinnest MP3.
MAX_SOUND_BYTES = 16 << 20
MAX_MP3_BYTES = 2 << 20

_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_PLAIN = frozenset((0x01, *range(0xD0, 0xD9)))


def check(messages: Iterable[Message], reads: frozenset[str]) -> bool:
    """Whether there are pictures or sounds in the messages, all of which the model reads.

    `reads` is what its projector is for: `image`, `audio`. Raises UnsupportedError, TooLargeError, InputError.
    """
    parts = [part for message in messages for part in message.parts if not isinstance(part, Text)]
    if len(parts) > MAX_PICTURES:
        raise TooLargeError(f"a request holds {MAX_PICTURES} pictures and sounds at most", param="messages")
    for part in parts:
        kind = "image" if isinstance(part, Image) else "audio"
        if kind not in reads:
            also = f" and {' and '.join(sorted(reads))}" if reads else ""
            raise UnsupportedError(
                f"this model reads text{also} only",
                hint=f"send text parts only, or choose a model whose projector reads {kind}",
                param="messages",
            )
        if isinstance(part, Image):
            _check_picture(part.data)
        else:
            _sound_format(part.data)
    return bool(parts)


def content(message: Message) -> list[dict[str, Any]]:
    """The parts of a message that `check` has seen, in order."""
    return [_part(part) for part in message.parts]


def _part(part: Text | Image | Audio) -> dict[str, Any]:
    match part:
        case Text(text):
            return {"type": "text", "text": text}
        case Image(data):
            # The library reads no more of the type than that it is one of a picture.
            return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{_base64(data)}"}}
        case Audio(data):
            return {"type": "input_audio", "input_audio": {"data": _base64(data), "format": _sound_format(data)}}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _check_picture(data: bytes) -> None:
    width, height = _size(data)
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and width * height <= MAX_PIXELS):
        raise TooLargeError(
            f"a picture of {width} x {height} is not read",
            hint=f"at most {MAX_SIDE} on a side and {MAX_PIXELS >> 20} million pixels in all; models shrink it anyway",
            param="messages",
        )


def _size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels, as the header has them."""
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR":
            width, height = struct.unpack_from(">II", data, 16)
        elif data[:6] in (b"GIF87a", b"GIF89a"):
            width, height = struct.unpack_from("<HH", data, 6)
        elif data[:2] == b"BM":
            width, height = map(abs, struct.unpack_from("<ii", data, 18))
        elif data[:3] == b"\xff\xd8\xff":
            width, height = _jpeg_size(data)
        else:
            raise UnsupportedError(
                "a picture is of no kind that is read here", hint="send PNG, JPEG, GIF or BMP", param="messages"
            )
    except struct.error:
        raise InputError("a picture ends within its header", param="messages") from None
    return width, height


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """From the frame header; a segment is a marker, then its length in bytes. Raises struct.error at the end.

    Source: ITU-T T.81, annex B.
    """
    offset = 2
    while True:
        start, marker = struct.unpack_from(">BB", data, offset)
        if start != 0xFF:
            raise InputError("a JPEG picture is broken", param="messages")
        if marker == 0xFF:  # a fill byte
            offset += 1
        elif marker in _JPEG_PLAIN:
            offset += 2
        elif marker in _JPEG_SIZES:
            height, width = struct.unpack_from(">HH", data, offset + 5)
            return width, height
        else:
            (length,) = struct.unpack_from(">H", data, offset + 2)
            offset += 2 + length


def _sound_format(data: bytes) -> str:
    """`wav` or `mp3`, which are all that the library takes."""
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        kind, limit = "wav", MAX_SOUND_BYTES
    elif data[:3] == b"ID3" or (data[:1] == b"\xff" and len(data) > 1 and data[1] & 0xE6 == 0xE2):
        kind, limit = "mp3", MAX_MP3_BYTES
    else:
        raise UnsupportedError("a sound is of no kind that is read here", hint="send WAV or MP3", param="messages")
    if len(data) > limit:
        raise TooLargeError(f"a {kind} sound may have {limit >> 20} MiB", param="messages")
    return kind
