"""What this machine has and what of it is ours: cores, memory, CPU features, GPUs, NPUs. No heavy library is loaded."""

from catena.run.devices.accelerators import Accelerator, accelerators
from catena.run.devices.host import CPU, Machine, Memory

__all__ = ["CPU", "Accelerator", "Machine", "Memory", "accelerators", "machine", "memory", "owned_cores"]

_HERE = Machine()


def owned_cores() -> int:
    """Cores that this process may keep busy: affinity and every control group above it, rounded down, at least 1."""
    return _HERE.owned_cores()


def memory() -> Memory:
    """Memory of this machine, or of the tightest control group around this process."""
    return _HERE.memory()


def machine() -> dict[str, int]:
    """The facts that a status shows: `cores`, `memory_bytes`, `memory_free_bytes`."""
    found = memory()
    return {"cores": owned_cores(), "memory_bytes": found.total_bytes, "memory_free_bytes": found.free_bytes}
