"""The kernels that hash what clients send."""

from __future__ import annotations

from ggrpc.devices.opencl import OpenClDevice
from ggrpc.devices.opencl.runtime.block_hash import OpenClChunks
from tests.devices.opencl.runtime.test_block_hash import check_each


def test_hashes(gpu: OpenClDevice) -> None:
    check_each(OpenClChunks(gpu.queue.context, gpu.builder, gpu.name))
