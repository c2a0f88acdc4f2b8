"""Every setting of Catena: one frozen struct per stage, each field with default, unit in its name, bounds."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

Port = Annotated[int, Meta(ge=0, le=65535)]
Count = Annotated[int, Meta(ge=1)]
Whole = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0)]


class StoreSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[store]"""

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


class RunSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[run] `threads` 0 = the cores owned; `memory_bytes` 0 = what is free; `context_tokens` 0 = the model's own.

    `batch_window_s` is the longest that a prediction waits for others to be computed with it, `batch_rows` how many
    rows that may be (1: every request by itself).
    """

    threads: Whole = 0
    memory_bytes: Whole = 0
    slots: Annotated[int, Meta(ge=1, le=256)] = 4
    context_tokens: Whole = 0
    idle_unload_s: Seconds = 900.0
    queue_limit: Count = 256
    load_timeout_s: Seconds = 300.0
    prompt_cache_bytes: Whole = 256 << 20
    batch_window_s: Annotated[float, Meta(ge=0, le=1)] = 0.001
    batch_rows: Annotated[int, Meta(ge=1, le=4096)] = 64
    vllm: ServedSettings = ServedSettings()
    sglang: ServedSettings = ServedSettings()


class ProviderSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[[reach.providers]] One remote end: its models are called `NAME/model`, and asked only by that name.

    `service` names a row of reach/cloud/services.toml, which gives what is left out here. The key is never a setting:
    `key_env` names the variable it is in, `key_keyring` its entry (`SERVICE/USER`) in the system's keyring. `models`
    are patterns (`*`, `?`, `[…]`). `quirks` replace the service's. `price_in` and `price_out` are per million tokens,
    in `currency`. `idle_timeout_s` is the longest silence within an answer. `ca_file` holds certificates (PEM) of
    authorities that are trusted besides the system's; `proxy` is a tunnel for `https://`, and sees no content.
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

    gRPC is served on `grpc_port` of the same host, if one is set; a client may have `grpc_streams` calls at a time on
    each of its connections.

    Answers that callers want kept stay for `responses_keep_s` (0: none is kept), of each key the newest that fit in
    `responses_bytes`. Each key may have `background_limit` pieces of work in the background, which end after
    `background_timeout_s`.

    Each key may leave `uploads_limit` files here, each up to `upload_bytes` and all together up to `uploads_bytes`. A
    batch has at most `batch_lines` requests; `batch_concurrency` of them run at a time, over all batches.
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
    responses_bytes: Count = 256 << 20
    background_limit: Count = 16
    background_timeout_s: Seconds = 3600.0
    providers: tuple[ProviderSettings, ...] = ()
    uploads_limit: Count = 10_000
    upload_bytes: Count = 512 << 20
    uploads_bytes: Count = 16 << 30
    batch_lines: Count = 50_000
    batch_concurrency: Annotated[int, Meta(ge=1, le=256)] = 2


class WatchSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[watch] The audit log. `batch_records` bounds one group commit."""

    batch_records: Count = 1024


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """catena.toml: one section per stage."""

    store: StoreSettings = StoreSettings()
    run: RunSettings = RunSettings()
    reach: ReachSettings = ReachSettings()
    watch: WatchSettings = WatchSettings()
