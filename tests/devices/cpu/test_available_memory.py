from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from ggrpc.devices.cpu import CpuDevice, available_memory
from ggrpc.devices.cpu.available_memory import Machine
from ggrpc.errors import OutOfMemory

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
    assert Machine().total == physical()
    assert 0 < Machine().available() <= physical()


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
    assert Machine().total == 100 * MIB
    assert Machine().available() == 50 * MIB


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
    assert Machine().total == 100 * MIB
    assert Machine().available() == 0


def test_device_allocates_within_the_limit_of_its_container(groups) -> None:  # type: ignore[no-untyped-def]
    groups(
        "0::/\n",
        {"memory.max": str(320 * MIB), "memory.current": str(120 * MIB)},
    )
    device = CpuDevice(threads=1, weight_cache=0)
    assert device.memory() == (190 * MIB, 320 * MIB)  # a thirty-second is kept
    with pytest.raises(OutOfMemory):
        device.allocate(191 * MIB)
    device.allocate(189 * MIB).free()
