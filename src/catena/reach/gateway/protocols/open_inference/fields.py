"""What becomes of each field and parameter of a request; docs/protocols/open_inference.md shows it."""

from __future__ import annotations

from collections.abc import Mapping

from catena.reach.gateway.wire import Field


def _honoured(note: str) -> Field:
    return Field("honoured", note)


def _ignored(note: str, *harmless: object) -> Field:
    return Field("ignored", note, harmless)


def _refused(note: str, *harmless: object) -> Field:
    return Field("refused", note, harmless)


_SHARED = {
    name: _refused("memory is not shared with clients") for name in ("shared_memory_region", "shared_memory_byte_size")
} | {"shared_memory_offset": _refused("memory is not shared with clients", 0)}
_SEQUENCE = "no model here keeps a state between requests"

REQUEST: Mapping[str, Field] = {
    "id": _honoured("comes back with the answer"),
    "parameters": _honoured("see below"),
    "inputs": _honoured("name, shape, datatype, parameters and data of each, as the model's signature wants them"),
    "outputs": _honoured("name and parameters of those wanted, in this order; without it all"),
}
REQUEST_PARAMETERS: Mapping[str, Field] = {
    "binary_data_output": _honoured("true: outputs come as binary data unless one says otherwise"),
    "priority": _ignored("callers get fair turns", 0),
    "timeout": _ignored("the limit of the gateway holds", 0),
    "content_type": _ignored("data types say it"),
    "headers": _ignored("headers of HTTP say it", {}),
    "sequence_id": _refused(_SEQUENCE, 0, ""),
    "sequence_start": _refused(_SEQUENCE, False),
    "sequence_end": _refused(_SEQUENCE, False),
}
INPUT_PARAMETERS: Mapping[str, Field] = {
    "binary_data_size": _honoured("bytes of this input after the JSON"),
    "unit": _honoured("extension: refused unless it is the unit of the signature"),
    "content_type": _ignored("the data type says it"),
    **_SHARED,
}
OUTPUT_PARAMETERS: Mapping[str, Field] = {
    "binary_data": _honoured("true: after the JSON; false: in it"),
    "classification": _honoured("the N largest of the last dimension, as texts `value:index`"),
    "content_type": _ignored("the data type says it"),
    **_SHARED,
}
GENERATE: Mapping[str, Field] = {
    "id": _honoured("comes back with the answer"),
    "text_input": _honoured("the prompt, which is continued as it is, without a chat template"),
    "parameters": _honoured("see below; each may also stand beside text_input"),
}
GENERATE_PARAMETERS: Mapping[str, Field] = {
    "max_tokens": _honoured("1 or more; 16 if not given"),
    "temperature": _honoured("0 to 2; 0 is greedy"),
    "top_p": _honoured("above 0, to 1"),
    "top_k": _honoured("whole number, 0 means all"),
    "min_p": _honoured("0 to 1"),
    "presence_penalty": _honoured("-2 to 2"),
    "frequency_penalty": _honoured("-2 to 2"),
    "repetition_penalty": _honoured("above 0, to 2"),
    "seed": _honoured("whole number of 64 bits"),
    "stop": _honoured("a text, or up to 4"),
    "ignore_eos": _honoured("go on after the end of the answer; for benchmarks"),
    "exclude_input_in_output": _honoured("false: the prompt is repeated before the answer; true if not given"),
    "stream": _ignored("the address says it: generate or generate_stream", True, False),
    "random_seed": _refused("use seed"),
    "stop_words": _refused("use stop", "", []),
    "bad_words": _refused("no words are banned here", "", []),
    "return_log_probs": _refused("use the OpenAI protocol", False),
    "beam_width": _refused("there is no beam search", 1),
    "lora_name": _refused("use the OpenAI protocol's adapters", ""),
}
LOAD_PARAMETERS: Mapping[str, Field] = {
    "config": _refused("a model is what its manifest says; settings are in catena.toml"),
    "unload_dependents": _ignored("no model depends on another", True, False),
}
CALL: Mapping[str, Field] = {
    "model_name": _honoured("a name, an alias or a digest"),
    "model_version": _honoured("empty, or 1"),
    "id": _honoured("comes back with the answer"),
    "parameters": _honoured("see below"),
    "inputs": _honoured("name, datatype, shape, parameters and contents of each, as the model's signature wants them"),
    "outputs": _honoured("name and parameters of those wanted, in this order; without it all"),
    "raw_input_contents": _honoured("the elements of every input, in order, or of none"),
}
CALL_PARAMETERS: Mapping[str, Field] = {
    **REQUEST_PARAMETERS,
    "binary_data_output": _honoured("true: raw_output_contents, false: typed contents; not given: as the inputs came"),
    "triton_enable_empty_final_response": _honoured("ModelStreamInfer: an empty answer follows the last"),
}
CALL_INPUT_PARAMETERS = {name: field for name, field in INPUT_PARAMETERS.items() if name != "binary_data_size"}
CALL_OUTPUT_PARAMETERS = {name: field for name, field in OUTPUT_PARAMETERS.items() if name != "binary_data"}
CALL_GENERATE_PARAMETERS: Mapping[str, Field] = {
    **GENERATE_PARAMETERS,
    "stop": _honoured("a text"),
    "triton_enable_empty_final_response": CALL_PARAMETERS["triton_enable_empty_final_response"],
}
TABLES: Mapping[str, Mapping[str, Field]] = {
    "POST infer": REQUEST,
    "infer: parameters": REQUEST_PARAMETERS,
    "infer: parameters of an input": INPUT_PARAMETERS,
    "infer: parameters of an output": OUTPUT_PARAMETERS,
    "POST generate and generate_stream": GENERATE,
    "generate: parameters": GENERATE_PARAMETERS,
    "POST repository load and unload: parameters": LOAD_PARAMETERS,
    "gRPC ModelInfer and ModelStreamInfer": CALL,
    "gRPC: parameters": CALL_PARAMETERS,
    "gRPC: parameters of an input": CALL_INPUT_PARAMETERS,
    "gRPC: parameters of an output": CALL_OUTPUT_PARAMETERS,
    "gRPC ModelStreamInfer to a model that generates: parameters": CALL_GENERATE_PARAMETERS,
}
