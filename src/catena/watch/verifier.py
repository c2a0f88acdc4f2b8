"""Checks a proof that a request was recorded, offline: needs only this one file, Python and `cryptography`.

    python verifier.py proof.json --key verifier.vkey [--question FILE] [--answer FILE] [--explain]
    python verifier.py egress.proof --key verifier.vkey [--sent FILE] [--explain]

Prints `verified` and exits 0, or says what failed and exits 1. It proves that the log's key signed a tree that holds
exactly these records, not that what they say is true. Hashing and proofs: RFC 6962 section 2.1 and RFC 9162 section
2.1; signed notes and checkpoints: https://c2sp.org/signed-note and https://c2sp.org/tlog-checkpoint.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import hmac
import json
import struct
import sys
import zlib
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

FORMAT = "catena.proof/1"
# A proof of what left: this, salt or none, tree size, index, length of the path; then signature, salt, path, entry.
EGRESS_START = b"catena-egress/1\n"
EGRESS_HEAD = struct.Struct(">16sBQQB")
# What such entries are likely to hold, for their compression (RFC 1951, as zlib's preset dictionary).
EGRESS_WORDS = (
    b'"substitutions":{"person":1,"address":1,"organisation":1,"phone":1,"email":1}"labels":["public"],"internal",'
    b'"personal","secret"],"rules":["everything"],"policy":"sha256:"lookups":["api.com"],"proxy":"127.0.0.1:8080",'
    b'"kind":"tunnel",{"type":"egress","receipt":"rcpt_01k","at_ns":17,"opened_index":1,"serial":1,"digest":"sha256:'
    b'0123456789abcdef","num_bytes":1,"host":"api.openai.com","address":"127.0.0.1:443","certificate":"sha256:",'
    b'"tls":"TLSv1.3","policy":"sha256:","rules":["default"],"labels":["'
)
MAX_ENTRY_BYTES = 65_535
EMPTY_ROOT = hashlib.sha256(b"").digest()


class Failed(Exception):
    """What was checked does not hold; the text says what and where."""


class Key(NamedTuple):
    """A C2SP verifier key: the log's name, the four-byte key id, and the Ed25519 public key (32 bytes)."""

    name: str
    id: bytes
    public: bytes


class Checkpoint(NamedTuple):
    """A tree head: whose log (`origin`), how many entries, and the root hash (32 bytes) over them."""

    origin: str
    size: int
    root: bytes


def leaf_hash(entry: bytes) -> bytes:
    """SHA-256 of 0x00 and the entry (RFC 6962, 2.1)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256 of 0x01 and both children (RFC 6962, 2.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def decode_base64(text: str) -> bytes:
    """Strict base64: one text per value, so no bit of it can be changed unnoticed. Raises Failed."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Failed("a value is not base64") from None
    if base64.b64encode(data).decode() != text:
        raise Failed("a value is not canonical base64")
    return data


def parse_key(text: str) -> Key:
    """Read `name+id+base64(0x01 || public key)`. Raises Failed."""
    parts = text.strip().split("+", 2)
    if len(parts) != 3 or not parts[0] or any(letter.isspace() for letter in parts[0]):
        raise Failed("the verifier key is not of the form name+id+key")
    encoded = decode_base64(parts[2])
    if len(encoded) != 33 or encoded[0] != 1:
        raise Failed("the verifier key is not an Ed25519 key")
    key = Key(parts[0], key_id(parts[0], encoded[1:]), encoded[1:])
    if key.id.hex() != parts[1]:
        raise Failed("the verifier key's id does not match its key")
    return key


def key_id(name: str, public: bytes) -> bytes:
    """The four bytes that name an Ed25519 key in a signed note."""
    return hashlib.sha256(name.encode() + b"\n\x01" + public).digest()[:4]


def is_signed(key: Key, data: bytes, signature: bytes) -> bool:
    """Whether `signature` is the key's Ed25519 signature of `data`."""
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def open_note(note: str, key: Key) -> str:
    """The text of a signed note, once the key's signature on it holds; other keys' lines are ignored. Raises Failed."""
    if any(letter < " " and letter != "\n" for letter in note) or len(note) > 1_000_000:
        raise Failed("the signed note has control characters or is too long")
    body, found, signatures = note.rpartition("\n\n")
    if not found or not signatures.endswith("\n"):
        raise Failed("the signed note has no signature")
    text = body + "\n"
    is_known = False
    for line in signatures[:-1].split("\n"):
        parts = line.split(" ")
        if len(parts) != 3 or parts[0] != "\u2014" or not parts[1] or "+" in parts[1]:
            raise Failed("the signed note has a malformed signature line")
        signature = decode_base64(parts[2])
        if parts[1] == key.name and signature[:4] == key.id:
            if is_known or not is_signed(key, text.encode(), signature[4:]):
                raise Failed(f"the signature of {key.name} does not hold")
            is_known = True
    if not is_known:
        raise Failed(f"the signed note is not signed by {key.name}")
    return text


