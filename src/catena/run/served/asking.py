"""What may be asked of a served model: wishes that its server would ignore or misread are refused beforehand."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from catena.core.errors import InputError, NotFoundError, UnsupportedError
from catena.core.messages import Audio, ChatRequest, CompletionRequest, GenerateRequest, Image, Sampling, ToolChoice

MAX_LOGPROBS = 20


class Abilities(Struct, frozen=True):
    """What a server can do with its model: choices of an answer at a time, images, and, by the hint it gives for a
    choice of tools that it was not set up for ("": it was), tools."""

    max_choices: int
    has_images: bool
    lacking: Callable[[ToolChoice], str]


def check(request: GenerateRequest, abilities: Abilities) -> None:
    """Raises InputError, UnsupportedError, or NotFoundError for an adapter."""
    if request.adapters:
        raise NotFoundError(f"there is no adapter {next(iter(request.adapters))!r} beside this model")
    _check_sampling(request.sampling, abilities)
    if isinstance(request, CompletionRequest):
        if request.suffix:
            raise UnsupportedError("this model does not fill in before a suffix", hint="leave it out", param="suffix")
        return
    _check_parts(request, abilities)
    _check_tools(request, abilities)


def _check_sampling(sampling: Sampling, abilities: Abilities) -> None:
    if sampling.max_tokens is not None and sampling.max_tokens < 1:
        raise InputError("max_tokens must be at least 1", param="max_tokens")
    if not 1 <= sampling.num_choices <= abilities.max_choices:
        raise InputError(f"n must be 1 to {abilities.max_choices}", param="n")
    if "" in sampling.stop:
        raise InputError("a stop string is empty", param="stop")
    if sampling.logprobs is not None and not 0 <= sampling.logprobs <= MAX_LOGPROBS:
        raise InputError(f"logprobs must be 0 to {MAX_LOGPROBS}", param="logprobs")


def _check_parts(request: ChatRequest, abilities: Abilities) -> None:
    parts = [part for message in request.messages for part in message.parts]
    if any(isinstance(part, Audio) for part in parts):
        raise UnsupportedError("this model does not listen", hint="send text", param="messages")
    if any(isinstance(part, Image) for part in parts) and not abilities.has_images:
        raise UnsupportedError("this model does not see", hint="send text", param="messages")


def _check_tools(request: ChatRequest, abilities: Abilities) -> None:
    choice = request.tool_choice
    names = {tool.name for tool in request.tools}
    if (choice.mode == "required" and not names) or (choice.mode == "named" and choice.name not in names):
        raise InputError("tool_choice asks for a tool that is not among the tools", param="tool_choice")
    if names and choice.mode != "none" and (hint := abilities.lacking(choice)):
        raise UnsupportedError(
            "the server of this model was not set up to read calls of tools", hint=hint, param="tools"
        )
