"""Places where a stand-in is installed as vLLM or SGLang would be, and small safetensors models to start it with."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import msgspec
from tests.run.served import standin

from catena.core.manifest import FileEntry, Manifest, Provenance, StoredModel, Task
from catena.core.settings import ServedSettings

VERSIONS = {"vllm": "0.33.0", "sglang": "0.5.23"}
DIGEST = "sha256:" + "5e" * 32
TOOLS = {
    "vllm": ("--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
    "sglang": ("--tool-call-parser", "qwen"),
}


class Place(NamedTuple):
    """A Python environment with a stand-in in it."""

    folder: Path
    name: str

    @property
    def python(self) -> Path:
        return self.folder / "bin/python"

    def wish(self, **wishes: Any) -> None:
        """What is to go wrong from the next start on."""
        (self.folder / "wishes.json").write_text(json.dumps(wishes))

    def record(self) -> list[dict[str, Any]]:
        """What the stand-ins saw, in order."""
        path = self.folder / "record.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def starts(self) -> list[dict[str, Any]]:
        return [one for one in self.record() if "argv" in one]

    async def gone(self, within_s: float = 5.0) -> None:
        """Wait until every process of its stand-ins has ended."""
        family = [pid for start in self.starts() for pid in start["family"]]
        assert family
        await until(lambda: not any(is_alive(pid) for pid in family), within_s)

    def settings(self, **changes: Any) -> ServedSettings:
        return msgspec.structs.replace(ServedSettings(python=str(self.python), arguments=TOOLS[self.name]), **changes)


async def until(holds: Callable[[], Any], within_s: float) -> None:
    """Wait until `holds()`, looked at every 20 ms."""
    for _ in range(round(within_s / 0.02)):
        if holds():
            return
        await anyio.sleep(0.02)
    assert holds(), f"not within {within_s} s"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def install(folder: Path, name: str, **wishes: Any) -> Place:
    """Make an environment in `folder`, with an interpreter, the server's program, and what an installer leaves."""
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    (folder / f"lib/python3.12/site-packages/{name}-{VERSIONS[name]}.dist-info").mkdir(parents=True, exist_ok=True)
    words = shlex.join([sys.executable, "-I", "-S", standin.__file__, str(folder), name])
    for program in ("python", name):
        path = folder / "bin" / program
        path.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        path.chmod(0o755)
    place = Place(folder, name)
    place.wish(**wishes)
    return place


def model_files(folder: Path, task: Task = "generate") -> Path:
    """A folder as `save_pretrained` writes it, with one small tensor."""
    folder.mkdir(parents=True, exist_ok=True)
    architecture = "LlamaForCausalLM" if task == "generate" else "BertModel"
    kind = "llama" if task == "generate" else "bert"
    config = {
        "architectures": [architecture],
        "model_type": kind,
        "max_position_embeddings": 512,
        "hidden_size": standin.WIDTH,
        "num_hidden_layers": 1,
        "vocab_size": 4,
    }
    (folder / "config.json").write_text(json.dumps(config))
    name = "model.embed_tokens.weight" if task == "generate" else "embeddings.word_embeddings.weight"
    shape = [4, standin.WIDTH]
    head = json.dumps({name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 16 * standin.WIDTH]}}).encode()
    head += b" " * (-len(head) % 8)
    (folder / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + bytes(16 * standin.WIDTH))
    vocabulary = {"a": 0, "b": 1, "c": 2, "[UNK]": 3}
    words = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"}
    (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0", "added_tokens": [], "model": words}))
    return folder


def stored(folder: Path, task: Task = "generate", **facts: Any) -> StoredModel:
    """The model of `model_files` as the store would give it."""
    model_files(folder, task)
    roles = {"model.safetensors": "weights", "config.json": "config", "tokenizer.json": "tokenizer"}
    files = tuple(FileEntry(role, name, (folder / name).stat().st_size, DIGEST) for name, role in roles.items())
    facts = {"context_tokens": 512, **({"embedding_width": standin.WIDTH} if task == "embed" else {}), **facts}
    manifest = Manifest("tiny", task, "safetensors", files, "", Provenance("test"), facts=facts)
    return StoredModel(manifest, DIGEST, {name: folder / name for name in roles})
