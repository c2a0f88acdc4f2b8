"""SGLang, installed beside Catena: a server for each model, on a port of the loopback interface with a key of its own.

Its options: https://docs.sglang.io/advanced_features/server_arguments.html. It takes its key from its command line,
which anybody may read, or from a file of settings, which only its owner can.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from catena.core.messages import ToolChoice
from catena.run.served.connection import LOOPBACK
from catena.run.served.installation import Server
from catena.run.served.session import MODEL
from catena.run.served.starting import Kind, Launch, ServedEngine

RESERVED = frozenset(
    {
        *("host", "port", "api-key", "admin-api-key", "model", "model-path", "served-model-name", "trust-remote-code"),
        *(
            "config",
            "load-format",
            "device",
            "context-length",
            "max-running-requests",
            "is-embedding",
            "tokenizer-path",
        ),
        *("skip-tokenizer-init", "tokenizer-worker-num", "log-requests", "log-requests-level", "log-requests-target"),
        *("crash-dump-folder", "export-metrics-to-file", "revision", "download-dir", "fastapi-root-path", "grpc-mode"),
        *("smg-grpc-mode", "nnodes", "node-rank", "dist-init-addr", "disaggregation-mode", "tool-server", "model-type"),
        *("ssl-keyfile", "ssl-certfile", "ssl-ca-certs", "enable-trace", "otlp-traces-endpoint", "lora-paths"),
        *("checkpoint-engine-wait-weights-before-ready", "remote-instance-weight-loader-seed-instance-ip"),
    }
)
TOOLS_HINT = 'set run.sglang.arguments = ["--tool-call-parser", "NAME"]'


def build(launch: Launch) -> tuple[list[str], Mapping[str, str]]:
    """Arguments of `sglang.launch_server`, with its key in a file."""
    path = launch.private / "settings.yaml"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f'api-key: "{launch.key}"\n')
    arguments = [
        *("--config", str(path), "--model-path", str(launch.folder), "--served-model-name", MODEL),
        *("--host", LOOPBACK, "--port", str(launch.address.port), "--load-format", "safetensors"),
        # What torch calls cuda is ROCm where it was built for that.
        *("--device", "cpu" if launch.device == "cpu" else "cuda", "--max-running-requests", str(launch.slots)),
        *(["--context-length", str(launch.context_tokens)] if launch.context_tokens else []),
        *(["--is-embedding"] if launch.task == "embed" else []),
        *("--enable-cache-report", "--log-level-http", "warning"),
    ]
    return arguments, {"DISABLE_OPENAPI_DOC": "1"}


def lacking(arguments: tuple[str, ...], choice: ToolChoice) -> str:
    """Without a parser a call would come as text."""
    return "" if any(one.startswith("--tool-call-parser") for one in arguments) else TOOLS_HINT


KIND = Kind(
    server=Server("sglang", ("-m", "sglang.launch_server"), ("sglang", "serve"), RESERVED),
    title="SGLang",
    has_socket=False,
    quirks=frozenset(
        {"top_k", "min_p", "repetition_penalty", "ignore_eos", "chat_template_kwargs", "reasoning_content"}
    ),
    is_counting=False,
    build=build,
    lacking=lacking,
)


class Engine(ServedEngine):
    """SGLang as `[run.sglang]` describes it."""

    kind = KIND
