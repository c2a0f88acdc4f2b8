"""`catena batch`: many requests from a file, answered behind whoever else asks, into a file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click
import msgspec

from catena.cli.asking import KEY_VARIABLE, TRIES
from catena.cli.serving import gateway
from catena.core.clock import monotonic_s
from catena.core.errors import InputError, NetworkError, ResourceError
from catena.reach import door

POLL_S = 0.3
# Off a terminal, a batch that lasts says so this often.
EVERY_S = 10.0
OPEN = {"validating", "in_progress", "finalizing", "cancelling"}
Told = dict[str, Any]


@click.command(name="batch")
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Where the answers go.")
@click.option(
    "--errors", type=click.Path(dir_okay=False, path_type=Path), help="Default: OUTPUT with .errors at its end."
)
@click.option("--id", "batch_id", help="Go on with this batch instead of making one of FILE.")
@click.option("--endpoint", help="Default: the `url` of the first line.")
@click.option("--window", default="24h", show_default=True, help="How long it may take: a number of s, m, h or d.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: the batch as the API shows it.")
def command(
    file: Path | None,
    output: Path | None,
    errors: Path | None,
    batch_id: str | None,
    endpoint: str | None,
    window: str,
    as_json: bool,
) -> int:
    """Answer the requests of FILE, one JSON object per line with custom_id, method, url and body.

    The gateway that runs for this state folder is asked; where none runs, one is started for this batch. A batch whose
    command was interrupted goes on with the gateway; `--id` waits for it again. Exit code 1: not all were answered.
    """
    if (file is None) == (batch_id is None):
        raise InputError("name a FILE, or a batch with --id", hint="catena batch FILE.jsonl -o OUT.jsonl")
    if output is None:
        raise InputError("say where the answers are to go", hint="-o OUT.jsonl")
    if file is not None:
        batch_id = _asked(lambda url: _begin(url, file, endpoint or _endpoint(file), window))
        click.echo(f"{batch_id} begun; if interrupted: catena batch --id {batch_id} -o {output}", err=True)
    batch = _wait(batch_id or "")
    for name, path in (("output_file_id", output), ("error_file_id", errors or Path(f"{output}.errors"))):
        if batch[name] is not None:
            _asked(lambda url, id=batch[name], path=path: _save(url, id, path))
    counts = batch["request_counts"]
    if as_json:
        click.echo(msgspec.json.encode(batch))
    else:
        click.echo(f"{batch['status']}: {counts['completed']} of {counts['total']} answered, {counts['failed']} failed")
        for problem in (batch["errors"] or {}).get("data", ()):
            where = f"line {problem['line']}: " if problem["line"] else ""
            click.echo(f"{where}{problem['message']} ({problem['code']})", err=True)
    return int(batch["status"] != "completed" or counts["failed"] > 0)


def _begin(url: str, file: Path, endpoint: str, window: str) -> str:
    key = os.environ.get(KEY_VARIABLE)
    try:
        sent = door.post_file(url, "/v1/files", {"purpose": "batch"}, file, key=key).body
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from None
    body = {"input_file_id": sent["id"], "endpoint": endpoint, "completion_window": window}
    return door.post(url, "/v1/batches", body, key=key).body["id"]


def _wait(batch_id: str) -> Told:
    """The batch once it is over."""
    with _progress() as show:

        def follow(url: str) -> Told:
            while True:
                batch: Told = door.get(url, f"/v1/batches/{batch_id}", key=os.environ.get(KEY_VARIABLE)).body
                show(batch)
                if batch["status"] not in OPEN:
                    return batch
                time.sleep(POLL_S)

        return _asked(follow)


def _asked(work: Callable[[str], Any]) -> Any:
    """What `work` gives with the address of a gateway; again with the next where that goes away meanwhile."""
    for left in reversed(range(TRIES)):
        try:
            with gateway() as url:
                return work(url)
        except NetworkError:
            if not left:
                raise
    raise AssertionError("the last try returns or raises")


def _save(url: str, file_id: str, path: Path) -> None:
    """The content of a file, whole at `path` or not there."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as target:
            for piece in door.fetch(url, f"/v1/files/{file_id}/content", key=os.environ.get(KEY_VARIABLE)):
                target.write(piece)
            target.flush()
            os.fsync(target.fileno())
        draft.replace(path)
    except OSError as error:
        raise ResourceError(f"{path} cannot be written: {error.strerror}") from None
    finally:
        draft.unlink(missing_ok=True)


def _endpoint(file: Path) -> str:
    """The address that the first line asks; the gateway checks that all ask the same."""
    try:
        with file.open("rb") as source:
            first = next((line for line in source if line.strip()), b"")
        url = msgspec.json.decode(first)["url"]
    except (msgspec.DecodeError, TypeError, KeyError):
        _refuse(file)
    return url if isinstance(url, str) else _refuse(file)


def _refuse(file: Path) -> NoReturn:
    raise InputError(
        f"the first line of {file} is no request",
        hint='a line is {"custom_id": …, "method": "POST", "url": "/v1/chat/completions", "body": {…}}',
    )


@contextmanager
def _progress() -> Generator[Callable[[Told], None]]:
    """Shows how far a batch is: a bar on a terminal, a line now and then elsewhere."""
    bar: Any = None
    said_s = monotonic_s()

    def show(batch: Told) -> None:
        nonlocal bar, said_s
        counts = batch["request_counts"]
        done, total = counts["completed"] + counts["failed"], counts["total"]
        if sys.stderr.isatty():
            if bar is None and total:
                bar = click.progressbar(length=total, label="answering", file=sys.stderr)
                bar.__enter__()
            if bar is not None:
                bar.update(max(0, done - bar.pos))
        elif monotonic_s() - said_s > EVERY_S:
            said_s = monotonic_s()
            click.echo(f"{batch['status']}: {done} of {total}", err=True)

    try:
        yield show
    finally:
        if bar is not None:
            bar.__exit__(None, None, None)
