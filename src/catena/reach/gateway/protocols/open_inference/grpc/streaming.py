"""ModelStreamInfer: questions and answers on one call, in order; a model that generates answers piece by piece.

An error of one question is said in its answer, and the stream goes on, as Triton does it:
https://github.com/triton-inference-server/server/blob/main/docs/user_guide/decoupled_models.md
"""

from __future__ import annotations

import math
import time
from collections import deque

import anyio

from catena.core.errors import CancelledError, CatenaError, ExpiredError, InputError
from catena.core.messages import CompletionRequest, Delta, Tensor, Usage
from catena.reach.gateway.answering import warn_lost
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.failures import HttpError, describe
from catena.reach.gateway.grpc.messages import Messages, deadline_s, framed, late
from catena.reach.gateway.grpc.status import CONTENT_TYPE, GOOD_END, text
from catena.reach.gateway.protocols.open_inference import bodies, fields
from catena.reach.gateway.protocols.open_inference.generate import ParametersWire, to_request
from catena.reach.gateway.protocols.open_inference.grpc import answers, inference, requests
from catena.reach.gateway.protocols.open_inference.metadata import VERSION, known
from catena.reach.gateway.protocols.open_inference.tensors import joined, split
from catena.reach.gateway.wire import check_fields, convert
from catena.reach.signatures import num_elements

FINAL, EMPTY_FINAL = "triton_final_response", "triton_enable_empty_final_response"
LOOK_S = 0.25
MAX_WAITING = 64  # questions that are read ahead


async def stream(exchange: Exchange) -> None:
    """ModelStreamInfer. The call may stay open for long: the time limit is on each question, not on the call."""
    limit_s = deadline_s(exchange)
    if exchange.limit is not None:
        exchange.limit.deadline = math.inf
    exchange.enter("open_inference.ModelStreamInfer")
    await exchange.open_stream(CONTENT_TYPE)
    with anyio.move_on_after(limit_s) as limit:
        await _Conversation(exchange).run()
    if limit.cancelled_caught:
        raise late()
    await exchange.finish(GOOD_END)


