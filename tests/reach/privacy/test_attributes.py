"""Attributes, dates, ages and amounts are found where they are somebody's, in forms, prose and Chinese papers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catena.reach.privacy.detectors import amounts, attributes, dates
from catena.reach.privacy.spans import COUNTS

FINDERS = (attributes.find, dates.find, amounts.find)


def found(text: str) -> set[tuple[str, str]]:
    return {(text[span.start : span.end], span.type) for find in FINDERS for span in find(text) if span.score >= COUNTS}


@pytest.mark.parametrize(
    ("text", "private", "kind"),
    [
        ("Patient: Jo, a 49-year-old Black female with asthma", "female", "gender"),
        ("Patient: Jo, a 49-year-old Black female with asthma", "Black", "ethnicity"),
        ("Name: Al\nGender: M", "M", "gender"),
        ("性别：女 姓名：王芳", "女", "gender"),
        ("原告：唐慧，女，回族，住某地", "回族", "ethnicity"),
        ("Ethnicity: Hispanic\nName: X", "Hispanic", "ethnicity"),
        ("She was raised Catholic by her aunt", "Catholic", "religion"),
        ("Ms. Roe, a French national", "French", "nationality"),
        ("姓名：李雷 国籍：美国", "美国", "nationality"),
        ("Client Ann Lee is divorced.", "divorced", "marital_status"),
        ("婚姻状况：已婚 姓名：李雷", "已婚", "marital_status"),
        ("He came out as gay to his parents", "gay", "orientation"),
        ("政治面貌：中共党员，姓名：李雷", "中共党员", "politics"),
        ("Mr. Poe was convicted of wire fraud.", "wire fraud", "criminal_record"),
        ("患者因盗窃罪", "盗窃罪", "criminal_record"),
        ("DOB: 03/04/1970", "03/04/1970", "date_of_birth"),
        ("Date of birth 4 March 1970", "4 March 1970", "date_of_birth"),
        ("出生日期：1970年3月4日", "1970年3月4日", "date_of_birth"),
        ("原告张三，1970年3月4日出生", "1970年3月4日", "date_of_birth"),
        ("Mr. Poe was admitted on 2024-10-31", "2024-10-31", "date"),
        ("Patient: Jo. Discharge Date: 31.10.2024", "31.10.2024", "date"),
        ("患者于2024年10月31日入院", "2024年10月31日", "date"),
        ("2020-02-22T06:35:00Z login from 10.0.0.1", "2020-02-22T06:35:00Z", "timestamp"),
        ("I am 43 years old", "43 years old", "age"),
        ("Patient: Jo. Age: 43", "43", "age"),
        ("姓名：王芳 年龄：43岁", "43岁", "age"),
        ("Ms. Roe earned $85,000.00 a year", "$85,000.00", "amount"),
        ("Employee: Jo\nsalary: 85000", "85000", "amount"),
        ("被告借原告人民币43608元未还", "人民币43608元", "amount"),
        ("Mr. Poe owes 3.500,00 € to the bank", "3.500,00 €", "amount"),
    ],
)
def test_it_is_found(text: str, private: str, kind: str) -> None:
    assert (private, kind) in found(text)


@pytest.mark.parametrize(
    "text",
    [
        "The Catholic church and the French revolution of 1789; a black box, white space and a single thread.",
        "Released 2024-03-01, updated 12/24; the plan costs $20 a month.",
        "People aged 65 years of age or older",
        'race = Field(str, required=True); sex: str = "unknown"',
        "佛教于公元1世纪传入中国。公司收入500万元。1954年10月成立。",
        "The gender: a grammatical category. Orientation: landscape",
        "",
    ],
)
def test_what_is_nobodys_is_not(text: str) -> None:
    assert {private for private, kind in found(text) if kind != "age"} == set()


@given(st.text(alphabet=st.sampled_from("Age:43 $1,0元岁DOB/-女男，Mr. Xx\n"), max_size=150))
def test_no_text_breaks_them(text: str) -> None:
    for find in FINDERS:
        for span in find(text):
            assert 0 <= span.start < span.end <= len(text)
