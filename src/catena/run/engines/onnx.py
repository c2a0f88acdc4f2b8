"""ONNX Runtime: text embeddings by encoder models with a Hugging Face tokenizer file."""

from __future__ import annotations

import mmap
from typing import Any

import anyio
import anyio.to_thread

from catena.core.clock import monotonic_s
from catena.core.errors import (
    ContextError,
    EngineError,
    FormatError,
    InputError,
    MissingExtraError,
    ResourceError,
    UnsupportedError,
)
from catena.core.manifest import StoredModel
from catena.core.messages import Embedded, EmbedRequest, Timings, Usage
from catena.core.protocols import Placement, SessionFacts

try:
    import numpy
    import onnxruntime
    import tokenizers
    from numpy.typing import NDArray
except ModuleNotFoundError as error:
    raise MissingExtraError(error.name or "onnxruntime", "onnx") from error

_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids"})
_OUTPUT = "last_hidden_state"
_POOLINGS = frozenset({"cls", "mean"})
BATCH_ROWS, BATCH_TOKENS = 32, 4096
# A model that quantises its activations while it runs does so with one scale for the whole batch: a vector would then
# depend on the other texts of its batch (cosine to itself alone below 0.996, docs/decisions/0005-engines.md).
_DYNAMIC = b"DynamicQuantizeLinear"
_runtime: Any = onnxruntime
_STATE = _runtime.capi.onnxruntime_pybind11_state
_RUNTIME_ERRORS = (
    _STATE.Fail,
    _STATE.InvalidArgument,
    _STATE.InvalidGraph,
    _STATE.InvalidProtobuf,
    _STATE.NoSuchFile,
    _STATE.NotImplemented,
    _STATE.RuntimeException,
)
_DEFAULT_CONTEXT_TOKENS = 512
# Weights, their prepacked copy, and the arena of one batch; measured as growth of resident memory.
_MEMORY_FACTOR = 4


class Engine:
    """onnxruntime on the CPU."""

    def accepts(self, model: StoredModel) -> str | None:
        """None for an ONNX model that embeds and brings its tokenizer, else why not."""
        manifest = model.manifest
        if manifest.format != "onnx":
            return f"onnx reads onnx, not {manifest.format}"
        if manifest.task != "embed":
            return f"onnx embeds; the task of {model.name} is {manifest.task}"
        if not {"weights", "tokenizer"} <= {file.role for file in manifest.files}:
            return f"{model.name} has no file of role weights or tokenizer"
        if model.fact("pooling", "cls") not in _POOLINGS:
            return f"{model.name} pools by {model.fact('pooling')!r}; known are cls and mean"
        return None

    async def load(self, model: StoredModel, placement: Placement) -> Session:
        """Load on the CPU. Raises FormatError for files that are not what they should be, ResourceError for a device
        that is not there."""
        if placement.device != "cpu":
            raise ResourceError(f"onnx has no device {placement.device!r} here", hint="use device cpu")
        return await anyio.to_thread.run_sync(_load, model, placement)


