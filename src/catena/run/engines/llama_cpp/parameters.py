"""The library's settings for a session: batches, context, prompt cache, and an HTTP side that nobody can reach."""

from __future__ import annotations

import importlib.util
import os
import secrets
from importlib import metadata
from pathlib import Path
from typing import Any

from msgspec import Struct

from catena.core.errors import MissingExtraError
from catena.core.manifest import Task
from catena.core.protocols import Context, Placement, SessionFacts
from catena.store.formats import gguf

# Only looked for: the library is loaded in the processes of sessions.
if importlib.util.find_spec("xllamacpp") is None:
    raise MissingExtraError("xllamacpp", "llama")
VERSION = metadata.version("xllamacpp")
# A prompt is computed in batches of this many tokens. A request can be dropped, and the other slots get their turn,
# between two batches; on a CPU larger ones are no faster (docs/decisions/0005-engines.md).
BATCH_TOKENS = 128
FLASH_ATTENTION = 1  # llama.h, LLAMA_FLASH_ATTN_TYPE_ENABLED
POOLING_RANK = 4  # llama.h, LLAMA_POOLING_TYPE_RANK
# common.h, common_speculative_type.
DRAFT_SIMPLE, NGRAM_MAP = 1, 7
# So many tokens must stand in the text before, for so many that followed them to be guessed.
SAME_TOKENS, GUESSED_TOKENS = 4, 8
# llama.h, llama_rope_scaling_type.
ROPE_NONE, ROPE_YARN = 0, 2
# The library gives each slot a multiple of this.
CONTEXT_STEP = 256


class Files(Struct, frozen=True):
    """What the library reads: paths of weights, adapters, projector and draft model, a chat template if not the one in
    the weights, and the folder of states that outlive the session ("": none) with the names of those to begin with."""

    weights: str
    adapters: tuple[str, ...] = ()
    template: str = ""
    projector: str = ""
    draft: str = ""
    states_folder: str = ""
    states: tuple[str, ...] = ()


def settings(
    name: str, task: Task, files: Files, facts: SessionFacts, place: Placement, folder: Path
) -> dict[str, Any]:
    """Settings for a session of `files` that does `task`.

    Its HTTP side listens on a socket in `folder` only, with a random key.
    `parameters` are fields of the library's CommonParams by their dotted names.
    """
    parameters: dict[str, Any] = {
        "model.path": files.weights,
        "n_ctx": facts.slots * -(-facts.context_tokens // CONTEXT_STEP) * CONTEXT_STEP,
        "n_parallel": facts.slots,
        "kv_unified": False,
        "n_batch": BATCH_TOKENS,
        "n_ubatch": BATCH_TOKENS,
        "cpuparams.n_threads": place.threads,
        "cpuparams_batch.n_threads": place.threads,
        "n_gpu_layers": 0,
        "fit_params": False,
        "ctx_shift": False,
        "prefill_assistant": False,
        "cache_ram_mib": place.prompt_cache_bytes >> 20,
        "verbosity": 0,
        "hostnames": [str(folder / "llama.sock")],
        "api_keys": [secrets.token_urlsafe(32)],
        "n_threads_http": 1,
        "ui": False,
        "cors_origins": "",
        "endpoint_slots": False,
        "endpoint_metrics": True,
    }
    if task in ("embed", "rerank"):
        # What reads without writing takes a text in one piece.
        parameters |= {"embedding": True, "n_batch": facts.context_tokens, "n_ubatch": facts.context_tokens}
    if task == "rerank":
        parameters["pooling_type"] = POOLING_RANK
    if task == "generate" and place.kv_type != "f16":
        kind = next(number for number, kind in gguf.KINDS.items() if kind.name == place.kv_type.upper())
        parameters |= {"cache_type_k": kind, "cache_type_v": kind}
        if gguf.KINDS[kind].block > 1:
            # Values in blocks can be read by this way of computing attention only.
            parameters["flash_attn_type"] = FLASH_ATTENTION
    if files.projector:
        # What it cannot decode, the library would hand to a program `ffprobe` from the path, in case it is a film.
        parameters |= {"mmproj.path": files.projector, "mmproj_use_gpu": False, "video_ffmpeg_bin_dir": os.devnull}
    if files.draft:
        parameters |= {
            "speculative.types": [DRAFT_SIMPLE],
            "speculative.draft.mparams.path": files.draft,
            "speculative.draft.n_gpu_layers": 0,
            "speculative.draft.cpuparams.n_threads": place.threads,
            "speculative.draft.cpuparams_batch.n_threads": place.threads,
        }
    elif place.drafts_from_prompt:
        parameters |= {
            "speculative.types": [NGRAM_MAP],
            "speculative.ngram_map_k.size_n": SAME_TOKENS,
            "speculative.ngram_map_k.size_m": GUESSED_TOKENS,
        }
    if files.template:
        parameters["chat_template"] = files.template
    if files.states_folder:
        parameters["slot_save_path"] = f"{files.states_folder}{os.sep}"
    parameters |= _positions(place.context)
    return {"alias": name, "adapters": files.adapters, "parameters": parameters, "states": files.states}


def _positions(context: Context) -> dict[str, Any]:
    """How positions are scaled, where settings say so.

    The library holds a slot to what the model was trained for under every type but YaRN. Linear scaling is YaRN whose
    share of extrapolation is 0: all dimensions are interpolated, and attention keeps its temperature (Peng 2023, 3.2).
    """
    found: dict[str, Any] = {}
    if context.rope_base:
        found["rope_freq_base"] = context.rope_base
    if context.rope_scaling == "none":
        found["rope_scaling_type"] = ROPE_NONE
    elif context.rope_scaling:
        found |= {"rope_scaling_type": ROPE_YARN, "rope_freq_scale": 1 / context.rope_factor}
    if context.rope_scaling == "linear":
        found["yarn_ext_factor"] = 0.0
    return found
