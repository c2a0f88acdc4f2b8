"""The forms that a text may lie in on a disk, and the search for them: whatever wraps it is undone, layer by layer.

Undone are: case, width, invisible characters; UTF-16 and UTF-32, GB 18030 and Big5; escapes of JSON, URLs, HTML,
quoted-printable and source code; base64 and hexadecimal at every alignment; each within each, up to three layers deep.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections import deque
from collections.abc import Generator, Iterable
from html.entities import html5

from catena.reach.forgetting.search import Finder
from catena.reach.forgetting.target import fold

DEPTH = 3
# What is looked at in pieces overlaps by so much: no form of a text is longer.
# All that is unwrapped of some bytes takes at most so many times their length, and a little.
_MAX_UNWRAPPED, _MIN_UNWRAPPED_BYTES = 12, 1 << 20
OVERLAP_BYTES = 64 << 10
_WIDE = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
_CHINESE = ("gb18030", "big5")
_FULL_WIDTH = {letter: letter + 0xFEE0 for letter in range(0x21, 0x7F)} | {0x20: 0x3000}
_MIN_RUN = 6
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{%d,}(?:(?:\r?\n|\\r\\n|\\n|%%0A|%%0D%%0A)[A-Za-z0-9+/_-]+)*" % _MIN_RUN)
_BREAK = re.compile(rb"\r?\n|\\r\\n|\\n|%0A|%0D%0A")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_HEX = re.compile(rb"[0-9a-fA-F]{8,}|(?:[0-9a-fA-F]{2}[ :,-]){3,}[0-9a-fA-F]{2}|(?:0[xX][0-9a-fA-F]{2}[,; ]*){4,}")
_NOT_HEX = re.compile(rb"0[xX]|[^0-9a-fA-F]")
_BACKSLASHES = re.compile(r"\\{2,}")
_UNICODE = re.compile(r"\\(?:u\{?([0-9a-fA-F]{4,6})\}?|U([0-9a-fA-F]{8}))")
_ESCAPED = re.compile(r"\\([nrtbf])?")
_ENTITY = re.compile(r"&(?:#([0-9]{1,7})|#[xX]([0-9a-fA-F]{1,6})|([a-zA-Z]{2,8}));?")
_URL_RUN = re.compile(rb"[^\s\"<>\0]{4,}")
_PERCENT = re.compile(rb"%([0-9a-fA-F]{2})")
_ASCII_RUN = re.compile(rb"[\t\n\r\x20-\x7e]{6,}")
_QUOTED = re.compile(rb"=([0-9A-F]{2})|=\r?\n")
_CODE = re.compile(rb"\\x([0-9a-fA-F]{2})")
# Two or more characters in a row; of bytes that are no text as a whole the rest is passed over.
_UTF8_RUN = re.compile(
    rb"(?:[\t\n\r\x20-\x7e]|[\xc2-\xdf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xe0[\xa0-\xbf][\x80-\xbf]"
    rb"|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2}){2,}"
)
_SURROGATES = re.compile("[\ud800-\udbff][\udc00-\udfff]")


class Forms:
    """The texts that are looked for; numbers count them from 0. Used by any number of threads."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = tuple(texts)
        folded = [(fold(text), number) for number, text in enumerate(self.texts)]
        self._text = Finder(folded)
        self._close = Finder((_close(text), number) for text, number in folded if _HAN.search(text))
        self._bytes = Finder(pair for number, text in enumerate(self.texts) for pair in _coded(text, number))

    def __bool__(self) -> bool:
        return bool(self.texts)

    def find(self, data: bytes) -> set[int]:
        """The numbers of the texts that `data` holds in some form."""
        found = set[int]()
        # Shallow layers first; what a hostile text wraps without end is not followed without end.
        waiting = deque([(data, 0)])
        left = _MAX_UNWRAPPED * len(data) + _MIN_UNWRAPPED_BYTES
        while waiting:
            view, depth = waiting.popleft()
            found |= self._bytes.find(view.lower())
            readable = _readable(view)
            plain = self._texts(readable.decode(), found)
            if depth == DEPTH:
                continue
            layers = [plain.encode("utf-8", "replace")]
            if depth == 0 and layers[0] != readable:
                layers.append(readable)
            for layer in layers:
                for inner in _unwrapped(layer, is_outermost=depth == 0):
                    left -= len(inner)
                    if left > 0:
                        waiting.append((inner, depth + 1))
        return found

    def find_text(self, text: str) -> set[int]:
        """As `find`, in a text."""
        return self.find(text.encode("utf-8", "surrogatepass"))

    def _texts(self, text: str, found: set[int]) -> str:
        """Look through a text as it is and without its escapes; the text without escapes."""
        found |= self._in_text(text)
        plain = _unescaped(text)
        if plain != text:
            found |= self._in_text(plain)
        if "+" in plain:
            found |= self._in_text(plain.replace("+", " "))
        return plain

    def _in_text(self, text: str) -> set[int]:
        folded = fold(text)
        close = _close(folded)
        return self._text.find(folded) | (self._close.find(close) if close != folded else set())


