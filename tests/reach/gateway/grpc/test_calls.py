"""Calls in process: broken messages of every kind are answered with a status, never with a crash or a good end."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from tests.reach.gateway.conftest import MODEL, PREDICTOR, Door, Row
from tests.reach.gateway.grpc.test_messages import broken
from tritonclient.grpc import service_pb2 as theirs

from catena.core.errors import HTTP_STATUS as STATUSES
from catena.core.errors import AuditError, BusyError, CatenaError, EngineError, IntegrityError, RefusedError
from catena.reach.gateway.failures import describe
from catena.reach.gateway.grpc.status import BY_HTTP, number

pytestmark = pytest.mark.anyio
SERVICE = "/inference.GRPCInferenceService/"
PROCEDURES = (
    *("ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics"),
    *("RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload"),
)
FIELDS = {"content-type": "application/grpc"}


@pytest.fixture
def door(make_door: Callable[..., Door]) -> Door:
    made = make_door()
    rows = [Row(one.name, one.digest, (), one.manifest) for one in (MODEL, PREDICTOR)]
    made.app.services = type(made.app.services)(
        **{name: getattr(made.app.services, name) for name in made.app.services.__struct_fields__}
        | {"models": lambda: rows}
    )
    return made


def framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


def question(model: str = "net") -> theirs.ModelInferRequest:
    found = theirs.ModelInferRequest(model_name=model, id="7")
    if model == "net":
        found.inputs.add(name="x", datatype="FP32", shape=[1, 2])
        found.raw_input_contents.append(struct.pack("<2f", 1.5, -2))
    else:
        found.inputs.add(name="text_input", datatype="BYTES", shape=[1])
        found.raw_input_contents.append(b"\2\0\0\0hi")
        found.parameters["max_tokens"].int64_param = 3
    return found


async def call(door: Door, name: str, body: bytes, **options: Any) -> tuple[list[bytes], dict[str, str]]:
    """The messages of an answer, and its trailers."""
    answer = await door.ask("GRPC", SERVICE + name, body, FIELDS, **options)
    messages: list[bytes] = []
    rest = answer.body
    while rest:
        length = int.from_bytes(rest[1:5], "big")
        piece, flag, rest = rest[5 : 5 + length], rest[0], rest[5 + length :]
        assert len(piece) == length
        if flag:
            assert not rest
            return messages, dict(line.split(":", 1) for line in piece.decode("ascii").split("\r\n"))
        messages.append(piece)
    raise AssertionError("the answer has no trailers")


async def test_a_question_is_answered_under_its_own_door(door: Door) -> None:
    (message,), trailers = await call(door, "ModelInfer", framed(question().SerializeToString()))
    assert trailers == {"grpc-status": "0"}
    assert theirs.ModelInferResponse.FromString(message).outputs[0].parameters["unit"].string_param == "W"
    assert door.script.callers[0].door == "open_inference.ModelInfer"


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"\0\0\0", b"\0\0\0\0\5abc", framed(b"") * 2, framed(b"\xff")),
        *(b"\1\0\0\0\0", b"\0\xff\xff\xff\xff", b"\x80\0\0\0\0"),
    ],
)
async def test_a_call_without_exactly_one_whole_message_is_refused(door: Door, body: bytes) -> None:
    messages, trailers = await call(door, "ModelInfer", body)
    assert messages == [] and trailers["grpc-status"] in ("3", "12")
    assert door.script.asked == []


async def test_a_stream_that_ends_within_a_message_or_is_malformed_fails_as_a_whole(door: Door) -> None:
    good = framed(question().SerializeToString())
    for rest in (b"\0\0\0", b"\0\0\0\0\5abc", framed(b"\xff")):
        _, trailers = await call(door, "ModelStreamInfer", good + rest)
        assert trailers["grpc-status"] == "3"
    messages, trailers = await call(door, "ModelStreamInfer", good * 3)
    assert (len(messages), trailers["grpc-status"]) == (3, "0")


async def test_messages_of_a_stream_may_come_in_any_pieces(door: Door) -> None:
    body = framed(question().SerializeToString()) * 2
    messages, trailers = await call(door, "ModelStreamInfer", b"", pieces=[bytes((byte,)) for byte in body])
    assert (len(messages), trailers["grpc-status"]) == (2, "0")


async def test_errors_in_a_stream_carry_id_and_receipt_and_leave_the_rest_alone(door: Door) -> None:
    wrong = question()
    wrong.inputs[0].datatype = "FP64"
    body = framed(wrong.SerializeToString()) + framed(question("tiny").SerializeToString())
    messages, trailers = await call(door, "ModelStreamInfer", body)
    first, *rest = [theirs.ModelStreamInferResponse.FromString(one) for one in messages]
    assert (first.infer_response.id, "is of type float32" in first.error_message) == ("7", True)
    assert [one.infer_response.raw_output_contents[0][4:] for one in rest] == [b"Hello", b" world"]
    assert trailers["grpc-status"] == "0"
    door.script.events = [EngineError("broke")]
    (message,), _ = await call(door, "ModelStreamInfer", framed(question().SerializeToString()))
    found = theirs.ModelStreamInferResponse.FromString(message)
    assert found.error_message == "broke"
    assert found.infer_response.parameters["catena-receipt"].string_param.startswith("rcpt_")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": "text"}, "takes one input"),
        ({"datatype": "FP32"}, "takes one input"),
        ({"shape": [2]}, "takes one input"),
    ],
)
async def test_a_model_that_generates_takes_one_text(door: Door, change: dict[str, Any], reason: str) -> None:
    asked = question("tiny")
    one = asked.inputs[0]
    for name, value in change.items():
        if name == "shape":
            one.shape[:] = value
        else:
            setattr(one, name, value)
    (message,), _ = await call(door, "ModelStreamInfer", framed(asked.SerializeToString()))
    assert reason in theirs.ModelStreamInferResponse.FromString(message).error_message


async def test_a_caller_who_leaves_a_stream_cancels_the_work(door: Door) -> None:
    door.script.events = [anyio.sleep_forever]
    body = framed(question().SerializeToString())
    answer = await door.ask("GRPC", SERVICE + "ModelStreamInfer", body, FIELDS, leave_after=0)
    assert door.script.outcomes == ["cut CancelledError"]
    assert b"grpc-status" not in answer.body


async def test_keys_and_scopes_hold_for_calls(door: Door) -> None:
    door.access.is_required = True
    _, key = door.access.add("asker", ("ask",))
    body = framed(question().SerializeToString())
    assert (await call(door, "ModelInfer", body))[1]["grpc-status"] == "16"
    assert (await call(door, "ServerLive", framed(b"")))[1]["grpc-status"] == "0"
    for name, status in (("ModelInfer", "0"), ("RepositoryModelLoad", "7")):
        fields = FIELDS | {"authorization": f"Bearer {key}"}
        answer = await door.ask("GRPC", SERVICE + name, body, fields)
        assert f"grpc-status:{status}".encode() in answer.body


def test_every_error_has_a_status_and_no_two_meanings() -> None:
    assert set(STATUSES.values()) - {500} <= set(BY_HTTP)
    wanted = {
        AuditError("x"): 14,
        BusyError("x", retry_after_s=1): 8,
        IntegrityError("x"): 15,
        RefusedError("x"): 7,
        EngineError("x"): 13,
        CatenaError("x"): 13,
    }
    assert [number(describe(error)) for error in wanted] == list(wanted.values())


async def fuzz(door: Door, num_messages: int, seed: int) -> None:
    """Every broken message gets a status that blames it, or a good answer; of streams each ends with a status."""
    rng = random.Random(seed)
    named = theirs.ModelMetadataRequest(name="net", version="1").SerializeToString()
    good = [question().SerializeToString(), question("tiny").SerializeToString()]
    for _ in range(num_messages):
        kind = rng.randrange(4)
        name = rng.choice(("ModelInfer", "ModelStreamInfer")) if kind < 3 else rng.choice(PROCEDURES)
        body = framed(broken(rng, rng.choice(good) if kind < 3 else named))
        if kind == 2:
            body = broken(rng, framed(rng.choice(good)) * 2)
        messages, trailers = await call(door, name, body)
        assert trailers["grpc-status"] in ("0", "3", "5", "8", "12"), (name, body, trailers)
        parse = theirs.ModelStreamInferResponse if name == "ModelStreamInfer" else theirs.ModelInferResponse
        if kind < 3:
            for one in messages:
                parse.FromString(one)
        door.script.asked.clear()
        door.script.callers.clear()


async def test_broken_messages_are_answered_with_a_status(door: Door) -> None:
    await fuzz(door, 500, seed=0)


@pytest.mark.long
async def test_many_broken_messages_are_answered_with_a_status(door: Door) -> None:
    await fuzz(door, 20_000, seed=1)
