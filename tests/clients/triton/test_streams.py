"""What the official Triton client for gRPC must find in streams: many questions, and answers in pieces."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy
import pytest
import tritonclient.grpc as triton
from tests.clients.conftest import requirement, up
from tests.clients.triton.conftest import Server, rows, sent

STREAMS = "gRPC streams"
WAIT_S = 30
Answers = queue.Queue[tuple[Any, Any]]


@contextmanager
def streaming(client: triton.InferenceServerClient) -> Iterator[Answers]:
    """The answers of a stream of `client`, until the block ends."""
    answers: Answers = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    try:
        yield answers
    finally:
        client.stop_stream()


@pytest.fixture
def own(server: Server) -> Iterator[triton.InferenceServerClient]:
    """A client of its own: each has one stream at a time."""
    with server.caller() as client:
        yield client


def text(words: str) -> triton.InferInput:
    return sent("text_input", numpy.array([words], dtype=object))


def parameter(result: Any, name: str) -> Any:
    value = result.get_response().parameters[name]
    return getattr(value, value.WhichOneof("parameter_choice"))


@requirement("W01", STREAMS, "questions of one stream are answered in their order, each with its id and receipt")
def test_order(server: Server, own: triton.InferenceServerClient) -> None:
    with streaming(own) as answers:
        for index in range(20):
            own.async_stream_infer("net", [sent("x", rows(1, index))], request_id=str(index))
        found = [answers.get(timeout=WAIT_S) for _ in range(20)]
    assert [result.get_response().id for result, _ in found] == [str(index) for index in range(20)]
    assert all(result.as_numpy("p").shape == (1, 3) for result, _ in found)
    assert len({parameter(result, "catena-receipt") for result, _ in found}) == 20
    assert server.gateway.record(parameter(found[0][0], "catena-receipt"))["outcome"] == "complete"


@requirement("W02", STREAMS, "a model that generates answers in pieces, which make the whole text")
def test_generate(server: Server, own: triton.InferenceServerClient) -> None:
    with streaming(own) as answers:
        own.async_stream_infer("echo", [text("one two three")], parameters={"max_tokens": 3}, request_id="9")
        found = [answers.get(timeout=WAIT_S)[0] for _ in range(3)]
    pieces = [result.as_numpy("text_output")[0].decode() for result in found]
    assert "".join(pieces).split() == ["one", "two", "three"]
    assert {result.get_response().id for result in found} == {"9"}
    record = server.gateway.record(parameter(found[0], "catena-receipt"))
    assert (record["outcome"], record["usage"]["completion_tokens"]) == ("complete", 3)


@requirement("W03", STREAMS, "`enable_empty_final_response` has an empty answer marked final follow the last")
def test_final(own: triton.InferenceServerClient) -> None:
    with streaming(own) as answers:
        own.async_stream_infer(
            "echo", [text("one two")], parameters={"max_tokens": 2}, enable_empty_final_response=True
        )
        found = [answers.get(timeout=WAIT_S)[0] for _ in range(3)]
        own.async_stream_infer("net", [sent("x", rows())], enable_empty_final_response=True)
        single = answers.get(timeout=WAIT_S)[0]
    assert [parameter(result, "triton_final_response") for result in found] == [False, False, True]
    assert not found[-1].get_response().outputs
    assert parameter(single, "triton_final_response") is True


@requirement("W04", STREAMS, "an error of one question is told with its id, and the stream goes on")
def test_errors(own: triton.InferenceServerClient) -> None:
    with streaming(own) as answers:
        own.async_stream_infer("nosuch", [sent("x", rows())], request_id="1")
        own.async_stream_infer("net", [sent("y", rows())], request_id="2")
        own.async_stream_infer("echo", [text("hi")], parameters={"max_token": 3}, request_id="3")
        own.async_stream_infer("net", [sent("x", rows())], request_id="4")
        found = [answers.get(timeout=WAIT_S) for _ in range(4)]
    told = [error.message() if error else "" for _, error in found]
    assert "no such model" in told[0] and "input x is missing" in told[1] and "max_tokens" in told[2]
    assert told[3] == "" and found[3][0].get_response().id == "4"


@requirement("W05", STREAMS, "a caller who leaves in the middle of an answer ends the work, and its record says so")
def test_leaving(server: Server) -> None:
    hold = threading.Event()
    answers: Answers = queue.Queue()

    def take(result: Any, error: Any) -> None:
        answers.put((result, error))
        hold.wait(WAIT_S)  # nothing more is read, so the answer cannot come to its end

    with server.caller() as client:
        client.start_stream(take)
        client.async_stream_infer("echo", [text(f"{'long' * 125} " * 4000)], parameters={"max_tokens": 4000})
        receipt = parameter(answers.get(timeout=WAIT_S)[0], "catena-receipt")
        leaving = threading.Thread(target=client.stop_stream, kwargs={"cancel_requests": True})
        leaving.start()
        hold.set()
        leaving.join(WAIT_S)
    for _ in range(500):
        record = server.gateway.record(receipt)
        if record is not None:
            break
    assert record["outcome"] == "cancelled"


@requirement("W06", STREAMS, "a gateway that stops ends open streams at once, so that it need not wait for them")
def test_stopping(server: Server, tmp_path: Any) -> None:
    with (
        up(tmp_path, "--echo", "--grpc-port", "0") as gateway,
        triton.InferenceServerClient(gateway.calls) as client,
        streaming(client) as answers,
    ):
        client.async_stream_infer("echo", [text("one")], parameters={"max_tokens": 1})
        assert answers.get(timeout=WAIT_S)[1] is None
        gateway.process.terminate()
        assert gateway.process.wait(WAIT_S / 2) == 0
        result, error = answers.get(timeout=WAIT_S)
        assert result is None and "shutting down" in error.message()
