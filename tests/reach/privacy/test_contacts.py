"""Addresses, numbers and keys are found, also next to Chinese, encoded or disguised, and where they stand is exact."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catena.reach.privacy.detectors.contacts import find
from catena.reach.privacy.folding import views
from catena.reach.privacy.scanning import Scanner


@pytest.mark.parametrize(
    ("text", "kind", "private"),
    [
        ("邮箱a.b@163.com或手机13812345678", "email", "a.b@163.com"),
        ("邮箱a.b@163.com或手机13812345678", "phone", "13812345678"),
        ("call +1 (774) 867-5904 now", "phone", "+1 (774) 867-5904"),
        ("身份证11010519491231002X。", "national_id", "11010519491231002X"),
        ("from 214.101.147.65 at", "ip_address", "214.101.147.65"),
        ('DB_PASS="KfX3813SO9l"', "password", "KfX3813SO9l"),
        ("密码是 hunter2-Xq9", "password", None),
        ("key sk-QIv6Gv5NoYUqN16qjIYnEHl8jTWNVi5s", "api_key", "sk-QIv6Gv5NoYUqN16qjIYnEHl8jTWNVi5s"),
        ("postgres://u:secretpw@db/x", "credential_url", "postgres://u:secretpw@db"),
    ],
)
def test_they_are_found(text: str, kind: str, private: str | None) -> None:
    found = [text[span.start : span.end] for span in find(text) if span.type == kind]
    assert private in found if private is not None else True


@pytest.mark.parametrize("text", ["version 1.2.3 of 2024-03-01", "11010519491231002Y", "the year 1984", "a@b"])
def test_other_numbers_are_not(text: str) -> None:
    assert list(find(text)) == []


def test_what_is_encoded_or_disguised_is_found_where_it_stands() -> None:
    scanner = Scanner(["contacts"])
    hidden = base64.b64encode(b"write to kim.thomas@mail.org").decode()
    for text, place in (
        (f"see {hidden} there", hidden),
        ("at ｋｉｍ＠ｍａｉｌ．ｏｒｇ now", "ｋｉｍ＠ｍａｉｌ．ｏｒｇ"),
        ("at k\u200bim@mail.org now", "k\u200bim@mail.org"),
    ):
        (span,) = scanner.scan(text)
        assert text[span.start : span.end] == place


@given(st.text(max_size=200))
def test_every_folded_character_stands_for_its_own(text: str) -> None:
    for view in views(text):
        if view.starts is not None and view.ends is not None:
            assert len(view.text) == len(view.starts) == len(view.ends)
            assert all(0 <= start < end <= len(text) for start, end in zip(view.starts, view.ends, strict=True))
