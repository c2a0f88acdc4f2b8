"""The shapes of the Open Inference Protocol with its extensions: pieces of text without an end, arrays after the JSON.

Sources: https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md,
https://github.com/triton-inference-server/server/tree/main/docs/protocol
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from tests.providers.answers import Answer, Asked, Reply, encode, whole
from tests.providers.server import nothing_here

_ROUTE = re.compile(r"/v2/models/[^/]+/(generate_stream|infer)")
HEADER = "inference-header-content-length"


class OpenInference:
    base = ""

    def reply(self, asked: Asked, answer: Answer, /) -> Reply:
        if (asked.method, asked.path) == ("POST", "/v2/repository/index"):
            return whole(200, [{"name": name, "version": "1", "state": "READY"} for name in answer.models])
        route = _ROUTE.fullmatch(asked.path)
        match route and route[1]:
            case "generate_stream":
                return _checked(asked.json) or Reply(200, "text/event-stream; charset=utf-8", _pieces(answer), True)
            case "infer":
                return _inferred(asked, answer)
            case _:
                return nothing_here(asked)

    def refuse(self, answer: Answer, /) -> Reply:
        return whole(answer.status, {"error": answer.message})

    def trouble(self, answer: Answer, /) -> bytes:
        return b"data: " + encode({"error": answer.message}) + b"\n\n"


speaker = OpenInference()


def _pieces(answer: Answer) -> tuple[bytes, ...]:
    head = {"model_name": "m", "model_version": "1"}
    return tuple(b"data: " + encode({**head, "text_output": piece}) + b"\n\n" for piece in answer.text)


def _checked(body: dict[str, Any]) -> Reply | None:
    """What a server would refuse: parameters that are neither texts, numbers nor truth values."""
    is_flat = all(isinstance(value, str | int | float | bool) for value in body.get("parameters", {}).values())
    return None if is_flat and isinstance(body.get("text_input"), str) else whole(400, {"error": "invalid request"})


def _inferred(asked: Asked, answer: Answer) -> Reply:
    """The arrays that came, or those of the answer: under their own names, in JSON unless binary data is asked for."""
    num_json = int(asked.headers.get(HEADER, len(asked.body)))
    body, rest = msgspec.json.decode(asked.body[:num_json]), asked.body[num_json:]
    if answer.outputs:
        return whole(200, {"model_name": "m", "outputs": list(answer.outputs)})
    text = encode({"model_name": "m", "outputs": body["inputs"]})
    # A reply has no headers of its own.
    answer.headers[HEADER] = str(len(text))
    return Reply(200, "application/octet-stream", (text + rest,))
