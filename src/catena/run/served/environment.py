"""The environment that a model server gets: what hardware and libraries need, no secrets, no way out, no telemetry."""

from __future__ import annotations

from collections.abc import Mapping

# Whole names, and beginnings of names, that may be passed on.
_NAMES = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TERM", "LD_LIBRARY_PATH"),
        *("XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "VIRTUAL_ENV", "CONDA_PREFIX", "CC", "CXX", "CUDAHOSTCXX"),
    }
)
_BEGINNINGS = (
    *("LC_", "CUDA", "NVIDIA_", "NCCL_", "ROCM_", "ROCR_", "HIP_", "HSA_", "RCCL_", "GPU_", "MIOPEN_", "AITER_"),
    *("OMP_", "MKL_", "KMP_", "TORCH", "PYTORCH_", "TRITON_", "FLASHINFER_", "VLLM_", "SGLANG_", "SGL_"),
)
_SECRET = ("KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL")
# Of the servers' own variables, those that print requests, open debugging routes, unpickle, or fetch.
_DENIED = frozenset(
    {
        *(
            "VLLM_SERVER_DEV_MODE",
            "VLLM_DEBUG_LOG_API_SERVER_RESPONSE",
            "VLLM_LOGGING_CONFIG_PATH",
            "VLLM_USE_MODELSCOPE",
        ),
        *("VLLM_ALLOW_INSECURE_SERIALIZATION", "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "VLLM_TRACE_FUNCTION"),
        *("SGLANG_USE_MODELSCOPE", "SGLANG_LOG_REQUESTS", "SGLANG_HOST_IP"),
    }
)
_FIXED = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "PYTHONUNBUFFERED": "1",
    "PYTHONNOUSERSITE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def scrubbed(environ: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """The part of `environ` that a server may see, with what it must; `own` are the server's own variables."""
    passed = {
        name: value
        for name, value in environ.items()
        if (name in _NAMES or name.startswith(_BEGINNINGS))
        and name not in _DENIED
        and not any(word in name.upper() for word in _SECRET)
    }
    return {**passed, **_FIXED, **own}
