"""Features of difficulty that hold beyond one benchmark: sizes, quantities, steps, and what kind of work is asked."""

from __future__ import annotations

import math
from itertools import islice

import re2

from catena.core.errors import TooLargeError

# Of a longer prompt the start is looked at; it is a long one in any case.
LOOKED_AT = 100_000
MAX_CHARACTERS = 16 << 20

_WORD = re2.compile(r"[A-Za-z][A-Za-z'’-]*|\p{Han}")
_NUMBER = re2.compile(r"\d[\d,]*(?:\.\d+)?")
_END = re2.compile(r"[.!?](?:\s|$)|[。！？]")
_NAME = re2.compile(r"[a-z,;] [A-Z][a-z]+")
_FRACTION = re2.compile(r"\d+/\d+|\d+%|\d\.\d|%")
_SYMBOL = re2.compile(r"[=^*+<>|{}\[\]`\\]")
_CHOICE = re2.compile(r"(?mi)^\s*\(?[A-D][).:]\s")

# What is counted: English whole words, Chinese terms.
_TERMS: dict[str, tuple[str, str]] = {
    "ratio": (
        r"half|twice|thrice|third|thirds|quarters?|double[ds]?|triple[ds]?|times (?:as|more)|percent|percentage|"
        r"fraction|ratio|average|per|each|every|rate",
        "一半|两倍|倍|百分之|平均|每|比例",
    ),
    "comparison": (
        r"more than|less than|fewer|older|younger|than|as many|as much|difference|remaining|remain|left|rest|total|"
        r"altogether|combined",
        "比|多|少|剩|一共|总共|还",
    ),
    "condition": (
        r"if|when|unless|until|after|before|then|while|since|because|but|however|except|only|first|initially|instead",
        "如果|当|除非|直到|然后|但|之前|之后|只",
    ),
    "time": (
        r"hours?|minutes?|days?|weeks?|months?|years?|seconds?|daily|weekly|yearly|morning|night",
        "小时|分钟|天|周|月|年|秒",
    ),
    "mathematics": (
        r"equation|inequality|integers?|probability|remainder|divided|divisible|polynomial|vertices|triangle|"
        r"function f|value of|solve|calculate|compute|how many|how much|what percent|number of|solution|sum of|area",
        "方程|概率|整数|余数|求|计算|多少|几|面积",
    ),
    "code": (
        r"python|java|c\+\+|javascript|html|code|program|algorithm|implement|function to|arrays?|binary tree|string|"
        r"recursive|complexity|regex|sql|script|unit tests?|compile|bug|linked list|dynamic programming|median",
        "代码|程序|算法|实现|函数|数组|字符串|复杂度",
    ),
    "form": (
        r"json|csv|yaml|extract|identify the|classify|table|format|"
        r"following (?:paragraphs?|reviews?|records?|text|data|list)|output|parse|named entities|variable|in the form",
        "提取|格式|表格|输出|分类|列出以下",
    ),
    "logic": (
        r"riddle|puzzle|which one|does not belong|who is|sisters?|brothers?|overtake|true or false|must be|statement|"
        r"parent|direction|shadow|facing|logically|deduce|east|west|north|south|assume|suppose|prove|theorem",
        "推理|谁是|方向|真假|证明|假设",
    ),
    "writing": (
        r"write a|compose|draft|story|poem|essay|blog|email|letter|paragraph|opening|metaphors?|rewrite|edit|review|"
        r"sentence|describe|novel|headline|creative|persuasive|limerick|post",
        "写一|作文|故事|诗|邮件|改写|小说",
    ),
    "role": (
        r"pretend|act as|imagine you|role|embrace|picture yourself|persona|style of|as if you|you are a|roleplay",
        "扮演|假装|想象|角色",
    ),
    "essay": (
        r"discuss|explain|provide insights?|impact|history|compare|analy[sz]e|share ideas|society|culture|economic\w*|"
        r"ethic\w*|philosoph\w*|policy|government|law|business|stages|what are|lesson plan",
        "讨论|解释|影响|历史|比较|社会|文化|经济|什么是",
    ),
    "follow-up": (
        r"previous|your (?:answer|response|solution)|above|again|now|instead|the same|continue|also",
        "之前的|上面|你的回答|再|同样",
    ),
    "negation": (r"not|no|never|none|without|except|neither|nor|cannot", "不|没|无"),
}
_COUNTED = {name: re2.compile(rf"(?i)\b(?:{english})\b|{chinese}") for name, (english, chinese) in _TERMS.items()}

NAMES = (
    "words", "numbers", "sentences", "questions", "word length", "names", "money", "fractions", "symbols",
    "choices", "largest number", "numbers by sentences", *_TERMS,
)  # fmt: skip


def features_of(prompt: str) -> list[float]:
    """Values in the order of NAMES, mostly log(1 + count), shifted so that 0 is usual. Linear in the length.

    Raises TooLargeError beyond MAX_CHARACTERS.
    """
    if len(prompt) > MAX_CHARACTERS:
        raise TooLargeError(f"a prompt of {len(prompt):,} characters is too long (limit {MAX_CHARACTERS:,})")
    text = prompt[:LOOKED_AT]
    if not text.isascii():
        # A half of a surrogate pair, which JSON may hold, has no UTF-8 form.
        text = text.encode("utf-8", "replace").decode("utf-8")
    words, numbers = _WORD.findall(text), _NUMBER.findall(text)
    num_words = len(words) or 1
    num_sentences = len(_END.findall(text)) or 1
    largest = max((float(one.replace(",", "")) for one in islice(numbers, 1000) if len(one) < 12), default=0.0)
    return [
        math.log1p(num_words) - 3.7,
        math.log1p(len(numbers)) - 1,
        math.log1p(num_sentences) - 1.2,
        min(3, text.count("?") + text.count("？")) - 1,
        sum(map(len, words)) / num_words - 4.3,
        math.log1p(len(set(_NAME.findall(text)))),
        math.log1p(text.count("$")),
        math.log1p(len(_FRACTION.findall(text))),
        math.log1p(len(_SYMBOL.findall(text))),
        math.log1p(len(_CHOICE.findall(text))),
        math.log10(1 + largest) / 3,
        math.log1p(len(numbers)) * math.log1p(num_sentences) - 1.2,
        *(math.log1p(len(pattern.findall(text))) for pattern in _COUNTED.values()),
    ]
