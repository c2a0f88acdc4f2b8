"""Classifiers of text: encoder models that give each text, or each of its tokens, a label of config.json."""

from __future__ import annotations

from typing import Any, NamedTuple

import anyio
import anyio.to_thread
import msgspec
import numpy
from msgspec import Struct
from numpy.typing import NDArray

from catena.core.clock import monotonic_s
from catena.core.errors import ContextError, EngineError, FormatError, InputError
from catena.core.manifest import StoredModel
from catena.core.messages import Classified, ClassifyRequest, Span, Timings, Usage
from catena.core.protocols import Placement, SessionFacts
from catena.run import contexts
from catena.run.encoding import texts
from catena.run.encoding.texts import Row
from catena.run.engines.onnx import runtime

_OUTPUT = "logits"
# What stands for no label at all (IOB2, as the models of transformers have it).
OUTSIDE = "O"
_SEVERAL = "multi_label_classification"
MAX_CONFIG_BYTES = 1 << 20


class _Config(Struct):
    """What config.json says of labels; by their numbers as texts."""

    id2label: dict[str, str] = {}
    problem_type: str | None = None


class _Text(NamedTuple):
    """A text's token ids, where each stands in it, and which are special."""

    ids: list[int]
    offsets: list[tuple[int, int]]
    special: list[int]


def refusal(model: StoredModel) -> str | None:
    """Why the model cannot classify here; None if it can."""
    if not {"weights", "tokenizer"} <= {file.role for file in model.manifest.files}:
        return f"{model.name} has no file of role weights or tokenizer"
    return None


def load(model: StoredModel, placement: Placement) -> Session:
    """Load weights, tokenizer and labels. Raises FormatError."""
    runner, tokenizer = runtime.opened(model, placement), texts.read_tokenizer(model)
    inputs, outputs = ({node.name: node for node in nodes} for nodes in (runner.get_inputs(), runner.get_outputs()))
    if not inputs.keys() <= texts.INPUTS or _OUTPUT not in outputs:
        raise FormatError(f"{model.name} is no classifier of text", hint=runtime.verify_hint(model))
    shape = outputs[_OUTPUT].shape
    config = _config(model)
    num_labels = shape[-1] if isinstance(shape[-1], int) else len(config.id2label)
    labels = tuple(config.id2label.get(str(number), f"LABEL_{number}") for number in range(num_labels))
    trained = int(model.fact("context_tokens", texts.DEFAULT_CONTEXT_TOKENS))
    facts = SessionFacts(
        engine=runtime.name(),
        device="cpu",
        slots=placement.slots,
        context_tokens=contexts.fitted(model.name, trained, placement),
        memory_bytes=texts.MEMORY_BYTES + texts.MEMORY_FACTOR * model.path("weights").stat().st_size,
    )
    max_rows = 1 if runtime.quantises_batches(model) else texts.BATCH_ROWS
    return Session(
        runner,
        tokenizer,
        labels,
        facts,
        max_rows=max_rows,
        is_of_tokens=len(shape) == 3,
        may_be_several=config.problem_type == _SEVERAL,
    )


