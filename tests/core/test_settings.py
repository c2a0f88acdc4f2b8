"""The page about the settings says what the code says, and each setting is explained."""

from __future__ import annotations

from tests.core.page import PAGE, SECTIONS, page, words

from catena.core import config
from catena.core.settings import Settings


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == page(), "run: make docs"


def test_every_setting_is_named_where_its_section_is_explained() -> None:
    for section in SECTIONS:
        _, said = words(section)
        assert [name for name in section.__struct_fields__ if f"`{name}`" not in said] == []


def test_every_setting_is_on_the_page() -> None:
    shown = page()
    for key in config.flatten(Settings()):
        *_, name = key.split(".")
        assert f"`{name}`" in shown
