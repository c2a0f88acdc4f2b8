"""Where a text speaks of a person: fields of forms, titles, contacts, pronouns and roles, in both languages."""

from __future__ import annotations

from bisect import bisect_left
from functools import lru_cache

import re2

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False

# A record of somebody, or somebody addressed: enough for what stands in the same part of the text.
_STRONG = re2.compile(
    r"\b(?i:patient|pt|member|subscriber|insured|beneficiary|applicant|employee|customer|client|claimant|plaintiff|defendant|"
    r"petitioner|respondent|decedent|debtor|tenant|landlord|borrower|victim|suspect|witness|student|resident|full|first|last|"
    r"given|family|sur|user|contact|account holder)(?:'s)?[ _]?(?i:name|id|no\.?|number)\b"
    r"|\b(?i:patient|name|dob|d\.o\.b\.|date[ _]of[ _]birth|birth[ _]?date|mrn|ssn|nok|next of kin|attending|"
    r"insured|claimant|"
    r"applicant|decedent|employee|customer|client|member|subscriber|pt)\b[\"']?\s{0,2}[:=(]"
    r"|\b(?:Mr|Mrs|Ms|Miss|Mx|Dr|Herr|Frau|Monsieur|Madame|Mme|Sr|Sra|Sig|Signora|Prof|Hon|Judge|Officer|Dear)"
    r"\.? [A-Z][a-z\p{L}]"
    r"|(?i:\b\d{1,3}[- ]?(?:years?|yrs?|y)[- ]?(?:of age|old)\b|\by/?o\b|\baged? \d{1,3}\b|\bborn (?:on\b|in\b|\d))"
    r"|(?i:\b(?:account (?:number|statement|holder)|testament|undersigned|hereby appoint|sworn|affidavit|executor)\b)"
    r"|(?i:\bdeposition of\b)"
    r"|, ?(?:MD|M\.D\.|RN|DO|NP|PA-C|DDS|LCSW|Ph\.?D|Esq)\b|\b(?:NPI|DEA)\b ?[#:]|(?i:\bsig:)"
    r"|\b(?i:client|patient|plaintiff|defendant|claimant|applicant|tenant|employee|customer|witness|decedent|officer|"
    r"represents?|daughter|son|wife|husband|mother|father|beneficiary) [A-Z]\p{Ll}+ [A-Z]\p{Ll}"
    r"|[A-Za-z0-9._%+-]@[A-Za-z0-9-]{1,40}\.[a-z]"
    r"|\b(?:DOB|SSN|D\.O\.B\.|NHS|Suspect|Victim|Witness|Claimant|Plaintiff|Defendant|Petitioner|Respondent)\b"
    r"|\b\d{3}-\d{2}-\d{4}\b|\(\d{3}\) ?\d{3}-\d{4}|\bMRN"
    r"|姓名|患者|病人|病患|原告|被告|申请人|委托人|当事人|身份证|身份證|联系电话|手机|住址|先生|女士|小姐|員工|员工|客户|本人|我叫|主诉|住院号|病历号|门诊号|就诊"
    r"|1[3-9]\d{9}",
    _OPTIONS,
)
# Somebody's own: only what stands close by.
_WEAK = re2.compile(
    r"\b(?i:I|I'm|I've|my|me|he|she|his|her|him|hers|patient|client|plaintiff|defendant|claimant|petitioner|respondent|"
    r"wife|husband|mother|father|daughter|son|sister|brother|employee|decedent|tenant|insured|applicant|"
    r"mein|meine|mon|ma|mi|mio|mia|minha|meu|mijn|Patientin|paciente|paziente|patiente)\b"
    r"|我|他|她|您|其妻|其夫|父亲|母亲|妻子|丈夫|儿子|女儿",
    _OPTIONS,
)
# Chinese texts that are somebody's papers; life stories in encyclopaedias have dates too.
_FORMAL = re2.compile(
    r"身份证|身份證|患者|原告|被告|姓名|住院|联系电话|聯絡電話|手机|工号|员工|客户|病人|申请人|委托人|当事人"
    r"|本人|本院|尊敬的|甲方|乙方|我(?:叫|是|在|于|的)|询问|1[3-9]\d{9}",
    _OPTIONS,
)
# How far the two reach, in characters.
REACH, CLOSE = 1_500, 120


class Persons:
    """The places of a text where it speaks of a person."""

    __slots__ = ("_formal", "_strong", "_text", "_weak")

    def __init__(self, text: str) -> None:
        self._text = text
        self._strong = [match.start() for match in _STRONG.finditer(text)]
        self._weak: list[int] | None = None
        self._formal: bool | None = None

    def is_record(self, at: int, reach: int = REACH, besides: int = 0) -> bool:
        """Whether a record of somebody, or somebody by title, is within `reach` of `at`.

        What begins in the `besides` characters from `at` on does not count: nothing is evidence for itself.
        """
        return _is_within(self._strong, at, reach, besides)

    def is_formal(self) -> bool:
        """Whether a Chinese text is somebody's papers or message, not a story about somebody."""
        if self._formal is None:
            self._formal = _FORMAL.search(self._text) is not None
        return self._formal

    def is_close(self, at: int, reach: int = CLOSE, besides: int = 0) -> bool:
        """Whether anything of a person, a pronoun too, is within `reach` of `at`."""
        if _is_within(self._strong, at, reach, besides):
            return True
        if self._weak is None:
            self._weak = [match.start() for match in _WEAK.finditer(self._text)]
        return _is_within(self._weak, at, reach, besides)


def _is_within(places: list[int], at: int, reach: int, besides: int) -> bool:
    index = bisect_left(places, at - reach)
    while index < len(places) and at <= places[index] < at + besides:
        index += 1
    return index < len(places) and places[index] <= at + reach


@lru_cache(maxsize=4)
def persons(text: str) -> Persons:
    """The places of `text`, kept for the detectors that come next."""
    return Persons(text)
