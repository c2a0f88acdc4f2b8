"""The library's settings for a session: batches, context, prompt cache, and an HTTP side that nobody can reach."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from msgspec import Struct

from catena.core.errors import MissingExtraError
from catena.core.protocols import Placement, SessionFacts

try:
    import xllamacpp
except ModuleNotFoundError as error:
    raise MissingExtraError("xllamacpp", "llama") from error

# The wheel has no type stubs.
library: Any = xllamacpp
# A prompt is computed in batches of this many tokens. A request can be dropped, and the other slots get their turn,
# between two batches; on a CPU larger ones are no faster (docs/decisions/0005-engines.md).
BATCH_TOKENS = 128
# The library gives each slot a multiple of this.
CONTEXT_STEP = 256


class Files(Struct, frozen=True):
    """What the library reads: paths of weights and adapters, and a chat template if not the one in the weights."""

    weights: str
    adapters: tuple[str, ...] = ()
    template: str = ""


def parameters(name: str, files: Files, facts: SessionFacts, place: Placement, folder: Path) -> Any:
    """Settings for a session of `files`; its HTTP side listens on a socket in `folder` only, with a random key."""
    params = library.CommonParams()
    params.model.path = files.weights
    params.model_alias = {name}
    params.n_ctx = facts.slots * -(-facts.context_tokens // CONTEXT_STEP) * CONTEXT_STEP
    params.n_parallel = facts.slots
    params.kv_unified = False
    params.n_batch = params.n_ubatch = BATCH_TOKENS
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = place.threads
    params.n_gpu_layers = 0
    params.fit_params = False
    params.ctx_shift = False
    params.prefill_assistant = False
    params.cache_ram_mib = place.prompt_cache_bytes >> 20
    params.verbosity = 0
    params.hostnames = [str(folder / "llama.sock")]
    params.api_keys = [secrets.token_urlsafe(32)]
    params.n_threads_http = 1
    params.ui = False
    params.cors_origins = ""
    params.endpoint_slots = False
    params.endpoint_metrics = True
    params.lora_adapters = [_adapter(path) for path in files.adapters]
    if files.template:
        params.chat_template = files.template
    return params


def _adapter(path: str) -> Any:
    adapter = library.CommonAdapterLoraInfo()
    adapter.path = path
    adapter.scale = 0.0
    return adapter
