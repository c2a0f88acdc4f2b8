"""The model of bench/predict.py as MLServer wants it: onnxruntime behind its classes, in its own environment."""

from __future__ import annotations

import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from mlserver.utils import get_model_uri


class OnnxModel(MLModel):
    """One onnxruntime session on one thread."""

    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(await get_model_uri(self.settings), options)
        self._names = [node.name for node in self._session.get_outputs()]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        feeds = {one.name: NumpyCodec.decode_input(one) for one in payload.inputs}
        found = self._session.run(self._names, feeds)
        outputs = [NumpyCodec.encode_output(name, array) for name, array in zip(self._names, found, strict=True)]
        return InferenceResponse(model_name=self.name, outputs=outputs)
