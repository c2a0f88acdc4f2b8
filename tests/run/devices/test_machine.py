"""Cores and memory are what control groups leave to this process, in both versions and however deep they nest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.run.devices.conftest import Tree

from catena.run import devices
from catena.run.devices import Machine, Memory, host
from catena.run.devices.cgroups import Groups

V2 = "31 23 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"
V1 = (
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
    "33 31 0:30 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n"
)
MEMINFO = "MemTotal:       16000 kB\nMemFree:         1000 kB\nMemAvailable:   12000 kB\nCached:  9000 kB\n"
UNLIMITED_V1 = "9223372036854771712\n"


@pytest.fixture
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_affinity", lambda: 64)


def test_without_groups_every_core_of_the_affinity_is_ours(tree: Tree) -> None:
    assert Machine(tree({})).owned_cores() == len(os.sched_getaffinity(0))


@pytest.mark.skipif(sys.platform != "linux", reason="affinity is a Linux call")
def test_affinity_narrows_the_cores() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from catena.run.devices import owned_cores; print(owned_cores())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "1\n"


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", 64), ("400000 100000", 4), ("250000 100000", 2), ("50000 100000", 1), ("junk", 64), ("", 64)],
)
def test_a_version_2_quota_is_rounded_down_and_never_to_nothing(
    tree: Tree, many_cores: None, quota: str, cores: int
) -> None:
    root = tree(
        {
            "proc/self/cgroup": "0::/app\n",
            "proc/self/mountinfo": V2,
            "sys/fs/cgroup/app/cpu.max": quota + "\n",
        }
    )
    assert Machine(root).owned_cores() == cores


@given(st.lists(st.one_of(st.none(), st.integers(1, 32)), min_size=1, max_size=6))
def test_of_nested_groups_the_tightest_counts(tmp_path_factory: pytest.TempPathFactory, quotas: list) -> None:
    root = tmp_path_factory.mktemp("groups")
    (root / "proc/self").mkdir(parents=True)
    path = "/".join(f"g{number}" for number in range(len(quotas)))
    (root / "proc/self/cgroup").write_text(f"0::/{path}\n")
    (root / "proc/self/mountinfo").write_text(V2)
    folder = root / "sys/fs/cgroup"
    for number, quota in enumerate(quotas):
        folder /= f"g{number}"
        folder.mkdir(parents=True)
        (folder / "cpu.max").write_text("max 100000\n" if quota is None else f"{quota * 100_000} 100000\n")
    assert Groups(root).cores() == min((quota for quota in quotas if quota is not None), default=None)


def test_version_1_quotas_count_and_minus_one_is_no_limit(tree: Tree, many_cores: None) -> None:
    files = {
        "proc/self/cgroup": "4:memory:/box\n3:cpu,cpuacct:/box/inner\n0::/\n",
        "proc/self/mountinfo": V1,
        "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us": "300000\n",
        "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/cpu,cpuacct/box/inner/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu,cpuacct/box/inner/cpu.cfs_period_us": "100000\n",
    }
    assert Machine(tree(files)).owned_cores() == 3


def test_inside_a_container_the_mount_shows_a_part_of_the_tree(tree: Tree, many_cores: None) -> None:
    mount = "31 23 0:28 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n"
    root = tree(
        {
            "proc/self/cgroup": "0::/docker/abc/inner\n",
            "proc/self/mountinfo": mount,
            "sys/fs/cgroup/cpu.max": "500000 100000\n",
            "sys/fs/cgroup/inner/cpu.max": "200000 100000\n",
        }
    )
    assert Machine(root).owned_cores() == 2


def test_a_path_outside_of_the_mount_falls_back_to_the_mount_itself(tree: Tree, many_cores: None) -> None:
    root = tree(
        {
            "proc/self/cgroup": "0::/../../elsewhere\n",
            "proc/self/mountinfo": "31 23 0:28 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n",
            "sys/fs/cgroup/cpu.max": "700000 100000\n",
        }
    )
    assert Machine(root).owned_cores() == 7


def test_memory_without_a_limit_is_the_machine(tree: Tree) -> None:
    assert Machine(tree({"proc/meminfo": MEMINFO})).memory() == Memory(16000 << 10, 12000 << 10)


def test_a_version_2_limit_counts_droppable_pages_as_free(tree: Tree) -> None:
    root = tree(
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "0::/app\n",
            "proc/self/mountinfo": V2,
            "sys/fs/cgroup/app/memory.max": "8000000\n",
            "sys/fs/cgroup/app/memory.current": "6000000\n",
            "sys/fs/cgroup/app/memory.stat": "anon 1\ninactive_file 1500000\nactive_file 9\n",
        }
    )
    assert Machine(root).memory() == Memory(8_000_000, 3_500_000)
    assert Machine(root).free_bytes("cpu") == 3_500_000
    assert Machine(root).free_bytes("cuda:0") == 0


def test_an_outer_group_with_less_left_binds_though_its_limit_is_higher(tree: Tree) -> None:
    root = tree(
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "0::/outer/inner\n",
            "proc/self/mountinfo": V2,
            "sys/fs/cgroup/outer/memory.max": "9000000\n",
            "sys/fs/cgroup/outer/memory.current": "8900000\n",
            "sys/fs/cgroup/outer/inner/memory.max": "5000000\n",
            "sys/fs/cgroup/outer/inner/memory.current": "1000000\n",
        }
    )
    assert Machine(root).memory() == Memory(5_000_000, 100_000)


def test_version_1_memory_limits_count_and_the_huge_one_means_none(tree: Tree) -> None:
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "4:memory:/box\n0::/\n",
        "proc/self/mountinfo": V1,
        "sys/fs/cgroup/memory/memory.limit_in_bytes": UNLIMITED_V1,
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "1\n",
        "sys/fs/cgroup/memory/box/memory.limit_in_bytes": "4000000\n",
        "sys/fs/cgroup/memory/box/memory.usage_in_bytes": "3000000\n",
        "sys/fs/cgroup/memory/box/memory.stat": "inactive_file 7\ntotal_inactive_file 500000\n",
    }
    assert Machine(tree(files)).memory() == Memory(4_000_000, 1_500_000)


def test_a_group_over_its_limit_has_nothing_left_rather_than_less(tree: Tree) -> None:
    root = tree(
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "0::/\n",
            "proc/self/mountinfo": V2,
            "sys/fs/cgroup/memory.max": "1000\n",
            "sys/fs/cgroup/memory.current": "2000\n",
        }
    )
    assert Machine(root).memory() == Memory(1000, 0)


@given(st.text(max_size=80), st.text(max_size=200))
def test_garbage_in_proc_sets_no_limit_and_breaks_nothing(
    tmp_path_factory: pytest.TempPathFactory, cgroup: str, mountinfo: str
) -> None:
    root = tmp_path_factory.mktemp("garbage")
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup, errors="replace")
    (root / "proc/self/mountinfo").write_text(mountinfo, errors="replace")
    assert Machine(root).owned_cores() == len(os.sched_getaffinity(0))


def test_features_get_one_name_on_every_architecture(tree: Tree) -> None:
    x86 = "processor\t: 0\nmodel name\t: AMD EPYC 9654\nflags\t\t: fpu f16c avx2 avx512f avx512_vnni sse2\n"
    cpu = Machine(tree({"proc/cpuinfo": x86})).cpu()
    assert (cpu.model, cpu.features) == ("AMD EPYC 9654", ("avx2", "avx512_vnni", "avx512f", "f16c"))


def test_arm_names_are_translated(tree: Tree) -> None:
    arm = "processor\t: 0\nFeatures\t: fp asimd asimdhp asimddp i8mm bf16 sve\n"
    assert Machine(tree({"proc/cpuinfo": arm})).cpu().features == ("bf16", "dotprod", "fp16", "i8mm", "neon", "sve")


def test_macos_names_are_translated() -> None:
    text = (
        "machdep.cpu.brand_string: Apple M4\nhw.optional.arm.FEAT_DotProd: 1\nhw.optional.arm.FEAT_BF16: 0\n"
        "hw.optional.AdvSIMD: 1\n"
    )
    assert host._darwin(text) == ("Apple M4", ("dotprod", "neon"))
    intel = "machdep.cpu.features: FPU SSE4.2 AVX1.0 F16C\nmachdep.cpu.leaf7_features: BMI2 AVX2\n"
    assert host._darwin(intel)[1] == ("avx", "avx2", "bmi2", "f16c", "sse4_2")


def test_this_machine_says_something_sane() -> None:
    found = devices.machine()
    assert 1 <= found["cores"] <= (os.cpu_count() or 1)
    assert 0 < found["memory_free_bytes"] <= found["memory_bytes"]
    assert set(found) == {"cores", "memory_bytes", "memory_free_bytes"}
    cpu = Machine(Path("/")).cpu()
    assert cpu.cores == os.cpu_count()
