"""The hash computed by kernels, by numpy, and byte by byte."""

from __future__ import annotations

import numpy as np
import pyopencl as cl
import pytest

from ggrpc.devices.block_hash import MODULUS, PRIME, Chunks
from ggrpc.devices.opencl import OpenClDevice
from ggrpc.devices.opencl.runtime.block_hash import OpenClChunks
from ggrpc.engine.cache.fnv1a import BASIS, Hasher
from ggrpc.errors import DeviceError

LEAST = OpenClChunks.min_size
BLOCK = OpenClChunks.size * OpenClChunks.max_chunks


def serial(data: bytes, value: int = BASIS) -> int:
    for byte in data:
        value = (value ^ byte) * PRIME % MODULUS
    return value


def check_each(chunks: Chunks) -> None:
    rng = np.random.default_rng(0)
    count = 2 * chunks.group
    data = rng.integers(0, 256, count * chunks.size, np.uint8)
    starts = rng.integers(0, 256, count, np.uint8)
    chunks.take(data)
    pieces = [piece.tobytes() for piece in data.reshape(count, -1)]
    begun = list(zip(pieces, starts.tolist(), strict=True))
    expected = [serial(piece, start) for piece, start in begun]
    assert chunks.hashes(starts).tolist() == expected
    for bit in (0, 4, 7):
        low = starts & np.uint8((1 << bit) - 1)
        for k, ends in enumerate(chunks.lows(low, bit)):
            for piece, start, end in zip(pieces, low.tolist(), ends, strict=True):
                assert serial(piece, start | k << bit & 0xFF) & 0xFF == end


def test_numpy_hashes_each_chunk_from_its_start() -> None:
    check_each(Chunks())


def test_kernels_hash_each_chunk_from_its_start(opencl: OpenClDevice) -> None:
    context = opencl.queue.context
    check_each(OpenClChunks(context, opencl.builder, opencl.name))


@pytest.mark.parametrize("byte", [0, 1, 0x7F, 0x80, 0xFF])
def test_sums_of_the_largest_changes_fit(opencl: OpenClDevice, byte: int) -> None:
    data = bytes([byte]) * LEAST
    hasher = Hasher(opencl.block_hash())
    hasher.update(data)
    assert hasher.value == serial(data)


@pytest.mark.parametrize("more", [-1, 0, 1, 511, 512, 12_345])
def test_odd_sizes_from_odd_places_give_the_serial_hash(
    opencl: OpenClDevice, more: int
) -> None:
    data = np.random.default_rng(more + 1).bytes(LEAST + more + 3)
    hasher = Hasher(opencl.block_hash())
    hasher.update(memoryview(data)[3:])
    assert hasher.value == serial(data[3:])


@pytest.mark.parametrize("more", [0, 1, LEAST + 7, BLOCK + LEAST - 1])
def test_several_blocks_give_the_hash_of_numpy(opencl: OpenClDevice, more: int) -> None:
    data = memoryview(np.random.default_rng(more).bytes(BLOCK + more))
    fast, plain = Hasher(opencl.block_hash()), Hasher()
    for hasher in fast, plain:
        hasher.update(data[:1001])
        hasher.update(data[1001:])
    assert fast.value == plain.value


def test_driver_that_fails_is_a_device_error(
    opencl: OpenClDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **named: object) -> None:
        raise cl.RuntimeError("the card has gone")

    fast = opencl.block_hash()
    monkeypatch.setattr(cl, "enqueue_copy", fail)
    with pytest.raises(DeviceError, match=rf"{opencl.name}: the card has gone"):
        fast.update(BASIS, np.zeros(fast.min_size, np.uint8))
