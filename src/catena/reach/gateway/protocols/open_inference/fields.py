"""What becomes of each field and parameter of a request; docs/protocols/open_inference.md shows it."""

from __future__ import annotations

from collections.abc import Mapping

from catena.reach.gateway.wire import Field, honoured, ignored, refused

_SHARED = {
    name: refused("memory is not shared with clients") for name in ("shared_memory_region", "shared_memory_byte_size")
} | {"shared_memory_offset": refused("memory is not shared with clients", 0)}
_SEQUENCE = "no model here keeps a state between requests"

REQUEST: Mapping[str, Field] = {
    "id": honoured("comes back with the answer"),
    "model_name": honoured("extension: that of the address, as KServe's client repeats it; any other is refused"),
    "parameters": honoured("see below"),
    "inputs": honoured("name, shape, datatype, parameters and data of each, as the model's signature wants them"),
    "outputs": honoured("name and parameters of those wanted, in this order; without it all"),
}
REQUEST_PARAMETERS: Mapping[str, Field] = {
    "binary_data_output": honoured("true: outputs come as binary data unless one says otherwise"),
    "priority": ignored("callers get fair turns", 0),
    "timeout": ignored("the limit of the gateway holds", 0),
    "content_type": ignored("data types say it"),
    "headers": ignored("headers of HTTP say it", {}),
    "sequence_id": refused(_SEQUENCE, 0, ""),
    "sequence_start": refused(_SEQUENCE, False),
    "sequence_end": refused(_SEQUENCE, False),
}
INPUT_PARAMETERS: Mapping[str, Field] = {
    "binary_data_size": honoured("bytes of this input after the JSON"),
    "unit": honoured("extension: refused unless it is the unit of the signature"),
    "content_type": ignored("the data type says it"),
    **_SHARED,
}
OUTPUT_PARAMETERS: Mapping[str, Field] = {
    "binary_data": honoured("true: after the JSON; false: in it"),
    "classification": honoured("the N largest of the last dimension, as texts `value:index`"),
    "content_type": ignored("the data type says it"),
    **_SHARED,
}
GENERATE: Mapping[str, Field] = {
    "id": honoured("comes back with the answer"),
    "text_input": honoured("the prompt, which is continued as it is, without a chat template"),
    "parameters": honoured("see below; each may also stand beside text_input"),
}
GENERATE_PARAMETERS: Mapping[str, Field] = {
    "max_tokens": honoured("1 or more; 16 if not given"),
    "temperature": honoured("0 to 2; 0 is greedy"),
    "top_p": honoured("above 0, to 1"),
    "top_k": honoured("whole number, 0 means all"),
    "min_p": honoured("0 to 1"),
    "presence_penalty": honoured("-2 to 2"),
    "frequency_penalty": honoured("-2 to 2"),
    "repetition_penalty": honoured("above 0, to 2"),
    "seed": honoured("whole number of 64 bits"),
    "stop": honoured("a text, or up to 4"),
    "ignore_eos": honoured("go on after the end of the answer; for benchmarks"),
    "exclude_input_in_output": honoured("false: the prompt is repeated before the answer; true if not given"),
    "stream": ignored("the address says it: generate or generate_stream", True, False),
    "random_seed": refused("use seed"),
    "stop_words": refused("use stop", "", []),
    "bad_words": refused("no words are banned here", "", []),
    "return_log_probs": refused("use the OpenAI protocol", False),
    "beam_width": refused("there is no beam search", 1),
    "lora_name": refused("use the OpenAI protocol's adapters", ""),
}
LOAD_PARAMETERS: Mapping[str, Field] = {
    "config": refused("a model is what its manifest says; settings are in catena.toml"),
    "unload_dependents": ignored("no model depends on another", True, False),
}
CALL: Mapping[str, Field] = {
    "model_name": honoured("a name, an alias or a digest"),
    "model_version": honoured("empty, or 1"),
    "id": honoured("comes back with the answer"),
    "parameters": honoured("see below"),
    "inputs": honoured("name, datatype, shape, parameters and contents of each, as the model's signature wants them"),
    "outputs": honoured("name and parameters of those wanted, in this order; without it all"),
    "raw_input_contents": honoured("the elements of every input, in order, or of none"),
}
CALL_PARAMETERS: Mapping[str, Field] = {
    **REQUEST_PARAMETERS,
    "binary_data_output": honoured("true: raw_output_contents, false: typed contents; not given: as the inputs came"),
    "triton_enable_empty_final_response": honoured("ModelStreamInfer: an empty answer follows the last"),
}
CALL_INPUT_PARAMETERS = {name: field for name, field in INPUT_PARAMETERS.items() if name != "binary_data_size"}
CALL_OUTPUT_PARAMETERS = {name: field for name, field in OUTPUT_PARAMETERS.items() if name != "binary_data"}
CALL_GENERATE_PARAMETERS: Mapping[str, Field] = {
    **GENERATE_PARAMETERS,
    "stop": honoured("a text"),
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
