"""What every PyTorch session needs of the libraries: devices by name, and weights loaded without any foreign code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from catena.core.errors import CatenaError, EngineError, FormatError, MissingExtraError, ResourceError
from catena.core.manifest import StoredModel
from catena.core.protocols import Placement

try:
    import torch  # pyright: ignore[reportMissingImports]
    import transformers  # pyright: ignore[reportMissingImports]
    from jinja2 import TemplateError as BadTemplate  # pyright: ignore[reportMissingImports]
except ModuleNotFoundError as error:
    raise MissingExtraError(error.name or "torch", "torch") from error

library: Any = torch
_models: Any = transformers
TemplateError = BadTemplate
_DEVICE = re.compile(r"(cpu|cuda|mps|xpu)(:\d+)?")
_models.utils.logging.set_verbosity_error()
_models.utils.logging.disable_progress_bar()
# What a model may lack because sessions do not use it.
_SPARE = "pooler."


def name() -> str:
    """The engine with its versions, as sessions state it."""
    return f"torch {library.__version__} transformers {_models.__version__}"


def device(wanted: str) -> Any:
    """The device called `wanted`: cpu, cuda, cuda:1, mps, xpu. Raises ResourceError naming those that are there."""
    present = devices()
    kind, _, number = wanted.partition(":")
    if not _DEVICE.fullmatch(wanted) or int(number or 0) >= present.get(kind, 0):
        there = ", ".join(kind if count == 1 else f"{kind}:0 to {kind}:{count - 1}" for kind, count in present.items())
        raise ResourceError(f"torch has no device {wanted!r} here", hint=f"there are: {there}")
    return library.device(wanted)


def devices() -> dict[str, int]:
    """How many devices of each kind PyTorch can compute on."""
    found = {"cpu": 1}
    for kind in ("cuda", "xpu"):
        part = getattr(library, kind, None)
        if part is not None and part.is_available():
            found[kind] = part.device_count()
    if library.backends.mps.is_available():
        found["mps"] = 1
    return found


def opened(model: StoredModel, placement: Placement, kind: str) -> Any:
    """The weights as a transformers model of the auto class `kind`, on the placement's device, ready to compute.

    On the CPU in 32 bits, as processors without bfloat16 are slow in it; elsewhere as they are stored. Raises
    FormatError for files that do not fit one another, ResourceError.
    """
    where = device(placement.device)
    dtype = library.float32 if where.type == "cpu" else "auto"
    try:
        found, told = getattr(_models, kind).from_pretrained(
            folder(model), dtype=dtype, output_loading_info=True, **_closed(), use_safetensors=True
        )
    except library.OutOfMemoryError as error:
        raise ResourceError(f"there is too little memory on {placement.device} for {model.name}") from error
    except MemoryError as error:
        raise ResourceError(f"there is too little memory for {model.name}") from error
    except Exception as error:
        # The library reads what a stranger wrote, and raises whatever it stumbles on.
        raise FormatError(f"transformers cannot load {model.name}", hint=verify_hint(model)) from error
    missing = [key for key in told["missing_keys"] if _SPARE not in key]
    if missing or told["mismatched_keys"]:
        # The library would go on with random numbers in their place.
        raise FormatError(
            f"{model.name} has not all of the weights that its config.json needs", hint=verify_hint(model)
        )
    try:
        return found.eval().to(where)
    except (library.OutOfMemoryError, RuntimeError) as error:
        raise ResourceError(f"there is too little memory on {placement.device} for {model.name}") from error


def new_cache(found: Any) -> Any:
    """An empty cache of keys and values for a loaded model."""
    return _models.DynamicCache(config=found.config)


def tokenizer(model: StoredModel) -> Any:
    """The model's tokenizer with its chat template. Raises FormatError."""
    try:
        return _models.AutoTokenizer.from_pretrained(folder(model), use_fast=True, **_closed())
    except Exception as error:
        raise FormatError(f"the tokenizer of {model.name} cannot be read", hint=verify_hint(model)) from error


def folder(model: StoredModel) -> str:
    """Where the files of the model lie beside one another."""
    path: Path = model.path("weights")
    return str(path.parent)


def weights_bytes(found: Any) -> int:
    """Bytes of the parameters and buffers of a loaded model, each counted once."""
    tensors = [*found.parameters(), *found.buffers()]
    return sum(one.numel() * one.element_size() for one in {id(one): one for one in tensors}.values())


def broken(error: Exception) -> CatenaError:
    """What a failure within the library is called."""
    if isinstance(error, library.OutOfMemoryError):
        return ResourceError("the device has too little memory for this request", hint="ask for less at a time")
    return EngineError("torch failed on an input")


def verify_hint(model: StoredModel) -> str:
    """What to do when a file is not what it should be."""
    return f"run `catena verify {model.name}`"


def _closed() -> dict[str, bool]:
    """Nothing is fetched, and nothing that came with the model is run."""
    return {"trust_remote_code": False, "local_files_only": True}