def _close(text: str) -> str:
    """A folded text without the spaces between Chinese characters."""
    return _HAN_SPACE.sub("", text)


_HAN = re.compile("[\u3400-\u9fff]")
_HAN_SPACE = re.compile("(?<=[\u3400-\u9fff]) (?=[\u3400-\u9fff])")


def _coded(text: str, number: int) -> Generator[tuple[bytes, int]]:
    """A text in encodings that are not UTF-8, in lower-case bytes."""
    wide = text.translate(_FULL_WIDTH)
    for form in dict.fromkeys((text, text.lower(), text.upper(), text.title(), wide)):
        for encoding in _WIDE if form != wide or wide == text else _WIDE[:2]:
            yield form.encode(encoding).lower(), number
        if not form.isascii():
            for encoding in _CHINESE:
                try:
                    yield form.encode(encoding).lower(), number
                except UnicodeEncodeError:
                    continue


def _unescaped(text: str) -> str:
    """`text` without escapes of JSON, source code and HTML, however often they were escaped themselves.

    Escapes of single bytes stay: they are undone with what they stand in.
    """
    if "\\" in text:
        text = _UNICODE.sub(_character, _BACKSLASHES.sub(r"\\", text))
        if _SURROGATES.search(text):
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        text = _ESCAPED.sub(_escaped, text)
    return _ENTITY.sub(_entity, text) if "&" in text else text


def _escaped(match: re.Match[str]) -> str:
    if match.string[match.end() : match.end() + 1] == "x" and match[1] is None:
        return "\\"
    return " " if match[1] else ""


def _character(match: re.Match[str]) -> str:
    code = int(match[1] or match[2], 16)
    return chr(code) if code < 0x110000 else "\ufffd"


def _entity(match: re.Match[str]) -> str:
    if match[3]:
        return html5.get(f"{match[3]};", match[0])
    code = int(match[1]) if match[1] else int(match[2], 16)
    return chr(code) if code < 0x110000 and not 0xD800 <= code < 0xE000 else "\ufffd"


def _readable(data: bytes) -> bytes:
    """`data` if it is UTF-8, else the stretches of it that are."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return b"\0".join(_UTF8_RUN.findall(data))
    return data


def _unwrapped(data: bytes, *, is_outermost: bool) -> Generator[bytes]:
    """What stands in `data` in another form, with as much around it as that form has."""
    if b"%" in data:
        runs = [run for run in _URL_RUN.findall(data) if _PERCENT.search(run)]
        runs += [run.replace(b"+", b" ") for run in runs if b"+" in run]
        if runs:
            yield b"\n".join(_PERCENT.sub(_byte, run) for run in runs)
    if b"=" in data or b"\\x" in data:
        runs = [run for run in _ASCII_RUN.findall(data) if _QUOTED.search(run) or _CODE.search(run)]
        if runs:
            yield b"\n".join(_CODE.sub(_byte, _QUOTED.sub(_byte, run)) for run in runs)
    if runs := list(_decoded_runs(data, range(4) if is_outermost else range(1))):
        yield b"\n".join(runs)


def _byte(match: re.Match[bytes]) -> bytes:
    return bytes.fromhex(match[1].decode()) if match[1] else b""


def _decoded_runs(data: bytes, starts: range) -> Generator[bytes]:
    """Runs of base64 and hexadecimal digits, decoded from each place where a group may begin."""
    for match in _BASE64.finditer(data):
        run = _BREAK.sub(b"", match[0]).translate(_URL_SAFE)
        for start in starts:
            part = run[start : len(run) - (len(run) - start) % 4]
            rest = run[start + len(part) :]
            if len(rest) > 1:
                part += rest.ljust(4, b"=")
            if part:
                yield base64.b64decode(part)
    for match in _HEX.finditer(data):
        digits = _NOT_HEX.sub(b"", match[0])
        for start in range(2):
            yield _from_hex(digits[start:])


def _from_hex(digits: bytes) -> bytes:
    return binascii.unhexlify(digits[: len(digits) - len(digits) % 2])
