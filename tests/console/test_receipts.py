"""The receipt's page: it recomputes the proof itself, says who checked what, and never shows a broken one as good."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from catena.watch import verifier

pytestmark = pytest.mark.browser

GOOD = "This answer is on record, and the record holds."
BAD = "Something does not match. Do not rely on this receipt."
PARTIAL = "This answer is on record; some of it could not be checked."


def verdict(page: Any) -> str:
    return str(page.wait_for_selector(".verdict strong").inner_text())


def checks(page: Any) -> dict[str, str]:
    rows = page.locator(".checks section").first.locator("li")
    names = rows.locator(".check-name").all_inner_texts()
    return dict(zip(names, rows.locator(".badge").all_inner_texts(), strict=True))


def test_a_true_receipt_is_verified_in_the_browser(visits: Any, ask: Callable[..., str]) -> None:
    page = visits.open()
    ask(page, "hello there")
    page.click("a.seal")
    assert verdict(page) == GOOD
    found = checks(page)
    assert set(found.values()) == {"verified"}
    assert len(found) == 6
    assert "The answer kept in this browser is the one that was recorded" in found
    states = page.locator(".link .badge").all_inner_texts()
    assert states == ["not recorded", "verified", "verified", "verified", "verified"]
    picture = page.get_attribute("svg.chain", "aria-label")
    assert picture == (
        "The chain of this answer. Built: not recorded; Stored: verified; Run: verified; Reached: verified; "
        "Watched: verified"
    )


def test_a_receipt_of_another_browser_is_verified_without_its_text(visits: Any, ask: Callable[..., str]) -> None:
    receipt = ask(visits.open(), "hello")
    page = visits.open(f"/receipts/{receipt}")
    assert verdict(page) == GOOD
    assert len(checks(page)) == 5


def _flip(text: str, at: int = 10) -> str:
    raw = bytearray(base64.b64decode(text))
    raw[at % len(raw)] ^= 1
    return base64.b64encode(raw).decode()


def _edit_entry(proof: Any) -> None:
    raw = base64.b64decode(proof["records"][0]["entry"])
    proof["records"][0]["entry"] = base64.b64encode(raw.replace(b'"local"', b'"other"', 1)).decode()


def _edit_path(proof: Any) -> None:
    record = next(record for record in proof["records"] if record["path"])
    record["path"][0] = _flip(record["path"][0])


def _edit_index(proof: Any) -> None:
    proof["records"][0]["index"] += 1


def _edit_root(proof: Any) -> None:
    lines = proof["checkpoint"].split("\n")
    lines[2] = _flip(lines[2])
    proof["checkpoint"] = "\n".join(lines)


def _edit_size(proof: Any) -> None:
    lines = proof["checkpoint"].split("\n")
    lines[1] = str(int(lines[1]) + 1)
    proof["checkpoint"] = "\n".join(lines)


def _edit_signature(proof: Any) -> None:
    head, _, signature = proof["checkpoint"].strip("\n").rpartition(" ")
    proof["checkpoint"] = f"{head} {_flip(signature, 30)}\n"


def _drop_opening(proof: Any) -> None:
    del proof["records"][0]


def _double_closing(proof: Any) -> None:
    proof["records"].append(proof["records"][-1])


def _name_other_format(proof: Any) -> None:
    proof["format"] = "catena.proof/2"


def _lose_records(proof: Any) -> None:
    proof["records"] = []


def _make_nonsense(proof: Any) -> None:
    proof["records"] = [{"entry": 7, "index": "0", "path": None}]


TAMPERINGS = [
    _edit_entry,
    _edit_path,
    _edit_index,
    _edit_root,
    _edit_size,
    _edit_signature,
    _drop_opening,
    _double_closing,
    _name_other_format,
    _lose_records,
    _make_nonsense,
]


@pytest.fixture(scope="module")
def receipt(stand: Any) -> str:
    """A receipt with neighbours, asked for without a browser."""
    import http.client
    from urllib.parse import urlsplit

    found = ""
    for text in ("one", "two", "three"):
        connection = http.client.HTTPConnection(urlsplit(stand.url).netloc, timeout=10)
        body = json.dumps({"model": "default", "messages": [{"role": "user", "content": text}]})
        connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        found = found or str(answer.getheader("catena-receipt"))
        connection.close()
    return found


@pytest.mark.parametrize("tamper", TAMPERINGS)
def test_a_tampered_proof_is_shown_as_failed_though_the_machine_says_verified(
    visits: Any, receipt: str, tamper: Callable[[Any], None]
) -> None:
    def serve(route: Any) -> None:
        response = route.fetch()
        proof = response.json()
        tamper(proof)
        route.fulfill(response=response, json=proof)

    page = visits.open("/machine")
    page.route(re.compile(r"/proof\?"), serve)
    page.goto(f"{visits.stand.url}/receipts/{receipt}")
    assert verdict(page) == BAD
    assert "failed" in checks(page).values()


def test_a_proof_of_another_receipt_is_shown_as_failed(visits: Any, receipt: str, ask: Callable[..., str]) -> None:
    page = visits.open()
    other = ask(page, "another")
    page.route(
        f"**/{receipt}/proof*",
        lambda route: route.fulfill(response=route.fetch(url=route.request.url.replace(receipt, other))),
    )
    page.goto(f"{visits.stand.url}/receipts/{receipt}")
    assert verdict(page) == BAD


def test_a_key_that_changed_is_told(visits: Any, receipt: str) -> None:
    page = visits.open(f"/receipts/{receipt}")
    assert verdict(page) == GOOD
    page.evaluate("localStorage.setItem('catena.verifier-keys', 'catena.local/other+00000000+AAAA')")
    page.reload()
    assert verdict(page) == BAD
    assert "has seen another key" in page.inner_text(".checks")


def test_a_machine_that_tells_another_story_than_its_proved_record_is_caught(visits: Any, receipt: str) -> None:
    def serve(route: Any) -> None:
        response = route.fetch()
        told = response.json()
        for link in told["links"]:
            link["facts"] = dict.fromkeys(link["facts"], "sha256:" + "00" * 32)
        route.fulfill(response=response, json=told)

    page = visits.open("/machine")
    page.route("**/trace", serve)
    page.goto(f"{visits.stand.url}/receipts/{receipt}")
    assert verdict(page) == BAD
    assert "contradict one another" in page.inner_text(".checks")


def test_a_text_changed_in_the_history_is_told(visits: Any, ask: Callable[..., str]) -> None:
    page = visits.open()
    receipt = ask(page, "the true words")
    page.evaluate(
        """() => new Promise((resolve) => {
          const opening = indexedDB.open('catena');
          opening.onsuccess = () => {
            const store = opening.result.transaction('chats', 'readwrite').objectStore('chats');
            store.getAll().onsuccess = (event) => {
              const chat = event.target.result[0];
              chat.turns[1].text = 'the false words';
              store.put(chat).onsuccess = () => resolve();
            };
          };
        })"""
    )
    page.goto(f"{visits.stand.url}/receipts/{receipt}")
    assert verdict(page) == BAD
    assert "not the text that was recorded" in page.inner_text(".checks")


def test_a_damaged_model_breaks_its_link_and_the_verdict(visits: Any, receipt: str) -> None:
    visits.stand.manifests.is_damaged = True
    try:
        page = visits.open(f"/receipts/{receipt}")
        assert verdict(page) == BAD
        assert page.locator(".link.failed h3").inner_text().startswith("Stored")
        assert "model.gguf is not the file that was stored" in page.inner_text(".link.failed")
    finally:
        visits.stand.manifests.is_damaged = False


def test_a_browser_without_ed25519_says_so_and_claims_no_more(visits: Any, receipt: str) -> None:
    page = visits.open("/machine")
    page.add_init_script("crypto.subtle.importKey = () => Promise.reject(new DOMException('', 'NotSupportedError'))")
    page.goto(f"{visits.stand.url}/receipts/{receipt}")
    assert verdict(page) == PARTIAL
    assert checks(page)["The log's root carries the signature of this machine's key"] == "not recorded"


def test_a_stopped_answer_is_on_record_as_stopped(visits: Any) -> None:
    page = visits.open()
    page.fill("#question", "slow")
    page.press("#question", "Enter")
    page.wait_for_selector(".answer .prose:has-text('word3')")
    page.keyboard.press("Escape")
    page.click(".seal:has-text('worked on this machine')")
    expect(page.locator(".story")).to_contain_text("The answer was stopped before its end.")
    assert verdict(page) == GOOD


def test_the_saved_proof_satisfies_the_verifier_and_carries_no_salt(visits: Any, receipt: str) -> None:
    page = visits.open(f"/receipts/{receipt}")
    verdict(page)
    with page.expect_download() as download:
        page.click("#download-proof")
    proof = json.loads(download.value.path().read_text("utf-8"))
    key = (visits.stand.home / "keys" / "verifier.vkey").read_text("utf-8")
    assert [record["type"] for record in verifier.check_proof(proof, key)] == ["open", "close"]
    assert not proof.get("salt")


def test_the_commands_to_check_again_name_this_receipt(visits: Any, receipt: str) -> None:
    page = visits.open(f"/receipts/{receipt}")
    verdict(page)
    commands = page.locator(".command code").all_inner_texts()
    assert commands == [
        f"catena audit prove {receipt} -o proof-{receipt}.json",
        f"python -m catena.watch.verifier proof-{receipt}.json --key verifier.vkey",
    ]


def test_an_unknown_receipt_is_said_to_be_unknown(visits: Any) -> None:
    page = visits.open("/receipts/rcpt_00000000000000000000000000")
    page.wait_for_selector('.error:has-text("This machine\'s log knows no such receipt.")')


def test_the_receipt_page_speaks_chinese(visits: Any, receipt: str) -> None:
    page = visits.open(f"/receipts/{receipt}", locale="zh-CN")
    assert verdict(page) == "这个答案有案可查，记录核验无误。"
    assert "权重在别处制成" in page.inner_text(".links")
    assert page.get_attribute("svg.chain", "aria-label").startswith("这个答案的链条。 制成: 无记录")


def test_the_list_leads_from_the_newest_receipt_to_its_page(visits: Any, ask: Callable[..., str]) -> None:
    page = visits.open()
    newest = ask(page, "hello")
    page.click("a[href='/receipts']")
    first = page.locator(".receipt-list a").first
    expect(first).to_contain_text("Complete")
    assert first.get_attribute("href") == f"/receipts/{newest}"
    first.click()
    assert verdict(page) == GOOD
