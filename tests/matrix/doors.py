"""The protocols that are served, as their clients speak them: wishes become requests, bodies what was seen."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any, ClassVar, Protocol

import msgspec
from tests.matrix.wish import Called, Seen, Wish

Body = dict[str, Any]


class Door(Protocol):
    """One protocol. `words` maps our reasons to stop to its own."""

    name: str
    path: str
    words: ClassVar[dict[str, str]]

    def body(self, wish: Wish, /) -> Body:
        """The request."""
        ...

    def follow(self, body: Body, seen: Seen, results: list[str], /) -> Body:
        """The next request: `body`, the answer as it came, and a result for each of its calls (or another question)."""
        ...

    def read(self, seen: Seen, body: bytes, /) -> None:
        """Put what a streamed or whole body says into `seen`."""
        ...


def events(body: bytes) -> Iterator[Any]:
    """The JSON of each event of a stream; the closing word of some protocols comes as None."""
    for block in body.decode().replace("\r\n", "\n").split("\n\n"):
        data = "\n".join(line[5:].strip() for line in block.split("\n") if line.startswith("data:"))
        if data:
            yield None if data == "[DONE]" else msgspec.json.decode(data)


def base64_of(wish: Wish) -> str:
    return base64.b64encode(wish.picture).decode()


def schema_of_tools() -> Body:
    return {"type": "object", "properties": {"city": {"type": "string"}}}


class _Calls:
    """Calls while their arguments arrive."""

    def __init__(self) -> None:
        self.open: dict[Any, tuple[str, str, list[str]]] = {}

    def begin(self, key: Any, id: str, name: str) -> None:
        self.open[key] = (id, name, [])

    def more(self, key: Any, fragment: str) -> None:
        if fragment:
            self.open[key][2].append(fragment)

    def into(self, seen: Seen) -> None:
        """Arguments that are no JSON stay as text: a cut answer may end within them."""
        for id, name, fragments in self.open.values():
            text = "".join(fragments)
            seen.num_fragments += len(fragments)
            try:
                seen.calls.append(Called(id, name, msgspec.json.decode(text or "{}")))
            except msgspec.DecodeError:
                seen.calls.append(Called(id, name, text))


class Chat:
    """OpenAI's chat completions."""

    name = "OpenAI chat"
    path = "/v1/chat/completions"
    words: ClassVar[dict[str, str]] = {"stop": "stop", "length": "length", "content_filter": "content_filter"}

    def body(self, wish: Wish) -> Body:
        content: Any = wish.text
        if wish.picture:
            url = f"data:image/png;base64,{base64_of(wish)}"
            content = [{"type": "text", "text": wish.text}, {"type": "image_url", "image_url": {"url": url}}]
        body: Body = {"model": wish.model, "messages": [{"role": "user", "content": content}], "stream": wish.is_stream}
        body["max_completion_tokens"] = wish.max_tokens
        if wish.is_stream:
            body["stream_options"] = {"include_usage": True}
        if wish.tools:
            body["tools"] = [
                {"type": "function", "function": {**tool._asdict(), "parameters": schema_of_tools()}}
                for tool in wish.tools
            ]
        if wish.schema:
            form = {"name": "answer", "schema": wish.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        return body | ({"reasoning_effort": "medium"} if wish.think else {})

    def follow(self, body: Body, seen: Seen, results: list[str]) -> Body:
        said: list[Body] = [
            {"role": "tool", "tool_call_id": call.id, "content": result}
            for call, result in zip(seen.calls, results, strict=False)
        ]
        return {**body, "messages": [*body["messages"], seen.turn, *(said or [{"role": "user", "content": "And?"}])]}

    def read(self, seen: Seen, body: bytes) -> None:
        calls = _Calls()
        for chunk in events(body):
            if chunk is None:
                seen.is_whole = True
            elif "error" in chunk:
                seen.error = chunk["error"]["message"]
            else:
                self._chunk(seen, chunk, calls)
        calls.into(seen)
        made = [
            {"id": id, "type": "function", "function": {"name": name, "arguments": "".join(parts)}}
            for id, name, parts in calls.open.values()
        ]
        seen.turn = {"role": "assistant", "content": seen.text, "reasoning_content": seen.reasoning or None}
        seen.turn |= {"tool_calls": made} if made else {}

    def _chunk(self, seen: Seen, chunk: Body, calls: _Calls) -> None:
        for choice in chunk["choices"]:
            delta = choice["delta"]
            if delta.get("content"):
                seen.texts.append(delta["content"])
            seen.reasoning += delta.get("reasoning_content") or ""
            for call in delta.get("tool_calls", ()):
                if "id" in call:
                    calls.begin(call["index"], call["id"], call["function"]["name"])
                calls.more(call["index"], call["function"]["arguments"])
            seen.finish = choice["finish_reason"] or seen.finish
        if usage := chunk.get("usage"):
            cached = usage["prompt_tokens_details"]["cached_tokens"]
            seen.counts = (usage["prompt_tokens"], usage["completion_tokens"], cached)


class Responses:
    """OpenAI's Responses, without state."""

    name = "OpenAI Responses"
    path = "/v1/responses"
    words: ClassVar[dict[str, str]] = {
        "stop": "completed",
        "length": "max_output_tokens",
        "content_filter": "content_filter",
    }

    def body(self, wish: Wish) -> Body:
        content: list[Body] = [{"type": "input_text", "text": wish.text}]
        if wish.picture:
            content.append({"type": "input_image", "image_url": f"data:image/png;base64,{base64_of(wish)}"})
        body: Body = {"model": wish.model, "input": [{"role": "user", "content": content}], "stream": wish.is_stream}
        body |= {"max_output_tokens": max(16, wish.max_tokens), "store": False}
        body["include"] = ["reasoning.encrypted_content"]
        if wish.tools:
            body["tools"] = [
                {"type": "function", **tool._asdict(), "parameters": schema_of_tools(), "strict": False}
                for tool in wish.tools
            ]
        if wish.schema:
            form = {"type": "json_schema", "name": "answer", "schema": wish.schema, "strict": True}
            body["text"] = {"format": form}
        return body | ({"reasoning": {"effort": "medium"}} if wish.think else {})

    def follow(self, body: Body, seen: Seen, results: list[str]) -> Body:
        said: list[Body] = [
            {"type": "function_call_output", "call_id": call.id, "output": result}
            for call, result in zip(seen.calls, results, strict=False)
        ]
        return {**body, "input": [*body["input"], *seen.turn, *(said or [{"role": "user", "content": "And?"}])]}

    def read(self, seen: Seen, body: bytes) -> None:
        calls = _Calls()
        for event in events(body):
            match event["type"]:
                case "response.output_text.delta":
                    seen.texts.append(event["delta"])
                case "response.reasoning_text.delta":
                    seen.reasoning += event["delta"]
                case "response.output_item.added" if event["item"]["type"] == "function_call":
                    calls.begin(event["item"]["id"], event["item"]["call_id"], event["item"]["name"])
                case "response.function_call_arguments.delta":
                    calls.more(event["item_id"], event["delta"])
                case "response.completed" | "response.incomplete":
                    self._end(seen, event["response"])
                case "error":
                    seen.error = event["message"]
                case "response.failed":
                    seen.error = event["response"]["error"]["message"]
                case _:
                    pass
        calls.into(seen)

    def _end(self, seen: Seen, response: Body) -> None:
        seen.is_whole = True
        details = response["incomplete_details"]
        seen.finish = details["reason"] if details else response["status"]
        seen.turn = response["output"]
        if usage := response["usage"]:
            cached = usage["input_tokens_details"]["cached_tokens"]
            seen.counts = (usage["input_tokens"], usage["output_tokens"], cached)


class Messages:
    """Anthropic's Messages."""

    name = "Anthropic"
    path = "/v1/messages"
    words: ClassVar[dict[str, str]] = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}

    def body(self, wish: Wish) -> Body:
        content: list[Body] = [{"type": "text", "text": wish.text}]
        if wish.picture:
            source = {"type": "base64", "media_type": "image/png", "data": base64_of(wish)}
            content.insert(0, {"type": "image", "source": source})
        body: Body = {"model": wish.model, "messages": [{"role": "user", "content": content}], "stream": wish.is_stream}
        body["max_tokens"] = wish.max_tokens
        if wish.tools:
            body["tools"] = [{**tool._asdict(), "input_schema": schema_of_tools()} for tool in wish.tools]
        if wish.schema:
            body["output_config"] = {"format": {"type": "json_schema", "schema": wish.schema}}
        if wish.think:
            body["thinking"] = {"type": "enabled", "budget_tokens": 1024}
        return body

    def follow(self, body: Body, seen: Seen, results: list[str]) -> Body:
        said: list[Body] = [
            {"type": "tool_result", "tool_use_id": call.id, "content": result}
            for call, result in zip(seen.calls, results, strict=False)
        ]
        turns = [{"role": "assistant", "content": seen.turn}, {"role": "user", "content": said or "And?"}]
        return {**body, "messages": [*body["messages"], *turns]}

    def read(self, seen: Seen, body: bytes) -> None:
        calls = _Calls()
        blocks: list[Body] = []
        for event in events(body):
            match event["type"]:
                case "content_block_start":
                    blocks.append(dict(event["content_block"]))
                    if blocks[-1]["type"] == "tool_use":
                        calls.begin(event["index"], blocks[-1]["id"], blocks[-1]["name"])
                case "content_block_delta":
                    self._delta(seen, blocks[event["index"]], event["index"], event["delta"], calls)
                case "message_delta":
                    seen.finish = event["delta"]["stop_reason"]
                    usage = event["usage"]
                    cached = usage["cache_read_input_tokens"]
                    seen.counts = (usage["input_tokens"] + cached, usage["output_tokens"], cached)
                case "message_stop":
                    seen.is_whole = True
                case "error":
                    seen.error = event["error"]["message"]
                case _:
                    pass
        calls.into(seen)
        for block, call in zip((one for one in blocks if one["type"] == "tool_use"), seen.calls, strict=True):
            block["input"] = call.arguments
        seen.turn = blocks

    def _delta(self, seen: Seen, block: Body, index: int, delta: Body, calls: _Calls) -> None:
        match delta["type"]:
            case "text_delta":
                seen.texts.append(delta["text"])
                block["text"] += delta["text"]
            case "thinking_delta":
                seen.reasoning += delta["thinking"]
                block["thinking"] += delta["thinking"]
            case "signature_delta":
                block["signature"] += delta["signature"]
            case "input_json_delta":
                calls.more(index, delta["partial_json"])


