"""The console's files as they are served: headers, caching, and what must never stand in them."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from catena.reach.gateway.console import POLICY, Console

STATIC = resources.files("catena.reach.gateway.console").joinpath("static")
FILES = {entry.name: entry.read_text("utf-8") for entry in STATIC.iterdir()}
SCRIPTS = {name: text for name, text in FILES.items() if name.endswith(".js")}
CONSOLE = Console.open()


def keys_of(name: str) -> list[str]:
    return re.findall(r'^  "([^"]+)":', SCRIPTS[name], re.MULTILINE)


@pytest.mark.parametrize("path", ["/", "/receipts", "/receipts/rcpt_01m86dabra72r3hfsh0edgh256", "/machine"])
def test_every_page_is_the_same_document_under_the_strict_policy(path: str) -> None:
    answer = CONSOLE.find(path)
    assert answer is not None
    headers = dict(answer.headers)
    assert answer.status == 200
    assert headers["content-security-policy"] == POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert answer.body == CONSOLE.find("/").body  # type: ignore[union-attr]


def test_the_policy_allows_nothing_inline_and_nothing_from_elsewhere() -> None:
    assert "unsafe" not in POLICY
    assert "http" not in POLICY
    assert "*" not in POLICY
    assert "default-src 'none'" in POLICY
    assert "require-trusted-types-for 'script'" in POLICY


@pytest.mark.parametrize(
    "path", ["/receipts/", "/receipts/a/b", "/console/", "/console/../x", "/console/none.js", "/elsewhere", ""]
)
def test_what_the_console_does_not_have_it_does_not_answer(path: str) -> None:
    assert CONSOLE.find(path) is None


def test_files_named_by_digest_are_kept_for_ever_and_others_asked_for_again() -> None:
    named = CONSOLE.find(f"/console/{CONSOLE.digest}/app.js")
    plain = CONSOLE.find("/console/app.js")
    assert named is not None
    assert plain is not None
    assert "immutable" in dict(named.headers)["cache-control"]
    assert dict(plain.headers)["cache-control"] == "no-cache"
    assert CONSOLE.find("/console/0123456789abcdef/app.js") is None


def test_a_file_that_is_known_is_not_sent_again() -> None:
    first = CONSOLE.find("/console/app.js")
    assert first is not None
    etag = dict(first.headers)["etag"]
    again = CONSOLE.find("/console/app.js", f'"other", W/{etag}')
    assert again is not None
    assert (again.status, again.body) == (304, b"")
    assert CONSOLE.find("/console/app.js", '"other"').status == 200  # type: ignore[union-attr]


def test_the_page_names_every_module_and_only_files_that_exist() -> None:
    page = CONSOLE.find("/").body.decode()  # type: ignore[union-attr]
    addresses = re.findall(r'(?:href|src)="([^"]+)"', page)
    assert all(CONSOLE.find(address) for address in addresses)
    assert {address.rsplit("/", 1)[-1] for address in addresses} >= set(SCRIPTS)


def test_the_page_has_no_inline_script_or_style() -> None:
    page = FILES["index.html"]
    assert re.findall(r"<script(?![^>]*\bsrc=)", page) == []
    assert "<style" not in page
    assert re.search(r"\son\w+=|\sstyle=", page) is None


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_no_script_can_turn_text_into_markup_or_code(name: str) -> None:
    sinks = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|createContextualFragment"
    assert re.search(sinks, SCRIPTS[name]) is None
    assert re.search(r"setAttribute\(\s*[\"']style", SCRIPTS[name]) is None


@pytest.mark.parametrize("name", sorted(FILES))
def test_no_file_names_another_origin_to_load_from(name: str) -> None:
    found = set(re.findall(r"https?://[\w.-]+", FILES[name]))
    assert found <= {"http://www.w3.org", "http://127.0.0.1"}


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_each_script_is_small_and_says_what_it_is(name: str) -> None:
    lines = SCRIPTS[name].splitlines()
    assert len(lines) < 400
    assert lines[0].startswith("// ")


def test_both_languages_say_everything() -> None:
    english, chinese = keys_of("en.js"), keys_of("zh.js")
    assert english == chinese
    assert len(english) == len(set(english)) > 200


def test_both_languages_fill_in_the_same_values() -> None:
    def values(name: str) -> dict[str, list[str]]:
        rows = re.findall(r'^  "([^"]+)": "(.*)",$', SCRIPTS[name], re.MULTILINE)
        return {key: sorted(re.findall(r"\{(\w+)\}", text)) for key, text in rows}

    assert values("en.js") == values("zh.js")


def test_every_key_that_a_script_names_is_in_the_dictionary() -> None:
    known = set(keys_of("en.js"))
    named: set[str] = set()
    for name, text in SCRIPTS.items():
        if name not in ("en.js", "zh.js", "reasons.js"):
            named |= set(re.findall(r'[{,] say(?:Label|Title|Placeholder)?: \[?"([\w.]+)"', text))
            named |= set(re.findall(r'\bt\("([\w.]+)"', text))
            named |= set(re.findall(r'"((?:proof|check|seal)\.\w+)"', text))
    assert named - known == set()


def test_the_reasons_that_the_trace_gives_are_known_in_chinese() -> None:
    source = resources.files("catena.reach").joinpath("trace.py").read_text("utf-8")
    fixed = set(re.findall(r'Link\(\s*"\w+",\s*"\w+",\s*"([^"]+)"', source)) | set(
        re.findall(r'reason = "([^"]+)"', source)
    )
    known = set(re.findall(r'^  "([^"]+)":', SCRIPTS["reasons.js"], re.MULTILINE))
    assert len(fixed) > 8
    assert fixed - known == set()
