from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from ggrpc.devices.cpu import CpuDevice, available_memory
from ggrpc.devices.cpu.available_memory import MachineMemory
from ggrpc.errors import OutOfMemory
from tests.support.paths import ROOT

MIB = 1 << 20


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):  # type: ignore[no-untyped-def]
    """Replaces the machine's control groups."""
    monkeypatch.setattr(available_memory, "ROOT", tmp_path)
    monkeypatch.setattr(available_memory, "MEMBERSHIP", tmp_path / "membership")

    def put(membership: str, files: dict[str, str]) -> None:
        (tmp_path / "membership").write_text(membership)
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text + "\n")

    return put


def physical() -> int:
    return int(psutil.virtual_memory().total)


def test_total_without_cgroups_is_that_of_the_machine(groups) -> None:  # type: ignore[no-untyped-def]
    groups("", {})
    assert MachineMemory().total == physical()
    assert 0 < MachineMemory().available() <= physical()


def test_limit_of_cgroup_v2(groups) -> None:  # type: ignore[no-untyped-def]
    groups(
        "0::/a/b\n",
        {
            "memory.max": "max",
            "a/memory.max": str(100 * MIB),
            "a/memory.current": str(70 * MIB),
            "a/memory.stat": f"anon 1\ninactive_file {20 * MIB}",
            "a/b/memory.max": "max",
        },
    )
    assert MachineMemory().total == 100 * MIB
    assert MachineMemory().available() == 50 * MIB


def test_limit_of_cgroup_v1(groups) -> None:  # type: ignore[no-untyped-def]
    groups(
        "5:cpu:/x\n4:memory:/a\n0::/\n",
        {
            "memory/memory.limit_in_bytes": str(1 << 62),
            "memory/a/memory.limit_in_bytes": str(100 * MIB),
            "memory/a/memory.usage_in_bytes": str(130 * MIB),
            "memory/a/memory.stat": f"total_inactive_file {10 * MIB}",
        },
    )
    assert MachineMemory().total == 100 * MIB
    assert MachineMemory().available() == 0


def test_device_allocates_within_the_limit_of_its_container(groups) -> None:  # type: ignore[no-untyped-def]
    groups(
        "0::/\n",
        {"memory.max": str(320 * MIB), "memory.current": str(120 * MIB)},
    )
    device = CpuDevice(threads=1, weight_cache=0)
    assert device.memory() == (190 * MIB, 320 * MIB)  # a thirty-second is reserved
    with pytest.raises(OutOfMemory):
        device.allocate(191 * MIB)
    device.allocate(189 * MIB).free()


# Allocates all memory that the device reports, in parts, and starts threads meanwhile.
ALLOCATE_ALL = """
import resource, sys, threading
from ggrpc.devices.cpu import CpuDevice
from ggrpc.errors import OutOfMemory

limit, size = getattr(resource, sys.argv[1]), int(sys.argv[2])
resource.setrlimit(limit, (size, size))
device = CpuDevice(threads=1, weight_cache=0)
free, total = device.memory()
assert size // 4 < free <= total < size, (free, total)
part = free // int(sys.argv[3])
buffers = [device.allocate(part) for _ in range(int(sys.argv[3]))]
assert device.memory().free < part, device.memory()
try:
    device.allocate(part)
except OutOfMemory:
    pass
else:
    raise AssertionError("more than was promised")
end = threading.Event()
threads = [threading.Thread(target=end.wait) for _ in range(3)]
for thread in threads:
    thread.start()
end.set()
for buffer in buffers:
    buffer.free()
assert device.memory().free > free - (256 << 20), device.memory()
"""


@pytest.mark.parametrize("parts", [1, 7])
@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_all_that_is_promised_can_be_allocated_under_a_limit_of_the_process(
    limit: str, parts: int
) -> None:
    size = 3 << 30
    done = subprocess.run(
        [sys.executable, "-c", ALLOCATE_ALL, limit, str(size), str(parts)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_process_without_limits_may_map_any_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unlimited = resource.RLIM_INFINITY, resource.RLIM_INFINITY
    monkeypatch.setattr(resource, "getrlimit", lambda limit: unlimited)
    assert MachineMemory().mappable() is None
