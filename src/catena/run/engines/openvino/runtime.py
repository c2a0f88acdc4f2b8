"""What every OpenVINO session needs of the library: devices that are there, and a model compiled for one of them."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from catena.core.errors import FormatError, MissingExtraError, ResourceError
from catena.core.manifest import StoredModel
from catena.core.protocols import Placement
from catena.store.formats import openvino as header

try:
    import openvino
except ModuleNotFoundError as error:
    raise MissingExtraError(error.name or "openvino", "openvino") from error

library: Any = openvino
# Lower-case names of devices as settings have them: a kind, and a number where there are several of it.
_DEVICE = re.compile(r"(cpu|gpu|npu)(\.\d+)?")
AUTO = "auto"
# The plan of a run and its buffers beside the weights. One 33 MB encoder grew resident memory by 116 MB (2026-11-24).
MEMORY_FACTOR, MEMORY_BYTES = 4, 16 << 20


def name() -> str:
    """The engine with its version, as sessions state it."""
    return f"openvino {library.__version__.partition('-')[0]}"


def device(wanted: str, core: Any) -> str:
    """OpenVINO's name of the device `wanted`. Raises ResourceError naming those that are there.

    `auto` leaves the choice to OpenVINO, which takes the first of a discrete GPU, an integrated GPU, an NPU and the
    CPU that runs the model (docs.openvino.ai, "Automatic Device Selection").
    """
    present = [str(each) for each in core.available_devices]
    if wanted == AUTO:
        return "AUTO"
    found = wanted.upper()
    # A machine with several GPUs lists GPU.0, GPU.1, and takes GPU for the first.
    if not _DEVICE.fullmatch(wanted) or found not in {*present, *(each.partition(".")[0] for each in present)}:
        known = ", ".join(each.lower() for each in present) or "none"
        raise ResourceError(f"openvino has no device {wanted!r} here", hint=f"there are: {known}; or auto")
    return found


class Opened(NamedTuple):
    """A compiled model, and the kinds of operations that it was made of."""

    compiled: Any
    kinds: frozenset[str]

    @property
    def quantises_batches(self) -> bool:
        """Whether an answer may depend on the others computed with it: the least value of all rows is taken."""
        return "ReduceMin" in self.kinds


def opened(model: StoredModel, placement: Placement) -> Opened:
    """The model compiled for the placement's device, with sums of 32 bits on the CPU.

    Raises FormatError, ResourceError.
    """
    core = library.Core()
    wanted = device(placement.device, core)
    path = model.path("weights")
    if model.manifest.format == "openvino":
        header.read(path)  # the library tries every reader that it has on a file that is none of its own
    hints: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if wanted == "CPU":
        # On the CPU the default is bfloat16 where the processor has it.
        hints |= {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": placement.threads}
    if wanted == "AUTO":
        # Else AUTO begins on the CPU and moves later: what is stated at the start would not stay true.
        hints |= {"ENABLE_STARTUP_FALLBACK": False}
    try:
        graph = core.read_model(str(path))
    except RuntimeError as error:
        raise FormatError(f"OpenVINO cannot load the weights of {model.name}", hint=verify_hint(model)) from error
    try:
        compiled = core.compile_model(graph, wanted, hints)
    except RuntimeError as error:
        raise ResourceError(
            f"OpenVINO cannot run {model.name} on {placement.device}", hint="try another device, cpu if none is left"
        ) from error
    return Opened(compiled, frozenset(each.get_type_name() for each in graph.get_ops()))


def execution_device(compiled: Any) -> str:
    """Where the compiled model really runs, as OpenVINO says; never `auto`."""
    found: list[str] = compiled.get_property("EXECUTION_DEVICES")
    return "+".join(each.strip("()").lower() for each in found)


def memory_bytes(model: StoredModel) -> int:
    """What a session of the model takes, in bytes, by the size of its files."""
    return MEMORY_BYTES + MEMORY_FACTOR * sum(file.size_bytes for file in model.manifest.files)


def port_names(ports: Any) -> list[set[str]]:
    """All names of each input or output."""
    return [set(port.get_names()) for port in ports]


def verify_hint(model: StoredModel) -> str:
    """What to do when a file is not what it should be."""
    return f"run `catena verify {model.name}`"
