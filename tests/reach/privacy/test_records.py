"""Numbers are private by the name of their field, however it is written, and plain numbers of other texts are not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catena.reach.privacy.detectors.records import find
from catena.reach.privacy.judging.persons import persons
from catena.reach.privacy.spans import COUNTS


def found(text: str) -> set[tuple[str, str]]:
    return {(text[span.start : span.end], span.type) for span in find(text) if span.score >= COUNTS}


@pytest.mark.parametrize(
    ("text", "private", "kind"),
    [
        ("Case No. 2:21-cv-01234-ABC", "2:21-cv-01234-ABC", "case_number"),
        ("CASE NUMBER: 17-8197-CR", "17-8197-CR", "case_number"),
        ("in Docket No. 21 CV 4411", "21 CV 4411", "case_number"),
        ("（2023）京0105民初12345号判决", "（2023）京0105民初12345号", "case_number"),
        ("案号：ZX-2023-118", "ZX-2023-118", "case_number"),
        ("State Bar No. 288311", "288311", "licence_number"),
        ("NPI# 1982736450", "1982736450", "licence_number"),
        ("driver's license number is D1234567", "D1234567", "driver_licence"),
        ("Patient ID: H4410029", "H4410029", "medical_record"),
        ('"mrn": "00451290"', "00451290", "medical_record"),
        ("patientId=8841920", "8841920", "medical_record"),
        ("住院号：ZY6108377", "ZY6108377", "medical_record"),
        ("Policy No.: AETN-552011", "AETN-552011", "insurance_id"),
        ("Member ID W1234 56789", "W1234 56789", "insurance_id"),
        ("医保卡号:330219876", "330219876", "insurance_id"),
        ("Badge #4471", "4471", "employee_id"),
        ("employee_id: E12345", "E12345", "employee_id"),
        ("工号E36437", "E36437", "employee_id"),
        ("the student number from that school was S2584447", "S2584447", "student_id"),
        ("account ending, Account: 9406135368", "9406135368", "bank_account"),
        ("Acct. No. 14582-19", "14582-19", "bank_account"),
        ("Mr. Lee's claim number is 44-882-19", "44-882-19", "reference"),
        ("Versicherungsnummer: A123456789", "A123456789", "insurance_id"),
        ("n° de dossier : 2021/4471", "2021/4471", "case_number"),
    ],
)
def test_the_value_of_a_field_is_found(text: str, private: str, kind: str) -> None:
    assert (private, kind) in found(text)


@pytest.mark.parametrize(
    "text",
    [
        "RFC 3548 and version 3.11.2 on 2024-03-01 at 14:32:07",
        "In that case 12 of 30 patients recovered; see report 4 and chapter 5",
        "order: 5, index = 12, group 3, file: 10",
        "for i in range(1000): account += i * 0.25",
        "invoice number 12345 is only an example of a manual",
        "案例共有123个，编号规则如下",
        "",
    ],
)
def test_numbers_of_other_texts_are_not(text: str) -> None:
    assert found(text) == set()


def test_a_reference_counts_beside_a_person_only() -> None:
    assert found("order number 88412 will ship") == set()
    assert ("88412", "reference") in found("Dear Ms. Brown, order number 88412 will ship")


def test_persons_are_told_from_texts_about_things() -> None:
    assert persons("Patient: Ann").is_record(5)
    assert not persons("The engine starts at 500 rpm.").is_close(5)
    assert persons("she takes it").is_close(5)
    assert not persons("she takes it" + " " * 500 + "x").is_close(500)


@given(st.text(alphabet=st.sampled_from("CaseNo.: #-/12345 账号\n\"'="), max_size=200))
def test_no_text_breaks_it(text: str) -> None:
    for span in find(text):
        assert 0 <= span.start < span.end <= len(text)
