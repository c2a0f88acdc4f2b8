"""Text generation token by token: requests take turns between steps, so that they run at the same time."""

from __future__ import annotations

import copy
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import anyio
import anyio.to_thread

from catena.core.clock import monotonic_s
from catena.core.errors import EngineError, FormatError, InputError
from catena.core.manifest import StoredModel
from catena.core.messages import (
    ChatRequest,
    Delta,
    DetokeniseRequest,
    Event,
    Finished,
    FinishReason,
    GenerateRequest,
    Timings,
    TokeniseRequest,
    TokenLogprob,
    Tokens,
    Usage,
)
from catena.core.protocols import Placement, SessionFacts
from catena.run import contexts
from catena.run.engines.torch import runtime
from catena.run.engines.torch.runtime import library
from catena.run.engines.torch.sampling import Sampler, logprob
from catena.run.generating import asking
from catena.run.generating.asking import Asking
from catena.run.generating.pieces import Pieces
from catena.run.generating.writing import Writer

# A prompt is read in parts of this many tokens; others get their turn between them, and a cancel is heard.
CHUNK_TOKENS = 128
# What a session takes beside weights and caches: code, buffers of a step. Measured at 127 to 146 MB (2026-12-01).
MEMORY_BYTES = 160 << 20


def load(model: StoredModel, placement: Placement) -> Session:
    """Load weights and tokenizer. Raises FormatError, ResourceError."""
    tokenizer = runtime.tokenizer(model)
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise FormatError(f"{model.name} has no tokenizer.json that can be used")
    network = runtime.opened(model, placement, "AutoModelForCausalLM")
    config: Any = network.config.get_text_config()
    trained = int(getattr(config, "max_position_embeddings", None) or model.fact("context_tokens", 2048))
    context_tokens = contexts.fitted(model.name, trained, placement)
    facts = SessionFacts(
        engine=runtime.name(),
        device=str(network.device),
        slots=placement.slots,
        context_tokens=context_tokens,
        memory_bytes=MEMORY_BYTES
        + max(runtime.weights_bytes(network), sum(file.size_bytes for file in model.manifest.files))
        + placement.slots * context_tokens * _token_bytes(config, network),
    )
    return Session(network, tokenizer, facts, placement.threads)


