"""JSON schemas that an answer must follow: they may refer to themselves only, as nothing is fetched."""

from __future__ import annotations

from typing import Any

from catena.core.errors import UnsupportedError
from catena.core.messages import OutputFormat


def schema_output(schema: dict[str, Any], param: str) -> OutputFormat:
    """An answer by this JSON schema. Raises UnsupportedError, naming `param`, for references to the outside."""
    _check_references(schema, param)
    return OutputFormat("schema", schema=schema)


def _check_references(node: Any, param: str) -> None:
    if isinstance(node, dict):
        target = node.get("$ref")
        if isinstance(target, str) and not target.startswith("#"):
            raise UnsupportedError("a schema may refer to itself only", param=param, hint="put the parts under $defs")
        for value in node.values():
            _check_references(value, param)
    elif isinstance(node, list):
        for value in node:
            _check_references(value, param)