class Session:
    """A classifier, one batch at a time on all of its threads; requests take turns between batches."""

    def __init__(
        self,
        runner: Any,
        tokenizer: Any,
        labels: tuple[str, ...],
        facts: SessionFacts,
        *,
        max_rows: int,
        is_of_tokens: bool,
        may_be_several: bool,
    ) -> None:
        self.facts = facts
        self._runner = runner
        self._tokenizer = tokenizer
        self._labels = labels
        self._inputs = [node.name for node in runner.get_inputs()]
        self._max_rows = max_rows
        self._is_of_tokens = is_of_tokens
        self._may_be_several = may_be_several
        self._turn = anyio.CapacityLimiter(1)

    async def classify(self, request: ClassifyRequest) -> Classified:
        """Probabilities or spans per text, in order. Raises ContextError for the longest text beyond the context."""
        if not request.inputs:
            raise InputError("there is nothing to classify", param="input")
        started_s = monotonic_s()
        rows = await anyio.to_thread.run_sync(self._tokenise, request.inputs, limiter=self._turn)
        longest = max(len(row.ids) for row in rows)
        if longest > self.facts.context_tokens:
            raise ContextError(longest, self.facts.context_tokens, hint="cut the text, and classify its parts")
        found: list[NDArray[numpy.float32]] = [numpy.zeros(0, numpy.float32)] * len(rows)
        for batch in texts.batches([len(row.ids) for row in rows], self._max_rows):
            part = await anyio.to_thread.run_sync(self._run, [rows[index] for index in batch], limiter=self._turn)
            for index, each in zip(batch, part, strict=True):
                found[index] = each
        usage = Usage(sum(len(row.ids) for row in rows), 0, source="counted")
        timings = Timings(prefill_s=monotonic_s() - started_s)
        if self._is_of_tokens:
            spans = tuple(self._spans(row, each) for row, each in zip(rows, found, strict=True))
            return Classified(self._labels, usage, spans=spans, timings=timings)
        probabilities = tuple(tuple(each.tolist()) for each in found)
        return Classified(self._labels, usage, probabilities=probabilities, timings=timings)

    async def close(self) -> None:
        """Free the model once the batch that may be running has ended; later requests are refused."""
        with anyio.CancelScope(shield=True):
            async with self._turn:
                self._runner = None

    def _tokenise(self, inputs: tuple[str, ...]) -> list[_Text]:
        return [_Text(one.ids, one.offsets, one.special_tokens_mask) for one in self._tokenizer.encode_batch(inputs)]

    def _run(self, rows: list[_Text]) -> list[NDArray[numpy.float32]]:
        """Probabilities of one padded batch: per text of each label, or tokens x labels without the padding."""
        if self._runner is None:
            raise EngineError("the session is closed")
        feeds = texts.padded([Row(row.ids) for row in rows])
        try:
            (logits,) = self._runner.run([_OUTPUT], {name: feeds[name] for name in self._inputs})
        except runtime.ERRORS as error:
            raise EngineError("onnxruntime failed on an input") from error
        if self._may_be_several:
            chances = 1 / (1 + numpy.exp(-logits.astype(numpy.float64)))
        else:
            raised = numpy.exp(logits - logits.max(axis=-1, keepdims=True), dtype=numpy.float64)
            chances = raised / raised.sum(axis=-1, keepdims=True)
        return [each[: len(row.ids)] if self._is_of_tokens else each for row, each in zip(rows, chances, strict=True)]

    def _spans(self, row: _Text, chances: NDArray[numpy.float32]) -> tuple[Span, ...]:
        """Neighbouring tokens of one label are one span (IOB2: `B-` begins another); its probability is their mean."""
        found: list[tuple[str, int, int, list[float]]] = []
        is_open = False
        for (start, end), special, each in zip(row.offsets, row.special, chances, strict=True):
            if special or start == end:
                continue
            number = int(each.argmax())
            mark, _, name = self._labels[number].rpartition("-")
            if self._labels[number] == OUTSIDE:
                is_open = False
                continue
            if is_open and mark != "B" and found[-1][0] == name:
                label, first, _, numbers = found[-1]
                found[-1] = (label, first, end, [*numbers, float(each[number])])
            else:
                found.append((name, start, end, [float(each[number])]))
            is_open = True
        return tuple(Span(name, start, end, sum(each) / len(each)) for name, start, end, each in found)


def _config(model: StoredModel) -> _Config:
    """What config.json says, if there is one. Raises FormatError."""
    if "config" not in {file.role for file in model.manifest.files}:
        return _Config()
    path = model.path("config")
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise FormatError(f"the configuration of {model.name} is too large")
        return msgspec.json.decode(path.read_bytes(), type=_Config)
    except msgspec.DecodeError as error:
        raise FormatError(f"the labels of {model.name} cannot be read", hint=runtime.verify_hint(model)) from error
