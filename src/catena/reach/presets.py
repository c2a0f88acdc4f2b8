"""What a derived model sets for every request that leaves it open: sampling, a system message, turns, adapters.

It is kept in the facts of the model's manifest, so it is part of its digest and holds for every protocol.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from catena.core.errors import IntegrityError
from catena.core.manifest import Manifest
from catena.core.messages import ChatRequest, GenerateRequest, Message, Sampling, Text

PREFIX = "preset."
PARAMETERS = (
    *("max_tokens", "temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty"),
    *("repeat_penalty", "seed", "stop"),
)
LISTS = ("stop", "messages", "adapters")
Value = str | int | float | bool


class Preset(Struct, frozen=True):
    """`sampling` as far as it is set; `system` goes before the first message, `messages` after; adapters by scale."""

    sampling: Sampling = Sampling()
    system: str = ""
    messages: tuple[Message, ...] = ()
    adapters: dict[str, float] = {}

    @classmethod
    def of(cls, manifest: Manifest) -> Preset:
        """The preset of a model; of one that was not derived an empty one. Raises IntegrityError."""
        if not any(key.startswith(PREFIX) for key in manifest.facts):
            return EMPTY
        chosen: dict[str, Any] = {}
        sampling: dict[str, Any] = {}
        try:
            for key, value in manifest.facts.items():
                name = key.removeprefix(PREFIX)
                if key.startswith(PREFIX):
                    part = sampling if name in PARAMETERS else chosen
                    part[name] = msgspec.json.decode(str(value)) if name in LISTS else value
            return msgspec.convert({**chosen, "sampling": sampling}, cls)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise IntegrityError(
                f"the preset of {manifest.name} cannot be read", hint="make the model again"
            ) from error

    def facts(self) -> dict[str, Value]:
        """As facts of a manifest: plain values as they are, lists as JSON; what is not set is left out."""
        found: dict[str, Value] = {}
        for name in PARAMETERS:
            value = getattr(self.sampling, name)
            if value not in (None, ()):
                found[PREFIX + name] = _json(value) if name in LISTS else value
        if self.system:
            found[PREFIX + "system"] = self.system
        if self.messages:
            found[PREFIX + "messages"] = _json(self.messages)
        if self.adapters:
            found[PREFIX + "adapters"] = _json(self.adapters)
        return found

    def applied(self, request: GenerateRequest) -> GenerateRequest:
        """`request` with everything it leaves open set as here. A system message of its own replaces this one's."""
        if self is EMPTY:
            return request
        open_ones = {
            name: getattr(self.sampling, name) for name in PARAMETERS if getattr(request.sampling, name) in (None, ())
        }
        sampling = msgspec.structs.replace(request.sampling, **open_ones)
        adapters = {**self.adapters, **request.adapters}
        request = msgspec.structs.replace(request, sampling=sampling, adapters=adapters)
        if not isinstance(request, ChatRequest):
            return request
        first, rest = request.messages[:1], request.messages[1:]
        if not first or first[0].role != "system":
            rest = request.messages
            first = (Message("system", (Text(self.system),)),) if self.system else ()
        return msgspec.structs.replace(request, messages=(*first, *self.messages, *rest))


EMPTY = Preset()


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
