"""The remote ends of the matrix: what each was asked, where its own reference puts every wish."""

from __future__ import annotations

import base64
from typing import Any, NamedTuple, Protocol

from tests.matrix.wish import PICTURE
from tests.providers.answers import Asked

PICTURE_TEXT = base64.b64encode(PICTURE).decode()


class Result(NamedTuple):
    """The result of a call as an end was told it: the id of the call (or, where there are none, its name), the text."""

    call: str
    text: str


class End(Protocol):
    """One dialect of providers. `words` maps the reasons to stop that it can tell to those that we give them."""

    name: str

    def tools(self, body: Any, /) -> list[str]:
        """The names of the tools that were offered."""
        ...

    def schema(self, body: Any, /) -> Any:
        """The schema that the answer was to have."""
        ...

    def picture(self, body: Any, /) -> str:
        """The picture that came with the question, in base64."""
        ...

    def results(self, body: Any, /) -> list[Result]:
        """The results of calls, in order."""
        ...


class OpenAI:
    name = "OpenAI"

    def tools(self, body: Any) -> list[str]:
        return [tool["function"]["name"] for tool in body["tools"]]

    def schema(self, body: Any) -> Any:
        return body["response_format"]["json_schema"]["schema"]

    def picture(self, body: Any) -> str:
        (part,) = (part for part in body["messages"][0]["content"] if part["type"] == "image_url")
        return part["image_url"]["url"].removeprefix("data:image/png;base64,")

    def results(self, body: Any) -> list[Result]:
        turns = [turn for turn in body["messages"] if turn["role"] == "tool"]
        return [Result(turn["tool_call_id"], turn["content"]) for turn in turns]


class Anthropic:
    name = "Anthropic"

    def tools(self, body: Any) -> list[str]:
        return [tool["name"] for tool in body["tools"]]

    def schema(self, body: Any) -> Any:
        return body["output_config"]["format"]["schema"]

    def picture(self, body: Any) -> str:
        (part,) = (part for part in body["messages"][0]["content"] if part["type"] == "image")
        return part["source"]["data"]

    def results(self, body: Any) -> list[Result]:
        blocks = [block for block in body["messages"][-1]["content"] if block["type"] == "tool_result"]
        return [Result(block["tool_use_id"], block["content"][0]["text"]) for block in blocks]


class Ollama:
    name = "Ollama"

    def tools(self, body: Any) -> list[str]:
        return [tool["function"]["name"] for tool in body["tools"]]

    def schema(self, body: Any) -> Any:
        return body["format"]

    def picture(self, body: Any) -> str:
        (picture,) = body["messages"][0]["images"]
        return picture

    def results(self, body: Any) -> list[Result]:
        turns = [turn for turn in body["messages"] if turn["role"] == "tool"]
        return [Result(turn["tool_name"], turn["content"]) for turn in turns]


class Gemini:
    name = "Gemini"

    def tools(self, body: Any) -> list[str]:
        return [one["name"] for one in body["tools"][0]["functionDeclarations"]]

    def schema(self, body: Any) -> Any:
        return body["generationConfig"]["responseJsonSchema"]

    def picture(self, body: Any) -> str:
        (part,) = (part for part in body["contents"][0]["parts"] if "inlineData" in part)
        return part["inlineData"]["data"]

    def results(self, body: Any) -> list[Result]:
        parts = [part["functionResponse"] for part in body["contents"][-1]["parts"] if "functionResponse" in part]
        return [Result(part["id"], part["response"]["output"]) for part in parts]


class OpenInference:
    """One text: there is no place for anything else."""

    name = "Open Inference"

    def tools(self, body: Any) -> list[str]:
        raise AssertionError("the protocol has no tools")

    def schema(self, body: Any) -> Any:
        raise AssertionError("the protocol has no schema")

    def picture(self, body: Any) -> str:
        raise AssertionError("the protocol has no pictures")

    def results(self, body: Any) -> list[Result]:
        raise AssertionError("the protocol has no turns")


def question(asked: Asked) -> str:
    """All that was sent, as a text."""
    return asked.body.decode()


ENDS: dict[str, End] = {
    "openai": OpenAI(),
    "anthropic": Anthropic(),
    "ollama": Ollama(),
    "gemini": Gemini(),
    "open_inference": OpenInference(),
}
