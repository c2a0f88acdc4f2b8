"""What becomes of each parameter, tool, item and part of the Responses routes; docs/reference shows it."""

from __future__ import annotations

from collections.abc import Mapping

from catena.reach.gateway.protocols.openai.fields import SAMPLING
from catena.reach.gateway.wire import Field


def _honoured(note: str) -> Field:
    return Field("honoured", note)


def _ignored(note: str, *harmless: object) -> Field:
    return Field("ignored", note, harmless)


def _refused(note: str, *harmless: object) -> Field:
    return Field("refused", note, harmless)


_HOSTED = "nothing of the kind runs here; give the model a function instead"
_SHARED_PREFIX = "prompts with a common beginning share it by themselves"
_NO_CONVERSATIONS = "there are no conversation objects; go on with previous_response_id, or send the items"

_ASKED: Mapping[str, Field] = {
    "model": _honoured("name, alias or manifest digest"),
    "input": _honoured("a text, or a list of items"),
    "instructions": _honoured("a system message before everything; not carried over by previous_response_id"),
    "previous_response_id": _honoured("a kept response of the same key, with its own predecessors"),
    "conversation": _refused(_NO_CONVERSATIONS),
    "reasoning": _honoured("see below"),
    "text": _honoured("see below"),
    "tools": _honoured("functions, at most 128; see below"),
    "tool_choice": _honoured("none, auto, required, one function, or allowed_tools with mode and functions"),
    "parallel_tool_calls": _honoured("true or false"),
    "truncation": _ignored("input that is too long is refused with both numbers, never cut", "disabled"),
}

CREATE: Mapping[str, Field] = {
    **_ASKED,
    "max_output_tokens": _honoured("1 or more, reasoning included; what it cuts is `incomplete`"),
    "temperature": SAMPLING["temperature"],
    "top_p": SAMPLING["top_p"],
    "top_logprobs": _honoured("0 to 20; comes with log probabilities also without include"),
    "include": _honoured("see below"),
    "store": _honoured("true if not given; kept for `reach.responses_keep_s`"),
    "background": _honoured("needs store"),
    "stream": SAMPLING["stream"],
    "stream_options": _honoured("include_obfuscation only as false"),
    "metadata": _honoured("up to 16 texts, kept with the response"),
    "max_tool_calls": _honoured("bounds calls of hosted tools, of which there are none"),
    **{
        name: SAMPLING[name]
        for name in (
            *("top_k", "min_p", "presence_penalty", "frequency_penalty", "repeat_penalty", "repetition_penalty"),
            *("seed", "stop", "logit_bias", "ignore_eos", "adapters", "grammar"),
        )
    },
    "user": _ignored("the caller is known by its API key", ""),
    "safety_identifier": _ignored("the caller is known by its API key", ""),
    "prompt_cache_key": _ignored(_SHARED_PREFIX, ""),
    "prompt_cache_options": _ignored(_SHARED_PREFIX, {}),
    "prompt_cache_retention": _ignored("the cache lives in memory only", "in_memory", "in-memory"),
    "service_tier": _ignored("there is one tier", "auto", "default"),
    "access_programs": _ignored("there are no programs", {}),
    "image": _ignored("images are passed to the model as they are", {}),
    "background_options": _ignored("work in the background begins at once", {}, {"completion_window": "soonest"}),
    "context_management": _refused("conversations are never shortened here", []),
    "prompt": _refused("no prompt templates are kept here; send instructions and input"),
    "moderation": _refused("no moderation model runs here, and a wish for safety is not ignored"),
}

COUNT: Mapping[str, Field] = {
    **_ASKED,
    "personality": _ignored("say it in instructions"),
}

REASONING: Mapping[str, Field] = {
    "effort": _honoured("none turns reasoning off, any other turns it on, where the model can"),
    "summary": _honoured("the reasoning then comes whole in `summary`, with a warning; without it in `content`"),
    "generate_summary": _honoured("the older name of summary"),
    "context": _ignored("reasoning that is sent is passed on as the template of the model wants it", "auto"),
    "mode": _ignored("there is one mode", "standard"),
}

