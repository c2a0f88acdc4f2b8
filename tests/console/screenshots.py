"""Takes the pictures in docs/screenshots of the real page over a real model, and makes them small.

Usage: python -m tests.console.screenshots [FOLDER]
CATENA_TEST_HOME may name a state folder that holds the embedded models already; otherwise they are pulled.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tests.clients.conftest import up
from tests.conftest import EMBEDDED, catena
from tests.console.conftest import FLAGS, WAIT_MS, find_browser

FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
MAX_BYTES = 150_000
WIDE, NARROW = (1280, 800), (390, 844)
MODEL = EMBEDDED[0]
PREFERENCES = {"model": MODEL, "temperature": "0", "maxTokens": "250"}
QUESTIONS = {
    "en-GB": ("Explain in three sentences why the sky is blue.", "Give me three tips for better sleep."),
    "zh-CN": ("Give me three tips for better sleep.",),  # the embedded model speaks English only
}


class Shot(NamedTuple):
    """One picture: its name, the page, and how it is looked at."""

    name: str
    page: str
    language: str
    theme: str
    size: tuple[int, int] = WIDE
    is_whole: bool = False


SHOTS = (
    Shot("welcome-zh-light", "welcome", "zh-CN", "light"),
    Shot("chat-en-light", "chat", "en-GB", "light"),
    Shot("chat-en-dark", "chat", "en-GB", "dark"),
    Shot("chat-zh-light", "chat", "zh-CN", "light"),
    Shot("narrow-en-dark", "chat", "en-GB", "dark", NARROW),
    Shot("narrow-zh-light", "welcome", "zh-CN", "light", NARROW),
    Shot("receipt-en-light", "receipt", "en-GB", "light", WIDE, is_whole=True),
    Shot("receipt-zh-dark", "receipt", "zh-CN", "dark", WIDE, is_whole=True),
    Shot("receipt-narrow-zh-light", "receipt", "zh-CN", "light", NARROW, is_whole=True),
    Shot("receipts-en-light", "receipts", "en-GB", "light"),
    Shot("machine-en-light", "machine", "en-GB", "light"),
    Shot("machine-zh-dark", "machine", "zh-CN", "dark"),
)


def take(browser: Any, url: str, folder: Path) -> Iterator[Path]:
    """Take every picture of SHOTS and give its path."""
    for shot in SHOTS:
        context = browser.new_context(
            locale=shot.language,
            color_scheme=shot.theme,
            reduced_motion="reduce",
            viewport={"width": shot.size[0], "height": shot.size[1]},
            has_touch=shot.size == NARROW,
        )
        context.set_default_timeout(4 * WAIT_MS)
        context.add_init_script(f"localStorage.setItem('catena.preferences', '{json.dumps(PREFERENCES)}')")
        page = context.new_page()
        page.goto(url)
        page.wait_for_selector("#model:enabled")
        _visit(page, shot)
        if shot.is_whole:
            _show_whole(page, shot.size[0])
        path = folder / f"{shot.name}.png"
        path.write_bytes(smaller(page.screenshot(scale="css", animations="disabled", caret="hide")))
        context.close()
        yield path


def _visit(page: Any, shot: Shot) -> None:
    """Bring `page` to where the picture is taken."""
    if shot.page in ("chat", "receipt", "machine"):
        for number, question in enumerate(QUESTIONS[shot.language]):
            page.fill("#question", question)
            page.press("#question", "Enter")
            page.locator("a.seal").nth(number).locator(".seal-says").filter(has_text=MODEL).wait_for()
    if shot.page == "receipt":
        page.locator("a.seal").last.click()
        page.wait_for_selector(".verdict strong")
    elif shot.page in ("receipts", "machine"):
        page.click(f"a[href='/{shot.page}']")
        page.wait_for_selector(".receipt-list li, .sessions strong")
    page.wait_for_load_state("networkidle")


def _show_whole(page: Any, width: int) -> None:
    """Make the window as high as what scrolls in it."""
    height = page.evaluate(
        "Math.max(...[...document.querySelectorAll('main, .scroller, html')].map(n => n.scrollHeight))"
    )
    above = page.evaluate("document.querySelector('main').getBoundingClientRect().top")
    page.set_viewport_size({"width": width, "height": int(height + above)})


def smaller(png: bytes) -> bytes:
    """The same picture in at most 256 colours: the commonest that differ clearly, and the commonest of all."""
    width, height, channels, data = _parts(png)
    pixels = _unfiltered(data, width * channels, height, channels).reshape(height * width, channels)[:, :3]
    packed = pixels.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    colours, index, counts = np.unique(packed, return_inverse=True, return_counts=True)
    rgb = np.stack([colours >> 16 & 255, colours >> 8 & 255, colours & 255], axis=1).astype(np.int32)
    commonest = np.argsort(-counts, kind="stable")
    _, first = np.unique(rgb[commonest] >> 3, axis=0, return_index=True)  # one colour of each cube of 8 by 8 by 8
    clear = np.sort(first)[:160]
    kept = commonest[np.concatenate([clear, np.setdiff1d(np.arange(len(colours)), clear)])[:256]]
    nearest = np.array([np.abs(rgb[kept] - one).sum(axis=1).argmin() for one in rgb], np.uint8)
    rows = np.zeros((height, width + 1), np.uint8)  # each row begins with filter 0
    rows[:, 1:] = nearest[index].reshape(height, width)
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    palette = rgb[kept].astype(np.uint8).tobytes()
    chunks = ((b"IHDR", header), (b"PLTE", palette), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    return png[:8] + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def _parts(png: bytes) -> tuple[int, int, int, bytes]:
    """Width, height, channels and inflated data of an 8-bit RGB or RGBA picture without interlacing."""
    data, at = b"", 8
    width = height = channels = 0
    while at < len(png):
        (length,), kind = struct.unpack(">I", png[at : at + 4]), png[at + 4 : at + 8]
        body = png[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", body)
            assert (depth, interlace) == (8, 0)
            channels = {2: 3, 6: 4}[colour]
        elif kind == b"IDAT":
            data += body
        at += 12 + length
    return width, height, channels, zlib.decompress(data)


def _unfiltered(data: bytes, stride: int, height: int, channels: int) -> Any:
    """The bytes of the picture, row by row, with the filters of the PNG specification (section 9) undone."""
    rows = np.frombuffer(data, np.uint8).reshape(height, stride + 1)
    out = np.zeros((height + 1, stride), np.uint8)
    for y in range(height):
        kind, row, above = rows[y, 0], rows[y, 1:], out[y]
        if kind == 0:
            out[y + 1] = row
        elif kind == 2:
            out[y + 1] = row + above
        elif kind == 1:
            out[y + 1] = np.add.accumulate(row.reshape(-1, channels), axis=0, dtype=np.uint8).reshape(-1)
        else:
            out[y + 1] = _slow(bytes(row), bytes(above), channels, is_paeth=kind == 4)
    return out[1:]


def _slow(row: bytes, above: bytes, channels: int, *, is_paeth: bool) -> Any:
    """Average and Paeth, in which every byte depends on the one before."""
    out = bytearray(len(row))
    for i, value in enumerate(row):
        left, up_left = (out[i - channels], above[i - channels]) if i >= channels else (0, 0)
        up = above[i]
        if is_paeth:
            guess = left + up - up_left
            best = min((abs(guess - left), 0, left), (abs(guess - up), 1, up), (abs(guess - up_left), 2, up_left))[2]
        else:
            best = (left + up) // 2
        out[i] = value + best & 255
    return np.frombuffer(bytes(out), np.uint8)


def main() -> None:
    """Pull, serve, look, save; exit 1 when a picture is too large."""
    from playwright.sync_api import sync_playwright

    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        home = Path(os.environ.get("CATENA_TEST_HOME", temporary))
        done = catena(home, "pull", MODEL, limit_s=600)
        if done.returncode:
            sys.exit(done.stderr)
        browser = playwright.chromium.launch(executable_path=find_browser(), args=list(FLAGS))
        with up(home) as gateway:
            paths = list(take(browser, gateway.url, folder))
        browser.close()
    for path in paths:
        print(f"{path.stat().st_size:>8} {path}")
    if any(path.stat().st_size > MAX_BYTES for path in paths):
        sys.exit(f"a picture is larger than {MAX_BYTES} bytes")


if __name__ == "__main__":
    main()
