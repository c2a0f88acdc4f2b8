"""What becomes of each parameter, tool, item and part of the Responses routes; docs/reference shows it."""

from __future__ import annotations

from collections.abc import Mapping

from catena.reach.gateway.protocols.openai.fields import SAMPLING
from catena.reach.gateway.wire import Field, honoured, ignored, refused

_HOSTED = "nothing of the kind runs here; give the model a function instead"
_SHARED_PREFIX = "prompts with a common beginning share it by themselves"
_NO_CONVERSATIONS = "there are no conversation objects; go on with previous_response_id, or send the items"

_ASKED: Mapping[str, Field] = {
    "model": honoured("name, alias or manifest digest"),
    "input": honoured("a text, or a list of items"),
    "instructions": honoured("a system message before everything; not carried over by previous_response_id"),
    "previous_response_id": honoured("a kept response of the same key, with its own predecessors"),
    "conversation": refused(_NO_CONVERSATIONS),
    "reasoning": honoured("see below"),
    "text": honoured("see below"),
    "tools": honoured("functions, at most 128, also within namespaces; see below"),
    "tool_choice": honoured("none, auto, required, one function, or allowed_tools with mode and functions"),
    "parallel_tool_calls": honoured("true or false"),
    "truncation": ignored("input that is too long is refused with both numbers, never cut", "disabled"),
}

CREATE: Mapping[str, Field] = {
    **_ASKED,
    "max_output_tokens": honoured("1 or more, reasoning included; what it cuts is `incomplete`"),
    "temperature": SAMPLING["temperature"],
    "top_p": SAMPLING["top_p"],
    "top_logprobs": honoured("0 to 20; comes with log probabilities also without include"),
    "include": honoured("see below"),
    "store": honoured("true if not given; kept for `reach.responses_keep_s`"),
    "background": honoured("needs store"),
    "stream": SAMPLING["stream"],
    "stream_options": honoured("include_obfuscation only as false"),
    "metadata": honoured("up to 16 texts, kept with the response"),
    "max_tool_calls": honoured("bounds calls of hosted tools, of which there are none"),
    **{
        name: SAMPLING[name]
        for name in (
            *("top_k", "min_p", "presence_penalty", "frequency_penalty", "repeat_penalty", "repetition_penalty"),
            *("seed", "stop", "logit_bias", "ignore_eos", "adapters", "grammar"),
        )
    },
    "user": ignored("the caller is known by its API key", ""),
    "safety_identifier": ignored("the caller is known by its API key", ""),
    "client_metadata": ignored("nothing of it is stored; Codex sends it", {}),
    "prompt_cache_key": ignored(_SHARED_PREFIX, ""),
    "prompt_cache_options": ignored(_SHARED_PREFIX, {}),
    "prompt_cache_retention": ignored("the cache lives in memory only", "in_memory", "in-memory"),
    "service_tier": ignored("there is one tier", "auto", "default"),
    "access_programs": ignored("there are no programs", {}),
    "image": ignored("images are passed to the model as they are", {}),
    "background_options": ignored("work in the background begins at once", {}, {"completion_window": "soonest"}),
    "context_management": refused("conversations are never shortened here", []),
    "prompt": refused("no prompt templates are kept here; send instructions and input"),
    "moderation": refused("no moderation model runs here, and a wish for safety is not ignored"),
}

COUNT: Mapping[str, Field] = {
    **_ASKED,
    "personality": ignored("say it in instructions"),
}

REASONING: Mapping[str, Field] = {
    "effort": honoured("none turns reasoning off, any other turns it on, where the model can"),
    "summary": honoured("the reasoning then comes whole in `summary`, with a warning; without it in `content`"),
    "generate_summary": honoured("the older name of summary"),
    "context": ignored("reasoning that is sent is passed on as the template of the model wants it", "auto"),
    "mode": ignored("there is one mode", "standard"),
}

TEXT: Mapping[str, Field] = {
    "format": honoured("text, json_object, json_schema"),
    "verbosity": ignored("say it in the prompt", "medium"),
}

