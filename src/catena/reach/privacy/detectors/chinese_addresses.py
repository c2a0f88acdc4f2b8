"""Addresses and places in Chinese text: divisions and roads joined down to the room, and known places by themselves."""

from __future__ import annotations

from collections.abc import Iterable

import re2

from catena.reach.privacy.judging.chinese import Reader, reader
from catena.reach.privacy.spans import Span

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False

_NUMBER = r"(?:[0-9０-９]{1,5}|[A-Za-z]{1,2}|[甲乙丙丁]|[一二三四五六七八九十百]{1,4})"
# What goes on after a place: divisions, roads, numbers, buildings, floors, rooms.
_ON = re2.compile(
    rf"(?:[ ,，、\-]?(?:"
    rf"[\p{{Han}}]{{1,9}}?(?:特别行政区|自治区|自治州|自治县|地区|省|市|区|县|旗|盟|州|开发区|新区|街道|镇|乡|村|社区|大街|大道|胡同|"
    r"公路|街|路|巷|弄|里|小区|花园|公寓|大厦|广场|苑|园区|家园|新村|校区|宿舍|道|庄|城|府|中心|国际)"
    rf"(?:[东西南北中][段侧]?)?"
    rf"|第?{_NUMBER}(?:[-－之附]{_NUMBER})*(?:号楼|号院|号|弄|栋|幢|座|单元|楼|层|室|房|门|组|期|区|街|路|巷|队|户)"
    rf"|[0-9]{{3,4}}"
    rf"))+(?:[ ]{{1,2}}[0-9]{{6}})?",
    _OPTIONS,
)
_DETAIL = re2.compile(rf"{_NUMBER}(?:号|弄|栋|幢|座|单元|室|层|组)|[街路道巷弄镇乡村]", _OPTIONS)
# A road and a number without a division before them; the name of the road is of at most five characters.
_ROAD = re2.compile(
    rf"[\p{{Han}}]{{1,6}}(?:大街|大道|胡同|街道|公路|街|路|巷|弄|村|小区|花园|公寓|大厦|家园|新村|苑)(?:[东西南北中]段?)?"
    rf"(?:{_NUMBER}(?:号楼|号院|号|弄|栋|幢|座|单元|楼|室)[\p{{Han}}]{{0,8}}?)+(?:[0-9]{{3,4}}室?)?",
    _OPTIONS,
)
# A field or a way to say where one lives: what follows up to a mark is the address.
_FILLED = re2.compile(
    r"(?:地址|住址|住所|居住地|户籍地|户籍所在地|籍贯|现住|家住|居住于|居住在|住在|住|送到|送至|寄到|"
    r"寄往|寄至|搬到|位于|所在地|收货地|出生地|现居地)(?:址)?[】\]）)]?\s*[:：为是在]?\s*"
    r"([\p{Han}][\p{Han}A-Za-z0-9（）()\-－#·]{1,59})",
    _OPTIONS,
)
_FORM = re2.compile(r"[省市区县州旗盟镇乡村街路道巷弄号栋幢座室楼苑园]", _OPTIONS)
_LEAD = frozenset("在到从往住去至于是为寄送搬自和与及、，。；：,:;（(的位邻离经由把回来给向")
_SUFFIXED = re2.compile(
    r"[\p{Han}]{2,7}?(?:省|市|自治区|自治州|自治县|县|区|镇|乡|村|街道|路|大街|大道|街|胡同|岛|山|河|湖|"
    r"江|州|府|郡|机场|火车站|广场|大厦|体育场|球场|公园)",
    _OPTIONS,
)
_FORMS = frozenset("省市区县旗盟州乡镇村街路道巷弄里园寓厦场苑庄城府心际号栋幢座室楼层同")
_ENDS = frozenset("号弄栋幢座楼室")
_DOORS = frozenset("0123456789号栋座室弄")
LONGEST = 80
# In a text as short as a message a place is the place of somebody; a long one must speak of a person.
SHORT = 70


