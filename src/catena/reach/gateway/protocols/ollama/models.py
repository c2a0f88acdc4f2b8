"""GET /api/tags, /api/ps and /api/version, POST /api/show: what is stored, what is loaded, what each can do."""

from __future__ import annotations

import math
from typing import Any

import anyio.to_thread
from msgspec import Struct

from catena import __version__
from catena.core.clock import iso, now_ns
from catena.core.errors import MissingExtraError, NotFoundError
from catena.core.manifest import Manifest
from catena.core.messages import message_text
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.native import answer_json
from catena.reach.gateway.protocols.ollama import asking, fields
from catena.reach.gateway.protocols.ollama.reading import read, stored_name
from catena.reach.gateway.services import Listed
from catena.reach.presets import PARAMETERS, Preset
from catena.reach.router import DEFAULT

# Front ends read this as the version of the protocol, and some refuse one below 0.6.4.
PROTOCOL_VERSION = "0.12.11"
ASKABLE = ("generate", "embed")
# Stands for "as long as it can": a time that every client can read.
FAR_S = 100 * 365 * 86_400
# Our words for sampling, in this protocol's.
OPTION = {name: name for name in PARAMETERS} | {"max_tokens": "num_predict"}


class ShowWire(Struct, frozen=True):
    model: str


async def version(exchange: Exchange) -> None:
    """GET /api/version."""
    await answer_json(exchange, {"version": PROTOCOL_VERSION, "catena": __version__})


async def list_models(exchange: Exchange) -> None:
    """GET /api/tags: every model that this protocol can ask."""
    rows = [row for row in exchange.services.models() if row.manifest.task in ASKABLE]
    await answer_json(exchange, {"models": [_tag(row) for row in rows]})


async def list_loaded(exchange: Exchange) -> None:
    """GET /api/ps: the models in memory; `expires_at` holds if nobody uses them meanwhile."""
    manifests = {row.digest: row.manifest for row in exchange.services.models()}
    found: list[dict[str, Any]] = []
    for session in asking.sessions_of(exchange).loaded():
        left_s = FAR_S if session.unload_in_s is None else min(session.unload_in_s, FAR_S)
        manifest = manifests.get(session.digest)
        found.append(
            {
                "name": f"{session.model}:latest",
                "model": f"{session.model}:latest",
                "size": session.memory_bytes,
                "digest": session.digest.removeprefix("sha256:"),
                "details": details(manifest) if manifest else {},
                "expires_at": iso(now_ns() + math.ceil(left_s * 1e9)),
                "size_vram": 0,
                "context_length": session.context_tokens,
            }
        )
    await answer_json(exchange, {"models": found})


async def show_model(exchange: Exchange) -> None:
    """POST /api/show: one model by name, alias or digest."""
    wire = await read(exchange, fields.SHOW, ShowWire)
    with asking.known(wire.model):
        row = _find(exchange, stored_name(wire.model))
        template = ""
        if row.manifest.chat_template_digest is not None:
            if exchange.services.intake is None:
                raise MissingExtraError("the store", "local")
            template = await anyio.to_thread.run_sync(exchange.services.intake.chat_template, row.name)
    preset = Preset.of(row.manifest)
    form: dict[str, Any] = {
        "license": row.manifest.licence,
        "modelfile": _modelfile(row, preset, template),
        "parameters": "\n".join(f"{name:<30} {value}" for name, value in _parameters(preset)),
        "template": template,
        "details": details(row.manifest),
        "model_info": model_info(row.manifest),
        "capabilities": capabilities(row.manifest, template),
        "modified_at": _modified(row),
    }
    if preset.system:
        form["system"] = preset.system
    if preset.messages:
        form["messages"] = [{"role": turn.role, "content": message_text(turn)} for turn in preset.messages]
    await answer_json(exchange, form)


def details(manifest: Manifest) -> dict[str, Any]:
    """What a list shows of a model."""
    family = str(manifest.facts.get("architecture", ""))
    is_derived = manifest.provenance.source.startswith("model:")
    return {
        "parent_model": manifest.provenance.source.removeprefix("model:") if is_derived else "",
        "format": manifest.format,
        "family": family,
        "families": [family] if family else [],
        "parameter_size": size_text(int(manifest.facts.get("parameters", 0))),
        "quantization_level": str(manifest.facts.get("quantisation", "")),
    }


def size_text(num_parameters: int) -> str:
    """Parameters in a person's words: 134515008 → `134.52M`."""
    for number, letter in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if num_parameters >= number:
            places = 2 if letter == "M" else 1
            return f"{num_parameters / number:.{places}f}{letter}"
    return str(num_parameters) if num_parameters else ""


def model_info(manifest: Manifest) -> dict[str, Any]:
    """The facts of the manifest under the names that GGUF gives them; what is not known is left out."""
    family = str(manifest.facts.get("architecture", "")) or "general"
    names = {
        "architecture": "general.architecture",
        "title": "general.name",
        "parameters": "general.parameter_count",
        "context_tokens": f"{family}.context_length",
        "embedding_width": f"{family}.embedding_length",
        "layers": f"{family}.block_count",
        "vocabulary": f"{family}.vocab_size",
        "pooling": f"{family}.pooling",
    }
    return {name: manifest.facts[fact] for fact, name in names.items() if fact in manifest.facts}


def capabilities(manifest: Manifest, template: str) -> list[str]:
    """What the model can do here. Tools need a chat template, pictures a projector; nothing fills in a suffix."""
    if manifest.task == "embed":
        return ["embedding"]
    if manifest.task != "generate":
        return []
    found = ["completion"]
    if template:
        found.append("tools")
    if "enable_thinking" in template or "<think>" in template:
        found.append("thinking")
    if "image" in str(manifest.facts.get("modalities", "")).split():
        found.append("vision")
    return found


def _find(exchange: Exchange, name: str) -> Listed:
    if name == DEFAULT:
        name = exchange.services.settings.default_model or name
    for row in exchange.services.models():
        if name in (row.name, row.digest, row.digest.removeprefix("sha256:")):
            return row
    raise NotFoundError("there is no such model", param="model")


def _tag(row: Listed) -> dict[str, Any]:
    return {
        "name": f"{row.name}:latest",
        "model": f"{row.name}:latest",
        "modified_at": _modified(row),
        "size": sum(entry.size_bytes for entry in row.manifest.files),
        "digest": row.digest.removeprefix("sha256:"),
        "details": details(row.manifest),
    }


def _modified(row: Listed) -> str:
    return iso(getattr(row, "added_at_ns", 0))


def _parameters(preset: Preset) -> list[tuple[str, str]]:
    """What the preset sets of sampling, each stop text by itself."""
    found: list[tuple[str, str]] = []
    for name in PARAMETERS:
        value = getattr(preset.sampling, name)
        if name == "stop":
            found += [("stop", f'"{text}"') for text in value]
        elif value is not None:
            found.append((OPTION[name], f"{value:g}" if isinstance(value, float) else str(value)))
    return found


def _modelfile(row: Listed, preset: Preset, template: str) -> str:
    """A Modelfile that says the same."""
    lines = [f"# made by catena {__version__}", f"FROM {row.name}"]
    if template:
        lines.append(f'TEMPLATE """{template}"""')
    if preset.system:
        lines.append(f'SYSTEM """{preset.system}"""')
    lines += [f"PARAMETER {name} {value}" for name, value in _parameters(preset)]
    lines += [f"ADAPTER {name}" for name in preset.adapters]
    lines += [f'MESSAGE {turn.role} """{message_text(turn)}"""' for turn in preset.messages]
    return "\n".join(lines) + "\n"
