"""Ollama: manifests and blobs in OLLAMA_MODELS or ~/.ollama/models, with what a Modelfile sets for requests.

Source of the layout: Ollama's server/manifest.go, server/layer.go and types/model/name.go; of the parameters:
https://docs.ollama.com/modelfile.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from catena.core.errors import UnsupportedError
from catena.core.manifest import StoredModel
from catena.core.messages import Message, Text
from catena.store import formats
from catena.store.elsewhere import Found
from catena.store.elsewhere.laying import Plan, gguf_files
from catena.store.elsewhere.templates import form_of
from catena.store.elsewhere.walking import Walk
from catena.store.formats import Value, plain_text
from catena.store.manifests import digest_of

LAYER = "application/vnd.ollama.image."
MANIFESTS, BLOBS = "manifests", "blobs"
HOST, NAMESPACE = "registry.ollama.ai", "library"
MAX_MANIFEST_BYTES = 1 << 20
MAX_TEXT_BYTES = 1 << 16
MAX_LAYERS = 256
# A service that the installer sets up runs as a user of its own.
SERVICE = Path("/usr/share/ollama/.ollama/models")
_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
# Parameter of a Modelfile → field of Sampling, under the prefix of what a model sets (reach/presets.py).
PRESET = "preset."
NUMBERS = {
    "temperature": float,
    "top_p": float,
    "top_k": int,
    "min_p": float,
    "presence_penalty": float,
    "frequency_penalty": float,
    "repeat_penalty": float,
    "seed": int,
}


class Layer(Struct, rename={"media_type": "mediaType"}):
    """A blob and what it is for."""

    media_type: str
    digest: str
    size: int = 0


class Listing(Struct):
    """A manifest, as far as it is read."""

    layers: list[Layer]


class _Turn(Struct):
    role: str
    content: str


def roots() -> tuple[Path, ...]:
    """The folder that the environment names; else the user's, and that of the service."""
    if named := os.environ.get("OLLAMA_MODELS"):
        return (Path(named).expanduser(),)
    return (Path.home() / ".ollama" / "models", SERVICE)


def plan(model: StoredModel) -> Plan:
    """A model of the library with tag `latest`: blobs, configuration, and what the model sets for requests."""
    files = gguf_files(model, "Ollama")
    if len(files) > 1:
        raise UnsupportedError(f"Ollama wants one file; {model.name} has {len(files)} parts")
    manifest = model.manifest
    weights = next(entry for entry in manifest.files if entry.role == "weights")
    architecture = str(model.fact("architecture", ""))
    config = {
        "model_format": "gguf",
        "model_family": architecture,
        "model_families": [architecture],
        "model_type": f"{int(model.fact('parameters', 0)) / 1e6:.2f}M",
        "file_type": str(model.fact("quantisation", "")),
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [weights.digest]},
    }
    form = form_of(formats.find("gguf").describe(_by_role(model)).chat_template or "")
    texts = {
        "template": form.go if form else "",
        "system": str(model.fact(f"{PRESET}system", "")),
        "params": _parameters(model),
        "license": manifest.licence,
    }
    written: dict[str, bytes] = {}

    def layer(data: bytes, media_type: str) -> dict[str, str | int]:
        digest = digest_of(data)
        written[f"{BLOBS}/{digest.replace(':', '-')}"] = data
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    listed = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": layer(msgspec.json.encode(config), "application/vnd.docker.container.image.v1+json"),
        "layers": [
            {"mediaType": f"{LAYER}model", "digest": weights.digest, "size": weights.size_bytes},
            *(layer(text.encode(), LAYER + kind) for kind, text in texts.items() if text),
        ],
    }
    written[f"{MANIFESTS}/{HOST}/{NAMESPACE}/{model.name}/latest"] = msgspec.json.encode(listed)
    blob = f"{BLOBS}/{weights.digest.replace(':', '-')}"
    left = "chat template: Ollama wants one in Go's language, `TEMPLATE` in a Modelfile"
    if form:
        left = f"of the chat template all but plain turns in the form of {form.name}"
    return Plan(f"{model.name}:latest", {blob: model.path("weights")}, written, leaves=(left,))


def _by_role(model: StoredModel) -> dict[str, Path]:
    files = model.manifest.files
    return formats.by_role((entry.role, entry.name, model.paths[entry.name]) for entry in files)


def _parameters(model: StoredModel) -> str:
    """What a model sets for sampling as Ollama writes it; empty if nothing."""
    names = {**{name: name for name in NUMBERS}, "max_tokens": "num_predict"}
    facts = {there: model.fact(PRESET + here) for here, there in names.items()}
    chosen = {name: value for name, value in facts.items() if value is not None}
    if stop := model.fact(f"{PRESET}stop"):
        chosen["stop"] = msgspec.json.decode(str(stop))
    return msgspec.json.encode(chosen).decode() if chosen else ""


def find(root: Path) -> Iterator[Found]:
    """The models by name, as `ollama list` shows them."""
    walk = Walk(root)
    for host in walk.folders(root / MANIFESTS):
        for namespace in walk.folders(host):
            for model in walk.folders(namespace):
                for tag in walk.entries(model):
                    if tag.is_file() and walk.is_within(tag):
                        name = _shown(host.name, namespace.name, f"{model.name}:{tag.name}")
                        yield _model(walk, name, tag)


