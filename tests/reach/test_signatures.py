"""Arrays that do not fit a model's signature are refused before anything is recorded or computed."""

from __future__ import annotations

import hashlib
import struct
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.reach.test_router import Log, Salts, Scheduler

from catena.core.errors import CatenaError, EngineError, InputError, IntegrityError, RefusedError, UnsupportedError
from catena.core.manifest import Manifest, Provenance, Signature, StoredModel, TensorSpec
from catena.core.messages import Opened, Prediction, PredictRequest, Tensor, Timings
from catena.core.messages.predict import tensor_bytes
from catena.core.protocols import SessionFacts
from catena.reach.router import Router
from catena.reach.signatures import fitted, num_elements
from catena.reach.ticket import Caller

MANIFEST = Manifest(
    "net",
    "predict",
    "onnx",
    (),
    "MIT",
    Provenance("test"),
    Signature(
        (
            TensorSpec("x", "float32", (-1, 2), "K"),
            TensorSpec("mask", "bool", (-1,)),
            TensorSpec("words", "string", (2,)),
        ),
        (TensorSpec("y", "float32", (-1, 2), "W"), TensorSpec("z", "int64", (-1,))),
    ),
)
X = Tensor("x", "FP32", (1, 2), bytes(8), "")
MASK = Tensor("mask", "BOOL", (1,), b"\1", "")
WORDS = Tensor("words", "BYTES", (2,), b"\1\0\0\0a\0\0\0\0", "")
GOOD = PredictRequest("net", (X, MASK, WORDS))


def changed(tensor: Tensor, **fields: Any) -> PredictRequest:
    values = {name: getattr(tensor, name) for name in Tensor.__struct_fields__} | fields
    return PredictRequest("net", tuple(Tensor(**values) if one is tensor else one for one in (X, MASK, WORDS)))


def test_arrays_come_in_the_order_and_with_the_units_of_the_signature() -> None:
    found = fitted(PredictRequest("net", (WORDS, X, MASK), ("z",)), MANIFEST)
    assert [(one.name, one.unit) for one in found.inputs] == [("x", "K"), ("mask", "1"), ("words", "1")]
    assert found.outputs == ("z",)


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (changed(X, shape=(-1, 2)), "negative"),
        (changed(X, shape=(-1, -2)), "negative"),
        (changed(X, shape=(1, 3)), "shape"),
        (changed(X, shape=(2,)), "shape"),
        (changed(X, shape=(1,) * 65), "too many"),
        (changed(X, shape=(2, 2)), "fill"),
        (changed(X, shape=(1 << 61, 2)), "fill"),
        (changed(X, shape=(0, 2)), "fill"),
        (changed(X, data=bytes(7)), "within an element"),
        (changed(X, data=bytes(12)), "fill"),
        (changed(X, dtype="FP64", data=bytes(16)), "type"),
        (changed(X, unit="degC"), "not in degC"),
        (changed(X, name="X"), "missing"),
        (changed(MASK, data=b"\2"), "neither 0 nor 1"),
        (changed(WORDS, data=b"\xff\xff\xff\xffa"), "within an element"),
        (changed(WORDS, data=b"\0\0"), "within an element"),
        (changed(WORDS, data=b"\0\0\0\0"), "fill"),
        (PredictRequest("net", (X, MASK)), "words is missing"),
        (PredictRequest("net", (X, X, MASK, WORDS)), "twice"),
        (PredictRequest("net", (*GOOD.inputs, Tensor("more", "FP32", (0,), b""))), "no input more"),
        (PredictRequest("net", (*GOOD.inputs, Tensor("\x1b", "FP32", (0,), b""))), "unprintable"),
        (PredictRequest("net", GOOD.inputs, ("Y",)), "no output Y"),
        (PredictRequest("net", GOOD.inputs, ("y", "y")), "twice"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(request_: PredictRequest, said: str) -> None:
    with pytest.raises(InputError, match=said):
        fitted(request_, MANIFEST)


def test_a_model_that_does_not_predict_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="does not predict"):
        fitted(GOOD, Manifest("chat", "generate", "gguf", (), "MIT", Provenance("test")))


@given(st.lists(st.binary(max_size=20), max_size=20))
def test_elements_of_any_length_are_counted(items: list[bytes]) -> None:
    data = b"".join(struct.pack("<I", len(item)) + item for item in items)
    assert num_elements(Tensor("w", "BYTES", (len(items),), memoryview(data))) == len(items)


@given(st.binary(max_size=64), st.sampled_from(["FP32", "BYTES", "BOOL", "INT64"]), st.lists(st.integers(), max_size=4))
def test_any_bytes_fit_or_are_refused(data: bytes, dtype: str, shape: list[int]) -> None:
    for request in (
        changed(X, data=data, dtype=dtype, shape=tuple(shape)),
        changed(WORDS, data=data, shape=tuple(shape)),
    ):
        with suppress(InputError):
            assert fitted(request, MANIFEST).inputs


class Predicting:
    facts = SessionFacts("test-1", "cpu", 1, 0, 0)
    error: CatenaError | None = None

    async def predict(self, request: PredictRequest, /) -> Prediction:
        if self.error is not None:
            raise self.error
        return Prediction((Tensor("y", "FP32", (1, 2), bytes(8), "W"),), Timings(decode_s=0.25))


class Models:
    def resolve(self, name: str, /) -> StoredModel:
        if name == "changed":
            raise IntegrityError("the files changed")
        return StoredModel(MANIFEST, "sha256:" + "0" * 64, {})


def routed() -> tuple[Router, Log, Predicting]:
    log, session = Log([]), Predicting()
    return Router(Models(), Scheduler(session), log, Salts()), log, session  # type: ignore[arg-type]


@pytest.mark.anyio
async def test_a_prediction_is_recorded_with_digests_over_names_types_shapes_units_and_data() -> None:
    router, log, _ = routed()
    answer = await router.predict(GOOD, Caller("k", "open_inference.infer"))
    opened, salt = log.records[0], Salts().salt(answer.receipt)
    assert isinstance(opened, Opened)
    asked = tensor_bytes(fitted(GOOD, MANIFEST).inputs, "net")
    assert asked.startswith(b'[["net"],[["x","FP32",[1,2],"K",8],["mask","BOOL",[1],"1",1],')
    assert (opened.task, opened.question_digest) == ("predict", "sha256:" + hashlib.sha256(salt + asked).hexdigest())
    said = tensor_bytes(answer.prediction.outputs)
    assert log.closed.answer_digest == "sha256:" + hashlib.sha256(salt + said).hexdigest()
    assert (log.closed.outcome, log.closed.engine) == ("complete", "test-1")
    assert answer.prediction.timings == log.closed.timings
    assert answer.prediction.timings.loading_s == 0.5


@pytest.mark.anyio
async def test_what_does_not_fit_leaves_no_record_and_an_engine_that_breaks_does() -> None:
    router, log, session = routed()
    with pytest.raises(InputError):
        await router.predict(changed(X, data=b""), Caller())
    assert log.records == []
    session.error = EngineError("broke")
    with pytest.raises(EngineError) as caught:
        await router.predict(GOOD, Caller())
    assert caught.value.receipt == log.closed.receipt
    assert (log.closed.outcome, log.closed.error_code) == ("failed", "engine_failed")


@pytest.mark.anyio
async def test_a_model_whose_files_changed_is_refused_and_recorded() -> None:
    router, log, _ = routed()
    with pytest.raises(RefusedError):
        await router.predict(PredictRequest("changed", GOOD.inputs), Caller())
    assert log.closed.outcome == "failed"
