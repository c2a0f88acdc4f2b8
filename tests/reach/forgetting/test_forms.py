"""A text is found in whatever form it lies, and not where it is not."""

from __future__ import annotations

import base64
import bz2
import gzip
import html
import io
import json
import lzma
import os
import quopri
import tarfile
import urllib.parse
import zipfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from catena.core.errors import InputError, TooLargeError
from catena.reach.forgetting.forms import Forms
from catena.reach.forgetting.scan import scan
from catena.reach.forgetting.search import FEW, Finder
from catena.reach.forgetting.target import MAX_TEXTS, Target

TEXTS = (
    "Jane Doe-Smith",
    "张伟民",
    "canary-7f3a9c21",
    "Łukasz Żółć",
    'O\'Brien "Bob"',
    "13812345678",
    "a/b c+d",
    "陳大文",
)
FILLERS = tuple(f"filler {number} of many" for number in range(FEW * 20))


def written(text: str) -> Iterator[tuple[str, bytes]]:
    """A text as programs write it."""
    data = text.encode()
    yield from (("plain", data), ("upper", text.upper().encode()), ("title", text.title().encode()))
    yield "full width", text.translate({code: code + 0xFEE0 for code in range(0x21, 0x7F)}).encode()
    yield "zero width", "\u200b".join(text).encode()
    yield "other space", text.replace(" ", " \n\u3000").encode()
    for encoding in ("utf-16-le", "utf-16-be", "utf-16", "utf-32-le", "utf-32-be"):
        yield encoding, text.encode(encoding)
    if not text.isascii():
        yield "gb18030", text.encode("gb18030")
    asked = text
    for depth in range(1, 4):
        asked = json.dumps({"content": "so " + asked})
        yield f"json {depth}", asked.encode()
    for shift in range(4):
        yield f"base64 shifted {shift}", base64.b64encode(b"zzzz"[:shift] + data + b" and the rest")
        yield f"base64 after {shift} letters", b"abcd"[:shift] + base64.b64encode(b"q" + data)
    yield "base64 for URLs", base64.urlsafe_b64encode(b"???" + data + b">>>").rstrip(b"=")
    wrapped = base64.encodebytes(b"lead in " * 12 + data + b" tail" * 40)
    yield from (("base64 in lines", wrapped), ("base64 in lines in json", json.dumps(wrapped.decode()).encode()))
    yield "base64 of utf-16", base64.b64encode(("x" + text).encode("utf-16-le"))
    yield "base64 of base64", base64.b64encode(base64.b64encode(b"hello " + data))
    yield "base64 of json with base64", base64.b64encode(json.dumps({"d": base64.b64encode(data).decode()}).encode())
    yield from (("hex", data.hex().encode()), ("HEX", b"a" + data.hex().upper().encode()))
    yield from (("hex, spaced", data.hex(" ").encode()), ("hex, colons", data.hex(":").encode()))
    yield from (("C array", ", ".join(f"0x{byte:02x}" for byte in data).encode()), ("repr", repr(data).encode()))
    yield from (("URL", urllib.parse.quote(text).encode()), ("URL form", urllib.parse.quote_plus("a " + text).encode()))
    yield "URL, every byte", "".join(f"%{byte:02x}" for byte in data).encode()
    yield "URL twice", urllib.parse.quote(urllib.parse.quote(text)).encode()
    yield "HTML", "".join(f"&#{ord(letter)};" for letter in text).encode()
    yield from (("HTML, names", html.escape(text).encode()), ("quoted-printable", quopri.encodestring(data)))


@pytest.mark.parametrize("fillers", [(), FILLERS], ids=["few", "many"])
@pytest.mark.parametrize("number", range(len(TEXTS)))
def test_a_text_is_found_in_every_form_among_few_and_many(number: int, fillers: tuple[str, ...]) -> None:
    forms = Forms((*fillers, *TEXTS))
    wanted = len(fillers) + number
    missed = [
        name for name, data in written(TEXTS[number]) if wanted not in forms.find(b'x {"k": "' + data + b'"} more')
    ]
    assert missed == []


def test_what_is_not_there_is_not_found() -> None:
    forms = Forms((*FILLERS, *TEXTS))
    random = Random(1)
    words = " ".join(random.choice(["alpha", "beta", "中文", "测试", "Jane", "Doe"]) for _ in range(20_000))
    for data in (random.randbytes(200_000), words.encode(), base64.b64encode(random.randbytes(90_000))):
        assert forms.find(data) == set()


@pytest.mark.parametrize(
    "noise",
    [
        b"\\" * 50_000,
        b"&#" + b"9" * 50_000,
        b"%25" * 9000,
        b"%41=41\\x41&#65;" * 3000,
        b"QUJD" * 9000,
        b"\\u4e2" * 9000,
    ],
)
def test_what_wraps_itself_without_end_hides_nothing_behind_it(noise: bytes) -> None:
    assert Forms(TEXTS).find(noise + b" " + TEXTS[0].encode() + b" " + noise) == {0}


def test_many_are_found_wherever_they_stand() -> None:
    random = Random(2)
    needles = {random.randbytes(random.randint(8, 40)): number for number in range(2000)}
    finder = Finder(needles.items())
    chosen = random.sample(sorted(needles), 300)
    hay = b"".join(random.randbytes(random.randint(0, 30)) + needle for needle in chosen)
    assert finder.find(hay) == {needles[needle] for needle in chosen}
    assert finder.find(b"") == finder.find(b"x") == set()


def test_a_person_is_found_in_every_order_and_joint() -> None:
    forms = Forms(Target(persons=("Jane Mary Doe", "张伟")).words())
    for text in (
        "Doe, Jane",
        "jane.doe@example.com",
        "JANE_DOE",
        "Doe Jane",
        "janedoe",
        "Jane Mary Doe",
        "张 伟",
        "张伟先生",
    ):
        assert forms.find_text(f"to {text} today"), text
    for text in ("Jane and Mary", "doers", "张三"):
        assert not forms.find_text(f"to {text} today"), text


def test_texts_that_would_be_found_by_chance_are_refused_and_never_quoted() -> None:
    for text in ("abc", "  a b ", "张", "\u200b" * 9, "secret\0", "secret\ud800", "s" * 5000):
        with pytest.raises(InputError) as caught:
            Target((text,)).words()
        assert "secret" not in str(caught.value)
    with pytest.raises(TooLargeError):
        Target(tuple(f"text {number}" for number in range(MAX_TEXTS + 1))).words()


def test_every_file_is_looked_at_also_what_is_packed_and_by_name(tmp_path: Path) -> None:
    data = b"lines of something " * 500 + TEXTS[0].encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner/a.txt", data)
    tarred = io.BytesIO()
    with tarfile.open(fileobj=tarred, mode="w") as tar:
        info = tarfile.TarInfo("b.txt")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    kept = {
        "a.gz": gzip.compress(data),
        "a.bz2": bz2.compress(data),
        "a.xz": lzma.compress(data),
        "a.zip": packed.getvalue(),
        "a.tar": tarred.getvalue(),
        "a.tar.gz": gzip.compress(tarred.getvalue()),
        "plain": data,
        "far": os.urandom(5 << 20) + data,
        "Jane Doe-Smith.txt": b"",
    }
    for name, content in {**kept, "none": b"nothing", "broken.gz": b"\x1f\x8b\x08broken"}.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "link").symlink_to("/etc/passwd")
    found = scan(tmp_path, Forms(TEXTS))
    assert {hit.path for hit in found.hits} == set(kept)
    assert found.files == len(kept) + 2