def _shown(host: str, namespace: str, name: str) -> str:
    if host != HOST:
        return f"{host}/{namespace}/{name}"
    return name if namespace == NAMESPACE else f"{namespace}/{name}"


def _model(walk: Walk, name: str, manifest: Path) -> Found:
    """One manifest with its layers; a refusal says what is wrong with it, or what it has that cannot be taken."""
    blank = Found("", plain_text(name), manifest, walk.root, "", 0)

    def refused(why: str) -> Found:
        return msgspec.structs.replace(blank, refusal=why)

    try:
        layers = msgspec.json.decode(_bytes(manifest, MAX_MANIFEST_BYTES), type=Listing).layers[:MAX_LAYERS]
    except (msgspec.DecodeError, UnicodeDecodeError, OSError, RecursionError):
        return refused("its manifest cannot be read")
    of = {kind: [layer for layer in layers if layer.media_type == LAYER + kind] for kind in _KINDS}
    if of["tensor"]:
        return refused("its weights are single tensors, not a GGUF file")
    if of["adapter"]:
        return refused("it is a base model with an adapter: pull both, and derive a model of them")
    if len(of["model"]) != 1:
        return refused(f"it has {len(of['model'])} files of weights")
    weights = _blob(walk, of["model"][0])
    if weights is None:
        return refused("its weights are not here")
    settings, left = _settings(walk, of)
    template = "".join(_texts(walk, of["template"][:1]))
    form = form_of(template)
    if form:
        left.insert(0, f"template (the GGUF header's is used; if it has none, plain turns in the form of {form.name})")
    elif template:
        left.insert(0, "template (written for Go; the GGUF header's is used)")
    return msgspec.structs.replace(
        blank,
        path=weights,
        format="gguf",
        size_bytes=weights.stat().st_size,
        file_name=re.sub(r"[^A-Za-z0-9._-]+", "-", name.removesuffix(":latest")).strip("-.") + ".gguf",
        digests={str(weights): of["model"][0].digest.replace("-", ":")},
        facts=settings,
        template=form.jinja if form else "",
        licence=_licence(walk, of["license"]),
        leaves=tuple(left),
    )


_KINDS = ("model", "adapter", "projector", "tensor", "template", "params", "system", "messages", "license")


def _settings(walk: Walk, of: dict[str, list[Layer]]) -> tuple[dict[str, Value], list[str]]:
    """What the layers set for requests, as facts of a manifest; and what of them does not come along."""
    facts: dict[str, Value] = {}
    left = ["projector (pictures)"] if of["projector"] else []
    for text in _texts(walk, of["params"]):
        parameters = _decoded(text, dict[str, Any], {})
        chosen, unknown = _sampling(parameters)
        facts |= chosen
        left += [f"parameter {plain_text(key, 40)}" for key in unknown]
    for text in _texts(walk, of["system"]):
        facts[f"{PRESET}system"] = text
    for text in _texts(walk, of["messages"]):
        turns = [turn for turn in _decoded(text, list[_Turn], []) if turn.role in ("system", "user", "assistant")]
        messages = tuple(Message(turn.role, (Text(turn.content),)) for turn in turns)  # type: ignore[arg-type]
        if messages:
            facts[f"{PRESET}messages"] = msgspec.json.encode(messages).decode()
    return facts, left


def _sampling(parameters: dict[str, Any]) -> tuple[dict[str, Value], list[str]]:
    """The parameters that hold for requests, and the names of the others."""
    facts: dict[str, Value] = {}
    unknown: list[str] = []
    for key, value in parameters.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if key in NUMBERS and is_number and abs(value) < 1 << 53:
            facts[PRESET + key] = NUMBERS[key](value)
        elif key == "num_predict" and is_number and 0 < value < 1 << 31:
            facts[f"{PRESET}max_tokens"] = int(value)
        elif key == "stop" and value and isinstance(value, str | list):
            stops = [text for text in ([value] if isinstance(value, str) else value) if isinstance(text, str) and text]
            facts[f"{PRESET}stop"] = msgspec.json.encode(stops[:64]).decode()
        else:
            unknown.append(key)
    return facts, unknown


def _licence(walk: Walk, layers: list[Layer]) -> str | None:
    """The first line of the first licence."""
    texts = _texts(walk, layers[:1])
    return plain_text(texts[0].strip().partition("\n")[0]) or None if texts else None


def _texts(walk: Walk, layers: list[Layer]) -> list[str]:
    """The texts of small layers; one that cannot be read is passed over."""
    found: list[str] = []
    for layer in layers[:8]:
        path = _blob(walk, layer)
        if path is not None:
            try:
                found.append(_bytes(path, MAX_TEXT_BYTES).decode())
            except (OSError, UnicodeDecodeError):
                continue
    return found


def _blob(walk: Walk, layer: Layer) -> Path | None:
    """The file of a layer, links followed; None if it is missing or lies elsewhere."""
    shape = _DIGEST.fullmatch(layer.digest)
    path = walk.root / BLOBS / f"sha256-{shape[1]}" if shape else None
    return path.resolve() if path is not None and path.is_file() and walk.is_within(path) else None


def _bytes(path: Path, max_bytes: int) -> bytes:
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise OSError(f"{path.name} is too large")
    return data


def _decoded(text: str, kind: Any, default: Any) -> Any:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, RecursionError):
        return default
