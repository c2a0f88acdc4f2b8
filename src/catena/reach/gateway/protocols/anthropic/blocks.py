"""Content blocks as they are sent: each of a known type, with known fields, as one strict struct per type."""

from __future__ import annotations

import base64
import binascii
import difflib
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from catena.core.errors import InputError, UnsupportedError
from catena.core.messages import Image, Part, Text
from catena.reach.gateway.failures import HttpError
from catena.reach.gateway.protocols.anthropic import fields
from catena.reach.gateway.wire import check_fields, convert

MAX_BLOCKS = 4096
IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")


class TextBlock(Struct, frozen=True):
    text: str


class ImageSource(Struct, frozen=True, forbid_unknown_fields=True):
    """Which fields are there depends on `type`."""

    type: str
    media_type: str = ""
    data: str = ""
    url: str = ""
    file_id: str = ""


class ImageBlock(Struct, frozen=True):
    source: ImageSource


class DocumentSource(Struct, frozen=True, forbid_unknown_fields=True):
    """Which fields are there depends on `type`."""

    type: str
    media_type: str = ""
    data: str = ""
    url: str = ""
    file_id: str = ""
    content: str | list[dict[str, Any]] = ""


class DocumentBlock(Struct, frozen=True):
    source: DocumentSource
    title: str | None = None
    context: str | None = None


class SearchResultBlock(Struct, frozen=True):
    source: str
    title: str
    content: list[dict[str, Any]]


class ThinkingBlock(Struct, frozen=True):
    thinking: str
    signature: str


class ToolUseBlock(Struct, frozen=True):
    id: str
    name: str
    input: dict[str, Any]


class ToolResultBlock(Struct, frozen=True):
    tool_use_id: str
    content: str | list[dict[str, Any]] = ""
    is_error: bool | None = None


Block = TextBlock | ImageBlock | DocumentBlock | SearchResultBlock | ThinkingBlock | ToolUseBlock | ToolResultBlock
_STRUCTS: Mapping[str, type[Block]] = {
    "text": TextBlock,
    "image": ImageBlock,
    "document": DocumentBlock,
    "search_result": SearchResultBlock,
    "thinking": ThinkingBlock,
    "tool_use": ToolUseBlock,
    "tool_result": ToolResultBlock,
}


def read(raw: Mapping[str, Any], where: str, warnings: list[str]) -> Block | None:
    """The block at `where`; None for one that is left out with a warning.

    Raises InputError for what it is not, UnsupportedError for a type that is refused.
    """
    kind = raw.get("type")
    if not isinstance(kind, str):
        raise InputError(f"{where}: a block has a type", param=f"{where}.type")
    known = fields.BLOCKS.get(kind)
    if known is None:
        near = difflib.get_close_matches(kind[:64], fields.BLOCKS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "docs/protocols/anthropic.md lists the types"
        error = HttpError(400, f"{where}: there is no such type of block", code="unknown_parameter", hint=hint)
        error.param = f"{where}.type"
        raise error
    if known.treatment == "refused":
        raise UnsupportedError(f"{where}: blocks of type {kind} are not supported: {known.note}", param=where)
    if known.treatment == "ignored":
        warnings.append(f"{kind} left out: {known.note}")
        return None
    rest = {name: value for name, value in raw.items() if name != "type" and value is not None}
    check_fields(rest, fields.BLOCK[kind], warnings, f"{where}.")
    return convert(rest, _STRUCTS[kind], where)


def listed(content: str | list[dict[str, Any]], where: str, warnings: list[str]) -> list[tuple[str, Block]]:
    """The blocks of a content, each with its place; a text is one text block, unless it is empty."""
    if isinstance(content, str):
        return [(where, TextBlock(content))] if content else []
    if len(content) > MAX_BLOCKS:
        raise InputError(f"{where}: at most {MAX_BLOCKS} blocks", param=where)
    found = [(f"{where}[{index}]", read(raw, f"{where}[{index}]", warnings)) for index, raw in enumerate(content)]
    return [(place, block) for place, block in found if block is not None]


def texts(content: str | list[dict[str, Any]], where: str, warnings: list[str]) -> tuple[Text, ...]:
    """The texts of a content that may hold nothing else."""
    found: list[Text] = []
    for place, block in listed(content, where, warnings):
        if not isinstance(block, TextBlock):
            raise InputError(f"{place}: only text blocks may stand here", param=place)
        found.append(Text(block.text))
    return tuple(found)


def shown(block: Block, where: str, warnings: list[str]) -> tuple[Part, ...]:
    """What the model sees of a text, image, document or search result. Raises InputError for any other block."""
    match block:
        case TextBlock(text):
            return (Text(text),)
        case ImageBlock(source):
            return (_image(source, f"{where}.source"),)
        case DocumentBlock(source, title, context):
            return (*_lines(title=title, context=context), *_document(source, f"{where}.source", warnings))
        case SearchResultBlock(source, title, content):
            return (*_lines(title=title, source=source), *texts(content, f"{where}.content", warnings))
        case _:
            raise InputError(f"{where}: this type of block may not stand here", param=f"{where}.type")


def _lines(**named: str | None) -> tuple[Text, ...]:
    lines = "".join(f"{name}: {value}\n" for name, value in named.items() if value)
    return (Text(lines),) if lines else ()


def _image(source: ImageSource, where: str) -> Image:
    if source.type in ("url", "file"):
        raise UnsupportedError(f"{where}: images are not fetched", param=where, hint="send it with type base64")
    if source.type != "base64" or source.media_type not in IMAGE_TYPES:
        raise InputError(
            f"{where}: an image has type base64 and a media_type", param=where, hint=f"one of {', '.join(IMAGE_TYPES)}"
        )
    try:
        data = base64.b64decode(source.data, validate=True)
    except (binascii.Error, ValueError):
        raise InputError(f"{where}.data: not base64", param=f"{where}.data") from None
    if not data:
        raise InputError(f"{where}.data: the image is empty", param=f"{where}.data")
    return Image(data, source.media_type)


def _document(source: DocumentSource, where: str, warnings: list[str]) -> tuple[Part, ...]:
    if source.type == "content":
        found: list[Part] = []
        for place, block in listed(source.content, f"{where}.content", warnings):
            if not isinstance(block, TextBlock | ImageBlock):
                raise InputError(f"{place}: a document holds texts and images", param=place)
            found += shown(block, place, warnings)
        return tuple(found)
    if source.type == "text" and source.media_type == "text/plain":
        return (Text(source.data),)
    if source.type in ("base64", "url", "file"):
        raise UnsupportedError(f"{where}: only plain text is read", param=where, hint="send the text of the document")
    raise InputError(f"{where}: a document has type text (media_type text/plain) or content", param=where)