def parse_checkpoint(text: str) -> Checkpoint:
    """Read a checkpoint's text (origin, size, root, extensions). Raises Failed."""
    lines = text.split("\n")
    if len(lines) < 4 or lines[-1] or not all(lines[:-1]):
        raise Failed("the checkpoint does not have its three lines")
    if not (lines[1].isascii() and lines[1].isdecimal()) or len(lines[1]) > 19 or str(int(lines[1])) != lines[1]:
        raise Failed("the checkpoint's size is not a number")
    root = decode_base64(lines[2])
    if len(root) != 32:
        raise Failed("the checkpoint's root is not 32 bytes")
    return Checkpoint(lines[0], int(lines[1]), root)


def open_checkpoint(note: str, key: Key) -> Checkpoint:
    """The tree head in a signed note of the log that `key` belongs to. Raises Failed."""
    checkpoint = parse_checkpoint(open_note(note, key))
    if checkpoint.origin != key.name:
        raise Failed(f"the checkpoint belongs to {checkpoint.origin}, not to {key.name}")
    return checkpoint


def inclusion_root(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """The root that follows from a leaf hash at `index` of `size` and its inclusion path (RFC 9162, 2.1.3.2).

    Raises Failed if the path has the wrong length.
    """
    if not 0 <= index < size:
        raise Failed(f"entry {index} is not in a tree of {size} entries")
    position, last, root = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            raise Failed("the inclusion path is too long")
        if position & 1 or position == last:
            root = node_hash(sibling, root)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            root = node_hash(root, sibling)
        position >>= 1
        last >>= 1
    if last:
        raise Failed("the inclusion path is too short")
    return root


def check_consistency(first: int, second: int, first_root: bytes, second_root: bytes, path: list[bytes]) -> None:
    """Check that the tree of `second` entries extends that of `first` (RFC 9162, 2.1.4.2). Raises Failed."""
    if first > second:
        raise Failed(f"a tree of {second} entries cannot extend one of {first}")
    if first in (0, second):
        good = not path and (first_root == second_root if first else first_root == EMPTY_ROOT)
        if not good:
            raise Failed("the two tree heads contradict one another")
        return
    nodes = list(path) if first & (first - 1) else [first_root, *path]
    if not nodes:
        raise Failed("the consistency path is empty")
    position, last = first - 1, second - 1
    while position & 1:
        position >>= 1
        last >>= 1
    old = new = nodes[0]
    for node in nodes[1:]:
        if last == 0:
            raise Failed("the consistency path is too long")
        if position & 1 or position == last:
            old, new = node_hash(node, old), node_hash(node, new)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            new = node_hash(new, node)
        position >>= 1
        last >>= 1
    if last or old != first_root or new != second_root:
        raise Failed("the later tree does not extend the earlier one")


def check_proof(proof: Any, verifier_key: str) -> list[dict[str, Any]]:
    """Check a whole proof and return its records, opened first, then closed if there is one. Raises Failed."""
    try:
        if proof["format"] != FORMAT:
            raise Failed(f"the proof's format is not {FORMAT}")
        checkpoint = open_checkpoint(proof["checkpoint"], parse_key(verifier_key))
        records: list[dict[str, Any]] = []
        for item in proof["records"]:
            index, entry = item["index"], decode_base64(item["entry"])
            path = [decode_base64(text) for text in item["path"]]
            if type(index) is not int:
                raise Failed("a record's index is not a number")
            if inclusion_root(leaf_hash(entry), index, checkpoint.size, path) != checkpoint.root:
                raise Failed(f"entry {index} is not in the signed tree")
            records.append({**json.loads(entry), "index": index})
        _check_pair(records, proof["receipt"])
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        raise Failed("the proof is malformed") from None
    return records


def _check_pair(records: list[dict[str, Any]], receipt: str) -> None:
    if [record["type"] for record in records] not in (["open"], ["open", "close"]):
        raise Failed("the proof does not hold one opening record and at most one closing record")
    if any(record["receipt"] != receipt for record in records):
        raise Failed("a record belongs to another receipt")
    if len(records) == 2:
        opened, closed = records
        if closed["opened_index"] != opened["index"] or closed["index"] <= opened["index"]:
            raise Failed("the closing record does not belong to the opening record")


def check_egress(proof: bytes, verifier_key: str) -> tuple[dict[str, Any], bytes | None]:
    """Check a proof of what left; gives its record and the salt if it is there. Raises Failed."""
    key = parse_key(verifier_key)
    body, checksum = proof[:-8], proof[-8:]
    if not hmac.compare_digest(hashlib.sha256(body).digest()[:8], checksum):
        raise Failed("the proof is damaged")
    try:
        start, has_salt, size, index, num_hashes = EGRESS_HEAD.unpack_from(body)
        at = EGRESS_HEAD.size
        signature, at = body[at : at + 64], at + 64
        salt, at = (body[at : at + 32], at + 32) if has_salt == 1 else (None, at)
        path = [body[position : position + 32] for position in range(at, at + 32 * num_hashes, 32)]
        inflating = zlib.decompressobj(-15, zdict=EGRESS_WORDS)
        entry = inflating.decompress(body[at + 32 * num_hashes :], MAX_ENTRY_BYTES)
        is_whole = inflating.eof and not inflating.unused_data and not inflating.unconsumed_tail
        if start != EGRESS_START or has_salt > 1 or not is_whole:
            raise Failed("the proof is malformed")
        root = inclusion_root(leaf_hash(entry), index, size, path)
        text = f"{key.name}\n{size}\n{base64.b64encode(root).decode()}\n"
        if not is_signed(key, text.encode(), signature):
            raise Failed(f"entry {index} is not in a tree that {key.name} signed")
        record = {**json.loads(entry), "index": index}
        if record["type"] != "egress" or not 0 <= record["opened_index"] < index:
            raise Failed("the entry does not say what left")
    except (KeyError, TypeError, ValueError, struct.error, zlib.error, RecursionError):
        raise Failed("the proof is malformed") from None
    return record, salt


def check_sent(record: dict[str, Any], salt: bytes | None, sent: bytes) -> None:
    """Check that `sent` (credentials replaced as the record says) are the bytes that were recorded. Raises Failed."""
    if salt is None:
        raise Failed("the proof carries no salt, so no bytes can be compared (make it with --salt)")
    if not hmac.compare_digest("sha256:" + hashlib.sha256(salt + sent).hexdigest(), str(record.get("digest"))):
        raise Failed("these are not the bytes that were recorded")


def check_text(proof: Any, name: str, record: dict[str, Any] | None, content: bytes) -> None:
    """Check that `content` (canonical JSON bytes) has the salted digest that the record states. Raises Failed."""
    salt, expected = proof.get("salt"), (record or {}).get(f"{name}_digest")
    if not isinstance(salt, str):
        raise Failed("the proof carries no salt, so no text can be compared (make it with --salt)")
    if not isinstance(expected, str):
        raise Failed(f"the record states no {name}")
    digest = "sha256:" + hashlib.sha256(decode_base64(salt) + content).hexdigest()
    if not hmac.compare_digest(digest.encode(), expected.encode()):
        raise Failed(f"the {name} is not the one that was recorded")


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="verifier", description="Check a Catena proof, offline.")
    parser.add_argument("proof", type=Path, help="the file written by `catena audit prove` or `catena egress prove`")
    parser.add_argument("--key", type=Path, required=True, help="the log's verifier key (verifier.vkey)")
    parser.add_argument("--question", type=Path, help="also check that this is the question (canonical JSON)")
    parser.add_argument("--answer", type=Path, help="also check that this is the answer (canonical JSON)")
    parser.add_argument("--sent", type=Path, help="of a proof of what left: also check that these are the bytes")
    parser.add_argument("--explain", action="store_true", help="print the records that were verified")
    chosen = parser.parse_args(arguments)
    try:
        records = _checked(chosen, chosen.proof.read_bytes(), chosen.key.read_text(encoding="utf-8"))
    except Failed as error:
        print(f"not verified: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except (OSError, ValueError) as error:
        print(f"not verified: {error}", file=sys.stderr)  # noqa: T201
        return 1
    print("verified")  # noqa: T201
    if chosen.explain:
        print(json.dumps(records, indent=2))  # noqa: T201
    return 0


def _checked(chosen: argparse.Namespace, data: bytes, verifier_key: str) -> list[dict[str, Any]]:
    if data.startswith(EGRESS_START):
        if chosen.question or chosen.answer:
            raise Failed("a proof of what left holds neither question nor answer; --sent compares the bytes")
        record, salt = check_egress(data, verifier_key)
        if chosen.sent is not None:
            check_sent(record, salt, chosen.sent.read_bytes())
        return [record]
    if chosen.sent is not None:
        raise Failed("this is no proof of what left: --question and --answer compare the texts")
    proof = json.loads(data)
    records = check_proof(proof, verifier_key)
    closed = records[1] if len(records) == 2 else None
    for name, record, file in (("question", records[0], chosen.question), ("answer", closed, chosen.answer)):
        if file is not None:
            check_text(proof, name, record, file.read_bytes())
    return records


if __name__ == "__main__":
    sys.exit(main())
