"""What each cell of the matrix promises: that it passes, with what is to be known, or by whose specification it cannot.

The tests hold every cell to its promise, and `tests.matrix.page` writes docs/protocols/matrix.md from here.
"""

from __future__ import annotations

from typing import NamedTuple

FEATURES: dict[str, str] = {
    "stream": "text arrives piece by piece while the provider still speaks, and has an end",
    "tools": "tools go out, two calls at once come back, in fragments where both sides have them, results go out",
    "schema": "the JSON schema of the answer stands where the provider's reference has it",
    "images": "a picture goes out by value, byte for byte",
    "reasoning": "reasoning is asked for, comes apart from the text, and goes back with the next question",
    "stop": "a whole, a cut and a filtered answer end with the protocol's own words",
    "usage": "tokens of the prompt, of the answer and from the cache are those that the provider counted",
    "errors": "a refusal, an error within the stream and a cut connection come in the protocol's own form",
    "cancel": "a client that leaves ends the provider's work",
}


class Cell(NamedTuple):
    """The promise of one cell. `reason` is why it cannot be, `notes` what is to be known where it can."""

    reason: str = ""
    notes: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        return " ".join(self.notes)


_V2 = "https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_generate.md"
_GENERATE = f"[generate]({_V2}) takes one text and gives pieces of text, it has no word for"
_AT_DOOR: dict[tuple[str, str], str] = {
    ("open_inference", "tools"): f"{_GENERATE} tools or calls",
    ("open_inference", "schema"): f"{_GENERATE} a form of the answer",
    ("open_inference", "images"): f"{_GENERATE} pictures",
    ("open_inference", "reasoning"): f"{_GENERATE} reasoning",
    ("open_inference", "stop"): f"{_GENERATE} a reason to stop, and no closing mark",
    ("open_inference", "usage"): f"{_GENERATE} counts",
}
_AT_END: dict[tuple[str, str], str] = {
    ("open_inference", "tools"): f"refused with 400: {_GENERATE} tools",
    ("open_inference", "schema"): f"refused with 400: {_GENERATE} a form of the answer",
    ("open_inference", "images"): f"refused with 400: {_GENERATE} pictures",
    ("open_inference", "reasoning"): f"the wish is named in `catena-warning`: {_GENERATE} reasoning",
    ("open_inference", "stop"): f"every answer ends as a whole one: {_GENERATE} a reason to stop",
    ("open_inference", "usage"): f"the counts are estimated, and recorded as such: {_GENERATE} counts",
}
_OLLAMA = "[Ollama](https://github.com/ollama/ollama/blob/main/docs/api.md)"
_GEMINI = "[the Gemini API](https://ai.google.dev/api/caching#FunctionCall)"
_DOOR_NOTES: dict[tuple[str, str], str] = {
    ("ollama", "tools"): f"whole calls: {_OLLAMA} has no fragments of arguments",
    ("ollama", "stop"): f"{_OLLAMA} has no word for a filtered answer; `done_reason` is then `content_filter`",
    ("ollama", "usage"): f"{_OLLAMA} has no word for cached tokens; they are counted within the prompt's",
}
_END_NOTES: dict[tuple[str, str], str] = {
    ("openai", "reasoning"): "[the API reference](https://platform.openai.com/docs/api-reference/chat/create) has no "
    "place for reasoning that is sent back, nor a switch that every server knows: both are named in `catena-warning`, "
    "unless a quirk of the service has words for them",
    ("ollama", "tools"): f"whole calls: {_OLLAMA} has no fragments of arguments",
    ("ollama", "stop"): f"{_OLLAMA} tells a whole answer and one cut for its length, nothing else",
    ("ollama", "usage"): f"{_OLLAMA} does not tell what came from its cache",
    ("gemini", "tools"): f"whole calls: {_GEMINI} has no fragments of arguments",
    (
        "open_inference",
        "errors",
    ): f"[generate]({_V2}) marks no end, so only a broken connection shows that an answer was cut",
}
_UNSIGNED = "the thoughts' signature has no place in this protocol: `catena-warning` names them with the next question"
_SIGNED = "signed thoughts go back exactly as they came"
_ROLE = "one question of a user only, as generate has no roles; `catena-warning` says so"
_RAW = "the text becomes a turn of the user, as the API continues no raw text; `catena-warning` says so"


def cell(door: str, end: str, feature: str) -> Cell:
    """The promise of a cell."""
    reason = _AT_DOOR.get((door, feature)) or _AT_END.get((end, feature), "")
    if reason:
        return Cell(reason)
    notes = [_DOOR_NOTES.get((door, feature), ""), _END_NOTES.get((end, feature), "")]
    if feature == "reasoning" and end in ("anthropic", "gemini"):
        notes.append(_SIGNED if door in ("anthropic", "responses") else _UNSIGNED)
    if feature == "stream" and end == "open_inference" and door != "open_inference":
        notes.append(_ROLE)
    if feature == "stream" and door == "open_inference" and end in ("anthropic", "gemini"):
        notes.append(_RAW)
    return Cell(notes=tuple(dict.fromkeys(note for note in notes if note)))
