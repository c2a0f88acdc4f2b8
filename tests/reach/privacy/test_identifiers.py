"""Numbers of persons, companies, banks and vehicles are found by check and context, and a wrong check says no."""

from __future__ import annotations

import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catena.reach.privacy.detectors import banking, company_ids, national_ids, vehicles
from catena.reach.privacy.identifiers import america, asia, banks, europe
from catena.reach.privacy.identifiers.table import Gate, is_near
from catena.reach.privacy.identifiers.vehicles import vin
from catena.reach.privacy.spans import COUNTS, Span

FINDERS = (national_ids.find, company_ids.find, banking.find, vehicles.find)


def found(text: str) -> list[Span]:
    return [span for find in FINDERS for span in find(text) if span.score >= COUNTS]


# A sentence and what of it is private; numbers are made up or published examples.
SENTENCES = [
    ("他的身份证11010519491231002X，请保密", "11010519491231002X", "national_id"),
    ("身份证号:110105491231002 旧版", "110105491231002", "national_id"),
    ("居民身份证 110105 19491231 002X", "110105 19491231 002X", "national_id"),
    ("护照E12345678已过期", "E12345678", "passport"),
    ("港澳居民来往内地通行证H12345678", "H12345678", "travel_permit"),
    ("香港身份證 A123456(3)", "A123456(3)", "national_id"),
    ("身分證字號A123456789", "A123456789", "national_id"),
    ("统一社会信用代码91110000600037341L", "91110000600037341L", "company_id"),
    ("her SSN is 482-32-7682.", "482-32-7682", "social_security"),
    ("social security number 482 32 7682", "482 32 7682", "social_security"),
    ("Medicare 1EG4-TE5-MK73 on file", "1EG4-TE5-MK73", "insurance_id"),
    ("Prescriber NPI: 1234567893", "1234567893", "licence_number"),
    ("NI number AB 12 34 56 C", "AB 12 34 56 C", "social_security"),
    ("NHS number 943 476 5919", "943 476 5919", "national_id"),
    ("SIN 046 454 286", "046 454 286", "social_security"),
    ("TFN 123 456 782", "123 456 782", "tax_id"),
    ("ABN 51 824 753 556", "51 824 753 556", "company_id"),
    ("Aadhaar 2341 2341 2346", "2341 2341 2346", "national_id"),
    ("PAN ABCPE1234F", "ABCPE1234F", "tax_id"),
    ("Steuer-ID 36 574 261 809", "36 574 261 809", "tax_id"),
    ("NIR 2 95 10 99 126 111 93", "2 95 10 99 126 111 93", "social_security"),
    ("SIRET 732 829 320 00074", "732 829 320 00074", "company_id"),
    ("con DNI 54362315K", "54362315K", "national_id"),
    ("NIE X2482300W", "X2482300W", "national_id"),
    ("codice fiscale RCCMNL83S18D969H", "RCCMNL83S18D969H", "tax_id"),
    ("BSN 111222333", "111222333", "national_id"),
    ("rijksregisternummer 85.07.30-033.28", "85.07.30-033.28", "national_id"),
    ("PESEL 44051401359", "44051401359", "national_id"),
    ("personnummer 880320-0016", "880320-0016", "national_id"),
    ("hetu 131052-308T", "131052-308T", "national_id"),
    ("CPR-nr 211062-5629", "211062-5629", "national_id"),
    ("AHV 756.9217.0769.85", "756.9217.0769.85", "social_security"),
    ("SVNR 1237 010180", "1237 010180", "social_security"),
    ("PPS number 6433435F", "6433435F", "social_security"),
    ("CPF 390.533.447-05", "390.533.447-05", "tax_id"),
    ("CNPJ 16.727.230/0001-97", "16.727.230/0001-97", "company_id"),
    ("CURP BOXW310820HNERXN09", "BOXW310820HNERXN09", "national_id"),
    ("CUIT 20-05536168-2", "20-05536168-2", "tax_id"),
    ("RUT 12.531.909-2", "12.531.909-2", "tax_id"),
    ("マイナンバー 6214 9832 0257", "6214 9832 0257", "national_id"),
    ("주민등록번호 971013-9019902", "971013-9019902", "national_id"),
    ("NRIC S1234567D", "S1234567D", "national_id"),
    ("เลขประจำตัว 1-2345-45678-78-1", "1-2345-45678-78-1", "national_id"),
    ("kimlik no 17291716060", "17291716060", "national_id"),
    ("ИНН 7707083893", "7707083893", "tax_id"),
    ("СНИЛС 112-233-445 95", "112-233-445 95", "social_security"),
    ("rodné číslo 710319/2745", "710319/2745", "national_id"),
    ("CNP 1630615123457", "1630615123457", "national_id"),
    ("ЕГН 7523169263", "7523169263", "national_id"),
    ("JMBG 0101006500006", "0101006500006", "national_id"),
    ("isikukood 36805280109", "36805280109", "national_id"),
    ("SA ID number 7503305044089", "7503305044089", "national_id"),
    ("784-1980-1234567-9", "784-1980-1234567-9", "national_id"),
    ("CNIC 42201-0397640-9", "42201-0397640-9", "national_id"),
    ("MyKad 770305-02-1234", "770305-02-1234", "national_id"),
    ("USt-IdNr. DE 136 695 976", "DE 136 695 976", "company_id"),
    ("TVA FR 61 954 506 077", "FR 61 954 506 077", "company_id"),
    ("VAT NL123456782B12", "NL123456782B12", "company_id"),
    ("card 4111 1111 1111 1111", "4111 1111 1111 1111", "bank_card"),
    ("银行卡6222021234567890128", "6222021234567890128", "bank_card"),
    ("security code 657, exp. 04/27", "657", "card_code"),
    ("security code 657, exp. 04/27", "04/27", "card_code"),
    ("pay to DE89 3704 0044 0532 0130 00 please", "DE89 3704 0044 0532 0130 00", "iban"),
    ("IBAN GB82WEST12345698765432", "GB82WEST12345698765432", "iban"),
    ("SWIFT: DEUTDEFF500", "DEUTDEFF500", "routing_number"),
    ("routing number 021000021", "021000021", "routing_number"),
    ("sort code 20-45-45", "20-45-45", "routing_number"),
    ("account number 9406135368", "9406135368", "bank_account"),
    ("账号 6457 2794 7330 2009", "6457 2794 7330 2009", "bank_account"),
    ("车牌沪AD69031的车主", "沪AD69031", "licence_plate"),
    ("粤B·12345", "粤B·12345", "licence_plate"),
    ("VIN 1HGCM82633A004352", "1HGCM82633A004352", "vehicle_id"),
    ("license plate ABC-1234", "ABC-1234", "licence_plate"),
    ("Kennzeichen B-AB 1234", "B-AB 1234", "licence_plate"),
]


