"""Arrows point down, heavy libraries stay in the leaves, `--help` stays light, and doors to the network are few."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.rules.reading import ROOT, SOURCE, Module, package

# What `catena --help` may load beyond the standard library, and what of the standard library it may not.
HELP_THIRD_PARTY = {"click"}
HELP_OURS = {
    "catena",
    "catena.__main__",
    "catena.cli",
    "catena.cli.verbs",
    "catena.core",
    "catena.core.errors",
    "catena.core.registry",
}
HELP_NEVER = {"asyncio", "ctypes", "http", "logging", "multiprocessing", "sqlite3", "ssl", "subprocess", "tomllib"}

CLIENT_MODULES = {
    *("aiohttp", "ftplib", "http.client", "httpcore", "httpx", "httpx2", "imaplib", "poplib", "pyreqwest", "requests"),
    *("smtplib", "socket", "socketserver", "ssl", "telnetlib", "urllib.request", "urllib3", "websocket", "websockets"),
    "xmlrpc",
}
CLIENT_CALLS = {
    *("connect_tcp", "connect_unix", "create_connection", "create_datagram_endpoint", "create_udp_socket"),
    *("create_unix_connection", "open_connection", "open_unix_connection", "sock_connect", "urlopen"),
}
# file → why it may open a connection
CLIENTS = {
    "store/pull/web.py": "asks the hub that the user named for a model, and the hosts it redirects to",
    "reach/cloud/client.py": "carries out what the router recorded as remote, to providers that settings name",
    "reach/door.py": "a command asks the gateway of its own machine; other addresses are refused",
    "run/served/connection.py": "asks a model server that this process started, on a private socket or loopback",
    "run/served/starting.py": "looks for a free port of the loopback interface",
    "run/engines/llama_cpp/process.py": "a pair of sockets without an address, one end for the process it starts",
    "run/engines/llama_cpp/worker.py": "the other end of that pair, inherited",
}

PROCESS_CALLS = {
    *(
        "Popen",
        "create_subprocess_exec",
        "create_subprocess_shell",
        "execv",
        "execve",
        "execvp",
        "fork",
        "open_process",
    ),
    *("posix_spawn", "run_process", "subprocess", "system"),
}
# file or folder → why it may start a program
PROCESSES = {
    "run/engines/llama_cpp/process.py": "hosts the library where its loads stop nobody and its aborts end nobody else",
    "run/served/guard.py": "starts the model server that it guards",
    "run/served/process.py": "starts the guard of a model server that the user installed",
    "run/devices/": "asks the system's own programs what hardware there is",
    "run/engines/onnx/speech/samples.py": "decodes audio of strangers where a fault ends nobody else",
    "store/pull/": "downloads packages with the user's own pip and npm",
    "watch/rehash.py": "hashes the log on all cores",
}


def contracts(python_path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run import-linter over `catena` as found first in `python_path`."""
    environ = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200"}
    if python_path:
        environ["PYTHONPATH"] = str(python_path)
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", code, str(ROOT / "pyproject.toml"), "--no-cache"]
    return subprocess.run(command, env=environ, cwd=python_path or ROOT, capture_output=True, text=True, check=False)


def clients(module: Module) -> list[str]:
    """Imports and calls by which a module could reach another machine."""
    return [
        *(name for name in _imported(module.tree) if any(_is_within(name, banned) for banned in CLIENT_MODULES)),
        *(name for name in _called(module.tree) if name in CLIENT_CALLS),
    ]


def processes(module: Module) -> list[str]:
    """Imports and calls by which a module could start a program."""
    names = [*_imported(module.tree), *_called(module.tree)]
    return [name for name in names if name in PROCESS_CALLS]


def _imported(tree: ast.Module) -> list[str]:
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            found += [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
    return found


def _called(tree: ast.Module) -> list[str]:
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return [func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "") for func in calls]


