"""Every setting of Catena: one frozen struct per stage, each field with default, unit in its name, bounds."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

Port = Annotated[int, Meta(ge=0, le=65535)]
Count = Annotated[int, Meta(ge=1)]
Whole = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0)]
CacheType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]


class StoreSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[store] What may come in: files of up to `max_file_bytes`, archives and folders of up to `max_entries` files.

    A download may take `pull_timeout_s` in all.
    """

    max_file_bytes: Count = 1 << 40
    max_entries: Count = 65_536
    pull_timeout_s: Seconds = 1800.0


class ServedSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[run.vllm], [run.sglang] A model server that is installed in an environment of its own (docs/guides/gpu-engines).

    `python` is the interpreter of that environment; "": the server's own program is looked for on PATH. `arguments`
    are added to its command line. `device` "": what this machine has. `slots` requests run at a time.
    """

    python: str = ""
    arguments: tuple[str, ...] = ()
    device: Literal["", "cuda", "rocm", "cpu"] = ""
    slots: Annotated[int, Meta(ge=1, le=4096)] = 64


class ContextSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[run.contexts.NAME] The context of the model called NAME, where it is not what `run.context_tokens` says.

    `tokens` 0: `run.context_tokens`. A model reads further than it was trained for only if its rotary positions are
    scaled, `rope_factor` times, by a `rope_scaling`: `linear` (Chen 2023, position interpolation) or `yarn` (Peng
    2023); `none` takes away a scaling that the model brings along, "" leaves it. `rope_base` is theta of RoPE (0: the
    model's own).
    """

    tokens: Whole = 0
    rope_scaling: Literal["", "none", "linear", "yarn"] = ""
    rope_factor: Annotated[float, Meta(ge=1, le=64)] = 1.0
    rope_base: Annotated[float, Meta(ge=0, le=1e12)] = 0.0


class RunSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[run] `threads` 0 = the cores owned; `memory_bytes` 0 = what is free; `context_tokens` 0 = the model's own.

    A session answers `slots` requests at a time, is loaded within `load_timeout_s`, and leaves the memory after
    `idle_unload_s` without a request. `queue_limit` requests may wait for one. llama.cpp keeps the states of prompts
    for their next turn, up to `prompt_cache_bytes`, and the keys and values of a context as numbers of `kv_type`.

    `drafts` names for a model a smaller one with the same vocabulary, whose guesses it checks several at a time, or
    `prompt`: guesses are then what followed the same words before. Its answers do not change, only their speed.

    `batch_window_s` is the longest that a prediction waits for others to be computed with it, `batch_rows` how many
    rows that may be (1: every request by itself).

    `devices` names for an engine the device that it loads models on (`openvino`: `cpu`, `gpu`, `gpu.1`, `npu`, `auto`;
    `torch`: `cpu`, `cuda`, `cuda:1`, `xpu`, `mps`); an engine that it does not name uses the CPU.

    When llama.cpp unloads a model, the states of the conversations in its slots are kept in the state folder for the
    next load, up to `kept_prompts_bytes` over all models. They hold what was said. 0: none is written, and those there
    are deleted. `contexts`, `vllm` and `sglang` are tables of their own, see below.
    """

    threads: Whole = 0
    memory_bytes: Whole = 0
    slots: Annotated[int, Meta(ge=1, le=256)] = 4
    context_tokens: Whole = 0
    idle_unload_s: Seconds = 900.0
    queue_limit: Count = 256
    load_timeout_s: Seconds = 300.0
    prompt_cache_bytes: Whole = 256 << 20
    kv_type: CacheType = "f16"
    kept_prompts_bytes: Whole = 0
    drafts: dict[str, str] = {}
    devices: dict[str, str] = {}
    contexts: dict[str, ContextSettings] = {}
    batch_window_s: Annotated[float, Meta(ge=0, le=1)] = 0.001
    batch_rows: Annotated[int, Meta(ge=1, le=4096)] = 64
    vllm: ServedSettings = ServedSettings()
    sglang: ServedSettings = ServedSettings()


class ProviderSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[[reach.providers]] One remote end: its models are called `NAME/model`, and asked only by that `name`.

    `service` names a row of reach/cloud/services.toml, which gives what is left out here: `kind`, the dialect it
    speaks, `base_url`, and the `quirks` of the service. The key is never a setting: `key_env` names the variable it is
    in, `key_keyring` its entry (`SERVICE/USER`) in the system's keyring. `models` are patterns (`*`, `?`, `[…]`).
    `price_in` and `price_out` are per million tokens, in `currency`.

    The end is reached by TLS unless `allow_plain_http`; `ca_file` holds certificates (PEM) of authorities that are
    trusted besides the system's; `proxy` is a tunnel for `https://`, and sees no content. `connect_timeout_s` bounds
    the way there, `first_byte_timeout_s` the wait for an answer, `idle_timeout_s` the silence within it, and
    `max_answer_bytes` its size.
    """

    name: str
    kind: str = ""
    base_url: str = ""
    service: str = ""
    key_env: str = ""
    key_keyring: str = ""
    models: tuple[str, ...] = ("*",)
    quirks: tuple[str, ...] | None = None
    allow_plain_http: bool = False
    ca_file: str = ""
    proxy: str = ""
    connect_timeout_s: Annotated[float, Meta(gt=0)] = 10.0
    first_byte_timeout_s: Annotated[float, Meta(gt=0)] = 300.0
    idle_timeout_s: Annotated[float, Meta(gt=0)] = 120.0
    max_answer_bytes: Count = 64 << 20
    price_in: Annotated[float, Meta(ge=0)] | None = None
    price_out: Annotated[float, Meta(ge=0)] | None = None
    currency: str = ""


class ReachSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[reach] The door: where it listens, who may come in, and how much of everything is allowed.

    It listens at `host` and `port` (0: one that is free). Beside the names of this machine, requests may be for
    `allowed_hosts`; pages of `cors_origins` may ask. `default_model` is what the name `default` stands for. gRPC is
    served on `grpc_port` of the same host, if one is set; a client may have `grpc_streams` calls at a time on each of
    its connections. `providers` are the remote ends, see below.

    Of `max_connections` connections, each request has at most `max_header_bytes` of headers, `max_body_bytes` of body
    and `max_json_depth` levels of JSON; headers arrive within `header_timeout_s`, a body within `body_timeout_s`, and
    all is over within `request_timeout_s`. A connection without requests is closed after `keep_alive_s`; a stream
    without news shows a sign of life every `ping_s`. Whoever is still asking when the gateway stops has `drain_s`.

    Answers that callers want kept stay for `responses_keep_s` (0: none is kept), of each key the newest that fit in
    `max_responses_bytes`. Each key may have `max_background` pieces of work in the background, which end after
    `background_timeout_s`.

    Each key may leave `max_uploads` files here, each up to `max_upload_bytes` and all together up to
    `max_uploads_bytes`. A batch has at most `max_batch_lines` requests; `batch_concurrency` of them run at a time, over
    all batches.

    Of what leaves for a provider, the audit log always holds the digest; `keep_egress` "bytes" also keeps it whole,
    encrypted on this machine, for `catena egress replay`.

    What is kept here (answers, files, batches) is encrypted; `vault` says where the key of all keys is: in a `file` of
    this machine, in the system's `keyring`, or nowhere: it is derived from a `passphrase`, which is read from the
    variable `passphrase_env` at start, or asked for on a terminal.
    """

    host: str = "127.0.0.1"
    port: Port = 7411
    default_model: str = "smollm2-135m-instruct"
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    max_body_bytes: Count = 16 << 20
    max_header_bytes: Count = 32 << 10
    max_json_depth: Count = 64
    header_timeout_s: Seconds = 10.0
    body_timeout_s: Seconds = 60.0
    request_timeout_s: Seconds = 600.0
    keep_alive_s: Seconds = 75.0
    ping_s: Annotated[float, Meta(gt=0)] = 5.0
    drain_s: Seconds = 30.0
    max_connections: Count = 1024
    grpc_port: Port | None = None
    grpc_streams: Annotated[int, Meta(ge=1, le=65536)] = 128
    responses_keep_s: Seconds = 2_592_000.0
    max_responses_bytes: Count = 256 << 20
    max_background: Count = 16
    background_timeout_s: Seconds = 3600.0
    providers: tuple[ProviderSettings, ...] = ()
    max_uploads: Count = 10_000
    max_upload_bytes: Count = 512 << 20
    max_uploads_bytes: Count = 16 << 30
    max_batch_lines: Count = 50_000
    batch_concurrency: Annotated[int, Meta(ge=1, le=256)] = 2
    keep_egress: Literal["digest", "bytes"] = "digest"
    vault: Literal["file", "keyring", "passphrase"] = "file"
    passphrase_env: str = "CATENA_PASSPHRASE"  # noqa: S105 - the name of a variable


class WatchSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[watch] The audit log. `batch_records` bounds one group commit."""

    batch_records: Count = 1024


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """catena.toml: one section per stage."""

    store: StoreSettings = StoreSettings()
    run: RunSettings = RunSettings()
    reach: ReachSettings = ReachSettings()
    watch: WatchSettings = WatchSettings()
