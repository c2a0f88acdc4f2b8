"""POST /tokenize and /detokenize, also under /v1: what vLLM and llama.cpp's server answer there, told apart by fields.

A body with `content` is llama.cpp's, one with `prompt` or `messages` is vLLM's; the answer of /detokenize has the
names of both. vLLM: https://docs.vllm.ai/en/stable/api/vllm/entrypoints/serve/tokenize/protocol/; llama.cpp:
https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from catena.core.errors import InputError, TooLargeError, UnsupportedError
from catena.core.messages import ChatRequest, DetokeniseRequest, TokeniseRequest, Tokens
from catena.reach.gateway.answering import until_gone
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.native import answer_json
from catena.reach.gateway.protocols.openai import fields
from catena.reach.gateway.protocols.openai.chat import ChatWire, to_request
from catena.reach.gateway.protocols.openai.completions import token_ids
from catena.reach.gateway.wire import check_fields, convert, read_json
from catena.reach.router import DEFAULT, TokensAnswer

MAX_TEXT_CHARS = 4 << 20


class LlamaWire(Struct, frozen=True):
    """What llama.cpp's server takes; `fields.TOKENISE_LLAMA` says what becomes of each parameter."""

    content: str
    model: str = DEFAULT
    add_special: bool = False
    parse_special: bool = True
    with_pieces: bool = False


class TextWire(Struct, frozen=True):
    """What vLLM takes for a text; `fields.TOKENISE` says what becomes of each parameter."""

    prompt: str
    model: str = DEFAULT
    add_special_tokens: bool = True
    return_token_strs: bool | None = None


class TokensWire(Struct, frozen=True):
    """What both take back."""

    tokens: list[int]
    model: str = DEFAULT


async def tokenise(exchange: Exchange) -> None:
    """Answer POST /tokenize in the shape of the question."""
    body = _given(await read_json(exchange))
    is_llama = "content" in body
    check_fields(body, fields.TOKENISE_LLAMA if is_llama else fields.TOKENISE, exchange.warnings)
    if is_llama:
        wire = convert(body, LlamaWire)
        request = TokeniseRequest(wire.model, _bounded(wire.content), wire.add_special, wire.parse_special)
        found = _tokens(await _ask(exchange, request))
        shown: list[Any] = list(found.ids)
        if wire.with_pieces:
            pairs = zip(found.ids, found.pieces, strict=True)
            shown = [{"id": id, "piece": _piece(piece)} for id, piece in pairs]
        await answer_json(exchange, {"tokens": shown})
        return
    answer = await _ask(exchange, _chat(body, exchange.warnings) if "messages" in body else _text(body))
    found = _tokens(answer)
    strings = [piece.decode(errors="replace") for piece in found.pieces] if body.get("return_token_strs") else None
    await answer_json(
        exchange,
        {
            "count": len(found.ids),
            "max_model_len": answer.context_tokens,
            "tokens": found.ids,
            "token_strs": strings,
        },
    )


async def detokenise(exchange: Exchange) -> None:
    """Answer POST /detokenize: `content` is llama.cpp's name for the text, `prompt` is vLLM's."""
    body = _given(await read_json(exchange))
    check_fields(body, fields.DETOKENISE, exchange.warnings)
    wire = convert(body, TokensWire)
    if len(wire.tokens) > MAX_TEXT_CHARS:
        raise TooLargeError(f"at most {MAX_TEXT_CHARS} tokens", param="tokens")
    answer = await _ask(exchange, DetokeniseRequest(wire.model, token_ids(wire.tokens, "tokens")))
    await answer_json(exchange, {"content": answer.found, "prompt": answer.found})


async def _ask(exchange: Exchange, request: TokeniseRequest | DetokeniseRequest) -> TokensAnswer:
    task = "tokenize" if isinstance(request, TokeniseRequest) else "detokenize"
    exchange.enter(f"openai.{task}")
    async with until_gone(exchange):
        answer = await exchange.services.router.tokenise(request, exchange.caller)
    exchange.receipt, exchange.model = answer.receipt, answer.model.name
    return answer


def _given(body: dict[str, Any]) -> dict[str, Any]:
    """`body` without what is null, which is as good as left out."""
    return {name: value for name, value in body.items() if value is not None}


def _text(body: dict[str, Any]) -> TokeniseRequest:
    wire = convert(body, TextWire)
    return TokeniseRequest(wire.model, _bounded(wire.prompt), wire.add_special_tokens)


def _chat(body: dict[str, Any], warnings: list[str]) -> TokeniseRequest:
    """A conversation, read as /v1/chat/completions reads it, with the beginning of an answer at its end."""
    if "prompt" in body:
        raise InputError("prompt and messages exclude one another", param="prompt")
    if body.get("add_generation_prompt") is False or body.get("continue_final_message"):
        raise UnsupportedError(
            "a conversation is always read up to the beginning of the next answer", param="add_generation_prompt"
        )
    names = ("messages", "tools", "chat_template_kwargs")
    kept = {name: body[name] for name in names if name in body}
    wire = convert({"model": body.get("model", DEFAULT), **kept}, ChatWire)
    request: ChatRequest = to_request(wire, warnings)
    return TokeniseRequest(request.model, request)


def _bounded(text: str) -> str:
    if len(text) > MAX_TEXT_CHARS:
        raise TooLargeError(f"a text has at most {MAX_TEXT_CHARS} characters here", hint="send it in parts")
    return text


def _tokens(answer: TokensAnswer) -> Tokens:
    assert isinstance(answer.found, Tokens)
    return answer.found


def _piece(piece: bytes) -> str | list[int]:
    """As llama.cpp's server writes it: the bytes of a piece that is no text by itself."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return list(piece)
