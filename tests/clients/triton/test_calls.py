"""What the official Triton client for gRPC must find: one question, one answer."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import Any

import grpc
import numpy
import pytest
import tritonclient.grpc as triton
from tests.clients.conftest import requirement
from tests.clients.triton.conftest import MODELS, Server, alone, rows, sent
from tests.conftest import catena
from tritonclient.grpc import service_pb2, service_pb2_grpc

CALLS = "gRPC"
TRUTH = alone(MODELS["net"], x=rows(5))
Client = triton.InferenceServerClient


def refused(work: Any, *arguments: Any, **options: Any) -> tuple[str, str]:
    """The status and message that a call of the client fails with."""
    with pytest.raises(triton.InferenceServerException) as caught:
        work(*arguments, **options)
    return caught.value.status().removeprefix("StatusCode."), caught.value.message()


def typed(**contents: Any) -> service_pb2.ModelInferRequest:
    """A question for `net` with typed contents."""
    one = service_pb2.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 4])
    for name, values in contents.items():
        getattr(one.contents, name).extend(values)
    return service_pb2.ModelInferRequest(model_name="net", inputs=[one])


@requirement("C01", CALLS, "`is_server_live` and `is_server_ready` are true, and need no key")
def test_health(caller: Client) -> None:
    assert caller.is_server_live()
    assert caller.is_server_ready()


@requirement("C02", CALLS, "`is_model_ready` is true for a stored model, by version too, and false for another")
def test_model_ready(caller: Client) -> None:
    assert caller.is_model_ready("net")
    assert caller.is_model_ready("net", "1")
    assert not caller.is_model_ready("net", "2")
    assert not caller.is_model_ready("nosuch")


@requirement("C03", CALLS, "metadata of server and models are those of REST")
def test_metadata(caller: Client, client: Any) -> None:
    assert caller.get_server_metadata(as_json=True) == client.get_server_metadata()
    found = caller.get_model_metadata("net")
    assert (found.name, list(found.versions), found.platform) == ("net", ["1"], "onnxruntime_onnx")
    assert [(one.name, one.datatype, list(one.shape)) for one in found.inputs] == [("x", "FP32", [-1, 4])]
    assert [(one.name, one.datatype, list(one.shape)) for one in found.outputs] == [
        ("p", "FP32", [-1, 3]),
        ("label", "INT64", [-1]),
    ]


@requirement("C04", CALLS, "`get_model_config` gives the signature, and says which models are decoupled")
def test_config(caller: Client) -> None:
    found = caller.get_model_config("words", as_json=True)["config"]
    assert found["input"] == [{"name": "x0", "data_type": "TYPE_STRING", "dims": ["-1", "-1"]}]
    assert not caller.get_model_config("net").config.model_transaction_policy.decoupled
    assert caller.get_model_config("echo").config.model_transaction_policy.decoupled


@requirement("C05", CALLS, "`infer` gives what the library gives by itself, to the last bits, by name and by digest")
def test_infer(caller: Client, client: Any) -> None:
    digest = client.get_model_metadata("net")["parameters"]["digest"]
    for name in ("net", digest):
        found = caller.infer(name, [sent("x", rows(5))])
        assert found.as_numpy("p") == pytest.approx(TRUTH["p"], rel=1e-6)
        assert found.as_numpy("label").tolist() == TRUTH["label"].tolist()
        assert (found.get_response().model_name, found.get_response().model_version) == ("net", "1")


@requirement("C06", CALLS, "`request_id` comes back as `id`, and no id means none")
def test_id(caller: Client) -> None:
    assert caller.infer("net", [sent("x", rows())], request_id="a-7").get_response().id == "a-7"
    assert caller.infer("net", [sent("x", rows())]).get_response().id == ""


@requirement("C07", CALLS, "`model_version` 1 is the newest, and another is NOT_FOUND")
def test_version(caller: Client) -> None:
    assert caller.infer("net", [sent("x", rows())], model_version="1").as_numpy("p").shape == (1, 3)
    status, message = refused(caller.infer, "net", [sent("x", rows())], model_version="2")
    assert (status, message.startswith("there is no such version")) == ("NOT_FOUND", True)


@requirement("C08", CALLS, "only the outputs asked for come, in the order asked; without `outputs` all")
def test_outputs(caller: Client) -> None:
    wanted = [triton.InferRequestedOutput(name) for name in ("label", "p")]
    found = caller.infer("net", [sent("x", rows(5))], outputs=wanted)
    assert [one.name for one in found.get_response().outputs] == ["label", "p"]
    assert found.as_numpy("label").tolist() == TRUTH["label"].tolist()
    only = caller.infer("net", [sent("x", rows())], outputs=wanted[:1]).get_response()
    assert [one.name for one in only.outputs] == ["label"]


@requirement("C09", CALLS, "`class_count` gives the likeliest classes as `value:index`, best first")
def test_classes(caller: Client) -> None:
    wanted = [triton.InferRequestedOutput("p", class_count=2)]
    found = caller.infer("net", [sent("x", rows(5))], outputs=wanted).as_numpy("p")
    assert found.shape == (5, 2)
    assert [int(text.split(b":")[1]) for text in found[:, 0]] == TRUTH["p"].argmax(axis=1).tolist()


@requirement("C10", CALLS, "FP32, FP64, INT64, INT32, INT8 and BOOL go through to the last bit, NaN and infinity too")
def test_numbers(caller: Client) -> None:
    values = numpy.array([[numpy.nan, numpy.inf], [-numpy.inf, 1e-45]])
    inputs = [
        sent("x0", values.astype(numpy.float32)),
        sent("x1", values),
        sent("x2", numpy.array([[-(2**63), 2**63 - 1]])),
        sent("x3", numpy.array([[-(2**31), 2**31 - 1]], numpy.int32)),
        sent("x4", numpy.array([[-128, 127]], numpy.int8)),
        sent("x5", numpy.array([[True, False]])),
    ]
    found = caller.infer("numbers", inputs)
    for index, one in enumerate(inputs):
        assert found.as_numpy(f"y{index}").tobytes() == one._get_content()


@requirement("C11", CALLS, "FP16 goes through as bytes")
def test_halves(caller: Client) -> None:
    values = numpy.array([[0.5, -65504, numpy.inf]], numpy.float16)
    assert caller.infer("halves", [sent("x0", values)]).as_numpy("y0").tobytes() == values.tobytes()


@requirement("C12", CALLS, "BYTES carry texts of any length and language; those that are no UTF-8 are refused")
def test_words(caller: Client) -> None:
    values = numpy.array([["", "wörter", "字" * 1000]], dtype=object)
    found = caller.infer("words", [sent("x0", values)]).as_numpy("y0")
    assert [one.decode() for one in found[0]] == ["", "wörter", "字" * 1000]
    assert refused(caller.infer, "words", [sent("x0", numpy.array([[b"\xff"]], dtype=object))])[0] == "INVALID_ARGUMENT"


@requirement("C13", CALLS, "typed contents give the same as bytes, and are answered with typed contents")
def test_typed_contents(server: Server) -> None:
    with grpc.insecure_channel(server.gateway.calls) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        found = stub.ModelInfer(typed(fp32_contents=rows()[0].tolist()), timeout=10)
    assert not found.raw_output_contents
    alone_p = alone(MODELS["net"], x=rows())["p"][0]
    assert list(found.outputs[0].contents.fp32_contents) == pytest.approx(alone_p.tolist(), rel=1e-6)
    assert len(found.outputs[1].contents.int64_contents) == 1


@requirement("C14", CALLS, "contents of another type, of both kinds, and bytes for some inputs only are refused")
def test_wrong_contents(server: Server) -> None:
    both = typed(fp32_contents=[0, 1, 2, 3])
    both.raw_input_contents.append(rows().tobytes())
    some = service_pb2.ModelInferRequest(model_name="net", raw_input_contents=[rows().tobytes()] * 2)
    some.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    with grpc.insecure_channel(server.gateway.calls) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for question in (typed(int64_contents=[0, 1, 2, 3]), both, some, typed(fp32_contents=[0, 1, 2])):
            with pytest.raises(grpc.RpcError) as caught:
                stub.ModelInfer(question, timeout=10)
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@requirement("C15", CALLS, "trailing metadata tell the receipt, and its record is closed with engine and times")
def test_receipt(server: Server) -> None:
    with grpc.insecure_channel(server.gateway.calls) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        question = typed(fp32_contents=[0, 1, 2, 3])
        question.parameters["priority"].int64_param = 2
        _, call = stub.ModelInfer.with_call(question, timeout=10)
    told = dict(call.trailing_metadata())
    record = server.gateway.record(told["catena-receipt"])
    assert (record["outcome"], record["engine"].split()[0]) == ("complete", "onnx")
    assert "priority ignored" in told["catena-warning"]


@requirement("C16", CALLS, "units of the signature stand with the outputs, and a wrong unit of an input is refused")
def test_units(server: Server) -> None:
    question = typed(fp32_contents=[0, 1, 2, 3])
    with grpc.insecure_channel(server.gateway.calls) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        question.inputs[0].parameters["unit"].string_param = "K"
        assert stub.ModelInfer(question, timeout=10).outputs
        question.inputs[0].parameters["unit"].string_param = "degC"
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(question, timeout=10)
    assert caught.value.details() == "input x is in K, not in degC"


@requirement("C17", CALLS, "unknown parameters are refused with the nearest name; `timeout` and `priority` do no harm")
def test_parameters(caller: Client) -> None:
    status, message = refused(caller.infer, "net", [sent("x", rows())], parameters={"timeouts": 5})
    assert status == "INVALID_ARGUMENT" and "did you mean 'timeout'" in message
    assert caller.infer("net", [sent("x", rows())], priority=1, timeout=1_000_000).as_numpy("p").shape == (1, 3)


@requirement("C18", CALLS, "sequences and shared memory are refused, in a question and as procedures")
def test_not_served(caller: Client) -> None:
    assert "sequence_" in refused(caller.infer, "net", [sent("x", rows())], sequence_id=5, sequence_start=True)[1]
    one = triton.InferInput("x", [1, 4], "FP32")
    one.set_shared_memory("region", 16)
    assert "memory is not shared" in refused(caller.infer, "net", [one])[1]
    for work in (caller.get_system_shared_memory_status, caller.get_cuda_shared_memory_status):
        assert refused(work)[0] == "UNIMPLEMENTED"
    assert "memory is not shared" in refused(caller.register_system_shared_memory, "a", "b", 8)[1]


@requirement("C19", CALLS, "settings of traces and logs are UNIMPLEMENTED, with the reason")
def test_settings(caller: Client) -> None:
    for work in (caller.get_trace_settings, caller.get_log_settings):
        status, message = refused(work)
        assert status == "UNIMPLEMENTED" and "is not served" in message


@requirement("C20", CALLS, "a wrong name, type, shape or size is INVALID_ARGUMENT, an unknown model NOT_FOUND")
def test_errors(caller: Client) -> None:
    assert refused(caller.infer, "nosuch", [sent("x", rows())])[0] == "NOT_FOUND"
    short = sent("x", rows())
    short.set_shape([2, 4])
    negative = sent("x", rows())
    negative.set_shape([-1, -4])
    wrong = [sent("y", rows()), sent("x", rows().astype(float)), sent("x", numpy.zeros((1, 5), "f4")), short, negative]
    for one in wrong:
        assert refused(caller.infer, "net", [one])[0] == "INVALID_ARGUMENT"
    assert refused(caller.infer, "net", [])[0] == "INVALID_ARGUMENT"
    assert "twice" in refused(caller.infer, "net", [sent("x", rows()), sent("x", rows())])[1]
    assert "echo does not predict" in refused(caller.infer, "echo", [sent("x", rows())])[1]


@requirement("C21", CALLS, "values that the model cannot take are INVALID_ARGUMENT, and nothing of them is quoted")
def test_values(caller: Client) -> None:
    status, message = refused(caller.infer, "lookup", [sent("i", numpy.array([987654]))])
    assert status == "INVALID_ARGUMENT" and "987654" not in message


@requirement("C22", CALLS, "`get_inference_statistics` counts what came here and by REST together, failures too")
def test_statistics(caller: Client, client: Any) -> None:
    before = client.get_inference_statistics("net")["model_stats"][0]
    for _ in range(4):
        caller.infer("net", [sent("x", rows(3))])
    refused(caller.infer, "net", [sent("y", rows())])
    after = caller.get_inference_statistics("net").model_stats[0]
    assert after.inference_count - before["inference_count"] == 12
    assert after.inference_stats.success.count - before["inference_stats"]["success"]["count"] == 4
    assert after.inference_stats.fail.count - before["inference_stats"]["fail"]["count"] == 1
    assert after.inference_stats.success.ns > after.inference_stats.compute_infer.ns > 0
    assert 3 in [one.batch_size for one in after.batch_stats]
    assert set(MODELS) <= {one.name for one in caller.get_inference_statistics().model_stats}


@requirement("C23", CALLS, "the repository lists every model with its state, loads and unloads")
def test_repository(caller: Client) -> None:
    def state() -> str:
        return next(one.state for one in caller.get_model_repository_index().models if one.name == "halves")

    caller.load_model("halves")
    assert state() == "READY"
    caller.unload_model("halves")
    for _ in range(500):
        if state() == "UNAVAILABLE":
            break
    assert state() == "UNAVAILABLE"
    assert refused(caller.load_model, "net", config="{}")[0] == "INVALID_ARGUMENT"
    assert refused(caller.load_model, "nosuch")[0] == "NOT_FOUND"


@requirement("C24", CALLS, "a wrong key is UNAUTHENTICATED, one without the scope `manage` is PERMISSION_DENIED")
def test_keys(server: Server, caller: Client) -> None:
    made = catena(server.home, "keys", "add", "caller", "--scope", "ask", "--json")
    assert made.returncode == 0, made.stderr
    key = json.loads(made.stdout)["key"]
    wrong = f"ctn_{'0' * 8}_{'0' * 64}"
    for right in ({"authorization": f"Bearer {key}"}, {"x-api-key": key}):
        assert caller.infer("net", [sent("x", rows())], headers=right).as_numpy("p").shape == (1, 3)
        assert refused(caller.load_model, "net", headers=right)[0] == "PERMISSION_DENIED"
    assert refused(caller.load_model, "net", headers={"x-api-key": wrong})[0] == "UNAUTHENTICATED"


@requirement("C25", CALLS, "a deadline that passes ends the call with DEADLINE_EXCEEDED")
def test_deadline(caller: Client) -> None:
    assert refused(caller.infer, "net", [sent("x", rows())], client_timeout=1e-6)[0] == "DEADLINE_EXCEEDED"
    assert caller.infer("net", [sent("x", rows())], client_timeout=30).as_numpy("p").shape == (1, 3)


@requirement("C26", CALLS, "a large array, 4 MB, goes through unchanged both ways; one above the limit is refused")
def test_large(caller: Client) -> None:
    values = numpy.random.default_rng(0).standard_normal((1000, 512))
    empty = [sent(f"x{index}", numpy.zeros((0, 0), dtype)) for index, dtype in ((0, "f4"), (2, "i8"), (3, "i4"))]
    empty += [sent("x4", numpy.zeros((0, 0), "i1")), sent("x5", numpy.zeros((0, 0), "?"))]
    found = caller.infer("numbers", [*empty, sent("x1", values)], outputs=[triton.InferRequestedOutput("y1")])
    assert numpy.array_equal(found.as_numpy("y1"), values)
    status, message = refused(caller.infer, "net", [sent("x", numpy.zeros((1_100_000, 4), "f4"))])
    assert status == "RESOURCE_EXHAUSTED" and "larger than" in message


@requirement("C27", CALLS, "compressed messages are UNIMPLEMENTED")
def test_compression(caller: Client) -> None:
    status, message = refused(caller.infer, "net", [sent("x", rows(300) * 0)], compression_algorithm="gzip")
    assert status == "UNIMPLEMENTED" and "compressed" in message


@requirement("C28", CALLS, "a procedure that nobody knows is UNIMPLEMENTED")
def test_unknown_procedure(server: Server) -> None:
    with grpc.insecure_channel(server.gateway.calls) as channel:
        for name in ("/inference.GRPCInferenceService/Nothing", "/grpc.health.v1.Health/Check"):
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(name)(b"", timeout=10)
            assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


@requirement("C29", CALLS, "32 callers at a time, on one connection and on many, get each their own answer")
@pytest.mark.parametrize("is_shared", [True, False])
def test_concurrent(server: Server, caller: Client, is_shared: bool) -> None:
    wrong: list[int] = []

    def ask(seed: int) -> None:
        client = caller if is_shared else server.caller()
        for step in range(8):
            values = rows(2, seed * 100 + step)
            found = client.infer("net", [sent("x", values)], client_timeout=30).as_numpy("p")
            if found != pytest.approx(truth[seed * 100 + step], rel=1e-5):
                wrong.append(seed)
        if not is_shared:
            client.close()

    seeds = [seed * 100 + step for seed in range(32) for step in range(8)]
    everything = alone(MODELS["net"], x=numpy.concatenate([rows(2, seed) for seed in seeds]))["p"]
    truth = {seed: everything[2 * index : 2 * index + 2] for index, seed in enumerate(seeds)}
    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == [] and not any(thread.is_alive() for thread in threads)


@requirement("C30", CALLS, "`async_infer` gives the same as `infer`, and a call that is cancelled ends")
def test_async(caller: Client) -> None:
    done: Any = threading.Event()
    found: list[Any] = []

    def take(result: Any, error: Any) -> None:
        found.append((result, error))
        done.set()

    caller.async_infer("net", [sent("x", rows(5))], take)
    assert done.wait(30)
    result, error = found[0]
    assert error is None
    assert result.as_numpy("p") == pytest.approx(TRUTH["p"], rel=1e-6)
    done.clear()
    caller.async_infer("net", [sent("x", rows(5))], take).cancel()
    assert done.wait(30)
    assert caller.infer("net", [sent("x", rows(5))]).as_numpy("p").shape == (5, 3)


AIO = """
import asyncio, sys, numpy
import tritonclient.grpc.aio as triton

