"""Which parameter of each Ollama route is honoured, ignored with a warning, or refused; docs/protocols shows it."""

from __future__ import annotations

from collections.abc import Mapping

from catena.reach.gateway.wire import Field


def _honoured(note: str) -> Field:
    return Field("honoured", note)


def _ignored(note: str, *harmless: object) -> Field:
    return Field("ignored", note, harmless)


def _refused(note: str, *harmless: object) -> Field:
    return Field("refused", note, harmless)


_MODEL = _honoured("`name` or `name:latest`, alias or manifest digest")
_NAME = _honoured("the older name of `model`")
_KEEP = _honoured("seconds, or a duration such as `5m`; 0 unloads, negative keeps; for callers with the scope `manage`")
_PLACED = "the scheduler places models by itself; see `run` in catena.toml"

OPTIONS: Mapping[str, Field] = {
    "num_predict": _honoured(
        "tokens of the answer at most, or as many as the context holds; 0 and less mean no other limit"
    ),
    "temperature": _honoured("0 to 2; 0 is greedy"),
    "top_k": _honoured("whole number, 0 means all"),
    "top_p": _honoured("above 0, to 1"),
    "min_p": _honoured("0 to 1"),
    "repeat_penalty": _honoured("above 0, to 2"),
    "presence_penalty": _honoured("-2 to 2"),
    "frequency_penalty": _honoured("-2 to 2"),
    "seed": _honoured("whole number of 64 bits"),
    "stop": _honoured("a string, or up to 16"),
    "num_ctx": _honoured("accepted where it is what the model has here, else named in `catena-warning`"),
    "num_keep": _ignored("nothing is cut from a prompt, so nothing has to be kept"),
    "repeat_last_n": _ignored("the engine looks back 64 tokens", 64),
    "penalize_newline": _ignored("the engine treats a new line like any token"),
    "mirostat": _refused("the engine samples without it", 0),
    "mirostat_tau": _ignored("without effect where mirostat is off"),
    "mirostat_eta": _ignored("without effect where mirostat is off"),
    "typical_p": _refused("the engine samples without it", 1),
    "tfs_z": _refused("the engine samples without it", 1),
    "num_thread": _ignored(_PLACED, 0),
    "num_batch": _ignored(_PLACED),
    "num_gpu": _ignored(_PLACED),
    "main_gpu": _ignored(_PLACED, 0),
    "numa": _ignored(_PLACED, False),
    "low_vram": _ignored(_PLACED, False),
    "f16_kv": _ignored(_PLACED, True),
    "use_mmap": _ignored(_PLACED, True),
    "use_mlock": _ignored(_PLACED, False),
    "vocab_only": _refused("a model is loaded whole", False),
    "logits_all": _ignored("ask for logprobs", False),
    "embedding_only": _ignored("the model's task says what it does", False),
}

_ANSWERING: dict[str, Field] = {
    "model": _MODEL,
    "stream": _honoured("true unless given: lines of JSON"),
    "format": _honoured("`json`, or a JSON schema that refers to itself only"),
    "options": _honoured("see the table of options"),
    "keep_alive": _KEEP,
    "think": _honoured("true or false; low, medium, high and max mean true, named in `catena-warning`"),
    "logprobs": _honoured("true or false"),
    "top_logprobs": _honoured("0 to 20; needs logprobs"),
}

CHAT: Mapping[str, Field] = {
    **_ANSWERING,
    "messages": _honoured("roles system, user, assistant, tool; without any, the model is loaded or unloaded"),
    "tools": _honoured("functions, at most 128; arguments come and go as objects"),
    "tool_choice": _honoured("extension: none, auto, required, or one function by name"),
}

GENERATE: Mapping[str, Field] = {
    **_ANSWERING,
    "prompt": _honoured("a text; without one, the model is loaded or unloaded"),
    "suffix": _honoured("text after the gap, for models that can fill one in"),
    "system": _honoured("a system message before the prompt"),
    "images": _honoured("base64, for models that see"),
    "raw": _honoured("true continues the prompt without a chat template"),
    "template": _refused("a template belongs to a model: make one with POST /api/create", ""),
    "context": _refused("no token ids are given out to be sent back; use POST /api/chat", []),
    "width": _refused("no model here makes pictures", 0),
    "height": _refused("no model here makes pictures", 0),
    "steps": _refused("no model here makes pictures", 0),
}

EMBED: Mapping[str, Field] = {
    "model": _MODEL,
    "input": _honoured("a text, or up to 2048"),
    "dimensions": _honoured("shorter vectors where the model was trained for them, else refused"),
    "truncate": _ignored("an input that is too long is refused with both numbers, never cut", False),
    "options": _ignored("an embedding has nothing to sample", {}),
    "keep_alive": _KEEP,
}

EMBEDDINGS: Mapping[str, Field] = {
    "model": _MODEL,
    "prompt": _honoured("a text; the vector has length 1, as in /api/embed"),
    "options": _ignored("an embedding has nothing to sample", {}),
    "keep_alive": _KEEP,
}

SHOW: Mapping[str, Field] = {
    "model": _MODEL,
    "name": _NAME,
    "verbose": _ignored("everything that is known is shown", False),
    "system": _ignored("nothing is overridden in what is shown", ""),
    "template": _ignored("nothing is overridden in what is shown", ""),
    "options": _ignored("nothing is overridden in what is shown", {}),
}

PULL: Mapping[str, Field] = {
    "model": _honoured("a source as `catena pull` takes it; a path only from this machine's own user"),
    "name": _NAME,
    "stream": _honoured("true unless given: lines of JSON"),
    "insecure": _refused("what is fetched is always verified", False),
    "username": _refused("credentials belong to pip's settings", ""),
    "password": _refused("credentials belong to pip's settings", ""),
}

COPY: Mapping[str, Field] = {
    "source": _honoured("a stored model"),
    "destination": _honoured("letters, digits, dot, dash, underscore; no tag but `latest`"),
}

DELETE: Mapping[str, Field] = {
    "model": _honoured("the name goes; files stay until `catena gc`"),
    "name": _NAME,
}

CREATE: Mapping[str, Field] = {
    "model": _honoured("the new name; no tag but `latest`"),
    "name": _NAME,
    "from": _honoured("a stored model; it becomes the parent, its files are shared"),
    "files": _honoured("names and digests of files sent to /api/blobs: one of weights, and what belongs to it"),
    "adapters": _honoured("names and digests of LoRA adapters sent to /api/blobs or stored already"),
    "template": _honoured("a Jinja chat template; a Go template is refused"),
    "license": _honoured("kept up to the end of its first line"),
    "system": _honoured("a system message for requests without one"),
    "parameters": _honoured("options that hold for requests that leave them open"),
    "messages": _honoured("turns before those of a request"),
    "stream": _honoured("true unless given: lines of JSON"),
    "quantize": _refused("models are taken as they are", ""),
    "quantization": _refused("models are taken as they are", ""),
    "modelfile": _refused("send its parts as from, system, template, parameters, adapters, messages", ""),
    "path": _refused("send its parts as from, system, template, parameters, adapters, messages", ""),
}

TABLES: Mapping[str, Mapping[str, Field]] = {
    "POST /api/chat": CHAT,
    "POST /api/generate": GENERATE,
    "options": OPTIONS,
    "POST /api/embed": EMBED,
    "POST /api/embeddings": EMBEDDINGS,
    "POST /api/show": SHOW,
    "POST /api/pull": PULL,
    "POST /api/copy": COPY,
    "DELETE /api/delete": DELETE,
    "POST /api/create": CREATE,
}
