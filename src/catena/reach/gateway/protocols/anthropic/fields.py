"""Which parameter, block, tool and beta is honoured, ignored with a warning, or refused; docs/protocols shows it."""

from __future__ import annotations

from collections.abc import Mapping

from catena.reach.gateway.wire import Field

Table = Mapping[str, Field]


def _honoured(note: str) -> Field:
    return Field("honoured", note)


def _ignored(note: str, *harmless: object) -> Field:
    return Field("ignored", note, harmless)


def _refused(note: str, *harmless: object) -> Field:
    return Field("refused", note, harmless)


_CACHE = _ignored("prompts with a common beginning share it by themselves")
_CITATIONS = _ignored("answers carry no citations", {"enabled": False}, [])
_NO_SERVER_TOOLS = "nothing but the model runs here, and nothing leaves this machine"

PROMPT: Table = {
    "model": _honoured("name, alias or manifest digest"),
    "messages": _honoured("roles user, assistant, system; turns of one role that follow one another become one"),
    "system": _honoured("a text, or text blocks, which are joined as they are"),
    "tools": _honoured("at most 128, each with an input_schema; see Tools"),
    "tool_choice": _honoured("auto, any, tool with its name, none; disable_parallel_tool_use"),
    "thinking": _honoured("enabled, disabled, adaptive (the model's own habit); display; see Thinking"),
    "output_config": _honoured("format: an answer by a JSON schema; not together with tools; see Output"),
    "output_format": _honoured("the older name of output_config.format"),
    "cache_control": _CACHE,
    "speed": _ignored("there is one speed", "standard"),
    "context_management": _refused("a conversation is never shortened here in silence", {}, {"edits": []}),
    "mcp_servers": _refused("this gateway calls no servers", []),
}

MESSAGE: Table = {
    **PROMPT,
    "max_tokens": _honoured("1 or more; when it exceeds what the prompt leaves of the context, the answer ends there"),
    "temperature": _honoured("0 to 1; 0 is greedy; also in version 2026-10-21, which refuses it in the original"),
    "top_p": _honoured("above 0, to 1; likewise"),
    "top_k": _honoured("whole number, 0 means all; likewise"),
    "stop_sequences": _honoured("up to 16 texts; the one that ended the answer is its stop_sequence"),
    "stream": _honoured("server-sent events"),
    "metadata": _ignored("the caller is known by its API key, and nothing of a request is stored", {}),
    "service_tier": _ignored("there is one tier", "auto", "standard_only"),
    "inference_geo": _ignored("everything is computed on this machine"),
    "diagnostics": _ignored("answers are not stored, so none can be compared"),
    "container": _refused(_NO_SERVER_TOOLS),
    "fallbacks": _refused("another model than the one asked never answers", []),
    "thread": _refused("conversations are not kept here; the official client then sends them whole", False),
}

TURN: Table = {
    "role": _honoured("user, assistant, system"),
    "content": _honoured("a text, or blocks"),
}

BLOCKS: Table = {
    "text": _honoured("in every turn"),
    "image": _honoured("base64 only, for models that read images; never fetched from a URL"),
    "document": _honoured("plain text, or text blocks"),
    "search_result": _honoured("becomes text: title, source, content"),
    "thinking": _honoured("verified when it is ours; dropped with a warning when another model made it"),
    "redacted_thinking": _ignored("it can be read by its maker only"),
    "tool_use": _honoured("in turns of the assistant"),
    "tool_result": _honoured("first in a turn of the user, for a call made before; text and images"),
    "server_tool_use": _refused(_NO_SERVER_TOOLS),
    "web_search_tool_result": _refused(_NO_SERVER_TOOLS),
    "web_fetch_tool_result": _refused(_NO_SERVER_TOOLS),
    "code_execution_tool_result": _refused(_NO_SERVER_TOOLS),
    "bash_code_execution_tool_result": _refused(_NO_SERVER_TOOLS),
    "text_editor_code_execution_tool_result": _refused(_NO_SERVER_TOOLS),
    "tool_search_tool_result": _refused(_NO_SERVER_TOOLS),
    "mcp_tool_use": _refused("this gateway calls no servers"),
    "mcp_tool_result": _refused("this gateway calls no servers"),
    "container_upload": _refused(_NO_SERVER_TOOLS),
    "tool_reference": _refused("every tool is offered from the start"),
    "browser_state": _refused("there is no browser here"),
}

BLOCK: Mapping[str, Table] = {
    "text": {
        "text": _honoured("text"),
        "cache_control": _CACHE,
        "citations": _CITATIONS,
        "parsed_output": _ignored("the text says the same"),
    },
    "image": {
        "source": _honoured("`base64` with media_type image/jpeg, png, gif or webp; `url` and `file` are refused"),
        "cache_control": _CACHE,
        "transformations": _ignored("images are passed to the model as they are", {"oversized_image": "error"}),
    },
    "document": {
        "source": _honoured("`text` (text/plain) or `content`; `base64` (PDF), `url` and `file` are refused"),
        "title": _honoured("a line before the text"),
        "context": _honoured("a line before the text"),
        "cache_control": _CACHE,
        "citations": _CITATIONS,
    },
    "search_result": {
        "source": _honoured("a line before the text"),
        "title": _honoured("a line before the text"),
        "content": _honoured("text blocks"),
        "cache_control": _CACHE,
        "citations": _CITATIONS,
    },
    "thinking": {
        "thinking": _honoured("text"),
        "signature": _honoured("a changed block of ours is refused"),
    },
    "tool_use": {
        "id": _honoured("letters, digits, _ and -"),
        "name": _honoured("of the tool"),
        "input": _honoured("an object"),
        "cache_control": _CACHE,
        "caller": _refused("only the model itself calls tools", {"type": "direct"}),
        "toolset_name": _refused("toolsets are not known here"),
    },
    "tool_result": {
        "tool_use_id": _honoured("of a call made before"),
        "content": _honoured("a text, or blocks: text, image, document, search_result"),
        "is_error": _honoured("true puts `Error: ` before the content"),
        "cache_control": _CACHE,
        "toolset_name": _refused("toolsets are not known here"),
    },
}