async def main() -> None:
    async with triton.InferenceServerClient(sys.argv[1]) as client:
        assert await client.is_server_live() and await client.is_model_ready("net")
        one = triton.InferInput("x", [1, 4], "FP32")
        one.set_data_from_numpy(numpy.ones((1, 4), numpy.float32))
        found = await asyncio.gather(*[client.infer("net", [one], request_id=str(index)) for index in range(64)])
        assert [answer.get_response().id for answer in found] == [str(index) for index in range(64)]
        assert len({answer.as_numpy("p").tobytes() for answer in found}) == 1

        async def questions():
            for index in range(3):
                yield {"model_name": "net", "inputs": [one], "request_id": str(index)}

        answers = [answer async for answer in client.stream_infer(questions())]
        assert [answer.get_response().id for answer, error in answers if error is None] == ["0", "1", "2"]
        try:
            await client.infer("nosuch", [one])
        except triton.InferenceServerException as error:
            print(error.status())

asyncio.run(main())
"""


@requirement("C31", CALLS, "the client for asyncio asks 64 at a time on one connection, streams, and sees errors")
def test_asyncio(server: Server) -> None:
    # In a process of its own: grpc's event loop must not be shared with that of the tests.
    command = [sys.executable, "-c", AIO, server.gateway.calls]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "StatusCode.NOT_FOUND"), done.stderr
