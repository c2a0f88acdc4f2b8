"""Writing down: an encoder turns a stretch of speech into states, a decoder writes tokens from them, one at a time."""

from __future__ import annotations

import re
from math import ceil
from typing import Any, NamedTuple

import numpy
from numpy.typing import NDArray

from catena.core.errors import EngineError, FormatError
from catena.run.engines.onnx import runtime
from catena.run.engines.onnx.speech.resampling import RATE

Array = NDArray[Any]
# Moonshine (https://github.com/moonshine-ai/moonshine): its first and last token, and how many tokens a second of
# speech may have; more is the model repeating itself.
FIRST, LAST = 1, 2
MAX_TOKENS_S, MIN_TOKENS = 6.5, 6
MIN_SAMPLES = RATE // 2
# A text that says the same so many times in a row, and for so many tokens, goes in circles.
MIN_REPEATS, MIN_REPEATED, MAX_PERIOD = 4, 16, 16
_PAST = re.compile(r"past_key_values\.\d+\.(decoder|encoder)\.(key|value)")


class Model(NamedTuple):
    """Encoder and decoder, with the names of the decoder's memory and the empty shape of each."""

    encoder: Any
    decoder: Any
    past: dict[str, tuple[int, ...]]

    @classmethod
    def of(cls, encoder: Any, decoder: Any, name: str) -> Model:
        """The pair. Raises FormatError where the ports are not as they should be."""
        inputs = {node.name: node.shape for node in decoder.get_inputs()}
        past = {name: (0, shape[1], 1, shape[3]) for name, shape in inputs.items() if _PAST.fullmatch(name)}
        presents = ["logits", *(each.replace("past_key_values", "present") for each in past)]
        if (
            not past
            or inputs.keys() - past.keys() != {"input_ids", "encoder_hidden_states", "use_cache_branch"}
            or [node.name for node in encoder.get_inputs()] != ["input_values"]
            or {node.name for node in decoder.get_outputs()} != set(presents)
        ):
            raise FormatError(f"{name} is no pair of encoder and decoder that is known here")
        return cls(encoder, decoder, past)


class Line:
    """One stretch of speech while it is written down."""

    def __init__(self, model: Model, samples: NDArray[numpy.float32]) -> None:
        self.tokens: list[int] = []
        self.logprobs: list[float] = []
        self.is_done = False
        self.is_cut = False
        self._model = model
        self._max_tokens = max(MIN_TOKENS, ceil(len(samples) / RATE * MAX_TOKENS_S))
        self._past: dict[str, Array] = {
            name: numpy.zeros(shape, dtype=numpy.float32) for name, shape in model.past.items()
        }
        missing = max(0, MIN_SAMPLES - len(samples))
        (self._states,) = _run(model.encoder, None, {"input_values": numpy.pad(samples, (0, missing))[None, :]})

    @property
    def num_states(self) -> int:
        """How many states the encoder made of the speech."""
        return int(self._states.shape[1])

    def step(self) -> None:
        """Write one more token, the likeliest, or find that all is written."""
        is_first = not self.tokens
        feeds = {
            "input_ids": numpy.array([[FIRST if is_first else self.tokens[-1]]], dtype=numpy.int64),
            "encoder_hidden_states": self._states,
            "use_cache_branch": numpy.array([not is_first]),
            **self._past,
        }
        names = ["logits", *(each.replace("past_key_values", "present") for each in self._past)]
        logits, *present = _run(self._model.decoder, names, feeds)
        for name, array in zip(self._past, present, strict=True):
            # What the decoder remembers of the encoder comes with the first token only.
            if is_first or ".decoder." in name:
                self._past[name] = array
        last: NDArray[numpy.float32] = logits[0, -1]
        token = int(last.argmax())
        if token == LAST:
            self.is_done = True
            return
        self.tokens.append(token)
        highest = float(last[token])
        self.logprobs.append(-float(numpy.log(numpy.exp(last - highest).sum())))
        if len(self.tokens) >= self._max_tokens or goes_in_circles(self.tokens):
            self.is_done = self.is_cut = True


def goes_in_circles(tokens: list[int]) -> bool:
    """Whether the end of `tokens` says the same again and again."""
    for period in range(1, min(MAX_PERIOD, len(tokens) // MIN_REPEATS) + 1):
        size = period * max(MIN_REPEATS, ceil(MIN_REPEATED / period))
        tail = tokens[-size:]
        if len(tail) == size and tail[period:] == tail[:-period]:
            return True
    return False


def _run(session: Any, names: list[str] | None, feeds: dict[str, Array]) -> list[Array]:
    try:
        return session.run(names, feeds)
    except runtime.ERRORS as error:
        raise EngineError("onnxruntime failed on a stretch of speech") from error
