"""Writes docs/protocols/open_inference.md: what becomes of every field, and the requirements that tests prove.

Usage: python -m tests.clients.reference, which writes the pages of all protocols.
"""

from __future__ import annotations

from pathlib import Path

from tests.clients.conftest import Requirement
from tests.clients.reference import parameters, proofs, proved
from tests.clients.triton import test_calls, test_infer, test_server, test_streams

from catena.reach.gateway.protocols import open_inference
from catena.reach.gateway.protocols.open_inference import fields

SUITE = (test_infer, test_server, test_calls, test_streams)
PAGE = Path(__file__).parents[3] / "docs" / "protocols" / "open_inference.md"

HEAD = """\
# The Open Inference Protocol, version 2

Made by `python -m tests.clients.reference` from the tables in the code and from the tests; a test keeps it current.
[How to use it](../guides/predict.md). Point a client at `127.0.0.1:7411`.

## Addresses

`{model}` is a name, an alias or a manifest digest. Each address of a model exists with `/versions/1` after the name
too: 1 is the newest model of that name, and the only version.

"""

MIDDLE = """\

## What is so here

- **Ready** means: stored, and can be asked. What is not in memory is loaded by the first request; the repository index
  says `READY` of what is in memory now. `load` and `unload` need the scope `manage` where keys are needed.
- **Checked first.** Names, data types, shapes, units and sizes are checked against the model's signature before
  anything is recorded or computed. Every other request is recorded before it is computed, and `catena-receipt` names
  its record. Digests are taken of the names, types, shapes, units and bytes of the arrays.
- **Units** of the signature stand under `parameters` of each input and output that has one.
- **NaN and infinity** cannot be written in JSON: an input that holds them must come as binary data. In an output asked
  for as JSON they become `null`, and bytes that are no text become `\ufffd`; `catena-warning` says so.
- **BF16** has no form in JSON, and no engine here takes it. Compressed bodies, shared memory and sequences are refused.
- **Outputs that are sequences or maps** (scikit-learn's ZipMap) are refused when the model is pulled.
- **Limits**: the body by `reach.max_body_bytes` (16 MiB), 64 dimensions, `classification` up to 1024, texts in JSON
  nested by `reach.max_json_depth`.
- **Errors** are `{"error": text}`: 400 for what cannot be read or does not fit, 401, 403, 404, 413, 415, 429 with
  `Retry-After`, 5xx for what broke here. A stream of `generate_stream` that broke ends with `data: {"error": text}`.
- **Statistics** count what came through this protocol since the gateway started: `inference_count` rows,
  `execution_count` runs of the model; `queue` is the time in line, loading, and waiting for the run.

## gRPC

`catena up --grpc-port 9001` (or `reach.grpc_port`; off by default; extra `grpc`) serves
`inference.GRPCInferenceService` on the host that HTTP is served on, with the same keys, as metadata
`authorization: Bearer …` or `x-api-key`.

- **Procedures**: `ServerLive`, `ServerReady`, `ServerMetadata`, `ModelReady`, `ModelMetadata`, `ModelInfer`, and of
  Triton's `ModelStreamInfer`, `ModelConfig`, `ModelStatistics`, `RepositoryIndex`, `RepositoryModelLoad` and
  `RepositoryModelUnload`. Those for shared memory, traces and logs are `UNIMPLEMENTED`.
- **Arrays** come as `raw_input_contents`, all or none, or typed; answers come as the question did, unless
  `binary_data_output` says otherwise. FP16 and BF16 have no typed form. `ModelMetadata` has no place for units.
- **Trailing metadata**: `catena-receipt`, `catena-warning`, `x-request-id`, and `grpc-retry-pushback-ms` where another
  try may succeed later.
- **Streams**: questions of one `ModelStreamInfer` are answered in their order. An error of one is told in its answer,
  and the stream goes on; what cannot be read ends it. A model that generates takes `text_input` and answers with a
  piece of `text_output` at a time; it does not answer `ModelInfer`. Each answer has the parameters `catena-receipt` and
  `triton_final_response`.
- **Deadlines** are honoured; a caller who leaves cancels the work. `reach.request_timeout_s` bounds each question of a
  stream, and a stream without questions may stay open until the gateway stops.
- **Limits**: `reach.grpc_streams` calls at a time on a connection (128), `reach.max_connections` connections, messages
  of `reach.max_body_bytes`, 1024 arrays, 256 parameters. Connections without calls end after `reach.keep_alive_s`; a
  peer that is silent for as long during a call is asked whether it lives. Compressed messages are refused, and there is
  no TLS: leave that to a proxy.

| status | when |
|---|---|
"""
STATUSES = """| `OK` | answered, and the record is closed |
| `INVALID_ARGUMENT` | what was sent cannot be read, or does not fit the model |
| `NOT_FOUND` | no such model or version |
| `UNAUTHENTICATED`, `PERMISSION_DENIED` | no or a wrong key; a key without the scope, a refused authority |
| `RESOURCE_EXHAUSTED` | too large a message, too many requests, no memory |
| `DEADLINE_EXCEEDED`, `CANCELLED` | the caller's deadline or the gateway's limit passed; the caller left |
| `FAILED_PRECONDITION`, `DATA_LOSS` | somebody else holds it; a file is not what it was |
| `UNIMPLEMENTED` | no such procedure, compressed messages, a missing extra |
| `UNAVAILABLE` | the gateway stops, or its audit log cannot be written |
| `INTERNAL` | something broke here |
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD + "| method | address | scope |\n|---|---|---|"]
    for route in open_inference.routes:
        if "{version}" not in route.pattern and route.method != "GRPC":
            parts.append(f"| {route.method} | `{route.pattern}` | {route.scope or 'none'} |")
    parts += [MIDDLE + STATUSES, *parameters(fields.TABLES)]
    rows = requirements()
    parts.append(f"\n## Requirements\n\n{len(rows)}, proved against a running gateway by the official Triton client")
    parts.append("(`tritonclient.http` and `tritonclient.grpc`), or by plain HTTP or `grpc` where it has no method.\n")
    return "\n".join([*parts, *proofs(rows)]) + "\n"


def requirements() -> list[tuple[Requirement, str]]:
    """Every requirement of this page."""
    return proved(SUITE)
