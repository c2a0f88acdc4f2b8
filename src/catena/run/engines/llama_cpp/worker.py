"""The process that hosts the library for one session; started by its path, so that it loads nothing else of Catena.

Both sides send frames over one socket: HEAD, then the payload. A call is LOAD, CHAT, COMPLETION, EMBED, RERANK,
METRICS, POST (to the library's HTTP side, for what it offers there alone) or SAVE (the state of a slot into a file)
under a number of its own; it is answered by any number of CHUNK and one DONE, REFUSED or BROKEN (payload: why, in words
that quote nobody). STOP ends a call at its next chunk.
The process ends when the socket does, or who started it.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import resource
import signal
import socket
import struct
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial, reduce
from http.client import HTTPException, HTTPResponse
from typing import Any, BinaryIO

# Bytes of the payload, number of the call, kind.
HEAD = struct.Struct("!IIB")
LOAD, CHAT, COMPLETION, METRICS, STOP, POST, EMBED, RERANK, SAVE = range(1, 10)
CHUNK, DONE, REFUSED, BROKEN = range(16, 20)
# What is not streamed goes in pieces of this size.
PIECE_BYTES = 1 << 20
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def frame(kind: int, number: int, payload: bytes = b"") -> bytes:
    """One frame as it goes over the socket."""
    return HEAD.pack(len(payload), number, kind) + payload


def open_server(library: Any, settings: dict[str, Any]) -> Any:
    """The library's server, loaded, with the settings of parameters.py. Raises RuntimeError."""
    params = library.CommonParams()
    for name, value in settings["parameters"].items():
        *path, last = name.split(".")
        setattr(reduce(getattr, path, params), last, value)
    params.model_alias = {settings["alias"]}
    params.lora_adapters = [_adapter(library, path) for path in settings["adapters"]]
    return library.Server(params)


def _adapter(library: Any, path: str) -> Any:
    adapter = library.CommonAdapterLoraInfo()
    adapter.path = path
    adapter.scale = 0.0
    return adapter


def _try_out(server: Any, parameters: dict[str, Any]) -> None:
    """Have it compute something small. Raises RuntimeError."""
    if not parameters.get("embedding"):
        answer, key = server.handle_completions({"prompt": "a", "max_tokens": 1}), "choices"
    elif "pooling_type" in parameters:
        answer, key = server.handle_rerank({"query": "a", "documents": ["a"]}), "results"
    else:
        answer, key = server.handle_embeddings({"input": "a"}), "data"
    if not (isinstance(answer, dict) and key in answer):
        raise RuntimeError