TEXT: Mapping[str, Field] = {
    "format": _honoured("text, json_object, json_schema"),
    "verbosity": _ignored("say it in the prompt", "medium"),
}

TOOLS: Mapping[str, Field] = {
    "function": _honoured("called by name with JSON"),
    **{
        name: _refused(_HOSTED)
        for name in (
            *("web_search", "web_search_2025_08_26", "web_search_preview", "web_search_preview_2025_03_11"),
            *("file_search", "code_interpreter", "image_generation", "computer", "computer_use_preview", "mcp"),
            *("local_shell", "shell", "apply_patch", "tool_search", "programmatic_tool_calling"),
        )
    },
    "custom": _refused("models here call functions with JSON only"),
    "namespace": _refused("name the functions apart"),
}

FUNCTION: Mapping[str, Field] = {
    "type": _honoured("function"),
    "name": _honoured("1 to 64 letters, digits, _ or -"),
    "description": _honoured("a text for the model"),
    "parameters": _honoured("a JSON schema of type object"),
    "strict": _honoured("true refuses a schema that cannot be enforced whole; false if not given"),
    "defer_loading": _ignored("every tool is shown to the model", False),
    "allowed_callers": _ignored("the model calls directly", ["direct"]),
    "output_schema": _ignored("say in the description what comes back", {}),
    "async": _ignored("calls come back with the response", False),
}

INCLUDE: Mapping[str, Field] = {
    "message.output_text.logprobs": _honoured("log probabilities of every token of the answer"),
    "reasoning.encrypted_content": _honoured("what a remote model wants back; ours reason in the open, in `content`"),
    **{
        name: _ignored("nothing of the kind is made here")
        for name in (
            *("file_search_call.results", "web_search_call.results", "web_search_call.action.sources"),
            *("message.input_image.image_url", "computer_call_output.output.image_url"),
            "code_interpreter_call.outputs",
        )
    },
}

ITEMS: Mapping[str, Field] = {
    "message": _honoured("roles user, system, developer, assistant; content a text or a list of parts"),
    "function_call": _honoured("a call that a model made"),
    "function_call_output": _honoured("its result: a text, or parts"),
    "reasoning": _honoured("goes with the turn of the assistant after it"),
    "item_reference": _honoured("an item of a kept response, by the id it has there"),
    **{
        name: _refused(_HOSTED)
        for name in (
            *("file_search_call", "web_search_call", "computer_call", "computer_call_output", "image_generation_call"),
            *("code_interpreter_call", "local_shell_call", "local_shell_call_output", "shell_call"),
            *("shell_call_output", "apply_patch_call", "apply_patch_call_output", "mcp_list_tools", "mcp_call"),
            *("mcp_approval_request", "mcp_approval_response", "tool_search_call", "tool_search_output"),
            *("additional_tools", "configuration_update", "program", "program_output"),
        )
    },
    "custom_tool_call": _refused("models here call functions with JSON only"),
    "custom_tool_call_output": _refused("models here call functions with JSON only"),
    "compaction": _refused("conversations are never shortened here"),
    "compaction_trigger": _refused("conversations are never shortened here"),
}

PARTS: Mapping[str, Field] = {
    "input_text": _honoured("a text"),
    "output_text": _honoured("a text of an earlier answer"),
    "refusal": _honoured("a text of an earlier answer"),
    "input_image": _honoured("a data: URL, for models that read images; nothing is ever fetched"),
    "input_file": _refused("files are not read; send their text"),
    "input_audio": _refused("sounds are not read here; send text"),
}

TABLES: Mapping[str, Mapping[str, Field]] = {
    "POST /v1/responses": CREATE,
    "POST /v1/responses/input_tokens": COUNT,
    "Responses: reasoning": REASONING,
    "Responses: text": TEXT,
    "Responses: tools by type": TOOLS,
    "Responses: a tool of type function": FUNCTION,
    "Responses: include": INCLUDE,
    "Responses: items by type": ITEMS,
    "Responses: parts of a message by type": PARTS,
}
