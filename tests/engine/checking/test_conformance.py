"""Each step of `ggrpc check` detects a server that fails exactly this step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.cpu.buffer import CpuBuffer
from ggrpc.devices.device import Memory
from ggrpc.engine.checking.conformance import STEPS, TOO_MUCH
from ggrpc.engine.client.client import Client
from ggrpc.engine.client.registry import connect
from ggrpc.engine.client.remote_device import RemoteDevice
from ggrpc.engine.wire.dialects import NEWEST, V7_0_1
from ggrpc.errors import RemoteProtocolError
from ggrpc.tensor import Tensor
from tests.support.servers import running

Devices = list[RemoteDevice]


@pytest.fixture
def devices() -> Iterator[Devices]:
    """A device with the newest version, and one with the proposed 7.0.1."""
    with ExitStack() as stack:
        served = CpuDevice(threads=1, weight_cache=0)
        endpoints = [
            stack.enter_context(running(served, dialects=(dialect,)))
            for dialect in (NEWEST, V7_0_1)
        ]
        servers = [stack.enter_context(connect(e, timeout=60)) for e in endpoints]
        yield [server.device() for server in servers]


def found(devices: Devices, name: str) -> str | None:
    """Run a step on the first device whose version has it."""
    (step,) = (step for step in STEPS if step.name == name)
    return next(
        step.run(device)
        for device in devices
        if step.needs in device.client.dialect.commands
    )


@pytest.mark.parametrize("name", [step.name for step in STEPS])
def test_correct_server_passes(devices: Devices, name: str) -> None:
    assert found(devices, name) is None


def test_bytes_that_change_are_found(
    devices: Devices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CpuBuffer, "read", lambda self, at, size: self.memory[:size])
    assert "differ after writing and reading" in str(
        found(devices, "SET_TENSOR, GET_TENSOR")
    )


def test_clear_and_memset_that_do_nothing_are_found(
    devices: Devices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CpuBuffer, "fill", lambda *arguments: None)
    assert found(devices, "BUFFER_CLEAR") == "bytes are not 255 after a clear"
    assert "bytes 3 to 92" in str(found(devices, "MEMSET_TENSOR"))


def test_copy_that_is_refused_or_wrong_is_found(
    devices: Devices, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(CpuBuffer, "copy", lambda *arguments: None)
        assert found(devices, "COPY_TENSOR") == "the copy differs from its source"
    monkeypatch.setattr(Client, "copy_tensor", lambda *arguments: False)
    assert found(devices, "COPY_TENSOR") == "the server cannot copy within a device"


def test_impossible_buffer_is_found(
    devices: Devices, monkeypatch: pytest.MonkeyPatch
) -> None:
    allocate = Client.allocate

    def allocate_less(self: Client, size: int, device: int = 0) -> int:
        return allocate(self, 64 if size == TOO_MUCH else size, device)

    monkeypatch.setattr(Client, "allocate", allocate_less)
    wrong = found(devices, "ALLOC_BUFFER, too large")
    assert wrong == f"the server allocated a buffer of {TOO_MUCH} bytes"


def test_buffer_that_is_too_small_is_found(
    devices: Devices, monkeypatch: pytest.MonkeyPatch
) -> None:
    allocate = CpuDevice.allocate
    monkeypatch.setattr(CpuDevice, "allocate", lambda self, size: allocate(self, 64))
    with pytest.raises(RemoteProtocolError, match="64 bytes instead of 4097"):
        found(devices, "ALLOC_BUFFER")


@pytest.mark.parametrize(
    ("gap", "message"), [(-4096, "two buffers overlap"), (3, "is not aligned")]
)
def test_impossible_addresses_are_found(
    devices: Devices, monkeypatch: pytest.MonkeyPatch, gap: int, message: str
) -> None:
    base = Client.base
    handles: list[int] = []

    def wrong_base(self: Client, buffer: int) -> int:
        handles.append(buffer)
        return base(self, buffer) + 3 if gap > 0 else base(self, handles[0])

    monkeypatch.setattr(Client, "base", wrong_base)
    assert message in str(found(devices, "ALLOC_BUFFER"))


def test_size_that_is_too_small_is_found(
    devices: Devices, monkeypatch: pytest.MonkeyPatch
) -> None:
    def halve(self: CpuDevice, tensor: Tensor) -> int:
        return tensor.nbytes // 2

    monkeypatch.setattr(CpuDevice, "alloc_size", halve)
    with pytest.raises(RemoteProtocolError, match="576 bytes for a tensor of 1152"):
        found(devices, "GET_ALLOC_SIZE")


def test_claim_to_have_unknown_data_is_found(
    devices: Devices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Client, "set_tensor_hash", lambda *arguments: True)
    assert "for a random hash" in str(found(devices, "SET_TENSOR_HASH"))


def test_more_free_than_total_memory_is_found(
    devices: Devices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CpuDevice, "memory", lambda self: Memory(2, 1))
    assert found(devices, "GET_DEVICE_MEMORY") == "2 of 1 bytes are free"


def test_add_must_be_supported(
    devices: Devices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CpuDevice, "supports", lambda self, node: False)
    wrong = found(devices, "GET_DEVICE_SUPPORTS_OP")
    assert wrong == "the server says that it does not support ADD"
