"""Which parameter, block, tool and beta is honoured, ignored with a warning, or refused; docs/protocols shows it."""

from __future__ import annotations

from collections.abc import Mapping

from catena.reach.gateway.wire import Field, honoured, ignored, refused

Table = Mapping[str, Field]

_CACHE = ignored("prompts with a common beginning share it by themselves")
_CITATIONS = ignored("answers carry no citations", {"enabled": False}, [])
_NO_SERVER_TOOLS = "nothing but the model runs here, and nothing leaves this machine"

PROMPT: Table = {
    "model": honoured("name, alias or manifest digest"),
    "messages": honoured("roles user, assistant, system; turns of one role that follow one another become one"),
    "system": honoured("a text, or text blocks, which are joined as they are"),
    "tools": honoured("at most 128, each with an input_schema; see Tools"),
    "tool_choice": honoured("auto, any, tool with its name, none; disable_parallel_tool_use"),
    "thinking": honoured("enabled, disabled, adaptive (the model's own habit); display; see Thinking"),
    "output_config": honoured("format: an answer by a JSON schema; not together with tools; see Output"),
    "output_format": honoured("the older name of output_config.format"),
    "cache_control": _CACHE,
    "speed": ignored("there is one speed", "standard"),
    "context_management": refused(
        "a conversation is never shortened here in silence; only edits that keep everything pass",
        *({}, {"edits": []}, {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}),
    ),
    "mcp_servers": refused("this gateway calls no servers", []),
}

MESSAGE: Table = {
    **PROMPT,
    "max_tokens": honoured("1 or more; when it exceeds what the prompt leaves of the context, the answer ends there"),
    "temperature": honoured("0 to 1; 0 is greedy; also in version 2026-10-21, which refuses it in the original"),
    "top_p": honoured("above 0, to 1; likewise"),
    "top_k": honoured("whole number, 0 means all; likewise"),
    "stop_sequences": honoured("up to 16 texts; the one that ended the answer is its stop_sequence"),
    "stream": honoured("server-sent events"),
    "metadata": ignored("the caller is known by its API key, and nothing of a request is stored", {}),
    "service_tier": ignored("there is one tier", "auto", "standard_only"),
    "inference_geo": ignored("everything is computed on this machine"),
    "diagnostics": ignored("answers are not stored, so none can be compared"),
    "container": refused(_NO_SERVER_TOOLS),
    "fallbacks": refused("another model than the one asked never answers", []),
    "thread": refused("conversations are not kept here; the official client then sends them whole", False),
}

TURN: Table = {
    "role": honoured("user, assistant, system"),
    "content": honoured("a text, or blocks"),
}

BLOCKS: Table = {
    "text": honoured("in every turn"),
    "image": honoured("base64 only, for models that read images; never fetched from a URL"),
    "document": honoured("plain text, or text blocks"),
    "search_result": honoured("becomes text: title, source, content"),
    "thinking": honoured("verified when it is ours; dropped with a warning when another model made it"),
    "redacted_thinking": ignored("it can be read by its maker only"),
    "tool_use": honoured("in turns of the assistant"),
    "tool_result": honoured("first in a turn of the user, for a call made before; text and images"),
    "server_tool_use": refused(_NO_SERVER_TOOLS),
    "web_search_tool_result": refused(_NO_SERVER_TOOLS),
    "web_fetch_tool_result": refused(_NO_SERVER_TOOLS),
    "code_execution_tool_result": refused(_NO_SERVER_TOOLS),
    "bash_code_execution_tool_result": refused(_NO_SERVER_TOOLS),
    "text_editor_code_execution_tool_result": refused(_NO_SERVER_TOOLS),
    "tool_search_tool_result": refused(_NO_SERVER_TOOLS),
    "mcp_tool_use": refused("this gateway calls no servers"),
    "mcp_tool_result": refused("this gateway calls no servers"),
    "container_upload": refused(_NO_SERVER_TOOLS),
    "tool_reference": refused("every tool is offered from the start"),
    "browser_state": refused("there is no browser here"),
}

BLOCK: Mapping[str, Table] = {
    "text": {
        "text": honoured("text"),
        "cache_control": _CACHE,
        "citations": _CITATIONS,
        "parsed_output": ignored("the text says the same"),
    },
    "image": {
        "source": honoured("`base64` with media_type image/jpeg, png, gif or webp; `url` and `file` are refused"),
        "cache_control": _CACHE,
        "transformations": ignored("images are passed to the model as they are", {"oversized_image": "error"}),
    },
    "document": {
        "source": honoured("`text` (text/plain) or `content`; `base64` (PDF), `url` and `file` are refused"),
        "title": honoured("a line before the text"),
        "context": honoured("a line before the text"),
        "cache_control": _CACHE,
        "citations": _CITATIONS,
    },
    "search_result": {
        "source": honoured("a line before the text"),
        "title": honoured("a line before the text"),
        "content": honoured("text blocks"),
        "cache_control": _CACHE,
        "citations": _CITATIONS,
    },
    "thinking": {
        "thinking": honoured("text"),
        "signature": honoured("a changed block of ours is refused"),
    },
    "tool_use": {
        "id": honoured("letters, digits, _ and -"),
        "name": honoured("of the tool"),
        "input": honoured("an object"),
        "cache_control": _CACHE,
        "caller": refused("only the model itself calls tools", {"type": "direct"}),
        "toolset_name": refused("toolsets are not known here"),
    },
    "tool_result": {
        "tool_use_id": honoured("of a call made before"),
        "content": honoured("a text, or blocks: text, image, document, search_result"),
        "is_error": honoured("true puts `Error: ` before the content"),
        "cache_control": _CACHE,
        "toolset_name": refused("toolsets are not known here"),
    },
}

