"""POST /api/chat: a conversation continued, at once or line by line."""

from __future__ import annotations

from catena.core.errors import UnsupportedError
from catena.core.messages import ChatRequest
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.protocols.ollama import asking, fields, messages, options
from catena.reach.gateway.protocols.ollama.asking import Common
from catena.reach.gateway.protocols.ollama.forms import chat_wording
from catena.reach.gateway.protocols.ollama.messages import NamedTool, ToolWire, Turn
from catena.reach.gateway.protocols.ollama.reading import read, stored_name, think


class ChatWire(Common, frozen=True, kw_only=True):
    """The body. What is not here is not honoured; `fields.CHAT` says what becomes of it."""

    messages: list[Turn] | None = None
    tools: list[ToolWire] | None = None
    tool_choice: str | NamedTool | None = None


async def chat(exchange: Exchange) -> None:
    """Answer POST /api/chat."""
    wire = await read(exchange, fields.CHAT, ChatWire)
    exchange.enter("ollama.chat")
    if not wire.messages:
        await asking.load_or_unload(exchange, wire, chat_wording)
        return
    await asking.ask(exchange, wire, to_request(exchange, wire), chat_wording)


def to_request(exchange: Exchange, wire: ChatWire) -> ChatRequest:
    """What is asked, in our own words. Raises InputError or UnsupportedError naming the parameter."""
    chosen = asking.prepared(exchange, wire)
    output = options.output(wire.format)
    offered = messages.tools(wire.tools)
    choice = messages.tool_choice(wire.tool_choice, offered)
    if offered and choice.mode != "none" and output.kind != "text":
        raise UnsupportedError("tools and an output format exclude one another here", param="format")
    sampling = options.sampling(chosen, options.num_logprobs(wire.logprobs, wire.top_logprobs))
    return ChatRequest(
        model=stored_name(wire.model),
        messages=messages.messages(wire.messages or ()),
        sampling=sampling,
        tools=offered,
        tool_choice=choice,
        output=output,
        think=think(wire.think, exchange.warnings),
    )
