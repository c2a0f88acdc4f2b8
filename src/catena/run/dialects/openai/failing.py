"""OpenAI's errors, and those of servers that follow it: before a stream and inside it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from catena.core.errors import CatenaError, ContextError, NetworkError, ProviderError
from catena.run.dialects.dialect import refusal
from catena.run.dialects.shapes import tolerated

# In the words of OpenAI, of vLLM and of SGLang. What is needed is the sum of the groups.
_LIMIT = re.compile(r"context length (?:is|of|is only) (\d{1,9}) tokens|context length \((\d{1,9}) tokens\)")
_NEEDS = (
    re.compile(r"total of (?:at least )?(\d{1,9}) tokens"),
    re.compile(r"too large: (\d{1,9})\..{0,200}?request has (\d{1,9}) input tokens"),
    re.compile(r"passed (\d{1,9}) input tokens and requested (\d{1,9}) output tokens"),
    re.compile(r"(?:resulted in|requested)\D{0,40}?(\d{1,9})(?: input)? tokens"),
    re.compile(r"(?:request has|contains|contains at least) (\d{1,9}) input tokens"),
    re.compile(r"input \((\d{1,9}) tokens\)"),
)


def refused(status: int, headers: Mapping[str, str], body: bytes) -> CatenaError:
    """What an answer with an error's status means."""
    detail = detail_of(body)
    if found := overflow(detail):
        return found
    word, param = word_of(detail), detail.get("param")
    if word == "insufficient_quota":  # sent with 429, but no waiting helps
        return refusal(402, headers, word)
    return refusal(status, headers, word, param if isinstance(param, str) and len(param) <= 100 else None)


def detail_of(body: bytes) -> dict[str, Any]:
    """The object that describes an error: under `error`, or at the top as some servers have it."""
    found = tolerated(body, dict[str, Any])
    if found is None:
        return {}
    return found["error"] if isinstance(found.get("error"), dict) else found


def word_of(detail: Mapping[str, Any]) -> str:
    code, kind = detail.get("code"), detail.get("type")
    return code if isinstance(code, str) and code else kind if isinstance(kind, str) else ""


def overflow(detail: Mapping[str, Any]) -> ContextError | None:
    """The error for a prompt that is too long, where both numbers are told: in fields (llama.cpp), or in a sentence."""
    available, needed = detail.get("n_ctx"), detail.get("n_prompt_tokens")
    if isinstance(available, int) and isinstance(needed, int):
        return ContextError(needed, available)
    text = str(detail.get("message") or "")
    limit = _LIMIT.search(text)
    need = next((found for pattern in _NEEDS if (found := pattern.search(text))), None)
    if limit is None or need is None:
        return None
    return ContextError(sum(map(int, need.groups())), int(limit[1] or limit[2]))


def inside(error: Any) -> CatenaError:
    """The error for one that stands in a stream, where it has no status of its own but maybe a code that is one."""
    detail: dict[str, Any] = error if isinstance(error, dict) else {}
    code = detail.get("code")
    word = word_of(detail)
    if isinstance(code, int) and 400 <= code < 600:
        return refusal(code, {}, word)
    if word in ("insufficient_quota", "invalid_api_key"):
        return ProviderError("the provider ended the answer for want of rights or funds", hint="see its account")
    if word.startswith("rate_limit"):
        return refusal(429, {}, word)
    return NetworkError("the provider failed in the middle of the answer", hint="ask again")
