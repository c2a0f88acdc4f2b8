"""Somebody's conditions, medicines, procedures and blood group are found; medicine in general is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catena.reach.privacy.detectors.health import find, lexicon
from catena.reach.privacy.spans import COUNTS, compose


def found(text: str) -> set[tuple[str, str]]:
    spans = compose(text, find(text))
    return {(text[span.start : span.end], span.type) for span in spans if span.score >= COUNTS}


@pytest.mark.parametrize(
    ("text", "private", "kind"),
    [
        ("Patient: Ann Lee. Diagnosis: Type 2 Diabetes Mellitus", "Type 2 Diabetes Mellitus", "health_condition"),
        ("Mr. Cole was admitted with severe aortic stenosis.", "severe aortic stenosis", "health_condition"),
        ("Patient: Bo. Dx: torn left Achilles", "torn left Achilles", "health_condition"),
        ("She told me I have hypothyroidism", "hypothyroidism", "health_condition"),
        ("A 54-year-old with a fractured left wrist", "fractured left wrist", "health_condition"),
        ("Patient: Al. Meds: Lisinopril 10mg daily", "Lisinopril 10mg", "medication"),
        ("My doctor put me on levothyroxine 75mcg tablets", "levothyroxine 75mcg tablets", "medication"),
        ("Name: Jo\nPrescribed: zzyximab 40 mg", "zzyximab 40 mg", "medication"),
        ("Ms. Roe underwent laparoscopic cholecystectomy", "laparoscopic cholecystectomy", "procedure"),
        ("Patient: X. Order MRI of the lumbar spine", "MRI of the lumbar spine", "procedure"),
        ("Blood type: O negative", "O negative", "blood_type"),
        ("血型：AB型", "AB型", "blood_type"),
        ("患者李雷，确诊2型糖尿病三年", "2型糖尿病", "health_condition"),
        ("姓名：王芳\n出院诊断：急性阑尾炎", "急性阑尾炎", "health_condition"),
        ("患者長期服用阿司匹林腸溶片", "阿司匹林腸溶片", "medication"),
        ("本人做过腹腔镜胆囊切除术，住院一周", "腹腔镜胆囊切除术", "procedure"),
    ],
)
def test_it_is_found(text: str, private: str, kind: str) -> None:
    assert (private, kind) in found(text)


@pytest.mark.parametrize(
    "text",
    [
        "Diabetes mellitus is a group of metabolic diseases. Metformin is a first-line medicine for type 2 diabetes.",
        "Photosynthesis and geography; the program prints a diagram in April.",
        "Pneumonia was common in the nineteenth century, as were cholera and tuberculosis.",
        "The server is in a state of depression; a stroke of the pen, a cold start, a shock absorber.",
        "糖尿病是一组以高血糖为特征的代谢性疾病。阿司匹林于1899年上市。",
        "diagnosis = tree.fit(symptoms)",
        "",
    ],
)
def test_medicine_in_general_is_not(text: str) -> None:
    assert found(text) == set()


def test_a_field_without_a_known_word_counts_by_its_name() -> None:
    assert ("Xylographic malaise", "health_condition") in found("Patient: Ann\nDiagnosis: Xylographic malaise")
    assert found("Patient: Ann\nAllergies: none") == set()


def test_the_words_are_many() -> None:
    assert len(lexicon().kinds) >= 15


@given(st.text(alphabet=st.sampled_from('Dx: diabetes 10 mg患者诊断，\n"型O+'), max_size=150))
def test_no_text_breaks_it(text: str) -> None:
    for span in find(text):
        assert 0 <= span.start < span.end <= len(text)
