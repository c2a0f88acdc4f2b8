"""Anthropic's shapes, as its API reference has them: named events, blocks one after another, usage at both ends.

Sources: https://platform.claude.com/docs/en/api/messages, https://platform.claude.com/docs/en/build-with-claude/streaming
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.providers.answers import Answer, Asked, Reply, encode, whole
from tests.providers.server import nothing_here

PROMPT_FIELDS = {"model", "messages", "system", "tools", "tool_choice", "thinking", "output_config"}
FIELDS = PROMPT_FIELDS | {"max_tokens", "stream", "temperature", "top_p", "top_k", "stop_sequences"}
BLOCKS = {
    "text": {"text"},
    "image": {"source"},
    "thinking": {"thinking", "signature"},
    "redacted_thinking": {"data"},
    "tool_use": {"id", "name", "input"},
    "tool_result": {"tool_use_id", "content"},
}
TYPES = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
SIGNATURE = "EqQBCgIYAhIMc2lnbmVk"


class Anthropic:
    base = ""

    def reply(self, asked: Asked, answer: Answer, /) -> Reply:
        if asked.headers.get("anthropic-version") != "2023-06-01":
            return _refused("anthropic-version: header is required")
        match asked.method, asked.path.partition("?")[0]:
            case "GET", "/v1/models":
                rows = [{"type": "model", "id": name, "display_name": name} for name in answer.models]
                return whole(200, {"data": rows, "has_more": False, "first_id": None, "last_id": None})
            case "POST", "/v1/messages/count_tokens":
                return _checked(asked.json, PROMPT_FIELDS) or whole(200, {"input_tokens": answer.num_tokens})
            case "POST", "/v1/messages":
                if "max_tokens" not in asked.json:
                    return _refused("max_tokens: Field required")
                stream = Reply(200, "text/event-stream; charset=utf-8", tuple(pieces(asked.json, answer)), True)
                return _checked(asked.json, FIELDS) or stream
            case _:
                return nothing_here(asked)

    def refuse(self, answer: Answer, /) -> Reply:
        return whole(answer.status, _error(answer.code or TYPES.get(answer.status, "api_error"), answer.message))

    def trouble(self, answer: Answer, /) -> bytes:
        return event("error", **_error(answer.code or "api_error", answer.message))


speaker = Anthropic()


def event(name: str, **data: Any) -> bytes:
    return f"event: {name}\n".encode() + b"data: " + encode({"type": name, **data}) + b"\n\n"


def pieces(body: dict[str, Any], answer: Answer) -> Iterator[bytes]:
    """The events of a streamed message, one a piece; of the prompt's tokens those from the cache are told apart."""
    fresh = {"input_tokens": answer.prompt_tokens - answer.cached_tokens, "cache_creation_input_tokens": 0}
    usage = {**fresh, "cache_read_input_tokens": answer.cached_tokens, "output_tokens": 1}
    head = {"id": "msg_01", "type": "message", "role": "assistant", "model": body["model"], "content": []}
    yield event("message_start", message={**head, "stop_reason": None, "stop_sequence": None, "usage": usage})
    for index, (begun, deltas) in enumerate(_blocks(answer)):
        yield event("content_block_start", index=index, content_block=begun)
        for delta in deltas:
            yield event("content_block_delta", index=index, delta=delta)
        yield event("content_block_stop", index=index)
        yield event("ping")
    stop = "tool_use" if answer.calls else STOPS[answer.finish]
    spent = {"output_tokens": answer.completion_tokens}
    spent["output_tokens_details"] = {"thinking_tokens": answer.reasoning_tokens}  # type: ignore[assignment]
    yield event("message_delta", delta={"stop_reason": stop, "stop_sequence": None}, usage=spent)
    yield event("message_stop")


def _blocks(answer: Answer) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    if answer.reasoning:
        thoughts = [{"type": "thinking_delta", "thinking": piece} for piece in answer.reasoning]
        signed = [*thoughts, {"type": "signature_delta", "signature": SIGNATURE}]
        yield {"type": "thinking", "thinking": "", "signature": ""}, signed
    if answer.text:
        yield {"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in answer.text]
    for call in answer.calls:
        begun = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
        yield begun, [{"type": "input_json_delta", "partial_json": piece} for piece in call.arguments]


def _checked(body: dict[str, Any], fields: set[str]) -> Reply | None:
    """What the API would refuse: unknown fields and blocks, empty texts, turns out of order, unsigned thoughts."""
    for name in body:
        if name not in fields:
            return _refused(f"{name}: Extra inputs are not permitted")
    expected = "user"
    for index, turn in enumerate(body["messages"]):
        if turn["role"] not in ("user", "assistant") or (index == 0 and turn["role"] != expected):
            return _refused(f"messages.{index}: unexpected role")
        blocks = turn["content"] if isinstance(turn["content"], list) else [{"type": "text", "text": turn["content"]}]
        for block in blocks:
            if set(block) - {"type"} != BLOCKS.get(block["type"]) or block.get("text") == "":
                return _refused(f"messages.{index}.content: invalid block")
            if block["type"] == "thinking" and block["signature"] != SIGNATURE:
                return _refused(f"messages.{index}.content: Invalid `signature` in `thinking` block")
    return None


def _refused(message: str) -> Reply:
    return whole(400, _error("invalid_request_error", message))


def _error(kind: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_01"}