class OllamaChat:
    """Ollama's chat, whose calls come whole."""

    name = "Ollama"
    path = "/api/chat"
    words: ClassVar[dict[str, str]] = {"stop": "stop", "length": "length", "content_filter": "content_filter"}

    def body(self, wish: Wish) -> Body:
        message: Body = {"role": "user", "content": wish.text}
        if wish.picture:
            message["images"] = [base64_of(wish)]
        body: Body = {"model": wish.model, "messages": [message], "stream": wish.is_stream}
        body["options"] = {"num_predict": wish.max_tokens}
        if wish.tools:
            body["tools"] = [
                {"type": "function", "function": {**tool._asdict(), "parameters": schema_of_tools()}}
                for tool in wish.tools
            ]
        if wish.schema:
            body["format"] = wish.schema
        return body | ({"think": True} if wish.think else {})

    def follow(self, body: Body, seen: Seen, results: list[str]) -> Body:
        said: list[Body] = [
            {"role": "tool", "tool_name": call.name, "content": result}
            for call, result in zip(seen.calls, results, strict=False)
        ]
        return {**body, "messages": [*body["messages"], seen.turn, *(said or [{"role": "user", "content": "And?"}])]}

    def read(self, seen: Seen, body: bytes) -> None:
        made: list[Body] = []
        for text in body.decode().split("\n"):
            if not text.strip():
                continue
            line = msgspec.json.decode(text)
            if "error" in line:
                seen.error = line["error"]
                continue
            message = line["message"]
            if message["content"]:
                seen.texts.append(message["content"])
            seen.reasoning += message.get("thinking", "")
            made += message.get("tool_calls", ())
            if line["done"]:
                seen.is_whole, seen.finish = True, line["done_reason"]
                seen.counts = (line["prompt_eval_count"], line["eval_count"], None)
        for call in made:
            seen.calls.append(Called(call["id"], call["function"]["name"], call["function"]["arguments"]))
        # The official clients send a call back without its id.
        plain = [{"function": {"name": call.name, "arguments": call.arguments}} for call in seen.calls]
        seen.turn = {"role": "assistant", "content": seen.text}
        seen.turn |= ({"thinking": seen.reasoning} if seen.reasoning else {}) | ({"tool_calls": plain} if plain else {})


