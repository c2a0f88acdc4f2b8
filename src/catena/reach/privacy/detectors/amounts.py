"""Amounts of money tied to a person: pay, debts, balances, payments and damages, in currencies of both languages."""

from __future__ import annotations

from collections.abc import Iterable

import re2

from catena.reach.privacy.judging.persons import persons
from catena.reach.privacy.spans import Span

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_NUMBER = r"(?:\d{1,3}(?:[,.' \x{00a0}]\d{3})+(?:[.,]\d{1,2})?|\d{1,12}(?:[.,]\d{1,2})?)"
_CODES = (
    r"(?:USD|EUR|GBP|CAD|AUD|NZD|CHF|JPY|CNY|RMB|HKD|TWD|SGD|INR|KRW|SEK|NOK|DKK|PLN|CZK|HUF|RON|TRY|BRL|MXN|ZAR|RUB|ILS|"
    r"AED|SAR)"
)
_SIGNS = rf"(?:(?:US|CA?|AU?|NZ|HK|NT|S|R|Mex)?\$|€|£|¥|￥|₹|₩|₽|zł|kr\.?|\b{_CODES}\b|\bRs\.?|人民币|港币|美元|新台币)"
_NAMES = r"(?i:dollars|euros?|pounds sterling|pounds|rupees|yen|yuan|francs|pesos|reais|kronor|kroner)\b"
_AMOUNT = re2.compile(
    rf"{_SIGNS}[ \x{{00a0}}]?{_NUMBER}(?:[ ]?(?i:k|m|million|thousand|bn)\b|[万亿千百]*元?)?"
    rf"|\b{_NUMBER}[ \x{{00a0}}]?(?:€|£|₽|zł\b|{_CODES}\b|{_NAMES})"
    r"|\d[\d,]*(?:\.\d{1,4})?[ ]?(?:[万亿千百]+|余)?(?:元|块钱|圆|美元|港币|人民币|欧元|日元)(?:人民币|整)?"
    r"|[壹贰叁肆伍陆柒捌玖拾佰仟万零]{2,16}[元圆](?:整|[壹贰叁肆伍陆柒捌玖零角分]{1,6})?",
    _OPTIONS,
)
# A field of pay or debt, whose number needs no currency.
_PAY = (
    r"(?:annual|base|monthly|gross|net|current|starting|yearly)?[ _-]?"
    r"(?:salary|income|wages?|compensation|earnings|bonus|net[ _-]?worth)|hourly[ _-]?rate"
)
_DEBT = (
    r"(?:account[ _-]?|closing[ _-]?|outstanding[ _-]?|opening[ _-]?)?balance|credit[ _-]?(?:limit|score)"
    r"|loan[ _-]?amount|amount[ _-]?(?:due|owed)|copay|deductible"
)
_FIELD = re2.compile(
    rf"(?i)(?:^|[^a-z])(?:{_PAY}|{_DEBT})"
    r"[\"']?[ \t]*[:=][ \t]*[\"']?(\d{1,3}(?:,\d{3})+(?:\.\d{2})?|\d{3,9}(?:\.\d{2})?)\b"
    r"|(?:月薪|年薪|工资|薪资|收入|欠款|余额|贷款金额|借款|奖金)(?:为|是|：|:|约|\s)*(\d[\d,]*(?:\.\d{1,2})?(?:[kKwW万千百])?)",
    _OPTIONS,
)
_MONEY = re2.compile(
    r"(?i)\b(?:salar|income|wage|earn|pay|paid|owe|debt|balance|settle|damages|fee|rent|deposit|alimony|support|loan|"
    r"mortgage|bonus|compensat|sanction|fine|bill|charge|claim|transfer|wire|withdr|sum of|amount|estate|invest|"
    r"pension|refund|invoice|price|cost|award)"
    r"|工资|薪|收入|欠|借|还|支付|转账|转到|汇|赔偿|押金|租金|房租|贷款|余额|支出|代理费|金额|奖金|彩礼|抚养费|罚款",
    _OPTIONS,
)
# How near a record of a person must be, and words of payment.
RECORD, WORDS = 600, 70


def find(text: str) -> Iterable[Span]:
    """Spans of kind amount where a record of a person is near; under 0.5 otherwise."""
    near = persons(text)
    for match in _AMOUNT.finditer(text):
        start, end = match.span()
        is_record = near.is_record(start, RECORD) or near.is_close(start)
        is_record = is_record and (near.is_formal() or not any("一" <= char <= "鿿" for char in text[start:end]))
        around = text[max(0, start - WORDS) : end + WORDS]
        yield Span(start, end, "amount", (0.72 if _MONEY.search(around) else 0.52) if is_record else 0.35)
    for match in _FIELD.finditer(text):
        group = 1 if match.group(1) is not None else 2
        start, end = match.span(group)
        yield Span(start, end, "amount", 0.8 if near.is_record(start) else 0.4)
