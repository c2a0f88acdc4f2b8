"""In what the services that follow OpenAI's reference differ from it, one word each."""

from __future__ import annotations

NAME = "openai"
# Sampling as the API names it; what else a server takes are its quirks.
STANDARD = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "seed", "logit_bias")
FURTHER = {
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
    "repeat_penalty": "repeat_penalty",
    "ignore_eos": "ignore_eos",
    "random_seed": "seed",
}
MISSING = {
    "no_seed": ("seed",),
    "no_logit_bias": ("logit_bias",),
    "no_penalties": ("presence_penalty", "frequency_penalty"),
}
THINKING = ("enable_thinking", "chat_template_kwargs", "thinking_type", "reasoning_effort", "reasoning_enabled")
OTHER = (
    *("api_key_header", "max_completion_tokens", "no_stream_options", "no_json_schema", "no_logprobs"),
    *("grammar", "reasoning_content", "auto_tool_choice", "no_message_name"),
)
QUIRKS = frozenset((*FURTHER, *MISSING, *THINKING, *OTHER))