def _is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def help_modules() -> set[str]:
    """Every module that `catena --help` loads and a bare interpreter does not."""
    code = (
        "import sys; before = set(sys.modules)\n"
        "from catena.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(*sorted(set(sys.modules) - before), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(done.stderr.split())


def test_the_import_contracts_hold() -> None:
    done = contracts()
    assert done.returncode == 0, done.stdout + done.stderr


PLANTED = {
    "utils/__init__.py": "",
    "core/clock.py": "import catena.watch.log",
    "use/__init__.py": "",
    "use/agents.py": "import catena.run.scheduler",
    "run/engines/echo.py": "import catena.run.engines.onnx",
    "run/dialects/ollama.py": "import catena.run.dialects.openai",
    "store/heavy.py": "import numpy",
    "store/formats/onnx.py": "import catena.store.formats.gguf",
    "reach/outward.py": "import httpx",
    "watch/verifier.py": "import msgspec",
}
BROKEN = (
    "Arrows point down",
    "What uses models",
    "Engines and protocols",
    "Dialects do not know",
    "Formats do not know",
    "Heavy libraries",
    "No HTTP client",
    "The stand-alone verifier",
)


def test_each_contract_can_break(tmp_path: Path) -> None:
    shutil.copytree(SOURCE, tmp_path / "catena", ignore=shutil.ignore_patterns("__pycache__", "static"))
    for name, line in PLANTED.items():
        path = tmp_path / "catena" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text((path.read_text() if path.exists() else "") + f"\n{line}\n")
    done = contracts(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    for name in BROKEN:
        assert any(line.startswith(name) and "BROKEN" in line for line in done.stdout.splitlines()), name
    for words in (
        "catena.utils",
        "catena.core is not allowed",
        "catena.use.agents is not allowed to import catena.run",
    ):
        assert words in done.stdout


def test_only_listed_files_can_reach_the_network() -> None:
    assert {module.shown for module in package() if clients(module)} == set(CLIENTS)


def test_only_listed_files_can_start_programs() -> None:
    found = {module.shown for module in package() if processes(module)}
    assert {name for name in found if not name.startswith(tuple(PROCESSES))} == set()
    assert {place for place in PROCESSES if not any(name.startswith(place) for name in found)} == set()


@pytest.mark.parametrize(
    "text",
    [
        "import socket",
        "from http import client",
        "import urllib.request",
        "from urllib.request import urlopen",
        "import http.client as quiet",
        "import importlib\nimportlib.import_module('requests')",
        "async def f():\n    await anyio.connect_tcp('example.org', 80)",
        "async def f():\n    await loop.create_connection(x)",
    ],
)
def test_a_network_client_is_found(tmp_path: Path, text: str) -> None:
    assert clients(_planted(tmp_path, text))


@pytest.mark.parametrize("text", ["from urllib.parse import urlsplit", "from http import HTTPStatus", "import asyncio"])
def test_what_reaches_nobody_is_not_found(tmp_path: Path, text: str) -> None:
    assert not clients(_planted(tmp_path, text))


@pytest.mark.parametrize("text", ["import subprocess", "import os\nos.system('ls')", "await anyio.run_process(['ls'])"])
def test_a_started_program_is_found(tmp_path: Path, text: str) -> None:
    assert processes(_planted(tmp_path, text))


def test_help_loads_an_exact_list_of_modules() -> None:
    loaded = help_modules()
    outside = {name for name in loaded if name.split(".")[0] not in sys.stdlib_module_names}
    assert {name for name in outside if name.startswith("catena")} <= HELP_OURS
    assert {name.split(".")[0] for name in outside if not name.startswith("catena")} <= HELP_THIRD_PARTY
    assert loaded & HELP_NEVER == set()
    assert {"catena.cli", "click"} <= loaded, "the list was not read at all"


def _planted(tmp_path: Path, text: str) -> Module:
    path = tmp_path / "planted.py"
    path.write_text(text)
    return Module(path, tmp_path)
