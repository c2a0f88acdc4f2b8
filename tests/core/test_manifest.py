"""The manifest: plain data whose canonical bytes, and so whose digest, depend on what it says and nothing else."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catena.core.manifest import FileEntry, Manifest, Provenance, Signature, StoredModel, TensorSpec
from catena.core.messages import canonical_bytes

WEIGHTS = FileEntry("weights", "model.gguf", 12, "sha256:" + "ab" * 32)
TEMPLATE = FileEntry("config", "config.json", 3, "sha256:" + "cd" * 32)
MANIFEST = Manifest("m", "generate", "gguf", (WEIGHTS, TEMPLATE), "Apache-2.0", Provenance("file:model.gguf"))

facts = st.dictionaries(st.text(max_size=8), st.text(max_size=8) | st.integers() | st.booleans(), max_size=6)


@given(facts)
def test_the_order_of_facts_does_not_change_the_bytes(found: dict[str, str | int | bool]) -> None:
    one = msgspec.structs.replace(MANIFEST, facts=found)
    other = msgspec.structs.replace(MANIFEST, facts=dict(reversed(found.items())))
    assert canonical_bytes(one) == canonical_bytes(other)


@given(facts)
def test_a_manifest_survives_its_wire_form(found: dict[str, str | int | bool]) -> None:
    manifest = msgspec.structs.replace(
        MANIFEST, facts=found, signature=Signature((TensorSpec("flow", "f4", (-1, 3), "kg/s"),))
    )
    raw = canonical_bytes(manifest)
    assert msgspec.json.decode(raw, type=Manifest) == manifest
    assert canonical_bytes(msgspec.json.decode(raw, type=Manifest)) == raw


@pytest.mark.parametrize("field", [field for field in Manifest.__struct_fields__ if field != "files"])
def test_no_field_is_left_out_of_the_bytes(field: str) -> None:
    changed = {
        "name": "n",
        "task": "embed",
        "format": "onnx",
        "licence": "MIT",
        "provenance": Provenance("file:other.gguf"),
        "signature": Signature((TensorSpec("x", "f4", (1,)),)),
        "chat_template_digest": "sha256:" + "00" * 32,
        "facts": {"context_tokens": 1},
        "version": 2,
    }
    assert canonical_bytes(msgspec.structs.replace(MANIFEST, **{field: changed[field]})) != canonical_bytes(MANIFEST)


def test_the_order_of_files_is_part_of_what_a_manifest_says() -> None:
    turned = msgspec.structs.replace(MANIFEST, files=(TEMPLATE, WEIGHTS))
    assert canonical_bytes(turned) != canonical_bytes(MANIFEST)


def test_a_wrong_task_is_refused_when_read() -> None:
    raw = canonical_bytes(MANIFEST).replace(b'"generate"', b'"guess"')
    with pytest.raises(msgspec.ValidationError, match="guess"):
        msgspec.json.decode(raw, type=Manifest)


def test_a_stored_model_finds_its_files_by_role() -> None:
    paths = {"model.gguf": Path("blobs/ab"), "config.json": Path("blobs/cd")}
    model = StoredModel(MANIFEST, "sha256:" + "12" * 32, paths)
    assert model.name == "m"
    assert model.path("config") == Path("blobs/cd")
    assert model.fact("pooling", "mean") == "mean"


def test_a_manifest_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        MANIFEST.name = "other"  # type: ignore[misc]