TOOLS: Mapping[str, Field] = {
    "function": honoured("called by name with JSON"),
    "namespace": honoured("functions with a description in common; no two functions may have one name"),
    "web_search": ignored(
        "left out where external_web_access is false, as no index is kept here; one that goes out is refused"
    ),
    **{
        name: refused(_HOSTED)
        for name in (
            *("web_search_2025_08_26", "web_search_preview", "web_search_preview_2025_03_11"),
            *("file_search", "code_interpreter", "image_generation", "computer", "computer_use_preview", "mcp"),
            *("local_shell", "shell", "apply_patch", "tool_search", "programmatic_tool_calling"),
        )
    },
    "custom": refused("models here call functions with JSON only"),
}

FUNCTION: Mapping[str, Field] = {
    "type": honoured("function"),
    "name": honoured("1 to 64 letters, digits, _ or -"),
    "description": honoured("a text for the model"),
    "parameters": honoured("a JSON schema of type object"),
    "strict": honoured("true refuses a schema that cannot be enforced whole; false if not given"),
    "defer_loading": ignored("every tool is shown to the model", False),
    "allowed_callers": ignored("the model calls directly", ["direct"]),
    "output_schema": ignored("say in the description what comes back", {}),
    "async": ignored("calls come back with the response", False),
}

NAMESPACE: Mapping[str, Field] = {
    "type": honoured("namespace"),
    "name": honoured("1 to 64 letters, digits, _ or -; a call of one of its functions bears it"),
    "description": honoured("stands before the description of each of its functions"),
    "tools": honoured("functions"),
}

INCLUDE: Mapping[str, Field] = {
    "message.output_text.logprobs": honoured("log probabilities of every token of the answer"),
    "reasoning.encrypted_content": honoured("what a remote model wants back; ours reason in the open, in `content`"),
    **{
        name: ignored("nothing of the kind is made here")
        for name in (
            *("file_search_call.results", "web_search_call.results", "web_search_call.action.sources"),
            *("message.input_image.image_url", "computer_call_output.output.image_url"),
            "code_interpreter_call.outputs",
        )
    },
}

ITEMS: Mapping[str, Field] = {
    "message": honoured("roles user, system, developer, assistant; content a text or a list of parts"),
    "function_call": honoured("a call that a model made"),
    "function_call_output": honoured("its result: a text, or parts"),
    "reasoning": honoured("goes with the turn of the assistant after it"),
    "item_reference": honoured("an item of a kept response, by the id it has there"),
    **{
        name: refused(_HOSTED)
        for name in (
            *("file_search_call", "web_search_call", "computer_call", "computer_call_output", "image_generation_call"),
            *("code_interpreter_call", "local_shell_call", "local_shell_call_output", "shell_call"),
            *("shell_call_output", "apply_patch_call", "apply_patch_call_output", "mcp_list_tools", "mcp_call"),
            *("mcp_approval_request", "mcp_approval_response", "tool_search_call", "tool_search_output"),
            *("additional_tools", "configuration_update", "program", "program_output"),
        )
    },
    "custom_tool_call": refused("models here call functions with JSON only"),
    "custom_tool_call_output": refused("models here call functions with JSON only"),
    "compaction": refused("conversations are never shortened here"),
    "compaction_trigger": refused("conversations are never shortened here"),
}

PARTS: Mapping[str, Field] = {
    "input_text": honoured("a text"),
    "output_text": honoured("a text of an earlier answer"),
    "refusal": honoured("a text of an earlier answer"),
    "input_image": honoured("a data: URL, for models that read images; nothing is ever fetched"),
    "input_file": refused("files are not read; send their text"),
    "input_audio": refused("sounds are not read here; send text"),
}

TABLES: Mapping[str, Mapping[str, Field]] = {
    "POST /v1/responses": CREATE,
    "POST /v1/responses/input_tokens": COUNT,
    "Responses: reasoning": REASONING,
    "Responses: text": TEXT,
    "Responses: tools by type": TOOLS,
    "Responses: a tool of type function": FUNCTION,
    "Responses: a tool of type namespace": NAMESPACE,
    "Responses: include": INCLUDE,
    "Responses: items by type": ITEMS,
    "Responses: parts of a message by type": PARTS,
}
