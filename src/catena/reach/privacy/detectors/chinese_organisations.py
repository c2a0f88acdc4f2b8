"""Companies, schools, hospitals, public bodies and job titles in Chinese text, by how their names end."""

from __future__ import annotations

from collections.abc import Iterable

import re2

from catena.reach.privacy.judging.chinese import Reader, reader
from catena.reach.privacy.spans import Span

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False

_SCHOOLS = "大学附属中学|职业技术学院|职业学院|师范学院|幼儿园|大学|学院|中学|小学|学校|技校|一中|二中|附中|附小"
_SCHOOL_ENDS = tuple(_SCHOOLS.split("|"))
_COMPANIES = (
    "股份有限公司|有限责任公司|科技有限公司|有限公司|分公司|子公司|总公司|公司|集团|事务所|支行|分行|银行|证券|人民医院|中医院|医院|卫生院|诊所|"
    "人民法院|法院|检察院|派出所|公安局|公安厅|教育局|税务局|管理局|民政局|财政局|委员会|研究院|研究所|出版社|居委会|村委会|街道办事处|办事处|俱乐部|基金会|协会"
)
_NAMED = re2.compile(rf"[\p{{Han}}（）()A-Za-z0-9]{{2,20}}?(?:{_SCHOOLS}|{_COMPANIES})", _OPTIONS)
_LASTS = frozenset("司团所行券院诊局厅会社部学园校中小")
_HEADS = frozenset("职岗任聘")
_FIELDS = (
    "单位",
    "公司",
    "就职于",
    "任职于",
    "供职于",
    "毕业于",
    "毕业院校",
    "就读于",
    "工作单位",
    "入职",
    "学校",
    "单位名称",
    "公司名称",
    "学校名称",
)
_TITLE = re2.compile(
    r"(?:职务|职位|岗位|职称|担任|任职|出任|现任|应聘)\s*[:：为]?\s*([\p{Han}]{1,8}?(?:总监|经理|主管|主任|工程师|总裁|会计师|会计|教授|助理|专员|顾问|设计师|律师|"
    r"医师|护士长|护士|校长|教师|老师|秘书|董事长|总经理|开发|厨师|司机|店长|科长|处长|局长|院长|书记))",
    _OPTIONS,
)
_STOPS = "在于到从是为的和与及由被把了就去来向对任职读业人位：，"
_PERSONAL = re2.compile(
    r"1[3-9]\d{9}|\d{17}[\dXx]|[\w.]@\w|我叫|我是|我在|姓名|患者|联系人|收件人|身份证|毕业于|就职于", _OPTIONS
)


def find(text: str) -> Iterable[Span]:
    """Spans of kinds organisation, school and job_title; those of a text about nobody score under 0.5."""
    if text.isascii():
        return []
    judge = reader()
    simple = judge.simplified(text)
    is_personal = bool(_PERSONAL.search(simple))
    spans: list[Span] = []
    for match in _NAMED.finditer(simple) if not _LASTS.isdisjoint(simple) else ():
        start = _begin(judge, simple, match.start(), match.end())
        if match.end() - start < 4:
            continue
        kind = "school" if simple[start : match.end()].endswith(_SCHOOL_ENDS) else "organisation"
        is_field = simple[max(0, start - 10) : start].rstrip(" :：\u3000").endswith(_FIELDS)
        spans.append(Span(start, match.end(), kind, 0.7 if is_field else 0.54 if is_personal else 0.4))
    for match in _TITLE.finditer(simple) if not _HEADS.isdisjoint(simple) else ():
        spans.append(Span(match.start(1), match.end(1), "job_title", 0.6 if is_personal else 0.4))
    return spans


def _begin(judge: Reader, text: str, start: int, end: int) -> int:
    """Where the name begins: after the last word that leads to it, or at a place or its first character."""
    for at in range(end - 4, start - 1, -1):
        if text[at] in _STOPS and (at == start or text[at : at + 2] not in judge.known.words):
            return at + 1
    return start
