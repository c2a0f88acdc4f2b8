"""Writes docs/protocols/dialects.md: what becomes of each wish in each dialect, found out by asking the dialects.

Usage: python -m tests.run.dialects.page
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from catena.core import registry
from catena.core.errors import UnsupportedError
from catena.core.messages import (
    Audio,
    ChatRequest,
    CompletionRequest,
    EmbedRequest,
    Image,
    Message,
    OutputFormat,
    PredictRequest,
    Sampling,
    Tensor,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
)
from catena.run.dialects.dialect import Counting, Dialect, Outgoing, impossible

PAGE = Path(__file__).parents[3] / "docs" / "protocols" / "dialects.md"
HEAD = """\
# The dialects of providers

Made by `python -m tests.run.dialects.page`, which asks each dialect; a test keeps it current. How a service of a kind
differs from its maker's reference is told by quirks (`quirks` in `reach.providers`), and may carry more than is shown.

| kind | what it speaks | `base_url` | the key is sent as |
|---|---|---|---|
"""
BASES = {
    "openai": ("OpenAI's chat completions, completions, embeddings", "ends in `/v1`, or as the service has it"),
    "anthropic": ("Anthropic's Messages, version 2023-06-01, which still takes a temperature", "the host alone"),
    "ollama": ("Ollama's chat, generate, embed", "the host alone, as in `OLLAMA_HOST`"),
    "gemini": ("the Gemini API v1beta", "the host alone"),
    "open_inference": ("Open Inference V2 with generate, binary arrays, the repository's index", "the host alone"),
}
LEGEND = """\

✓ goes out in the dialect's own words. ~ is left out, and named in `catena-warning`. – is refused with 400: without it
the answer would be another one than was asked for.
"""

HELLO = ChatRequest("m", (Message("user", (Text("Hi"),)),))
RAW = CompletionRequest("m", "Once")
TOOL = Tool("f", parameters={"type": "object", "properties": {}})
CALLED = Message("assistant", (), (ToolCall("c1", "f", "{}"),))
SCHEMA = {"type": "object", "properties": {}, "additionalProperties": False}
ARRAY = Tensor("x", "FP32", (1,), b"\x00\x00\x80\x3f")
Asking = Callable[[Dialect], Outgoing]


def chat(**changes: Any) -> Asking:
    return lambda dialect: dialect.generate(msgspec.structs.replace(HELLO, **changes), "m")


def sampled(**wishes: Any) -> Asking:
    return chat(sampling=Sampling(**wishes))


def said(*messages: Message) -> Asking:
    return chat(messages=messages)


def raw(**changes: Any) -> Asking:
    return lambda dialect: dialect.generate(msgspec.structs.replace(RAW, **changes), "m")


def counted(dialect: Dialect) -> Outgoing:
    if not isinstance(dialect, Counting):
        raise impossible(dialect.name, "a count")
    return dialect.count(HELLO, "m")


WISHES: dict[str, Asking] = {
    "one question of a user": chat(),
    "a system message, several turns": said(
        Message("system", (Text("a"),)), *HELLO.messages, Message("assistant", (Text("b"),)), *HELLO.messages
    ),
    "a system message amid the turns": said(*HELLO.messages, Message("system", (Text("a"),)), *HELLO.messages),
    "the name of a speaker": said(Message("user", (Text("Hi"),), name="Ada")),
    "an image": said(Message("user", (Image(b"\x89PNG", "image/png"),))),
    "a sound": said(Message("user", (Audio(b"RIFF", "audio/wav"),))),
    "tools": chat(tools=(TOOL,)),
    "results of tools": chat(
        messages=(*HELLO.messages, CALLED, Message("tool", (Text("x"),), tool_call_id="c1")), tools=(TOOL,)
    ),
    "a call that must be made": chat(tools=(TOOL,), tool_choice=ToolChoice("required")),
    "one tool that must be called": chat(tools=(TOOL,), tool_choice=ToolChoice("named", "f")),
    "no calls side by side": chat(tools=(TOOL,), parallel_tool_calls=False),
    "an answer in JSON": chat(output=OutputFormat("json")),
    "an answer by a JSON schema": chat(output=OutputFormat("schema", SCHEMA)),
    "an answer by a grammar": chat(output=OutputFormat("grammar", grammar="root ::= x")),
    "reasoning": chat(think=True),
    "no reasoning": chat(think=False),
    "reasoning of another maker, sent back": said(Message("assistant", (Text("a"),), reasoning="b"), *HELLO.messages),
    "`max_tokens`": sampled(max_tokens=5),
    "`temperature`": sampled(temperature=0.5),
    "`temperature` above 1": sampled(temperature=1.5),
    "`top_p`": sampled(top_p=0.5),
    "`top_k`": sampled(top_k=5),
    "`min_p`": sampled(min_p=0.5),
    "`presence_penalty`": sampled(presence_penalty=0.5),
    "`frequency_penalty`": sampled(frequency_penalty=0.5),
    "`repeat_penalty`": sampled(repeat_penalty=1.5),
    "`seed`": sampled(seed=5),
    "one stop text": sampled(stop=("x",)),
    "four stop texts": sampled(stop=("a", "b", "c", "d")),
    "`logit_bias`": sampled(logit_bias={5: 1.0}),
    "log probabilities": sampled(logprobs=2),
    "several choices": sampled(num_choices=2),
    "`ignore_eos`": sampled(ignore_eos=True),
    "adapters": chat(adapters={"a": 1.0}),
    "raw text to be continued": raw(),
    "raw text, repeated before the answer": raw(echo=True),
    "raw text as token ids": raw(prompt=(1, 2)),
    "raw text with a suffix": raw(suffix="x"),
    "a count of a prompt's tokens": counted,
    "texts to vectors": lambda dialect: dialect.embed(EmbedRequest("m", ("a",)), "m"),
    "vectors of a given width": lambda dialect: dialect.embed(EmbedRequest("m", ("a",), 2), "m"),
    "arrays to arrays": lambda dialect: dialect.predict(PredictRequest("m", (ARRAY,)), "m"),
    "the list of models": lambda dialect: dialect.models(),
}


def page() -> str:
    """The whole page."""
    dialects: dict[str, Dialect] = {name: registry.find("dialects", name) for name in BASES}
    rows = [
        f"| `{name}` | {BASES[name][0]} | {BASES[name][1]} | {shown_key(dialect)} |"
        for name, dialect in dialects.items()
    ]
    parts = [HEAD + "\n".join(rows), LEGEND, f"| wish | {' | '.join(f'`{name}`' for name in dialects)} |"]
    parts.append(f"|---|{'---|' * len(dialects)}")
    parts += [
        f"| {wish} | {' | '.join(mark(one, asking) for one in dialects.values())} |" for wish, asking in WISHES.items()
    ]
    return "\n".join(parts) + "\n"


def shown_key(dialect: Dialect) -> str:
    (header,) = dialect.headers("KEY").keys() - dialect.headers(None).keys()
    return f"`{header}: {dialect.headers('KEY')[header]}`"


def mark(dialect: Dialect, asking: Asking) -> str:
    """What becomes of a wish."""
    try:
        out = asking(dialect)
    except UnsupportedError:
        return "–"
    return "~" if set(out.lost) - set(chat()(dialect).lost) else "✓"


if __name__ == "__main__":
    PAGE.write_text(page())
