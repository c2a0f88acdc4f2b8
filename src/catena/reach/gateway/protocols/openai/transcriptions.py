"""POST /v1/audio/transcriptions: speech written down, at once or as it is heard; translations are refused."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import anyio
import anyio.to_thread
from anyio import TemporaryDirectory
from msgspec import Struct

from catena.core.clock import monotonic_s
from catena.core.errors import InputError, UnsupportedError
from catena.core.messages import Listened, Segment, TranscribeRequest
from catena.core.messages.reply import Collector
from catena.reach.gateway import answering
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.multipart import Form, read_form
from catena.reach.gateway.protocols.openai import fields
from catena.reach.gateway.protocols.openai.transcript_form import (
    CONTENT_TYPES,
    Heard,
    TranscriptRenderer,
    body,
)
from catena.reach.gateway.wire import Field, check_fields, convert

MAX_AUDIO_BYTES = 25 << 20  # as in the original
MAX_FIELD_BYTES = 64 << 10
# Lists, whose names carry `[]` in a form.
LISTS = frozenset({"timestamp_granularities", "include", "languages", "keywords"})


class TranscriptionWire(Struct, frozen=True):
    """The fields of the form; `fields.TRANSCRIPTION` says what becomes of each."""

    model: str
    language: str | None = None
    languages: list[str] | None = None
    response_format: Literal["json", "text", "srt", "verbose_json", "vtt"] | None = None
    timestamp_granularities: list[Literal["segment", "word"]] | None = None
    stream: Literal["true", "false", "True", "False", "1", "0"] | None = None


async def transcribe(exchange: Exchange) -> None:
    """Answer POST /v1/audio/transcriptions."""
    wire, audio = await _read(exchange, fields.TRANSCRIPTION)
    is_stream = wire.stream in ("true", "True", "1")
    format = wire.response_format or "json"
    if is_stream and format not in ("json", "text"):
        raise UnsupportedError("a stream is of text only", hint="leave response_format out", param="response_format")
    if wire.timestamp_granularities:
        if format != "verbose_json":
            raise InputError("timestamp_granularities needs verbose_json", param="timestamp_granularities")
        if "word" in wire.timestamp_granularities:
            raise UnsupportedError(
                "the times of single words are not known here", hint="use segment", param="timestamp_granularities"
            )
    request = TranscribeRequest(wire.model, audio, _language(wire))
    exchange.enter("openai.transcriptions")
    if is_stream:
        await answering.stream(exchange, request, TranscriptRenderer())
        return
    heard = await _whole(exchange, request)
    if cut := sum(segment.is_cut for segment in heard.segments):
        exchange.warnings.append(f"the model repeated itself in {cut} of the segments, which were cut short")
    await exchange.answer(200, body(heard, format), CONTENT_TYPES[format])


async def translate(exchange: Exchange) -> None:
    """Answer POST /v1/audio/translations, which no model here can do."""
    await _read(exchange, fields.TRANSLATION)
    raise UnsupportedError(
        "the models here write speech down in its own language; none translates it",
        hint="POST /v1/audio/transcriptions, then have a chat model translate the text",
        param="model",
    )


async def _read(exchange: Exchange, table: dict[str, Field]) -> tuple[TranscriptionWire, bytes]:
    """The fields of the form, checked, and the bytes of its file."""
    files = exchange.services.runner.files if exchange.services.runner is not None else None
    bounds = {"max_field_bytes": MAX_FIELD_BYTES, "max_file_bytes": MAX_AUDIO_BYTES}
    async with (
        _drafts(exchange) as folder,
        read_form(exchange, **bounds, folder=folder, drafts=files) as form,
    ):
        found = _fields(form)
        check_fields({**found, **dict.fromkeys(form.files, "")}, table, exchange.warnings)
        wire = convert(found, TranscriptionWire)
        if "file" not in form.files:
            raise InputError("the audio is missing", hint="send it as the file `file`", param="file")
        path = form.files["file"].path
        return wire, await anyio.to_thread.run_sync(files.draft_bytes if files is not None else Path.read_bytes, path)


@asynccontextmanager
async def _drafts(exchange: Exchange) -> AsyncGenerator[Path]:
    """Where the audio lies while it arrives: what a kill leaves among the drafts is deleted at the next start."""
    if exchange.services.runner is not None:
        yield await anyio.to_thread.run_sync(exchange.services.runner.files.make_folder)
        return
    async with TemporaryDirectory(prefix="catena-") as folder:
        yield Path(folder)


def _fields(form: Form) -> dict[str, Any]:
    """Each field by its name without brackets; a list where it is one. Raises InputError for a repeated one."""
    found: dict[str, Any] = {}
    for sent, values in form.fields.items():
        name = sent.partition("[")[0]
        if name in LISTS:
            found.setdefault(name, []).extend(values)
        elif len(values) > 1 or name in found:
            if sent == name:
                raise InputError(f"{name} was sent twice", param=name)
        else:
            found[name] = values[0]
    return found


def _language(wire: TranscriptionWire) -> str | None:
    """The language of the speech: the one that is sure, or the first of those that may be."""
    if wire.language and wire.languages and wire.language not in wire.languages:
        raise InputError("language is none of languages", param="languages")
    return wire.language or (wire.languages or [None])[0]


async def _whole(exchange: Exchange, request: TranscribeRequest) -> Heard:
    """Everything, once the record is closed."""
    began_s = monotonic_s()
    collector, segments, listened = Collector(), list[Segment](), Listened(0.0, "")
    async with answering.until_gone(exchange), exchange.services.router.transcribe(request, exchange.caller) as answer:
        exchange.receipt, exchange.model = answer.receipt, answer.model.name
        async for event in answer.events:
            match event:
                case Segment():
                    segments.append(event)
                case Listened():
                    listened = event
                case _:
                    collector.add(event)
    reply = collector.reply()
    exchange.usage = reply.usage
    exchange.headers_out["server-timing"] = answering.server_timing(reply.timings, monotonic_s() - began_s)
    text = reply.choices[0].text if reply.choices else ""
    return Heard(text, tuple(segments), listened.duration_s, listened.language, reply.usage)
