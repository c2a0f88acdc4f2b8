"""Which parameter of each Ollama route is honoured, ignored with a warning, or refused; docs/protocols shows it."""

from __future__ import annotations

from collections.abc import Mapping

from catena.reach.gateway.wire import Field, honoured, ignored, refused

_MODEL = honoured("`name` or `name:latest`, alias or manifest digest")
_NAME = honoured("the older name of `model`")
_KEEP = honoured("seconds, or a duration such as `5m`; 0 unloads, negative keeps; for callers with the scope `manage`")
_PLACED = "the scheduler places models by itself; see `run` in catena.toml"

OPTIONS: Mapping[str, Field] = {
    "num_predict": honoured(
        "tokens of the answer at most, or as many as the context holds; 0 and less mean no other limit"
    ),
    "temperature": honoured("0 to 2; 0 is greedy"),
    "top_k": honoured("whole number, 0 means all"),
    "top_p": honoured("above 0, to 1"),
    "min_p": honoured("0 to 1"),
    "repeat_penalty": honoured("above 0, to 2"),
    "presence_penalty": honoured("-2 to 2"),
    "frequency_penalty": honoured("-2 to 2"),
    "seed": honoured("whole number of 64 bits"),
    "stop": honoured("a string, or up to 16"),
    "num_ctx": honoured("accepted where it is what the model has here, else named in `catena-warning`"),
    "num_keep": ignored("nothing is cut from a prompt, so nothing has to be kept"),
    "repeat_last_n": ignored("the engine looks back 64 tokens", 64),
    "penalize_newline": ignored("the engine treats a new line like any token"),
    "mirostat": refused("the engine samples without it", 0),
    "mirostat_tau": ignored("without effect where mirostat is off"),
    "mirostat_eta": ignored("without effect where mirostat is off"),
    "typical_p": refused("the engine samples without it", 1),
    "tfs_z": refused("the engine samples without it", 1),
    "num_thread": ignored(_PLACED, 0),
    "num_batch": ignored(_PLACED),
    "num_gpu": ignored(_PLACED),
    "main_gpu": ignored(_PLACED, 0),
    "numa": ignored(_PLACED, False),
    "low_vram": ignored(_PLACED, False),
    "f16_kv": ignored(_PLACED, True),
    "use_mmap": ignored(_PLACED, True),
    "use_mlock": ignored(_PLACED, False),
    "vocab_only": refused("a model is loaded whole", False),
    "logits_all": ignored("ask for logprobs", False),
    "embedding_only": ignored("the model's task says what it does", False),
}

_ANSWERING: dict[str, Field] = {
    "model": _MODEL,
    "stream": honoured("true unless given: lines of JSON"),
    "format": honoured("`json`, or a JSON schema that refers to itself only"),
    "options": honoured("see the table of options"),
    "keep_alive": _KEEP,
    "think": honoured("true or false; low, medium, high and max mean true, named in `catena-warning`"),
    "logprobs": honoured("true or false"),
    "top_logprobs": honoured("0 to 20; needs logprobs"),
}

CHAT: Mapping[str, Field] = {
    **_ANSWERING,
    "messages": honoured("roles system, user, assistant, tool; without any, the model is loaded or unloaded"),
    "tools": honoured("functions, at most 128; arguments come and go as objects"),
    "tool_choice": honoured("extension: none, auto, required, or one function by name"),
}

GENERATE: Mapping[str, Field] = {
    **_ANSWERING,
    "prompt": honoured("a text; without one, the model is loaded or unloaded"),
    "suffix": honoured("text after the gap, for models that can fill one in"),
    "system": honoured("a system message before the prompt"),
    "images": honoured("base64, for models that see"),
    "raw": honoured("true continues the prompt without a chat template"),
    "template": refused("a template belongs to a model: make one with POST /api/create", ""),
    "context": refused("no token ids are given out to be sent back; use POST /api/chat", []),
    "width": refused("no model here makes pictures", 0),
    "height": refused("no model here makes pictures", 0),
    "steps": refused("no model here makes pictures", 0),
}

EMBED: Mapping[str, Field] = {
    "model": _MODEL,
    "input": honoured("a text, or up to 2048"),
    "dimensions": honoured("shorter vectors where the model was trained for them, else refused"),
    "truncate": ignored("an input that is too long is refused with both numbers, never cut", False),
    "options": ignored("an embedding has nothing to sample", {}),
    "keep_alive": _KEEP,
}

EMBEDDINGS: Mapping[str, Field] = {
    "model": _MODEL,
    "prompt": honoured("a text; the vector has length 1, as in /api/embed"),
    "options": ignored("an embedding has nothing to sample", {}),
    "keep_alive": _KEEP,
}

SHOW: Mapping[str, Field] = {
    "model": _MODEL,
    "name": _NAME,
    "verbose": ignored("everything that is known is shown", False),
    "system": ignored("nothing is overridden in what is shown", ""),
    "template": ignored("nothing is overridden in what is shown", ""),
    "options": ignored("nothing is overridden in what is shown", {}),
}

PULL: Mapping[str, Field] = {
    "model": honoured("a source as `catena pull` takes it; a path only from this machine's own user"),
    "name": _NAME,
    "stream": honoured("true unless given: lines of JSON"),
    "insecure": refused("what is fetched is always verified", False),
    "username": refused("credentials belong to pip's settings", ""),
    "password": refused("credentials belong to pip's settings", ""),
}

COPY: Mapping[str, Field] = {
    "source": honoured("a stored model"),
    "destination": honoured("letters, digits, dot, dash, underscore; no tag but `latest`"),
}

DELETE: Mapping[str, Field] = {
    "model": honoured("the name goes; files stay until `catena gc`"),
    "name": _NAME,
}

CREATE: Mapping[str, Field] = {
    "model": honoured("the new name; no tag but `latest`"),
    "name": _NAME,
    "from": honoured("a stored model; it becomes the parent, its files are shared"),
    "files": honoured("names and digests of files sent to /api/blobs: one of weights, and what belongs to it"),
    "adapters": honoured("names and digests of LoRA adapters sent to /api/blobs or stored already"),
    "template": honoured("a Jinja chat template; a Go template is refused"),
    "license": honoured("kept up to the end of its first line"),
    "system": honoured("a system message for requests without one"),
    "parameters": honoured("options that hold for requests that leave them open"),
    "messages": honoured("turns before those of a request"),
    "stream": honoured("true unless given: lines of JSON"),
    "quantize": refused("models are taken as they are", ""),
    "quantization": refused("models are taken as they are", ""),
    "modelfile": refused("send its parts as from, system, template, parameters, adapters, messages", ""),
    "path": refused("send its parts as from, system, template, parameters, adapters, messages", ""),
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