class Worker:
    """Answers the frames of one peer: the calling thread reads them, each call runs on a thread of its own."""

    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer
        self._frames = peer.makefile("rb")
        self._sending = threading.Lock()
        self._stops: dict[int, threading.Event] = {}
        self._server: Any = None
        self._side: int | None = None

    def run(self) -> None:
        """Load what the first frame says, then answer until the peer is gone or the load failed."""
        first = _read(self._frames)
        if first is None or not self._load(first[1], json.loads(first[2])):
            return
        # As many as can run at once are asked for at once; one more is for metrics.
        threads = ThreadPoolExecutor(self._server_slots + 1)
        while (found := _read(self._frames)) is not None:
            kind, number, payload = found
            if kind != STOP:
                self._stops[number] = threading.Event()
                threads.submit(self._answer, kind, number, payload)
            elif number in self._stops:
                self._stops[number].set()

    def _load(self, number: int, settings: dict[str, Any]) -> bool:
        self._server_slots: int = settings["parameters"]["n_parallel"]
        [address], [self._key] = settings["parameters"]["hostnames"], settings["parameters"]["api_keys"]
        try:
            # Here, so that the session's side can read this file without loading the library.
            self._server = open_server(importlib.import_module("xllamacpp"), settings)
            # The name of the socket goes once this is answered; only this process can still reach it.
            self._side = os.open(address, os.O_PATH) if sys.platform == "linux" else None
            # Some files pass the loader and end the process at the first token.
            _try_out(self._server, settings["parameters"])
            self._restore(settings["states"])
        except ImportError as error:
            self._send(BROKEN, number, f"xllamacpp cannot be imported: {error}".encode())
        except RuntimeError:
            self._send(BROKEN, number, b"it refused the file")
        else:
            self._send(DONE, number)
            return True
        return False

    def _answer(self, kind: int, number: int, payload: bytes) -> None:
        outcome, why = BROKEN, b"llama.cpp broke on a request"
        try:
            if kind == METRICS:
                self._send(CHUNK, number, str(self._server.handle_metrics()).encode())
            elif kind == POST:
                if self._side is None:
                    why = b"llama.cpp shows its tokens on Linux only"
                    return
                self._send_whole(number, self._post(**json.loads(payload)))
            elif kind == SAVE:
                self._send_whole(number, self._save(**json.loads(payload)))
            elif kind in (EMBED, RERANK):
                handle = self._server.handle_embeddings if kind == EMBED else self._server.handle_rerank
                self._send_whole(number, json.dumps(handle(json.loads(payload))).encode())
            else:
                handle = self._server.handle_chat_completions if kind == CHAT else self._server.handle_completions
                handle(payload, partial(self._receive, number, self._stops[number]))
            outcome, why = DONE, b""
        except ValueError:  # its words may quote the prompt, so they end here
            outcome, why = REFUSED, b""
        except RuntimeError:
            pass
        finally:
            del self._stops[number]
            self._send(outcome, number, why)

    def _restore(self, names: list[str]) -> None:
        """Give each slot its file in the folder of states; one that the library does not take is left out."""
        for slot, name in enumerate(names[: self._server_slots]):
            with suppress(ValueError):
                self._post(f"/slots/{slot}?action=restore", {"filename": name})

    def _save(self, slot: int, name: str, most_bytes: int) -> bytes:
        """Write the state of a slot into a file of the folder of states. Raises ValueError if it has no room."""
        # Nothing else here writes files, and saves come one after the other. SIGXFSZ is ignored by Python.
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (max(0, most_bytes), hard))
        try:
            return self._post(f"/slots/{slot}?action=save", {"filename": name})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))

    def _post(self, path: str, body: Any) -> bytes:
        """Ask the library's HTTP side over its private socket. Raises ValueError when it refuses."""
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self._key}\r\nConnection: close\r\n"
        rest = f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        try:
            with socket.socket(socket.AF_UNIX) as peer:
                peer.connect(f"/proc/self/fd/{self._side}")
                peer.sendall(head.encode() + rest.encode() + data)
                with HTTPResponse(peer) as answer:
                    answer.begin()
                    found = answer.read()
        except (OSError, HTTPException) as error:
            raise RuntimeError("the library's HTTP side is silent") from error
        if answer.status != 200:
            raise ValueError("the library refused it")
        return found

    def _send_whole(self, number: int, answer: bytes) -> None:
        for start in range(0, len(answer), PIECE_BYTES):
            self._send(CHUNK, number, answer[start : start + PIECE_BYTES])

    def _receive(self, number: int, stop: threading.Event, chunk: bytes) -> bool:
        """Pass a chunk on; True has the library drop the request."""
        # An exception in here would be swallowed by the library and end the stream as if it were complete.
        return stop.is_set() or not self._send(CHUNK, number, chunk)

    def _send(self, kind: int, number: int, payload: bytes = b"") -> bool:
        try:
            with self._sending:
                self._peer.sendall(frame(kind, number, payload))
        except OSError:  # the peer is gone, and this process is about to end
            return False
        return True


def _read(frames: BinaryIO) -> tuple[int, int, bytes] | None:
    """Kind, number and payload of the next frame; None once the peer is gone."""
    head = frames.read(HEAD.size)
    if len(head) < HEAD.size:
        return None
    length, number, kind = HEAD.unpack(head)
    payload = frames.read(length)
    return (kind, number, payload) if len(payload) == length else None


def _main(fileno: int, parent: int) -> None:
    # Blocked, not handled: the library sets handlers of its own. Who stops the gateway lets it end its answers first.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    # States of slots are for their owner only.
    os.umask(0o077)
    # An abort must not leave prompts on the disk.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        # While it loads, the library holds Python's lock, and nobody could see the socket end.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == parent:
        Worker(socket.socket(fileno=fileno)).run()
    # The library's destructor would only take time.
    os._exit(0)


if __name__ == "__main__":
    _main(*map(int, sys.argv[1:]))