def find(text: str) -> Iterable[Span]:
    """Spans of kind address (a form that leads to a door) and place (a name alone; under 0.5 in neutral text)."""
    if text.isascii():
        return []
    judge = reader()
    simple = judge.simplified(text)
    spans: list[Span] = []
    is_personal = bool(_PERSONAL.search(simple))
    past = 0
    for start, end, kind in judge.places(simple):
        if start < past:
            continue
        stop, is_detailed = _joined(simple, start, end)
        past = stop
        if is_detailed:
            is_door = not _DOORS.isdisjoint(simple[end:stop])
            spans.append(Span(start, stop, "address", 0.9 if is_door else 0.6))
        else:
            spans.append(Span(start, stop, "place", _score(simple, start, stop, kind, is_personal)))
    spans += _by_form(judge, simple, is_personal)
    return spans


def _joined(text: str, start: int, end: int) -> tuple[int, bool]:
    """Where what begins with a place ends, and whether it leads to a road or a door."""
    ahead = text[end : end + LONGEST]
    if _FORMS.isdisjoint(ahead[:12]):
        return end, False
    match = _ON.match(ahead)
    if not match or not match.end():
        return end, False
    tail = ahead[: match.end()]
    if not _DOORS.isdisjoint(tail) and _DETAIL.search(tail):
        return end + match.end(), True
    # Without a number only a division or a road that follows at once belongs to it.
    short = _NEXT.match(ahead)
    return (end + short.end(), False) if short else (end, False)


_NEXT = re2.compile(r"(?:[\p{Han}]{0,3}?(?:省|市|区|县|州|镇|乡|村|街道|路|大街|大道))+", _OPTIONS)


def _score(text: str, start: int, end: int, kind: str, is_personal: bool) -> float:
    """Of a place by itself: it counts in a message, or where the same sentence speaks of a person."""
    if kind == "2" and end - start == 2 and not (start and text[start - 1] in "在到从往去至于自"):
        return 0.2
    if len(text) <= SHORT:
        return 0.56
    return 0.52 if is_personal else 0.4


_PERSONAL = re2.compile(r"1[3-9]\d{9}|\d{17}[\dXx]|[\w.]@\w|我叫|我是|姓名|患者|联系人|收件人", _OPTIONS)


def _by_form(judge: Reader, text: str, is_personal: bool) -> list[Span]:
    spans: list[Span] = []
    forms = _FORMS.intersection(text)
    for match in _FILLED.finditer(text) if forms else ():
        start, end = match.span(1)
        if _FORM.search(text[start:end]):
            filled = _cut(text[start:end])
            is_door = not _DOORS.isdisjoint(filled) and bool(_DETAIL.search(filled))
            score = 0.75 if is_door else 0.6 if is_personal or len(text) <= SHORT else 0.4
            spans.append(Span(start, start + len(filled), "address", score))
    for match in _ROAD.finditer(text) if not _ENDS.isdisjoint(text) else ():
        start, end = match.span()
        for at in range(start, min(start + 5, end - 3)):
            if text[at] in _LEAD:
                start = at + 1
        spans.append(Span(start, end, "address", 0.7))
    if forms and len(text) <= SHORT:
        for match in _SUFFIXED.finditer(text):
            start = match.start()
            marks = judge.known.words
            stretch = text[start : match.end()]
            if stretch in marks or len(stretch) > 4 or stretch[-1] not in "省市县镇村路街岛州":
                continue
            if _LEAD.isdisjoint(stretch) and marks.get(stretch[:2], "x9")[1] < "4":
                spans.append(Span(start, match.end(), "place", 0.51))
    return spans


def _cut(text: str) -> str:
    """An address without the sentence that goes on after it."""
    for word in ("联系", "电话", "手机", "邮箱", "邮编", "请", "谢谢", "的", "工作", "上班", "附近", "，", "了"):
        at = text.find(word, 2)
        if at > 0:
            text = text[:at]
    return text
