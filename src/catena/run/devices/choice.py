"""What `run.devices` chooses, beside what this machine has; no engine is loaded to find out."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

from msgspec import Struct

from catena.core.settings import RunSettings
from catena.run.devices.accelerators import Accelerator

AUTO = "auto"
_NAME = re.compile(r"([a-z]+)(?:[.:](\d+))?")
# Of engines that can use other devices than the CPU: what each calls them, and the kind and makers that these are of.
KINDS: dict[str, dict[str, tuple[str, frozenset[str]]]] = {
    "openvino": {"gpu": ("gpu", frozenset({"Intel"})), "npu": ("npu", frozenset({"Intel"}))},
    "torch": {"cuda": ("gpu", frozenset({"NVIDIA", "AMD"})), "xpu": ("gpu", frozenset({"Intel"}))},
    "vllm": {"cuda": ("gpu", frozenset({"NVIDIA"})), "rocm": ("gpu", frozenset({"AMD"}))},
}
KINDS["sglang"] = KINDS["vllm"]
_UNDO = "catena config show --origin"


class Choice(Struct, frozen=True):
    """One engine with the device that it loads models on; `problem` if it cannot."""

    engine: str
    device: str
    text: str
    problem: bool = False
    command: str = ""


def choices(settings: RunSettings, installed: Sequence[str], found: Sequence[Accelerator]) -> list[Choice]:
    """What is chosen for the engines that `settings` name, and for those with a choice that it does not."""
    named = [_chosen(name, device, installed, found) for name, device in settings.devices.items()]
    unnamed = [name for name in ("openvino", "torch") if name in installed and name not in settings.devices]
    return named + [Choice(name, "cpu", f"{name} loads models on cpu: run.devices names no other") for name in unnamed]


def _chosen(name: str, device: str, installed: Sequence[str], found: Sequence[Accelerator]) -> Choice:
    what = f"run.devices puts {name} on {device}"
    if name not in installed:
        return Choice(name, device, f"{what}, but it is not here", True, _UNDO)
    if device == "cpu":
        return Choice(name, device, what)
    if device == AUTO and name == "openvino":
        order = "a discrete GPU, an integrated one, an NPU or the CPU, the first that can run the model"
        return Choice(name, device, f"{what}: OpenVINO takes {order}; `catena trace` shows which it was")
    if device == "mps" and name == "torch":
        if sys.platform == "darwin":
            return Choice(name, device, what)
        return Choice(name, device, f"{what}, which only a Mac has", True, _UNDO)
    match = _NAME.fullmatch(device)
    kinds = KINDS.get(name, {})
    if match is None or match[1] not in kinds:
        known = ", ".join(["cpu", *kinds, *([AUTO] if name == "openvino" else [])])
        return Choice(name, device, f"{what}, which it does not know: {known}", True, _UNDO)
    kind, makers = kinds[match[1]]
    present = [one for one in found if one.kind == kind and one.driver and one.vendor in makers]
    if int(match[2] or 0) < len(present):
        return Choice(name, device, f"{what}: {present[int(match[2] or 0)].name}")
    makers_text = " or ".join(sorted(makers))
    return Choice(
        name,
        device,
        f"{what}, but {len(present)} {kind} of {makers_text} with a driver {'is' if len(present) == 1 else 'are'} here",
        True,
        _UNDO,
    )