class Session:
    """An encoder, one batch at a time on all of its threads; requests take turns between batches."""

    def __init__(self, runner: Any, tokenizer: tokenizers.Tokenizer, model: StoredModel, facts: SessionFacts) -> None:
        self.facts = facts
        self._runner: Any = runner
        self._tokenizer = tokenizer
        self._pooling = str(model.fact("pooling", "cls"))
        self._shorter = _sizes(model.fact("matryoshka", ""))
        self._inputs = [node.name for node in runner.get_inputs()]
        self._batch_rows = 1 if _quantises_batches(model) else BATCH_ROWS
        edges = tokenizer.encode("").ids
        self._before, self._after = edges[:1], edges[1:]
        self._turn = anyio.CapacityLimiter(1)

    async def embed(self, request: EmbedRequest) -> Embedded:
        """One L2-normalised vector per input, in order.

        Tokens are counted with the special ones that the tokenizer puts around each input; around token ids they are
        put too, unless they are there. Raises ContextError for the longest input beyond the context (nothing is ever
        cut off), UnsupportedError for dimensions that the model was not trained for.
        """
        if not request.inputs:
            raise InputError("there is nothing to embed", param="input")
        started_s = monotonic_s()
        rows = await anyio.to_thread.run_sync(self._tokenise, request.inputs, limiter=self._turn)
        longest = max(map(len, rows), default=0)
        if longest > self.facts.context_tokens:
            raise ContextError(longest, self.facts.context_tokens)
        vectors = [b""] * len(rows)
        width = 0
        for batch in _batches([len(row) for row in rows], self._batch_rows):
            states = await anyio.to_thread.run_sync(self._run, [rows[index] for index in batch], limiter=self._turn)
            found = _shortened(states, request.dimensions, self._shorter)
            width = found.shape[1]
            for index, vector in zip(batch, found, strict=True):
                vectors[index] = vector.astype("<f4").tobytes()
        usage = Usage(sum(map(len, rows)), 0, source="counted")
        return Embedded(tuple(vectors), width, usage, Timings(prefill_s=monotonic_s() - started_s))

    async def close(self) -> None:
        """Free the model once the batch that may be running has ended; later requests are refused."""
        with anyio.CancelScope(shield=True):
            async with self._turn:
                self._runner = None

    def _tokenise(self, inputs: tuple[str, ...] | tuple[tuple[int, ...], ...]) -> list[list[int]]:
        return [self._tokenizer.encode(item).ids if isinstance(item, str) else self._wrap(item) for item in inputs]

    def _wrap(self, ids: tuple[int, ...]) -> list[int]:
        size = self._tokenizer.get_vocab_size()
        if not all(0 <= token < size for token in ids):
            raise InputError(f"a token id is outside the vocabulary of {size}", param="input")
        row = list(ids)
        if row[:1] != self._before:
            row = self._before + row
        return row if row[-1:] == self._after and len(row) > 1 else row + self._after

    def _run(self, rows: list[list[int]]) -> NDArray[numpy.float32]:
        """Vectors (rows x width) of one padded batch, normalised."""
        if self._runner is None:
            raise EngineError("the session is closed")
        # Shapes: ids and mask rows x tokens, states rows x tokens x width.
        ids = numpy.zeros((len(rows), max(map(len, rows))), dtype=numpy.int64)
        mask = numpy.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            mask[index, : len(row)] = 1
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": numpy.zeros_like(ids)}
        try:
            (states,) = self._runner.run([_OUTPUT], {name: feeds[name] for name in self._inputs})
        except _RUNTIME_ERRORS as error:
            raise EngineError("onnxruntime failed on an input") from error
        if self._pooling == "cls":
            return _normalised(states[:, 0])
        weights = mask[:, :, None].astype(numpy.float32)
        return _normalised((states * weights).sum(axis=1) / weights.sum(axis=1))


def _load(model: StoredModel, placement: Placement) -> Session:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = placement.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # Idle threads must not spin: the cores are shared with the other engines.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    hint = f"run `catena verify {model.name}`"
    try:
        runner = onnxruntime.InferenceSession(str(model.path("weights")), options, providers=["CPUExecutionProvider"])
    except _RUNTIME_ERRORS as error:
        raise FormatError(f"onnxruntime cannot load the weights of {model.name}", hint=hint) from error
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(model.path("tokenizer")))
    except Exception as error:
        raise FormatError(f"the tokenizer of {model.name} cannot be read", hint=hint) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    inputs, outputs = ({node.name for node in nodes} for nodes in (runner.get_inputs(), runner.get_outputs()))
    if not inputs <= _INPUTS or _OUTPUT not in outputs:
        raise FormatError(f"{model.name} has not the inputs and outputs of a text encoder", hint=hint)
    trained = int(model.fact("context_tokens", _DEFAULT_CONTEXT_TOKENS))
    facts = SessionFacts(
        engine=f"onnx {onnxruntime.__version__}",
        device="cpu",
        slots=placement.slots,
        context_tokens=min(trained, placement.context_tokens or trained),
        memory_bytes=_MEMORY_FACTOR * model.path("weights").stat().st_size,
    )
    return Session(runner, tokenizer, model, facts)


def _batches(lengths: list[int], max_rows: int) -> list[list[int]]:
    """Indices into `lengths`, shortest first, so that little is padded; a batch is bounded in rows and in tokens."""
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        last = batches[-1] if batches else []
        if not last or len(last) >= max_rows or (len(last) + 1) * lengths[index] > BATCH_TOKENS:
            batches.append([index])
        else:
            last.append(index)
    return batches


def _shortened(
    vectors: NDArray[numpy.float32], dimensions: int | None, allowed: frozenset[int]
) -> NDArray[numpy.float32]:
    """The first `dimensions` values of each row, normalised again; only for sizes that the model was trained for."""
    if dimensions is None or dimensions == vectors.shape[1]:
        return vectors
    if dimensions not in allowed:
        raise UnsupportedError(
            f"this model makes vectors of {vectors.shape[1]} values", hint="leave dimensions out", param="dimensions"
        )
    return _normalised(vectors[:, :dimensions])


def _normalised(vectors: NDArray[numpy.float32]) -> NDArray[numpy.float32]:
    norms = numpy.linalg.norm(vectors, axis=1, keepdims=True)
    return numpy.divide(vectors, numpy.maximum(norms, 1e-12), dtype=numpy.float32)


def _sizes(fact: Any) -> frozenset[int]:
    """The vector sizes named by a manifest's fact `matryoshka`, e.g. `64,128,256`."""
    return frozenset(int(part) for part in str(fact).split(",") if part.strip().isdecimal())


def _quantises_batches(model: StoredModel) -> bool:
    with (
        model.path("weights").open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        return data.find(_DYNAMIC) >= 0
