"""What `catena doctor` says of the devices that settings choose, on machines that have them and on others."""

from __future__ import annotations

import sys

import pytest

from catena.core.settings import RunSettings
from catena.run.devices import Accelerator
from catena.run.devices.choice import Choice, choices

ALL = ("llama_cpp", "onnx", "openvino", "torch", "vllm", "sglang")
NVIDIA = Accelerator("gpu", "NVIDIA", "NVIDIA H200", "nvidia", "0000:01:00.0")
ARC = Accelerator("gpu", "Intel", "Intel Arc", "xe", "0000:02:00.0")
BOUND_TO_NONE = Accelerator("gpu", "Intel", "Intel Arc", "", "0000:03:00.0")
NPU = Accelerator("npu", "Intel", "Intel NPU", "intel_vpu", "0000:00:0b.0")
MACHINE = (NVIDIA, ARC, BOUND_TO_NONE, NPU)


def chosen(engine: str, device: str, found: tuple[Accelerator, ...] = MACHINE) -> Choice:
    (one,) = [one for one in choices(RunSettings(devices={engine: device}), ALL, found) if one.engine == engine]
    assert (one.device, bool(one.command)) == (device, one.problem)
    return one


@pytest.mark.parametrize(
    ("engine", "device", "told"),
    [
        ("openvino", "cpu", "puts openvino on cpu"),
        ("openvino", "gpu", "Intel Arc"),
        ("openvino", "gpu.0", "Intel Arc"),
        ("openvino", "npu", "Intel NPU"),
        ("openvino", "auto", "a discrete GPU, an integrated one, an NPU or the CPU"),
        ("torch", "cuda", "NVIDIA H200"),
        ("torch", "xpu:0", "Intel Arc"),
        ("vllm", "cuda", "NVIDIA H200"),
        ("llama_cpp", "cpu", "puts llama_cpp on cpu"),
    ],
)
def test_a_device_that_is_there_is_named(engine: str, device: str, told: str) -> None:
    one = chosen(engine, device)
    assert not one.problem
    assert told in one.text


@pytest.mark.parametrize(
    ("engine", "device", "told"),
    [
        ("openvino", "gpu.1", "but 1 gpu of Intel with a driver is here"),
        ("torch", "cuda:1", "but 1 gpu of AMD or NVIDIA with a driver is here"),
        ("vllm", "rocm", "but 0 gpu of AMD with a driver are here"),
        ("openvino", "cuda", "which it does not know: cpu, gpu, npu, auto"),
        ("torch", "auto", "which it does not know: cpu, cuda, xpu"),
        ("llama_cpp", "gpu", "which it does not know: cpu"),
        ("torch", "cuda:x", "which it does not know"),
    ],
)
def test_a_device_that_is_not_there_is_a_problem(engine: str, device: str, told: str) -> None:
    one = chosen(engine, device)
    assert one.problem
    assert told in one.text


def test_a_machine_without_any_has_the_cpu_and_says_so() -> None:
    assert chosen("torch", "cuda", ()).problem
    found = choices(RunSettings(), ALL, ())
    assert [(one.engine, one.device, one.problem) for one in found] == [
        ("openvino", "cpu", False),
        ("torch", "cpu", False),
    ]


def test_an_engine_that_is_not_here_is_a_problem() -> None:
    (one,) = choices(RunSettings(devices={"torch": "cpu"}), ("onnx",), MACHINE)
    assert one.problem


def test_metal_is_on_a_mac_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for platform, problem in (("darwin", False), ("linux", True)):
        monkeypatch.setattr(sys, "platform", platform)
        assert chosen("torch", "mps").problem is problem
