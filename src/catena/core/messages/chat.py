"""What is asked of a model that generates: messages made of parts, tools, an output format, and how to sample."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from catena.core.messages.label import Mark

Role = Literal["system", "user", "assistant", "tool"]


class Text(Struct, frozen=True, tag="text"):
    """Plain text. `mark` says where it came from, where that is known; unset, it is in no canonical bytes."""

    text: str
    mark: Mark | UnsetType = UNSET


class Image(Struct, frozen=True, tag="image"):
    """An image by value: encoded bytes and their media type, e.g. `image/png`. Never an address."""

    data: bytes
    media_type: str
    mark: Mark | UnsetType = UNSET


class Audio(Struct, frozen=True, tag="audio"):
    """A sound by value: encoded bytes and their media type, e.g. `audio/wav`."""

    data: bytes
    media_type: str
    mark: Mark | UnsetType = UNSET


Part = Text | Image | Audio


class ToolCall(Struct, frozen=True):
    """A call that a model asks for; `arguments` is JSON text exactly as the model wrote it."""

    id: str
    name: str
    arguments: str


class Message(Struct, frozen=True):
    """One turn of a conversation. `tool_call_id` is set on role `tool` only, `tool_calls` on `assistant` only.

    `seals` came with the answer that this turn repeats (see Delta): only their maker reads them.
    """

    role: Role
    parts: tuple[Part, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    reasoning: str = ""
    seals: tuple[str, ...] = ()


class Tool(Struct, frozen=True):
    """A function that the model may call; `parameters` is a JSON schema of type object."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = {}
    strict: bool = False


class ToolChoice(Struct, frozen=True):
    """`auto`: the model decides; `none`: no call; `required`: at least one; `named`: exactly `name`."""

    mode: Literal["auto", "none", "required", "named"] = "auto"
    name: str | None = None


class OutputFormat(Struct, frozen=True):
    """The form of the answer: free text, any JSON object, JSON by `schema`, or text by a GBNF `grammar`."""

    kind: Literal["text", "json", "schema", "grammar"] = "text"
    schema: dict[str, Any] | None = None
    grammar: str | None = None


class Sampling(Struct, frozen=True):
    """How tokens are chosen. None means the engine's default. `logprobs`: None, or how many alternatives (0..20).

    With `fills_context`, `max_tokens` may exceed what the prompt leaves of the context: the answer then ends, with
    reason `length`, where the context does. Without it, that is a ContextError.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repeat_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logit_bias: dict[int, float] = {}
    logprobs: int | None = None
    num_choices: int = 1
    ignore_eos: bool = False
    fills_context: bool = False


class ChatRequest(Struct, frozen=True, tag="chat"):
    """A conversation to be continued by `model` (a name, an alias, or a manifest digest).

    `adapters` maps names of LoRA adapters to their scale; `think` asks for or forbids a reasoning phase.
    """

    model: str
    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    parallel_tool_calls: bool = True
    output: OutputFormat = OutputFormat()
    adapters: dict[str, float] = {}
    think: bool | None = None


class CompletionRequest(Struct, frozen=True, tag="completion"):
    """Raw text, or token ids, to be continued without a chat template; `echo` repeats the prompt in the answer."""

    model: str
    prompt: str | tuple[int, ...]
    sampling: Sampling = Sampling()
    output: OutputFormat = OutputFormat()
    adapters: dict[str, float] = {}
    echo: bool = False
    suffix: str = ""


GenerateRequest = ChatRequest | CompletionRequest


def message_text(message: Message) -> str:
    """All text parts of `message`, joined without a separator."""
    return "".join(part.text for part in message.parts if isinstance(part, Text))
