"""GPUs and NPUs are found by what the kernel shows, with their driver, and each once."""

from __future__ import annotations

from tests.run.devices.conftest import Tree

from catena.run.devices import Accelerator, accelerators
from catena.run.devices.accelerators import parse_query

INFORMATION = "Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 35\nBus Location: \t 0000:01:00.0\nDevice Minor: \t 0\n"


def test_a_machine_without_any_has_none(tree: Tree) -> None:
    assert accelerators(tree({})) == ()


def test_amd_and_intel_gpus_are_found_with_driver_and_memory(tree: Tree) -> None:
    root = tree(
        {
            "devices/0000:03:00.0/vendor": "0x1002\n",
            "devices/0000:03:00.0/device": "0x744c\n",
            "devices/0000:03:00.0/product_name": "Radeon RX 7900 XTX\n",
            "devices/0000:03:00.0/mem_info_vram_total": "25753026560\n",
            "devices/0000:03:00.0/driver": "-> drivers/amdgpu",
            "sys/class/drm/card0/device": "-> devices/0000:03:00.0",
            "sys/class/drm/card0-DP-1/status": "connected\n",
            "devices/0000:00:02.0/vendor": "0x8086\n",
            "devices/0000:00:02.0/device": "0x56a0\n",
            "sys/class/drm/card1/device": "-> devices/0000:00:02.0",
            "sys/class/drm/renderD128/device": "-> devices/0000:03:00.0",
        }
    )
    assert accelerators(root) == (
        Accelerator("gpu", "AMD", "Radeon RX 7900 XTX", "amdgpu", "0000:03:00.0", 25_753_026_560),
        Accelerator("gpu", "Intel", "Intel GPU 56a0", "", "0000:00:02.0"),
    )


def test_npus_of_both_makers_are_found(tree: Tree) -> None:
    root = tree(
        {
            "devices/0000:00:0b.0/vendor": "0x8086\n",
            "devices/0000:00:0b.0/device": "0x643e\n",
            "devices/0000:00:0b.0/driver": "-> drivers/intel_vpu",
            "sys/class/accel/accel0/device": "-> devices/0000:00:0b.0",
            "devices/0000:c5:00.1/vendor": "0x1002\n",
            "devices/0000:c5:00.1/device": "0x17f0\n",
            "devices/0000:c5:00.1/driver": "-> drivers/amdxdna",
            "sys/class/accel/accel1/device": "-> devices/0000:c5:00.1",
        }
    )
    found = [(one.kind, one.vendor, one.name, one.driver) for one in accelerators(root)]
    assert found == [("npu", "Intel", "Intel NPU", "intel_vpu"), ("npu", "AMD", "AMD XDNA NPU", "amdxdna")]


def test_an_nvidia_gpu_seen_by_two_drivers_counts_once(tree: Tree) -> None:
    root = tree(
        {
            "proc/driver/nvidia/gpus/0000:01:00.0/information": INFORMATION,
            "devices/0000:01:00.0/vendor": "0x10de\n",
            "devices/0000:01:00.0/device": "0x2330\n",
            "devices/0000:01:00.0/driver": "-> drivers/nvidia",
            "sys/class/drm/card0/device": "-> devices/0000:01:00.0",
        }
    )
    assert accelerators(root) == (Accelerator("gpu", "NVIDIA", "NVIDIA H100 80GB HBM3", "nvidia", "0000:01:00.0"),)


def test_a_card_that_only_makes_pictures_is_not_counted(tree: Tree) -> None:
    root = tree({"devices/x/vendor": "0x1a03\n", "sys/class/drm/card0/device": "-> devices/x"})
    assert accelerators(root) == ()


def test_memory_is_matched_by_address_and_odd_lines_are_passed_over() -> None:
    text = (
        "00000000:01:00.0, NVIDIA H100 80GB HBM3, 81559, 570.00\nNo devices were found\n00000000:02:00.0, X, [N/A], 1\n"
    )
    assert parse_query(text) == {"0000:01:00.0": 81559 << 20}