@pytest.mark.parametrize(("text", "private", "kind"), SENTENCES)
def test_it_is_found_where_it_stands(text: str, private: str, kind: str) -> None:
    start = text.index(private)
    assert (start, start + len(private), kind) in {(span.start, span.end, span.type) for span in found(text)}


@pytest.mark.parametrize(
    "text",
    [
        "version 3.141592653589793 of 2024-03-01, 1,234,567 rows and 16777216 bytes",
        "commit 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "timestamps 1700000000000 and 20240301123456, port 65535",
        "ISBN 978-3-16-148410-0 and RFC 9110",
        "4111111111111112 is not a card, DE89370400440532013001 no account of that bank",
        "圆周率3.14159265358979323846，第123456789号元素",
        "uuid 123e4567-e89b-12d3-a456-426614174000",
        "",
    ],
)
def test_other_numbers_are_not(text: str) -> None:
    if text.startswith("4111"):
        assert not [span for span in found(text) if span.type == "bank_card" and span.score > 0.9]
    else:
        assert found(text) == []


CHECKS = [
    (asia.resident, "11010519491231002X"),
    (asia.credit_code, "91110000600037341L"),
    (asia.hong_kong, "A1234563"),
    (asia.taiwan, "A123456789"),
    (asia.singapore, "S1234567D"),
    (asia.aadhaar, "234123412346"),
    (asia.south_africa, "7503305044089"),
    (america.cpf, "39053344705"),
    (america.cnpj, "16727230000197"),
    (america.provider, "1234567893"),
    (america.routing, "021000021"),
    (europe.nhs, "9434765919"),
    (europe.german_tax, "36574261809"),
    (europe.dni, "54362315K"),
    (europe.fiscal_code, "RCCMNL83S18D969H"),
    (europe.pesel, "44051401359"),
    (europe.finnish, "131052308T"),
    (europe.snils, "11223344595"),
    (banks.iban, "GB82WEST12345698765432"),
    (banks.card, "4111111111111111"),
    (vin, "1HGCM82633A004352"),
]


@pytest.mark.parametrize(("check", "number"), CHECKS)
def test_a_changed_digit_fails_the_check(check: object, number: str) -> None:
    assert callable(check)
    assert check(number)
    chance = random.Random(number)
    changed = 0
    for _ in range(60):
        at = chance.choice([i for i, char in enumerate(number) if char.isdigit()])
        other = chance.choice([digit for digit in string.digits if digit != number[at]])
        changed += not check(number[:at] + other + number[at + 1 :])
    assert changed >= 45


def test_every_check_refuses_or_takes_what_its_form_lets_through() -> None:
    chance = random.Random(1)
    alphabet = string.digits * 3 + string.ascii_uppercase + " -./()"
    for _ in range(300):
        text = " ".join("".join(chance.choices(alphabet, k=chance.randint(5, 20))) for _ in range(20))
        for find in FINDERS:
            for span in find("SSN BSN card DNI account " + text):
                assert 0 < span.score <= 1


@given(st.text(alphabet=st.sampled_from("0123456789XABCDE -./京A身份证:()·"), max_size=120))
def test_no_text_breaks_them(text: str) -> None:
    for span in found("身份证 " + text):
        assert 0 <= span.start < span.end <= len(text) + 4


def test_words_are_seen_however_a_field_writes_them() -> None:
    for label in ('"tax_id": "', "Tax ID No. ", "taxId=", "TAX-ID: "):
        assert is_near(("tax id",), label + "12", len(label), len(label) + 2)
    assert not is_near(("tax id",), "taxidermy of 12", 13, 15)


def test_a_gate_tells_which_patterns_hit() -> None:
    gate = Gate()
    for pattern in ("abc", r"\d{3}", "x"):
        gate.add(pattern)
    gate.close()
    assert gate.hits("nothing here") == []
    assert gate.hits("abc 123") == [0, 1]
