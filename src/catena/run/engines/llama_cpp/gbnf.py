"""Reads a GBNF grammar as the library does, to refuse a broken one here: the library would print it to stderr.

Source of the syntax: https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md.
"""

from __future__ import annotations

import re

from catena.core.errors import InputError, TooLargeError

MAX_CHARACTERS = 65_536
_NAME = r"[a-zA-Z0-9-]+"
_RULE = re.compile(rf"\s*({_NAME})\s*::=")
_TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)"""
    r"""|(?P<literal>"(?:[^"\\\n]|\\.)*")"""
    r"""|(?P<class>\[\^?(?:[^\]\\\n]|\\.)*\])"""
    rf"""|(?P<rule>{_NAME})(?!\s*::=)"""
    r"""|(?P<open>\()|(?P<close>\))|(?P<any>\.)|(?P<bar>\|)"""
    r"""|(?P<repeat>[*+?]|\{\d{1,4}(?:,\d{0,4})?\})"""
)


def check(grammar: str) -> None:
    """Raise InputError unless `grammar` has a root, every rule it uses is defined once, and each body can be read."""
    if len(grammar) > MAX_CHARACTERS:
        raise TooLargeError(f"the grammar is longer than {MAX_CHARACTERS} characters", param="grammar")
    defined: dict[str, set[str]] = {}
    offset = 0
    while offset < len(grammar) and (match := _TOKEN.match(grammar, offset)) and match["space"]:
        offset = match.end()
    while offset < len(grammar):
        head = _RULE.match(grammar, offset)
        if head is None or head[1] in defined:
            raise _broken("has text that is no rule, or a rule twice")
        defined[head[1]], offset = _body(grammar, head.end())
    if "root" not in defined:
        raise _broken("has no rule named root")
    if not set().union(*defined.values()) <= defined.keys():
        raise _broken("uses a rule that it does not define")


def _body(grammar: str, offset: int) -> tuple[set[str], int]:
    """The rules that a body refers to, and where the next rule begins."""
    used: set[str] = set()
    depth = 0
    can_repeat = False
    while offset < len(grammar) and _RULE.match(grammar, offset) is None:
        token = _TOKEN.match(grammar, offset)
        if token is None:
            raise _broken("has a character that belongs to no symbol")
        kind = token.lastgroup
        if kind == "rule":
            used.add(token[0])
        depth += {"open": 1, "close": -1}.get(kind or "", 0)
        if depth < 0 or (kind == "repeat" and not can_repeat):
            raise _broken("has a bracket or a repetition without its counterpart")
        if kind != "space":
            can_repeat = kind in ("rule", "literal", "class", "any", "close")
        offset = token.end()
    if depth:
        raise _broken("has an open bracket")
    return used, offset


def _broken(why: str) -> InputError:
    return InputError(f"the grammar {why}", hint="write GBNF: root ::= ...", param="grammar")