class _Conversation:
    """One call: a reader that fetches questions ahead, within bounds, and notices when the caller leaves."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._max_bytes = exchange.services.settings.max_body_bytes
        self._waiting: deque[bytes | None] = deque()
        self._num_bytes = 0
        self._changed = anyio.Event()
        self._is_busy = False
        self._error: CatenaError | None = None

    async def run(self) -> None:
        """Return when every question was answered. Raises CatenaError when the call as a whole failed."""
        async with anyio.create_task_group() as group:
            if self._exchange.wire is not None:  # a reader that holds back would not see the caller leave
                self._exchange.wire.when_gone(lambda: self._leave(group.cancel_scope))
            group.start_soon(self._read, group.cancel_scope)
            group.start_soon(self._end_when_idle, group.cancel_scope)
            while (message := await self._next()) is not None:
                self._is_busy = True
                try:
                    asked = requests.infer(message)
                except CatenaError as error:
                    self._error = error
                    break
                await self._answer(message, asked)
                self._is_busy = False
            group.cancel_scope.cancel()
        if self._error is not None:
            raise self._error

    async def _read(self, scope: anyio.CancelScope) -> None:
        messages = Messages(self._exchange, self._max_bytes)
        try:
            message: bytes | None = b""
            while message is not None:
                message = await messages.next()
                while self._num_bytes > self._max_bytes or len(self._waiting) >= MAX_WAITING:
                    await self._change()
                self._waiting.append(message)
                self._num_bytes += len(message or b"")
                self._tell()
            await self._exchange.gone()
            self._leave(scope)
        except CatenaError as error:
            self._error = error
            scope.cancel()

    def _leave(self, scope: anyio.CancelScope) -> None:
        """The caller has gone."""
        self._exchange.is_gone = True
        self._error = CancelledError("the client went away")
        scope.cancel()

    async def _end_when_idle(self, scope: anyio.CancelScope) -> None:
        """A gateway that stops does not wait for a caller who asks nothing."""
        gateway = self._exchange.scope["catena.gateway"]
        while gateway.is_ready or self._is_busy or self._waiting:  # noqa: ASYNC110 - there is no event for the first
            await anyio.sleep(LOOK_S)
        self._error = HttpError(503, "the gateway is shutting down", code="shutting_down")
        scope.cancel()

    async def _next(self) -> bytes | None:
        while not self._waiting:
            await self._change()
        message = self._waiting.popleft()
        self._num_bytes -= len(message or b"")
        self._tell()
        return message

    async def _change(self) -> None:
        changed = self._changed
        await changed.wait()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def _answer(self, message: bytes, asked: requests.Infer) -> None:
        exchange = self._exchange
        began_ns = time.perf_counter_ns()
        limit_s = exchange.services.settings.request_timeout_s
        exchange.receipt, exchange.warnings = None, []
        try:
            with anyio.move_on_after(limit_s) as limit:
                inference.address(exchange, asked.model, asked.version)
                row = known(exchange, asked.model)
                if row is not None and row.manifest.task == "generate":
                    await self._generate(message, asked)
                else:
                    told: dict[str, str | bool] = {FINAL: True}
                    pieces = await inference.answer(exchange, message, asked, began_ns, told)
                    await exchange.write(framed(answers.streamed(list(pieces))))
            if limit.cancelled_caught:
                raise ExpiredError(f"the request took longer than {limit_s:g} s", hint="raise reach.request_timeout_s")
        except CatenaError as error:
            receipt = error.receipt or exchange.receipt
            told = {inference.RECEIPT: receipt} if receipt else {}
            inner = answers.inferred(asked.model, VERSION, asked.id, (), is_raw=True, parameters=told)
            await exchange.write(framed(answers.streamed(inner, text(describe(error)) or "failed")))

    async def _generate(self, message: bytes, asked: requests.Infer) -> None:
        """One answer for each piece of the text, and at the end an empty one if that is wished for."""
        exchange = self._exchange
        check_fields(asked.parameters, fields.CALL_GENERATE_PARAMETERS, exchange.warnings)
        request, has_end = _to_request(asked, await inference.arrays(message, asked, exchange.warnings))
        async with exchange.services.router.generate(request, exchange.caller) as answer:
            exchange.receipt, exchange.model = answer.receipt, answer.model.name
            warn_lost(exchange, answer.lost)
            told = {inference.RECEIPT: answer.receipt}
            async for event in answer.events:
                if isinstance(event, Usage):
                    exchange.usage = event
                elif isinstance(event, Delta) and event.text:
                    output = Tensor("text_output", "BYTES", (1,), joined([event.text.encode()]))
                    await self._write(asked, (output,), {**told, FINAL: False})
        if has_end:
            await self._write(asked, (), {**told, FINAL: True})

    async def _write(
        self, asked: requests.Infer, outputs: tuple[Tensor, ...], parameters: dict[str, str | bool]
    ) -> None:
        name = self._exchange.model
        pieces = answers.inferred(name, VERSION, asked.id, outputs, is_raw=True, parameters=parameters)
        await self._exchange.write(framed(answers.streamed(pieces)))


def _to_request(asked: requests.Infer, inputs: tuple[Tensor, ...]) -> tuple[CompletionRequest, bool]:
    """What is asked of a model that generates, and whether an empty answer is to follow the last. Raises InputError."""
    is_text = len(inputs) == 1 and inputs[0].name == "text_input" and inputs[0].dtype == "BYTES"
    if not is_text or math.prod(inputs[0].shape) != 1 or num_elements(inputs[0]) != 1:
        raise InputError(
            "a model that generates takes one input, text_input, with one element of BYTES", param="inputs"
        )
    if any(one.name != "text_output" for one in asked.outputs):
        raise InputError("a model that generates has one output, text_output", param="outputs")
    parameters = dict(asked.parameters)
    has_end = bodies.flag(parameters, EMPTY_FINAL, False)
    parameters.pop(EMPTY_FINAL, None)
    try:
        prompt = str(split(inputs[0].data)[0], "utf-8")
    except UnicodeDecodeError:
        raise InputError("text_input is not UTF-8", param="text_input") from None
    return to_request(asked.model, prompt, convert(parameters, ParametersWire)), has_end