TOOLS: Table = {
    "custom": honoured("a tool of the client's own, also without a type"),
    "bash_*": refused("the model was not trained for it; define it with an input_schema"),
    "text_editor_*": refused("the model was not trained for it; define it with an input_schema"),
    "memory_*": refused("the model was not trained for it; define it with an input_schema"),
    "computer_*": refused("the model was not trained for it; define it with an input_schema"),
    "computer_toolset_*": refused("the model was not trained for it; define it with an input_schema"),
    "browser_toolset_*": refused("the model was not trained for it; define it with an input_schema"),
    "web_search_*": refused(_NO_SERVER_TOOLS),
    "web_fetch_*": refused(_NO_SERVER_TOOLS),
    "code_execution_*": refused(_NO_SERVER_TOOLS),
    "tool_search_tool_bm25_*": refused("every tool is offered from the start"),
    "tool_search_tool_regex_*": refused("every tool is offered from the start"),
    "mcp_toolset": refused("this gateway calls no servers"),
}

TOOL: Table = {
    "type": honoured("custom"),
    "name": honoured("1 to 128 letters, digits, _ or -"),
    "description": honoured("text"),
    "input_schema": honoured("a JSON schema of type object"),
    "strict": honoured("arguments follow the schema in any case"),
    "eager_input_streaming": honoured("inputs are always streamed as they come"),
    "cache_control": _CACHE,
    "input_examples": ignored("say them in the description", []),
    "defer_loading": ignored("every tool is offered from the start", False),
    "allowed_callers": refused("only the model itself calls tools", ["direct"]),
}

THINKING: Table = {
    "type": honoured("enabled: on; disabled: off; adaptive: as the model does by itself; any other is refused"),
    "display": honoured("summarized shows the reasoning whole; omitted shows an empty block"),
    "budget_tokens": ignored("reasoning is bounded by max_tokens only"),
}

OUTPUT: Table = {
    "format": honoured("type json_schema with a schema that refers to itself only"),
    "effort": ignored("the engine knows no degrees", "high"),
    "task_budget": ignored("answers are bounded by max_tokens only"),
}

# By name without the date; one that is not here is accepted with a warning, since it only permits fields.
BETAS: Table = {
    "token-counting": honoured("always on"),
    "structured-outputs": honoured("always on"),
    "model-context-window-exceeded": honoured("always on"),
    "fine-grained-tool-streaming": honoured("always on"),
    "interleaved-thinking": honoured("thinking comes where the model puts it"),
    "thinking-token-count": honoured("usage counts them"),
    "dev-full-thinking": honoured("thinking is always shown whole"),
    "prompt-caching": ignored("prompts with a common beginning share it by themselves"),
    "prompt-caching-scope": ignored("prompts with a common beginning share it by themselves"),
    "extended-cache-ttl": ignored("prompts with a common beginning share it by themselves"),
    "cache-diagnosis": ignored("answers are not stored, so none can be compared"),
    "output-128k": ignored("the context is the model's own"),
    "output-300k": ignored("the context is the model's own"),
    "context-1m": ignored("the context is the model's own"),
    "token-efficient-tools": ignored("tools are written as the model was trained"),
    "claude-code": ignored("nothing depends on it"),
    "oauth": ignored("nothing depends on it"),
    "effort": ignored("the engine knows no degrees"),
    "task-budgets": ignored("answers are bounded by max_tokens only"),
    "context-management": ignored("its field is refused, unless it keeps everything"),
    "mid-conversation-system": honoured("always on"),
    "pdfs": ignored("its blocks are refused"),
    "user-profiles": ignored("the caller is known by its API key"),
    "fast-mode": ignored("there is one speed"),
    "computer-use": refused("the model was not trained for it"),
    "code-execution": refused(_NO_SERVER_TOOLS),
    "mcp-client": refused("this gateway calls no servers"),
    "files-api": refused("files are not kept here"),
    "skills": refused("skills are not kept here"),
    "message-batches": refused("batches are not made here"),
    "message-threads": ignored("conversations are not kept here"),
    "managed-agents": refused("agents do not run here"),
    "agent-memory": refused("agents do not run here"),
    "advisor-tool": refused(_NO_SERVER_TOOLS),
    "server-side-fallback": refused("another model than the one asked never answers"),
    "fallback-credit": refused("another model than the one asked never answers"),
    "compact": refused("a conversation is never shortened here in silence"),
}

VERSIONS: Table = {
    "2026-10-21": honoured("sent by the official clients since Python 2 and TypeScript 1"),
    "2023-06-01": honoured("sent by older clients"),
    "2023-01-01": ignored("its streams had another form"),
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
