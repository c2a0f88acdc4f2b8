"""Loads files for the first time in a process of their own: on some that it should refuse the library aborts.

`python -m catena.run.engines.llama_cpp.rehearsal` reads Files from stdin and exits 0 if the library could load it
and answer. What has passed once, with this version of the library, is noted in the session folder.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from catena.core.errors import EngineError
from catena.core.manifest import StoredModel
from catena.core.protocols import Placement, SessionFacts
from catena.run.engines.llama_cpp.parameters import CONTEXT_STEP, Files, library, parameters

REHEARSAL_S = 600.0
_passed: set[str] = set()


def rehearse(model: StoredModel, files: Files, placement: Placement) -> None:
    """Return once `model` with its adapters has been loaded elsewhere without harm. Raises EngineError if it cannot."""
    digests = [model.digest, *(adapter.digest for adapter in placement.adapters)]
    mark = hashlib.sha256("\n".join([library.__version__, *digests]).encode()).hexdigest()[:32]
    note = Path(placement.folder, f"llama-passed-{mark}") if placement.folder else None
    if mark in _passed or (note is not None and note.exists()):
        return
    try:
        code = subprocess.run(  # noqa: S603
            [sys.executable, "-P", "-m", __name__],
            input=msgspec.json.encode(files),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # The library would have a debugger print the stack of an abort.
            env={**os.environ, "GGML_NO_BACKTRACE": "1"},
            timeout=REHEARSAL_S,
            check=False,
        ).returncode
    except subprocess.TimeoutExpired:
        code = 1
    if code != 0:
        raise EngineError(
            f"llama.cpp cannot load {model.name}",
            hint=f"run `catena verify {model.name}`; is it for this engine?",
        )
    _passed.add(mark)
    if note is not None:
        note.touch(mode=0o600)


def _main() -> None:
    files = msgspec.json.decode(sys.stdin.buffer.read(), type=Files)
    facts = SessionFacts("", "cpu", 1, CONTEXT_STEP, 0)
    with tempfile.TemporaryDirectory(prefix="llama-") as folder:
        params = parameters("rehearsal", files, facts, Placement(slots=1, prompt_cache_bytes=0), Path(folder))
        server = library.Server(params)
        answer = server.handle_completions({"prompt": "a", "max_tokens": 1})
        is_answered = isinstance(answer, dict) and "choices" in answer
    # The destructor would only take time.
    os._exit(0 if is_answered else 1)


if __name__ == "__main__":
    _main()
