"""A conversation in a real browser: streaming, stopping, signs of life, errors, keys, and the history kept here."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from catena.core.messages import message_text

pytestmark = pytest.mark.browser

Ask = Callable[..., str]


def test_an_answer_streams_in_and_ends_with_a_seal_that_says_what_the_record_says(visits: Any, ask: Ask) -> None:
    page = visits.open()
    receipt = ask(page, "one two three four five")
    assert page.inner_text(".answer .prose") == "one two three four five"
    assert page.inner_text(".seal-says") == "Answered on this machine by smollm2-135m-instruct. Nothing left it."
    assert receipt.startswith("rcpt_")


def test_the_claim_that_nothing_left_is_made_only_when_the_record_says_local(visits: Any) -> None:
    page = visits.open()
    page.route("**/catena/v1/receipts/*", lambda route: _redecide(route, "remote"))
    page.fill("#question", "hello")
    page.press("#question", "Enter")
    page.wait_for_selector(".seal-says:has-text('outside')")
    assert "Nothing left" not in page.inner_text(".turns")


def test_without_a_record_no_claim_is_made(visits: Any) -> None:
    page = visits.open()
    page.route(
        "**/catena/v1/receipts/*", lambda route: route.fulfill(status=404, json={"error": {"code": "not_found"}})
    )
    page.fill("#question", "hello")
    page.press("#question", "Enter")
    page.wait_for_selector(".answer[data-state=complete] .seal")
    assert page.inner_text(".seal-says") == "On record."


def test_stop_ends_the_answer_here_and_the_work_behind_it(visits: Any, stand: Any) -> None:
    page = visits.open()
    num_ended = len(stand.script.outcomes)
    page.fill("#question", "slow")
    page.press("#question", "Enter")
    page.wait_for_selector(".answer .prose:has-text('word5')")
    assert page.get_attribute(".answer", "aria-busy") == "true"
    page.click("button.send")
    page.wait_for_selector(".answer[data-state=stopped]")
    page.wait_for_selector(".seal-says:has-text('worked on this machine')")
    assert "word1999" not in page.inner_text(".prose")
    assert len(stand.script.outcomes) == num_ended + 1
    assert page.inner_text(".note") == "Stopped before its end."


def test_escape_stops_the_answer_from_anywhere(visits: Any) -> None:
    page = visits.open()
    page.fill("#question", "slow")
    page.press("#question", "Enter")
    page.wait_for_selector(".answer .prose:has-text('word3')")
    page.focus("#model")
    page.keyboard.press("Escape")
    page.wait_for_selector(".answer[data-state=stopped]")


def test_while_a_model_loads_the_page_says_so(visits: Any) -> None:
    page = visits.open()
    page.fill("#question", "wait for it")
    page.press("#question", "Enter")
    page.wait_for_selector(".sign:has-text('Loading smollm2-135m-instruct')")
    page.wait_for_selector(".answer[data-state=complete]")
    assert page.is_hidden(".sign")


def test_reasoning_is_shown_apart_from_the_answer(visits: Any, ask: Ask) -> None:
    page = visits.open()
    ask(page, "think of a number")
    assert page.inner_text(".answer .prose") == "think of a number"
    page.click(".thought summary")
    assert page.inner_text(".thinking") == "First I consider the question."


@pytest.mark.parametrize(
    ("question", "language", "says", "hint"),
    [
        ("fail", "en-GB", "The model's engine failed.", ""),
        ("busy", "en-GB", "Every place is taken.", "Try again in a moment."),
        ("busy", "zh-CN", "位置已满。", "请稍后再试。"),
    ],
)
def test_an_error_is_told_with_what_to_do_in_the_users_language(
    visits: Any, question: str, language: str, says: str, hint: str
) -> None:
    page = visits.open(locale=language)
    page.fill("#question", question)
    page.press("#question", "Enter")
    text = page.wait_for_selector(".answer[data-state=failed] .error").inner_text()
    assert says in text
    assert hint in text
    page.wait_for_selector(".answer .seal")


def test_what_had_arrived_before_an_error_is_kept(visits: Any) -> None:
    page = visits.open()
    page.fill("#question", "fail")
    page.press("#question", "Enter")
    page.wait_for_selector(".answer[data-state=failed]")
    assert page.inner_text(".answer .prose") == "This will not"


def test_a_gateway_that_is_gone_is_told_and_the_question_kept(visits: Any) -> None:
    page = visits.open()
    page.route("**/v1/chat/completions", lambda route: route.abort())
    page.fill("#question", "anyone there?")
    page.press("#question", "Enter")
    page.wait_for_selector(".error:has-text('The gateway does not answer.')")
    assert page.inner_text(".asked") == "anyone there?"
    visits.problems.clear()  # the browser itself reports the request that this test cut


def test_the_whole_conversation_goes_to_the_model(visits: Any, stand: Any, ask: Ask) -> None:
    page = visits.open()
    ask(page, "first question")
    ask(page, "second question")
    told = [(message.role, message_text(message)) for message in stand.script.asked[-1].messages]
    assert told == [("user", "first question"), ("assistant", "first question"), ("user", "second question")]


def test_instructions_and_limits_from_the_settings_go_with_the_question(visits: Any, stand: Any, ask: Ask) -> None:
    page = visits.open()
    page.click("#open-settings")
    page.fill("#instructions", "Answer briefly.")
    page.fill("#warmth", "0.5")
    page.fill("#length", "77")
    page.press("#length", "Tab")
    page.keyboard.press("Escape")
    ask(page, "hello")
    request = stand.script.asked[-1]
    assert message_text(request.messages[0]) == "Answer briefly."
    assert (request.sampling.temperature, request.sampling.max_tokens) == (0.5, 77)


def test_asking_again_replaces_the_last_answer(visits: Any, ask: Ask) -> None:
    page = visits.open()
    first = ask(page, "hello")
    page.click("button:has-text('Ask again')")
    page.wait_for_selector(f"a.seal:not([href$='{first}'])")
    assert page.locator(".answer").count() == 1


def test_enter_of_an_input_method_chooses_and_does_not_send(visits: Any) -> None:
    page = visits.open()
    page.fill("#question", "你好")
    for init in ({"isComposing": True, "keyCode": 13}, {"isComposing": False, "keyCode": 229}):
        page.evaluate(
            """init => document.querySelector('#question').dispatchEvent(new KeyboardEvent('keydown',
               {key: 'Enter', bubbles: true, cancelable: true, ...init}))""",
            init,
        )
    assert page.input_value("#question") == "你好"
    assert page.locator(".turn").count() == 0
    page.press("#question", "Enter")
    page.wait_for_selector(".answer[data-state=complete]")


def test_a_composed_text_arrives_whole(visits: Any) -> None:
    page = visits.open()
    session = page.context.new_cdp_session(page)
    page.focus("#question")
    session.send("Input.imeSetComposition", {"text": "ni", "selectionStart": 2, "selectionEnd": 2})
    page.keyboard.press("Enter")
    assert page.locator(".turn").count() == 0
    session.send("Input.insertText", {"text": "你"})
    assert "你" in page.input_value("#question")


def test_shift_enter_breaks_the_line(visits: Any) -> None:
    page = visits.open()
    page.fill("#question", "one")
    page.press("#question", "Shift+Enter")
    page.keyboard.type("two")
    assert page.input_value("#question") == "one\ntwo"


def test_the_shortcuts_work_from_the_keyboard_alone(visits: Any, ask: Ask) -> None:
    page = visits.open("/machine")
    page.keyboard.press("/")
    page.wait_for_selector("#question:focus")
    receipt = ask(page, "hello")
    page.keyboard.press("Alt+r")
    page.wait_for_url(f"**/receipts/{receipt}")
    page.keyboard.press("?")
    page.wait_for_selector("dialog[open] .shortcuts")
    page.keyboard.press("Escape")
    page.keyboard.press("Alt+n")
    page.wait_for_selector(".chat[data-empty=true]")


def test_the_history_survives_a_reload_and_stays_on_this_machine(visits: Any, ask: Ask) -> None:
    page = visits.open()
    ask(page, "remember me")
    page.reload()
    page.wait_for_selector(".answer .prose")
    assert page.inner_text(".asked") == "remember me"
    page.goto(visits.stand.url + "/")
    page.click(".chats a")
    page.wait_for_selector(".answer .prose:has-text('remember me')")


def test_an_answer_that_a_reload_cut_is_shown_as_cut(visits: Any) -> None:
    page = visits.open()
    page.fill("#question", "slow")
    page.press("#question", "Enter")
    page.wait_for_selector(".answer .prose:has-text('word3')")
    page.reload()
    page.wait_for_selector(".answer[data-state=stopped]")


def test_one_conversation_can_be_deleted_and_the_question_asked_first(visits: Any, ask: Ask) -> None:
    page = visits.open()
    ask(page, "keep me")
    page.keyboard.press("Alt+n")
    ask(page, "delete me")
    page.locator(".chats li", has_text="delete me").hover()
    page.locator(".chats li", has_text="delete me").locator(".remove").click()
    page.click("dialog[open] button:has-text('Keep')")
    assert page.locator(".chats li").count() == 2
    page.locator(".chats li", has_text="delete me").hover()
    page.locator(".chats li", has_text="delete me").locator(".remove").click()
    page.click("dialog[open] button.danger")
    expect(page.locator(".chats li")).to_have_count(1)
    page.reload()
    page.wait_for_selector(".chats li")
    assert page.locator(".chats li").all_inner_texts()[0].startswith("keep me")


def test_the_history_can_be_saved_as_a_file_and_deleted_whole(visits: Any, ask: Ask) -> None:
    page = visits.open()
    ask(page, "write this down")
    page.click("#open-settings")
    with page.expect_download() as download:
        page.click("#export-history")
    saved = json.loads(download.value.path().read_text("utf-8"))
    assert saved["format"] == "catena.conversations/1"
    assert saved["chats"][0]["turns"][0]["text"] == "write this down"
    page.click("#delete-history")
    page.click("dialog.narrow[open] button.danger")
    expect(page.locator(".chats li")).to_have_count(0)
    page.reload()
    page.wait_for_selector(".none:visible")
    assert page.locator(".chats li").count() == 0


def test_a_key_is_asked_for_where_one_is_needed_and_kept_for_the_tab_only(visits: Any, stand: Any, ask: Ask) -> None:
    _, key = stand.access.add("tester", ("ask", "audit"))
    stand.access.is_required = True
    try:
        page = visits.open()
        page.wait_for_selector("dialog.access[open]")
        page.fill("#access-key", key)
        page.press("#access-key", "Enter")
        page.wait_for_selector("#model:enabled")
        ask(page, "hello")
        kept = page.evaluate("[sessionStorage.getItem('catena.key'), JSON.stringify(localStorage)]")
    finally:
        stand.access.is_required = False
    assert kept[0] == key
    assert key not in kept[1]


def test_the_answer_is_spoken_in_whole_sentences_and_its_end_is_told(visits: Any, ask: Ask) -> None:
    page = visits.open()
    ask(page, "A first sentence. A second one.")
    page.wait_for_selector("#spoken p:has-text('The answer is complete.')", state="attached")
    spoken = page.locator("#spoken p").all_inner_texts()
    assert "A first sentence. A second one." in spoken
    assert page.get_attribute("#spoken", "aria-live") == "polite"


def test_language_and_theme_switch_at_once_and_are_remembered(visits: Any) -> None:
    page = visits.open()
    page.click("#open-settings")
    page.check("input[name=language][value=zh]")
    assert page.inner_text("dialog[open] h2") == "设置"
    page.check("input[name=theme][value=dark]")
    page.keyboard.press("Escape")
    page.reload()
    page.wait_for_selector("h1:has-text('问问这台机器')")
    assert page.get_attribute("html", "lang") == "zh-CN"
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"


def test_the_machine_page_shows_what_is_loaded(visits: Any) -> None:
    page = visits.open("/machine")
    page.wait_for_selector(".sessions strong:has-text('smollm2-135m-instruct')")
    assert "288 MiB" in page.inner_text(".cards")
    assert "21 GiB" in page.inner_text(".cards")
    devices, sessions = page.locator("ul.sessions").all()
    assert devices.inner_text().split("\n") == ["Processor", "8 cores, 32 GiB of memory", "0 of 4 places taken"]
    assert "idle for 12 s" in sessions.inner_text()


def test_the_machine_page_shows_each_device_and_what_waits(visits: Any) -> None:
    on_cpu = {"model": "a", "engine": "onnx", "device": "cpu", "memory_bytes": 1 << 20, "slots": 1, "active": 1}
    on_gpu = {"model": "b", "engine": "llama-cpp", "device": "cuda:0", "memory_bytes": 3 << 30, "slots": 4, "active": 3}
    rest = {"digest": "sha256:00", "waiting": 2, "idle_s": 0.0}
    scheduler = {"sessions": [on_cpu | rest, on_gpu | rest], "queue": 4, "queue_limit": 64}
    machine = {"cores": 2, "memory_bytes": 4 << 30, "memory_free_bytes": 1 << 30}
    page = visits.open("/receipts")
    page.route("**/catena/v1/status", lambda route: route.fulfill(json={"scheduler": scheduler, "machine": machine}))
    page.goto(f"{visits.stand.url}/machine")
    page.wait_for_selector(".sessions strong:has-text('cuda:0')")
    devices, sessions = page.locator("ul.sessions").all()
    assert "models hold 3.0 GiB" in devices.inner_text()
    assert "3 of 4 places taken" in devices.inner_text()
    assert "3 at work · 2 waiting" in sessions.inner_text()
    assert [float(value) for value in page.eval_on_selector_all("meter", "all => all.map(one => one.value)")] == [
        4 / 64,
        0.75,
    ]
    labels = page.eval_on_selector_all("meter", "all => all.map(one => one.ariaLabel)")
    assert labels == ["Questions waiting", "Share of memory in use"]


def _redecide(route: Any, outcome: str) -> None:
    response = route.fetch()
    body = response.json()
    body["opened"]["decision"]["outcome"] = outcome
    route.fulfill(response=response, json=body)
