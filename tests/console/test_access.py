"""The page is for everybody: axe-core finds nothing in any language, theme or width; the keyboard reaches all of it."""

from __future__ import annotations

import http.client
import itertools
import json
from typing import Any
from urllib.parse import urlsplit

import pytest

pytestmark = pytest.mark.browser

LANGUAGES = ("en-GB", "zh-CN")
THEMES = ("light", "dark")
WIDTHS = {"wide": (1280, 860), "narrow": (320, 640)}
LOOKS = list(itertools.product(LANGUAGES, THEMES, WIDTHS))
RICH = (
    "# Title\n\nText with `code`, **weight** and a [link](https://example.org/).\n\n- one\n- two\n\n"
    "| a | b |\n|---|---|\n| x | y |\n\n"
    "```python\nprint('a rather long line of code that has to be scrolled', 1)\n```\n\n> quoted"
)


@pytest.fixture(scope="module")
def receipt(stand: Any) -> str:
    connection = http.client.HTTPConnection(urlsplit(stand.url).netloc, timeout=10)
    body = json.dumps({"model": "default", "messages": [{"role": "user", "content": "hello"}]})
    connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return str(answer.getheader("catena-receipt"))


def violations(page: Any) -> list[str]:
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{row['id']}: {[node['target'] for node in row['nodes']]}" for row in found]


@pytest.mark.parametrize(("language", "theme", "width"), LOOKS)
def test_axe_finds_no_violation_on_any_page(visits: Any, receipt: str, language: str, theme: str, width: str) -> None:
    across, down = WIDTHS[width]
    page = visits.open(
        locale=language,
        color_scheme=theme,
        reduced_motion="reduce",
        has_touch=width == "narrow",
        viewport={"width": across, "height": down},
    )
    page.wait_for_selector("#model:enabled")
    found = {"welcome": violations(page)}
    page.fill("#question", RICH)
    page.press("#question", "Enter")
    page.wait_for_selector(".seal-says:has-text('smollm2')")
    found["answer"] = violations(page)
    if width == "narrow":
        page.click(".topbar .only-narrow")
        found["menu"] = violations(page)
    page.click("#open-settings")
    found["settings"] = violations(page)
    for path in (f"/receipts/{receipt}", "/receipts", "/machine"):
        page.goto(visits.stand.url + path)
        page.wait_for_selector(".verdict, .receipt-list li, .sessions li")
        for details in page.locator("details").all():
            details.evaluate("node => node.open = true")
        found[path] = violations(page)
    assert {name: rows for name, rows in found.items() if rows} == {}


@pytest.mark.parametrize("state", ["failed answer", "broken receipt", "key dialog", "confirmation"])
@pytest.mark.parametrize("theme", THEMES)
def test_axe_finds_no_violation_where_things_go_wrong(visits: Any, receipt: str, theme: str, state: str) -> None:
    page = visits.open("/machine", color_scheme=theme, reduced_motion="reduce")
    if state == "failed answer":
        page.keyboard.press("/")
        page.fill("#question", "fail")
        page.press("#question", "Enter")
        page.wait_for_selector(".answer[data-state=failed] .seal-says:has-text('worked')")
    elif state == "broken receipt":
        visits.stand.manifests.is_damaged = True
        page.goto(f"{visits.stand.url}/receipts/{receipt}")
        page.wait_for_selector(".verdict.failed")
        visits.stand.manifests.is_damaged = False
    elif state == "key dialog":
        page.evaluate("document.dispatchEvent(new CustomEvent('catena:locked'))")
        page.wait_for_selector("dialog.access[open]")
    else:
        page.click("#open-settings")
        page.click("#delete-history")
        page.wait_for_selector("dialog.narrow[open]")
    assert violations(page) == []


@pytest.mark.parametrize("path", ["/", "/receipts", "/machine", "receipt"])
def test_nothing_is_wider_than_a_window_of_320_pixels(visits: Any, receipt: str, path: str) -> None:
    """320 CSS pixels is also what 1280 pixels are at 400 % zoom (WCAG 2.2, 1.4.10)."""
    page = visits.open(
        f"/receipts/{receipt}" if path == "receipt" else path,
        viewport={"width": 320, "height": 256 if path == "/" else 640},
        locale="zh-CN",
    )
    page.wait_for_selector(".composer, .verdict, .receipt-list li, .sessions li")
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    inner = "[...document.querySelectorAll('main, .scroller')].every(node => node.scrollWidth <= node.clientWidth)"
    assert page.evaluate(inner)


def test_the_keyboard_goes_through_the_whole_page_without_a_trap(visits: Any) -> None:
    page = visits.open()
    page.wait_for_selector("#model:enabled")
    assert page.evaluate("document.activeElement.id") == "question"
    name = "(n => n === document.body ? 'end' : n.id || n.className || n.textContent)(document.activeElement)"

    def walk() -> list[str]:
        seen: list[str] = []
        while len(seen) < 20 and "end" not in seen:
            page.keyboard.press("Tab")
            seen.append(page.evaluate(name))
        return seen

    assert walk()[-1] == "end"
    seen = walk()
    assert seen[0] == "skip"
    assert {"brand", "fresh", "open-settings", "model", "question", "send"} <= set(seen)


def test_the_skip_link_leads_to_the_content(visits: Any) -> None:
    page = visits.open("/machine")
    page.focus(".skip")
    page.keyboard.press("Enter")
    page.wait_for_selector("main:focus")


def test_focus_is_always_to_be_seen(visits: Any) -> None:
    page = visits.open("/machine")
    page.keyboard.press("Tab")
    for _ in range(6):
        page.keyboard.press("Tab")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"


def test_the_menu_on_a_narrow_screen_opens_closes_and_gives_focus_back(visits: Any) -> None:
    page = visits.open("/machine", viewport={"width": 360, "height": 700})
    opener = page.locator(".topbar .only-narrow")
    assert page.is_hidden(".brand")
    opener.click()
    page.wait_for_selector(".brand:focus")
    assert page.evaluate("document.querySelector('.stage').inert")
    page.keyboard.press("Escape")
    page.wait_for_selector(".topbar .only-narrow:focus")
    assert opener.get_attribute("aria-expanded") == "false"


def test_a_dialog_gives_focus_back_to_what_opened_it(visits: Any) -> None:
    page = visits.open("/machine")
    page.click("#open-settings")
    page.keyboard.press("Escape")
    page.wait_for_selector("#open-settings:focus")


def test_motion_stops_for_those_who_ask(visits: Any) -> None:
    page = visits.open(reduced_motion="reduce")
    page.fill("#question", "slow")
    page.press("#question", "Enter")
    page.wait_for_selector(".answer[data-state=open] .prose:has-text('word2')")
    name = page.evaluate("getComputedStyle(document.querySelector('.answer .rail'), '::before').animationName")
    page.keyboard.press("Escape")
    page.wait_for_selector(".answer[data-state=stopped]")
    assert name == "none"
