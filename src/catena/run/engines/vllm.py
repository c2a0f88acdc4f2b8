"""vLLM, installed beside Catena: a server for each model, behind a socket in a folder of its owner only.

Its options: https://docs.vllm.ai/en/latest/cli/serve/. Its key guards some of its routes only
(https://docs.vllm.ai/en/latest/usage/security/), so it listens where nobody else can connect.
"""

from __future__ import annotations

from collections.abc import Mapping

from catena.core.messages import ToolChoice
from catena.run.served.installation import Server
from catena.run.served.session import MODEL
from catena.run.served.starting import Kind, Launch, ServedEngine

RESERVED = frozenset(
    {
        *("host", "port", "uds", "api-key", "model", "served-model-name", "trust-remote-code", "config", "load-format"),
        *(
            "root-path",
            "middleware",
            "headless",
            "grpc",
            "runner",
            "task",
            "max-model-len",
            "max-num-seqs",
            "tokenizer",
        ),
        *(
            "enable-log-requests",
            "enable-log-outputs",
            "max-log-len",
            "log-config-file",
            "log-error-stack",
            "tool-server",
        ),
        *("uvicorn-log-level", "revision", "code-revision", "tokenizer-revision", "hf-token", "download-dir"),
        *("allowed-local-media-path", "allowed-media-domains", "trust-request-chat-template", "lora-modules"),
        *("ssl-keyfile", "ssl-certfile", "ssl-ca-certs", "ssl-cert-reqs", "enable-ssl-refresh", "tokens-only"),
        *(
            "enable-tokenizer-info-endpoint",
            "otlp-traces-endpoint",
            "data-parallel-address",
            "master-addr",
            "node-rank",
        ),
    }
)
TOOLS_HINT = 'set run.vllm.arguments = ["--enable-auto-tool-choice", "--tool-call-parser", "NAME"]'


def build(launch: Launch) -> tuple[list[str], Mapping[str, str]]:
    """Arguments of `vllm serve`, and the variables that hold what nobody may read off a command line."""
    arguments = [
        "serve",
        str(launch.folder),
        *("--served-model-name", MODEL, "--uds", launch.address.socket, "--load-format", "safetensors"),
        *("--runner", "pooling" if launch.task == "embed" else "generate", "--max-num-seqs", str(launch.slots)),
        *(["--max-model-len", str(launch.context_tokens)] if launch.context_tokens else []),
        *("--enable-prompt-tokens-details", "--disable-uvicorn-access-log", "--disable-fastapi-docs"),
    ]
    hidden = {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": ""} if launch.device == "cpu" else {}
    own = {
        "VLLM_API_KEY": launch.key,
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_DO_NOT_TRACK": "1",
        "VLLM_HOST_IP": "127.0.0.1",
    }
    return arguments, {**own, **hidden}


def lacking(arguments: tuple[str, ...], choice: ToolChoice) -> str:
    """A call that must be made is read by its grammar; one that may be made needs a parser."""
    is_set = any(one.startswith("--tool-call-parser") for one in arguments) and "--enable-auto-tool-choice" in arguments
    return "" if is_set or choice.mode in ("required", "named") else TOOLS_HINT


KIND = Kind(
    server=Server("vllm", ("-m", "vllm.entrypoints.cli.main"), ("vllm",), RESERVED),
    title="vLLM",
    has_socket=True,
    quirks=frozenset(
        {"top_k", "min_p", "repetition_penalty", "ignore_eos", "chat_template_kwargs", "reasoning_content"}
    ),
    is_counting=True,
    build=build,
    lacking=lacking,
)


class Engine(ServedEngine):
    """vLLM as `[run.vllm]` describes it."""

    kind = KIND