class Session:
    """A causal language model. `slots` requests have a cache each; one step of one request is computed at a time."""

    def __init__(self, network: Any, tokenizer: Any, facts: SessionFacts, threads: int) -> None:
        self.facts = facts
        self._network: Any = network
        self._tokenizer = tokenizer
        self._pieces = Pieces(tokenizer.backend_tokenizer)
        self._threads = threads
        self._num_vocabulary = len(tokenizer)
        self._defaults = network.generation_config
        self._ends = _ends(network, tokenizer)
        self._turn = anyio.CapacityLimiter(1)
        self._places = anyio.Semaphore(facts.slots)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Event]:
        """The answer token by token, its choices one after the other.

        Raises before any event: ContextError, UnsupportedError for tools and output formats, which nothing here binds.
        """
        plan = asking.fitted(request, await self._prompt(request), self.facts.context_tokens)
        num_written = 0
        async with self._places:
            began_s = first_s = monotonic_s()
            cache, logits = await self._read(plan.ids)
            first_s = monotonic_s()
            for choice in range(plan.sampling.num_choices):
                # Not every kind of cache can be cut back to the prompt, so each choice but the last has a copy.
                is_last = choice == plan.sampling.num_choices - 1
                own = cache if is_last else await anyio.to_thread.run_sync(copy.deepcopy, cache, limiter=self._turn)
                if plan.echo:
                    yield Delta(choice, plan.echo)
                async with aclosing(self._choice(plan, choice, own, logits)) as events:
                    async for event in events:
                        if isinstance(event, int):
                            num_written += event
                        else:
                            yield event
        yield Usage(len(plan.ids), num_written, source="counted")
        yield Timings(prefill_s=first_s - began_s, decode_s=monotonic_s() - first_s)

    async def count(self, request: GenerateRequest) -> int:
        """Tokens of the prompt. Raises what `generate` raises before its first event, but for ContextError."""
        return len(await self._prompt(request))

    async def tokenise(self, request: TokeniseRequest) -> Tokens:
        """The tokens of a text, or of a conversation as the chat template writes it."""
        text = request.text
        if isinstance(text, ChatRequest):
            ids = await self._prompt(text)
        else:
            self._check_open()
            ids = await anyio.to_thread.run_sync(self._tokens, request, limiter=self._turn)
        return Tokens(tuple(ids), tuple(map(self._pieces.of, ids)))

    async def detokenise(self, request: DetokeniseRequest) -> str:
        """The text of token ids. Raises InputError for one outside the vocabulary."""
        self._check_open()
        if not all(0 <= token < self._num_vocabulary for token in request.ids):
            raise InputError(f"a token id is outside the vocabulary of {self._num_vocabulary}", param="tokens")
        return b"".join(map(self._pieces.of, request.ids)).decode("utf-8", "replace")

    async def close(self) -> None:
        """Free the model once the step that may be running has ended; later requests are refused."""
        with anyio.CancelScope(shield=True):
            async with self._turn:
                self._network = None

    async def _choice(self, plan: Asking, choice: int, cache: Any, logits: Any) -> AsyncGenerator[Event | int]:
        """Events of one choice, and the number of tokens that it had."""
        sampler = Sampler(plan.sampling, self._defaults, plan.ids, self._ends, choice)
        writer = Writer(plan.sampling.stop)
        reason: FinishReason = "length"
        num_written = 0
        while num_written < plan.max_tokens:
            token, known = await self._chosen(sampler, logits, plan.sampling.logprobs)
            if token in self._ends and not plan.sampling.ignore_eos:
                reason = "stop"
                break
            num_written += 1
            text = "" if token in self._pieces.specials else writer.write(self._pieces.of(token))
            if text or known:
                yield Delta(choice, text, logprobs=known)
            if writer.stop is not None:
                reason = "stop"
                break
            if num_written < plan.max_tokens:
                logits = await self._step(cache, [token])
        if writer.stop is None and (rest := writer.end()):
            yield Delta(choice, rest)
        yield Finished(choice, "stop" if writer.stop is not None else reason, writer.stop)
        yield num_written

    async def _prompt(self, request: GenerateRequest) -> list[int]:
        self._check_open()
        asking.check(request, self._num_vocabulary, self.facts.slots)
        return await anyio.to_thread.run_sync(self._ids, request, limiter=self._turn)

    def _ids(self, request: GenerateRequest) -> list[int]:
        template = self._tokenizer.chat_template
        template = template if isinstance(template, str) else None
        return asking.prompt_ids(request, template, self._num_vocabulary, self._tokenizer.encode, self._rendered)

    def _rendered(self, messages: list[dict[str, Any]], words: dict[str, Any]) -> list[int]:
        try:
            text = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **words)
            return self._tokenizer.encode(text, add_special_tokens=False)
        except (runtime.TemplateError, ArithmeticError, LookupError, TypeError, ValueError):
            # The library's own words are left out: they may quote the conversation.
            raise InputError(
                "the chat template does not allow this conversation", hint="check the order of roles", param="messages"
            ) from None

    def _tokens(self, request: TokeniseRequest) -> list[int]:
        backend = self._tokenizer.backend_tokenizer
        backend.encode_special_tokens = not request.reads_special
        try:
            return list(backend.encode(request.text, add_special_tokens=request.adds_special).ids)
        finally:
            backend.encode_special_tokens = False

    async def _read(self, ids: list[int]) -> tuple[Any, Any]:
        """A cache that holds the prompt, and the logits after it."""
        self._check_open()
        cache: Any = runtime.new_cache(self._network)
        logits: Any = None
        for start in range(0, len(ids), CHUNK_TOKENS):
            logits = await self._step(cache, ids[start : start + CHUNK_TOKENS])
        return cache, logits

    async def _step(self, cache: Any, ids: list[int]) -> Any:
        return await anyio.to_thread.run_sync(self._computed, cache, ids, limiter=self._turn)

    def _computed(self, cache: Any, ids: list[int]) -> Any:
        """Put `ids` into the cache; the logits (vocabulary, float32, on the CPU) after the last of them."""
        self._check_open()
        library.set_num_threads(self._threads)  # a number of each thread of Python
        try:
            with library.inference_mode():
                batch = library.tensor([ids], device=self._network.device)
                found = self._network(input_ids=batch, past_key_values=cache, use_cache=True, logits_to_keep=1)
                return found.logits[0, -1].float().cpu()
        except (RuntimeError, IndexError, ValueError) as error:
            raise runtime.broken(error) from error

    async def _chosen(self, sampler: Sampler, logits: Any, num_top: int | None) -> tuple[int, tuple[TokenLogprob, ...]]:
        try:
            token = sampler.next(logits)
            return token, () if num_top is None else (logprob(logits, token, num_top, self._pieces),)
        except RuntimeError as error:
            raise EngineError("torch found no token to choose: the logits are no numbers") from error

    def _check_open(self) -> None:
        if self._network is None:
            raise EngineError("the session is closed")


def _ends(network: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens that end an answer."""
    stated = network.generation_config.eos_token_id
    ids = stated if isinstance(stated, list) else [stated]
    return frozenset(int(id) for id in (*ids, tokenizer.eos_token_id) if id is not None)


def _token_bytes(config: Any, network: Any) -> int:
    """Bytes of keys and values of one token in all layers, as if each layer kept the whole context."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * width * network.dtype.itemsize
