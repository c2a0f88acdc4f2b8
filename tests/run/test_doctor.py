"""`catena doctor` says what is there, names the command for what is not, and fails only when something is broken."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from tests.conftest import catena

from catena.core import registry
from catena.core.settings import RunSettings
from catena.run import doctor
from catena.run.doctor import EXTRAS, Finding, Report, examine

HEAVY = ("xllamacpp", "onnxruntime", "numpy", "tokenizers")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    return folder


def finding(report: Report, topic: str) -> Finding:
    (found,) = [one for one in report.findings if one.topic == topic]
    return found


def hide(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """Make `packages` look as if they were not installed."""
    real = metadata.version

    def version(name: str) -> str:
        if name in packages:
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)


def test_the_command_prints_a_page_and_ends_well(home: Path) -> None:
    done = catena(home, "doctor", CATENA__REACH__PORT="7499")
    assert done.returncode == 0, done.stdout + done.stderr
    for topic in (
        "python",
        "cores",
        "cpu features",
        "memory",
        "engine llama_cpp",
        "engine onnx",
        "state folder",
        "disk",
    ):
        assert f"✓ {topic}" in done.stdout, topic
    assert str(home) in done.stdout
    assert "port 7499 is free" in done.stdout
    assert "\x1b" not in done.stdout


def test_json_holds_the_same_as_data(home: Path) -> None:
    done = catena(home, "doctor", "--json")
    report = msgspec.json.decode(done.stdout, type=Report)
    assert report.ok
    assert report.python.startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")
    assert report.cpu.owned <= report.cpu.cores
    assert report.memory.free_bytes <= report.memory.total_bytes
    assert {one.name for one in report.engines} == set(registry.names("engines"))
    assert report.home.mode == "0700"
    assert report.home.free_bytes > 0
    assert {"python", "gateway"} <= {one.topic for one in report.findings}


def test_nothing_is_made_by_looking(tmp_path: Path) -> None:
    done = catena(tmp_path / "absent", "doctor")
    assert done.returncode == 0
    assert "○ state folder" in done.stdout
    assert "→ catena tour" in done.stdout
    assert not (tmp_path / "absent").exists()


def test_a_state_folder_open_to_others_is_broken(home: Path) -> None:
    home.chmod(0o755)
    done = catena(home, "doctor")
    assert done.returncode == 1
    assert "✗ state folder" in done.stdout
    assert f"→ chmod 700 {home}" in done.stdout


def test_a_file_in_place_of_the_state_folder_is_broken(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    report = examine(tmp_path / "file", RunSettings())
    assert not report.ok
    assert finding(report, "state folder").state == "broken"


def test_a_missing_extra_comes_with_the_command_that_installs_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "onnxruntime", "tokenizers")
    report = examine(home, RunSettings())
    found = finding(report, "engine onnx")
    assert (found.state, found.command) == ("missing", "pip install 'catena[onnx]'")
    assert "onnxruntime, tokenizers" in found.text
    assert report.ok, "an engine that is not there can be lived with"


def test_every_engine_of_catena_has_its_extra() -> None:
    extras = metadata.metadata("catena").get_all("Provides-Extra") or []
    served = {name for name in registry.names("engines") if hasattr(RunSettings(), name)}
    assert served == {"sglang", "vllm"}, "those have environments of their own"
    assert set(registry.names("engines")) - served == set(EXTRAS)
    assert set(EXTRAS.values()) <= set(extras)


def test_no_heavy_library_is_loaded_to_find_out(home: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "import catena.cli.verbs.doctor\n"
        "from catena.core.settings import RunSettings; from catena.run.doctor import examine\n"
        f"examine(Path({str(home)!r}), RunSettings()); print(*[name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == ""


def test_settings_that_this_machine_cannot_meet_are_named(home: Path) -> None:
    report = examine(home, RunSettings(threads=10_000, memory_bytes=1 << 60))
    assert finding(report, "cores").command == "set run.threads to 0 in catena.toml"
    assert finding(report, "memory").command == "set run.memory_bytes to 0 in catena.toml"


def test_a_full_disk_is_broken_because_no_answer_could_be_recorded(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage: Any = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: usage)
    report = examine(home, RunSettings())
    assert finding(report, "disk").state == "broken"
    assert not report.ok


def test_accelerators_are_named_with_what_keeps_them_idle(home: Path, tmp_path: Path) -> None:
    (tmp_path / "devices/0000:00:0b.0").mkdir(parents=True)
    (tmp_path / "devices/0000:00:0b.0/vendor").write_text("0x8086\n")
    (tmp_path / "devices/0000:00:0b.0/device").write_text("0x643e\n")
    (tmp_path / "sys/class/accel/accel0").mkdir(parents=True)
    (tmp_path / "sys/class/accel/accel0/device").symlink_to(tmp_path / "devices/0000:00:0b.0")
    report = examine(home, RunSettings(), root=tmp_path)
    assert finding(report, "npu").text == "Intel NPU 643e: no driver holds it"
    assert finding(report, "gpu").text == "none found"


def test_who_holds_the_port_is_told(home: Path) -> None:
    listening = [one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
    taken = {one.laddr.port for one in listening}
    code = (
        "import http.server, sys\n"
        "server = http.server.HTTPServer(('127.0.0.1', 0), http.server.BaseHTTPRequestHandler)\n"
        "print(server.server_port, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as one:
        assert one.stdout is not None
        port = int(one.stdout.readline())
        assert port not in taken
        done = catena(home, "doctor", CATENA__REACH__PORT=str(port))
        one.communicate("", timeout=30)
    assert done.returncode == 0
    assert f"process {one.pid} listens on port {port}" in done.stdout
    assert f"→ catena up --port {port + 1}" in done.stdout


def test_a_chosen_device_that_is_not_there_is_broken_with_its_reason(home: Path, tmp_path: Path) -> None:
    report = examine(home, RunSettings(devices={"llama_cpp": "gpu"}), root=tmp_path)
    found = [one for one in report.findings if one.topic == "devices" and "llama_cpp" in one.text]
    assert [one.state for one in found] == ["broken"]
    assert not report.ok
