"""A sealed process and its children connect nowhere, and still serve."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from catena.cli import main
from catena.core.errors import UnsupportedError
from catena.reach.cloud import sealing

REASON = sealing.lacking()
SCRIPT = """
import errno, socket, subprocess, sys, threading
from catena.reach.cloud import sealing

made = socket.create_server(("127.0.0.1", 0))
sealing.seal()
there = ("127.0.0.1", int(sys.argv[1]))

def denied(do):
    try:
        do()
    except OSError as error:
        return error.errno == errno.EACCES
    return False

INET, STREAM = socket.AF_INET, socket.SOCK_STREAM
assert denied(lambda: socket.create_connection(there, 2))
assert denied(lambda: socket.socket(socket.AF_INET6).connect(("::1", there[1])))
assert denied(lambda: socket.socket(INET, socket.SOCK_DGRAM)) and denied(lambda: socket.socket(INET, STREAM, 262))
assert denied(lambda: socket.socket(17, socket.SOCK_RAW)) and denied(lambda: socket.socket(40, STREAM))
assert denied(lambda: socket.socket().sendto(b"x", 0x20000000, there)), "TCP Fast Open"
found = []
other = threading.Thread(target=lambda: found.append(denied(lambda: socket.create_connection(there, 2))))
other.start(); other.join()
assert found == [True]
code = f"import socket\\ntry: socket.create_connection({there!r}, 2)\\nexcept PermissionError: raise SystemExit(9)"
assert subprocess.run([sys.executable, "-c", code]).returncode == 9
socket.socket(socket.AF_UNIX).close(); socket.socketpair()
print(made.getsockname()[1], flush=True)
near, _ = made.accept()
near.sendall(near.recv(9))
"""


@pytest.mark.skipif(bool(REASON) and "CI" not in os.environ, reason=REASON)
def test_a_sealed_process_connects_nowhere_and_serves() -> None:
    with socket.create_server(("127.0.0.1", 0)) as target:
        command = [sys.executable, "-c", SCRIPT, str(target.getsockname()[1])]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sealed:
            assert sealed.stdout is not None
            port = int(sealed.stdout.readline())
            with socket.create_connection(("127.0.0.1", port), 10) as caller:
                caller.sendall(b"hello")
                assert caller.recv(9) == b"hello"
            assert sealed.wait(10) == 0
        target.settimeout(0.1)
        with pytest.raises(TimeoutError):
            target.accept()


def test_a_process_that_has_threads_or_a_kernel_without_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    if not REASON:
        stop = threading.Event()
        other = threading.Thread(target=stop.wait)
        other.start()
        with pytest.raises(UnsupportedError, match="before it has threads"):
            sealing.seal()
        stop.set()
        other.join()
    monkeypatch.setattr(sealing.platform, "machine", lambda: "riscv64")
    with pytest.raises(UnsupportedError, match="64-bit Linux on x86-64 or ARM"):
        sealing.seal()


def test_jumps_of_the_filter_lead_forward_within_it() -> None:
    for calls in sealing.CALLS.values():
        code = sealing.program(calls)
        num_steps = len(code) // 8
        for step in range(num_steps):
            then, other = code[8 * step + 2], code[8 * step + 3]
            assert step + 1 + max(then, other) < num_steps or code[8 * step] == 0x06
        assert code[-24::8] == bytes((0x06, 0x06, 0x06))


def test_what_is_sealed_has_no_providers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CATENA_HOME", str(tmp_path))
    (tmp_path / "catena.toml").write_text('[[reach.providers]]\nname = "far"\nservice = "openai"\n')
    with pytest.raises(SystemExit) as ended:
        main(["up", "--sealed"])
    assert ended.value.code not in (0, None) and "providers are configured" in capsys.readouterr().err
