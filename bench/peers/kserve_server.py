"""The model of bench/predict.py in a KServe Python server: onnxruntime behind its classes. Runs in KServe's own venv.

Usage: python kserve_server.py MODEL.onnx PORT GRPC_PORT
"""

from __future__ import annotations

import sys
from typing import Any

import onnxruntime
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer


class OnnxModel(Model):
    """One onnxruntime session on one thread."""

    def __init__(self, name: str, path: str) -> None:
        super().__init__(name)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(path, options)
        self._names = [node.name for node in self._session.get_outputs()]
        self._types = {"tensor(float)": "FP32", "tensor(int64)": "INT64"}
        self._datatypes = [self._types[node.type] for node in self._session.get_outputs()]
        self.ready = True

    async def predict(self, payload: InferRequest, headers: Any = None, response_headers: Any = None) -> InferResponse:
        found = self._session.run(self._names, {one.name: one.as_numpy() for one in payload.inputs})
        outputs: list[InferOutput] = []
        for name, datatype, array in zip(self._names, self._datatypes, found, strict=True):
            one = InferOutput(name, list(array.shape), datatype)
            one.set_data_from_numpy(array, binary_data=False)
            outputs.append(one)
        return InferResponse(response_id=payload.id or "none", model_name=self.name, infer_outputs=outputs)


if __name__ == "__main__":
    http_port, grpc_port = int(sys.argv[2]), int(sys.argv[3])
    ModelServer(http_port=http_port, grpc_port=grpc_port, workers=1).start([OnnxModel("net", sys.argv[1])])
