"""Stand-ins have the kind and shape of what they stand for, tell nothing of it, and are turned back."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catena.core.messages import Delta, Finished, ToolCallDelta
from catena.reach.privacy.pseudonyms.events import Homecoming
from catena.reach.privacy.pseudonyms.table import Pseudonyms, Restorer, Unsafe
from catena.reach.privacy.spans import Span

PRIVATE = {
    "Kimberly Thomas": "person",
    "+1 (774) 867-5904": "phone",
    "kim.thomas@mail.org": "email",
    "4808 Spruce Circle, Salem, NC 34508": "address",
    "张建国": "person",
    "13812345678": "phone",
    "11010519491231002X": "national_id",
    "上海市浦东新区张江路12号3单元401室": "address",
    "1984-03-12": "date_of_birth",
    "Initech LLC": "organisation",
    "华信科技有限公司": "organisation",
    "47": "age",
    "192.168.3.44": "ip_address",
}
TEXT = (
    "Dear Kimberly Thomas, call +1 (774) 867-5904 or write to kim.thomas@mail.org. Thomas, 47, lives at 4808 Spruce"
    " Circle, Salem, NC 34508, and works for Initech LLC.\n张建国先生，手机13812345678，身份证11010519491231002X，"
    "住在上海市浦东新区张江路12号3单元401室，就职于华信科技有限公司。Born 1984-03-12, last seen from 192.168.3.44."
)


def spans(text: str = TEXT) -> list[Span]:
    found = [
        Span(match.start(), match.end(), kind, 0.9)
        for words, kind in PRIVATE.items()
        for match in re.finditer(re.escape(words) if words != "47" else r"(?<=, )47(?=,)", text)
    ]
    found += [Span(match.start(), match.end(), "person", 0.9) for match in re.finditer(r"Thomas(?=, 47)", text)]
    return sorted(found, key=lambda span: span.start)


@pytest.fixture
def table() -> Pseudonyms:
    made = Pseudonyms(b"k" * 32)
    made.learn(TEXT, spans(), TEXT)
    return made


@pytest.fixture
def told(table: Pseudonyms) -> str:
    return table.replace(TEXT, spans())


def test_nothing_private_is_left_and_all_of_it_comes_back(table: Pseudonyms, told: str) -> None:
    for words in PRIVATE:
        if words != "47":
            assert words not in told
    assert "Thomas" not in told
    assert not table.leaks(told)
    assert table.restore(told) == TEXT


def test_kinds_and_shapes_stay(told: str) -> None:
    assert re.search(r"Dear [A-Z]\w+ [A-Z]\w+, call \+\d \(\d{3}\) \d{3}-\d{4} or write to \S+@mail\.example\.", told)
    assert re.search(r"手机\d{11}，身份证\d{17}[A-Z]，", told)
    assert re.search(r"\w+ LLC\.\n[\u4e00-\u9fff]{3}先生", told)
    assert re.search(r"有限公司。Born \d{4}-\d\d-\d\d, last seen from 198\.51\.100\.\d+\.", told)


def test_no_digit_stays_in_its_place(table: Pseudonyms) -> None:
    for words in ("+1 (774) 867-5904", "13812345678", "11010519491231002X"):
        (made,) = (stand_in for stand_in, original in table.backward.items() if original == words)
        assert len(made) == len(words)
        assert not any(one == two and one.isalnum() for one, two in zip(made, words, strict=True))


def test_a_name_has_the_same_stand_in_at_every_turn_and_in_every_part(table: Pseudonyms, told: str) -> None:
    again = Pseudonyms(b"k" * 32)
    again.learn(TEXT, spans(), TEXT)
    assert again.replace(TEXT, spans()) == told
    full = re.search(r"Dear (\w+) (\w+),", told)
    assert full is not None
    assert f"{full[2]}, " in told.partition("example. ")[2], "the family name alone is that of the full name"
    assert table.restore(f"Yes, Ms. {full[2]}'s phone, {full[1]}.") == "Yes, Ms. Thomas's phone, Kimberly."
    other = Pseudonyms(b"o" * 32)
    other.learn(TEXT, spans(), TEXT)
    assert other.replace(TEXT, spans()) != told, "another conversation has others"


def test_chinese_forms_of_address_come_back(table: Pseudonyms) -> None:
    (made,) = (stand_in for stand_in, original in table.backward.items() if original == "张建国")
    assert table.restore(f"{made[0]}先生您好，{made[1:]}同志") == "张先生您好，建国同志"


@given(st.lists(st.integers(1, 12), min_size=1, max_size=300))
def test_a_stream_in_any_pieces_comes_back(sizes: list[int]) -> None:
    table = Pseudonyms(b"k" * 32)
    table.learn(TEXT, spans(), TEXT)
    told = table.replace(TEXT, spans())
    for text, is_json in (
        (told, False),
        (json.dumps({"to": told}), True),
        (json.dumps(told, ensure_ascii=False), True),
    ):
        restorer, place, out = Restorer(table, is_json=is_json), 0, ""
        for size in sizes:
            out += restorer.feed(text[place : place + size])
            place += size
        out += restorer.feed(text[place:]) + restorer.end()
        if is_json:
            found = json.loads(out)
            assert (found if isinstance(found, str) else found["to"]) == TEXT
        else:
            assert out == TEXT


def test_every_choice_and_every_call_comes_back_by_itself(table: Pseudonyms, told: str) -> None:
    home = Homecoming(lambda is_json: Restorer(table, is_json=is_json))
    middle = len(told) // 2
    arguments = json.dumps({"name": told})
    events = [
        Delta(0, text=told[:middle]),
        Delta(1, text=told[: middle + 3]),
        ToolCallDelta(0, 0, arguments[:40], "c1", "send"),
        Delta(0, text=told[middle:]),
        ToolCallDelta(0, 0, arguments[40:]),
        Delta(1, text=told[middle + 3 :]),
        Finished(0, "tool_calls"),
        Finished(1, "stop"),
    ]
    out = [one for event in events for one in home.feed(event)]
    for choice in (0, 1):
        assert "".join(one.text for one in out if isinstance(one, Delta) and one.choice == choice) == TEXT
    assert json.loads("".join(one.arguments for one in out if isinstance(one, ToolCallDelta)))["name"] == TEXT
    assert [type(one) for one in out][-1] is Finished


def test_arguments_stay_json(table: Pseudonyms) -> None:
    text = json.dumps({"to": "Kimberly Thomas", "phone": 13812345678}, ensure_ascii=False)
    changed = table.replace_json(text, spans(text))
    assert set(json.loads(changed)) == {"to", "phone"}
    assert "Kimberly" not in changed and "13812345678" not in changed
    with pytest.raises(Unsafe, match="escapes"):
        table.replace_json('"\\u5f20"', [Span(1, 7, "person", 0.9)])


@pytest.mark.parametrize("kind", ["password", "health_condition", "religion"])
def test_what_nothing_can_stand_for_stays_here(kind: str) -> None:
    with pytest.raises(Unsafe, match="stand for"):
        Pseudonyms(b"k").learn("diabetes", [Span(0, 8, kind, 0.9)], "diabetes")


def test_hundreds_of_names_have_different_stand_ins() -> None:
    names = [f"{first}{tail} {last}{tail}" for first in ("Ann", "Bo", "Cy") for last in ("Lee", "Ray") for tail in
             ("a", "e", "i", "o", "u", "by", "da", "fe", "go", "hu")]  # fmt: skip
    text = "; ".join(names)
    found = [Span(match.start(), match.end(), "person", 0.9) for match in re.finditer(r"[^;]+?(?=;|$)", text)]
    found = [Span(span.start + (text[span.start] == " "), span.end, "person", 0.9) for span in found]
    table = Pseudonyms(b"k")
    table.learn(text, found, text)
    told = table.replace(text, found)
    assert len(set(told.split("; "))) == len(names)
    assert table.restore(told) == text
