"""Addresses in Latin script are one span from street to country, in some thirty countries' forms and in fields."""

from __future__ import annotations

import pytest
from faker import Faker

from catena.reach.privacy.detectors.addresses import find
from catena.reach.privacy.spans import COUNTS, compose


def found(text: str) -> list[str]:
    return [text[span.start : span.end] for span in compose(text, find(text)) if span.score >= COUNTS]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("lives at 4808 Spruce Circle, Salem, NC 34508.", "4808 Spruce Circle, Salem, NC 34508"),
        ("Location: 8418 Aspen Dr, Springfield, SC 76456", "8418 Aspen Dr, Springfield, SC 76456"),
        ("write to 12 Oak St Apt 4B\nPortland, OR 97201\nUSA today", "12 Oak St Apt 4B\nPortland, OR 97201\nUSA"),
        ("PO Box 1234, Austin, TX 78701", "PO Box 1234, Austin, TX 78701"),
        ("Flat 3, 12 High St, Oxford OX1 4AA", "Flat 3, 12 High St, Oxford OX1 4AA"),
        ("10 Downing Street, London SW1A 2AA", "10 Downing Street, London SW1A 2AA"),
        ("99 Queen St, Toronto, ON M5H 2N2", "99 Queen St, Toronto, ON M5H 2N2"),
        ("5/12 George Street, Sydney NSW 2000", "5/12 George Street, Sydney NSW 2000"),
        ("wohnt Musterstraße 12, 12345 Berlin", "Musterstraße 12, 12345 Berlin"),
        ("She moved to Hauptweg 5, 12345 Berlin yesterday", "Hauptweg 5, 12345 Berlin"),
        ("habite 12 rue de la Paix, 75002 Paris", "12 rue de la Paix, 75002 Paris"),
        ("en Calle Mayor 5, 3º B, 28013 Madrid", "Calle Mayor 5, 3º B, 28013 Madrid"),
        ("in Via Roma 12, 00185 Roma (RM)", "Via Roma 12, 00185 Roma (RM)"),
        ("Keizersgracht 123, 1015 CJ Amsterdam", "Keizersgracht 123, 1015 CJ Amsterdam"),
        ("Storgatan 5, 123 45 Stockholm", "Storgatan 5, 123 45 Stockholm"),
        ("ul. Marszałkowska 10/5, 00-590 Warszawa", "ul. Marszałkowska 10/5, 00-590 Warszawa"),
        ("77 massachusetts ave, cambridge ma 02139", "77 massachusetts ave, cambridge ma 02139"),
        ('{"address": "3919 Main St, Riverside, OK 64080"}', "3919 Main St, Riverside, OK 64080"),
        ("Blk 123 Ang Mo Kio Ave 3 #05-12, Singapore 560123", "Blk 123 Ang Mo Kio Ave 3 #05-12, Singapore 560123"),
    ],
)
def test_an_address_is_one_span(text: str, address: str) -> None:
    assert address in found(text)


@pytest.mark.parametrize(
    "text",
    [
        "address = 0x7fff0000 and server address: 10.0.0.1:80",
        "Version 3, 12345 Items left; Chapter 5, 23456 words",
        "In 1901, 12345 people came. 3 Key Features Way",
        "The base address: https://example.org/street/5",
        "for street in streets: print(street, 5)",
        "location: /usr/local/bin",
        "",
    ],
)
def test_other_text_is_none(text: str) -> None:
    assert found(text) == []


def test_a_postcode_by_its_field_is_found() -> None:
    assert found("zip: 94105") == ["94105"]
    assert found("邮编：100871") == ["100871"]


# Locales whose addresses were looked at while the patterns were written, and ones that were not.
@pytest.mark.parametrize(
    ("locale", "least"),
    [
        (name, 0.98)
        for name in ("en_US", "en_GB", "en_CA", "en_AU", "de_DE", "fr_FR", "es_ES", "it_IT", "no_NO", "id_ID")
    ]
    + [
        (name, 0.95)
        for name in ("de_CH", "nl_NL", "nl_BE", "sv_SE", "da_DK", "fi_FI", "pl_PL", "pt_PT", "sk_SK", "fr_CH")
    ],
)
def test_addresses_of_a_country_are_covered(locale: str, least: float) -> None:
    faker = Faker(locale)
    faker.seed_instance(7)
    covered = 0
    for number in range(60):
        address = faker.address() if number % 2 else faker.address().replace("\n", ", ")
        text = f"The letter for {address}. It was signed."
        marks = bytearray(len(text))
        for span in find(text):
            if span.score >= COUNTS:
                marks[span.start : span.end] = b"\1" * (span.end - span.start)
        start = text.index(address)
        letters = [at for at in range(start, start + len(address)) if text[at].isalnum()]
        covered += sum(marks[at] for at in letters) >= 0.9 * len(letters)
    assert covered >= least * 60 - 1