TOOLS: Table = {
    "custom": _honoured("a tool of the client's own, also without a type"),
    "bash_*": _refused("the model was not trained for it; define it with an input_schema"),
    "text_editor_*": _refused("the model was not trained for it; define it with an input_schema"),
    "memory_*": _refused("the model was not trained for it; define it with an input_schema"),
    "computer_*": _refused("the model was not trained for it; define it with an input_schema"),
    "computer_toolset_*": _refused("the model was not trained for it; define it with an input_schema"),
    "browser_toolset_*": _refused("the model was not trained for it; define it with an input_schema"),
    "web_search_*": _refused(_NO_SERVER_TOOLS),
    "web_fetch_*": _refused(_NO_SERVER_TOOLS),
    "code_execution_*": _refused(_NO_SERVER_TOOLS),
    "tool_search_tool_bm25_*": _refused("every tool is offered from the start"),
    "tool_search_tool_regex_*": _refused("every tool is offered from the start"),
    "mcp_toolset": _refused("this gateway calls no servers"),
}

TOOL: Table = {
    "type": _honoured("custom"),
    "name": _honoured("1 to 128 letters, digits, _ or -"),
    "description": _honoured("text"),
    "input_schema": _honoured("a JSON schema of type object"),
    "strict": _honoured("arguments follow the schema in any case"),
    "eager_input_streaming": _honoured("inputs are always streamed as they come"),
    "cache_control": _CACHE,
    "input_examples": _ignored("say them in the description", []),
    "defer_loading": _ignored("every tool is offered from the start", False),
    "allowed_callers": _refused("only the model itself calls tools", ["direct"]),
}

THINKING: Table = {
    "type": _honoured("enabled: on; disabled: off; adaptive: as the model does by itself; any other is refused"),
    "display": _honoured("summarized shows the reasoning whole; omitted shows an empty block"),
    "budget_tokens": _ignored("reasoning is bounded by max_tokens only"),
}

OUTPUT: Table = {
    "format": _honoured("type json_schema with a schema that refers to itself only"),
    "effort": _ignored("the engine knows no degrees", "high"),
    "task_budget": _ignored("answers are bounded by max_tokens only"),
}

# By name without the date; one that is not here is accepted with a warning, since it only permits fields.
BETAS: Table = {
    "token-counting": _honoured("always on"),
    "structured-outputs": _honoured("always on"),
    "model-context-window-exceeded": _honoured("always on"),
    "fine-grained-tool-streaming": _honoured("always on"),
    "interleaved-thinking": _honoured("thinking comes where the model puts it"),
    "thinking-token-count": _honoured("usage counts them"),
    "dev-full-thinking": _honoured("thinking is always shown whole"),
    "prompt-caching": _ignored("prompts with a common beginning share it by themselves"),
    "extended-cache-ttl": _ignored("prompts with a common beginning share it by themselves"),
    "cache-diagnosis": _ignored("answers are not stored, so none can be compared"),
    "output-128k": _ignored("the context is the model's own"),
    "output-300k": _ignored("the context is the model's own"),
    "context-1m": _ignored("the context is the model's own"),
    "token-efficient-tools": _ignored("tools are written as the model was trained"),
    "claude-code": _ignored("nothing depends on it"),
    "oauth": _ignored("nothing depends on it"),
    "effort": _ignored("the engine knows no degrees"),
    "task-budgets": _ignored("answers are bounded by max_tokens only"),
    "context-management": _ignored("its field is refused"),
    "pdfs": _ignored("its blocks are refused"),
    "user-profiles": _ignored("the caller is known by its API key"),
    "fast-mode": _ignored("there is one speed"),
    "computer-use": _refused("the model was not trained for it"),
    "code-execution": _refused(_NO_SERVER_TOOLS),
    "mcp-client": _refused("this gateway calls no servers"),
    "files-api": _refused("files are not kept here"),
    "skills": _refused("skills are not kept here"),
    "message-batches": _refused("batches are not made here"),
    "message-threads": _ignored("conversations are not kept here"),
    "managed-agents": _refused("agents do not run here"),
    "agent-memory": _refused("agents do not run here"),
    "advisor-tool": _refused(_NO_SERVER_TOOLS),
    "server-side-fallback": _refused("another model than the one asked never answers"),
    "fallback-credit": _refused("another model than the one asked never answers"),
    "compact": _refused("a conversation is never shortened here in silence"),
}

VERSIONS: Table = {
    "2026-10-21": _honoured("sent by the official clients since Python 2 and TypeScript 1"),
    "2023-06-01": _honoured("sent by older clients"),
    "2023-01-01": _ignored("its streams had another form"),
}


def _under(tables: Mapping[str, Table]) -> dict[str, Field]:
    return {f"{name}.{field}": one for name, table in tables.items() for field, one in table.items()}


TABLES: Mapping[str, Table] = {
    "POST /v1/messages": MESSAGE,
    "POST /v1/messages/count_tokens": PROMPT,
    "Content blocks": BLOCKS,
    "Fields of content blocks": _under(BLOCK),
    "Tools": TOOLS,
    "Fields of tools": TOOL,
    "Thinking": THINKING,
    "Output": OUTPUT,
    "Header anthropic-version": VERSIONS,
    "Header anthropic-beta": BETAS,
}