class Generate:
    """The generate extension of the Open Inference Protocol: one text in, pieces of text out, and nothing else."""

    name = "Open Inference"
    path = ""
    words: ClassVar[dict[str, str]] = {}

    def body(self, wish: Wish) -> Body:
        """A wish that the extension has no word for goes under the name that it has elsewhere."""
        body: Body = {"text_input": wish.text, "parameters": {"max_tokens": wish.max_tokens}}
        body |= {"tools": [tool._asdict() for tool in wish.tools]} if wish.tools else {}
        body |= {"response_format": wish.schema} if wish.schema else {}
        body |= {"images": [base64_of(wish)]} if wish.picture else {}
        return body | ({"think": True} if wish.think else {})

    def follow(self, body: Body, seen: Seen, results: list[str]) -> Body:
        raise AssertionError("generate has no turns")

    def read(self, seen: Seen, body: bytes) -> None:
        for event in events(body):
            if "error" in event:
                seen.error = event["error"]
            else:
                assert set(event) <= {"id", "model_name", "model_version", "text_output"}, event
                seen.texts.append(event["text_output"])
        # There is no closing word: an answer without an error is whole.
        seen.is_whole = seen.error is None


DOORS: dict[str, Door] = {
    "openai": Chat(),
    "responses": Responses(),
    "anthropic": Messages(),
    "ollama": OllamaChat(),
    "open_inference": Generate(),
}
