"""`catena transcribe`: the speech of an audio file as text or subtitles."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
import msgspec

from catena.cli.asking import KEY_VARIABLE
from catena.cli.chain import open_store
from catena.cli.serving import gateway
from catena.core.errors import InputError, NetworkError, NotFoundError, TooLargeError
from catena.core.units import bytes_text
from catena.reach import door

PATH = "/v1/audio/transcriptions"
MAX_BYTES = 25 << 20  # as the gateway has it


@click.command(name="transcribe")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", help="Name, alias or digest; default: the first model here that transcribes.")
@click.option("--language", help="That of the speech (en, ...); one that the model does not write is refused.")
@click.option("--format", "form", type=click.Choice(["text", "srt", "vtt"]), default="text", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: text, segments with their times, receipt.")
def command(file: Path, model: str | None, language: str | None, form: str, as_json: bool) -> None:
    """Write down the speech of FILE: WAV, FLAC, MP3 or Ogg Vorbis.

    Text is printed as it is heard. The gateway that runs for this state folder is asked; where none runs, one is
    started for this file only.
    """
    fields = {"model": model or _first(), **({"language": language} if language else {})}
    data = _read(file)
    click.echo(f"listening to {file.name} ({bytes_text(len(data))})", err=True)
    with gateway() as url:
        if form == "text" and not as_json:
            _stream(url, door.Form({**fields, "stream": "true"}, file.name, data))
            return
        heard = _whole(url, door.Form({**fields, "response_format": "verbose_json"}, file.name, data))
    if as_json:
        click.echo(msgspec.json.encode(heard))
        return
    click.echo(_subtitles(heard, form), nl=False)
    click.echo(f"[{heard['model']} · receipt {heard['receipt']}]", err=True)


def _first() -> str:
    with open_store() as store:
        found = next((row.name for row in store.models() if row.manifest.task == "transcribe"), None)
    if found is None:
        raise NotFoundError("no model here transcribes", hint="catena pull moonshine-base")
    return found


def _read(file: Path) -> bytes:
    size = file.stat().st_size
    if size > MAX_BYTES:
        raise TooLargeError(
            f"{file.name} has {bytes_text(size)}, more than the {bytes_text(MAX_BYTES)} that are taken",
            hint="save it as MP3 or FLAC, or cut it",
        )
    if not size:
        raise InputError(f"{file.name} is empty")
    return file.read_bytes()


def _whole(url: str, form: door.Form) -> dict[str, Any]:
    answer = door.post_form(url, PATH, form, key=os.environ.get(KEY_VARIABLE))
    return {**answer.body, "model": form.fields["model"], "receipt": answer.headers.get("catena-receipt", "")}


def _stream(url: str, form: door.Form) -> None:
    """Print the text as it grows. Raises NetworkError when it breaks off."""
    receipt, is_done = "", False
    for item in door.stream(url, PATH, form, key=os.environ.get(KEY_VARIABLE)):
        if isinstance(item, door.Response):
            receipt = item.headers.get("catena-receipt", "")
        elif isinstance(item, str):
            click.echo(f"({item})", err=True)
        elif item["type"] == "transcript.text.delta":
            click.echo(item["delta"], nl=False)
        elif item["type"] == "transcript.text.done":
            is_done = True
            click.echo()
            if warning := item.get("catena_warning"):
                click.echo(f"warning: {warning}", err=True)
    if not is_done:
        raise NetworkError("the text was cut before its end", hint="ask again")
    click.echo(f"[{form.fields['model']} · receipt {receipt}]", err=True)


def _subtitles(heard: dict[str, Any], form: str) -> str:
    """The segments as SubRip or WebVTT."""
    from catena.reach.gateway.protocols.openai.transcript_form import subtitles  # noqa: PLC0415 - seldom needed

    return subtitles([(each["start"], each["end"], each["text"]) for each in heard["segments"]], is_vtt=form == "vtt")
