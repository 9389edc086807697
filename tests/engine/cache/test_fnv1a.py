from __future__ import annotations

import numpy as np
import pytest

from ggrpc.devices.block_hash import MODULUS, PRIME, Chunks
from ggrpc.engine.cache.fnv1a import BASIS, Hasher, fnv1a, hash_name

CHUNK, FEW = Chunks.size, Chunks.min_size
BLOCK = Chunks.size * Chunks.max_chunks


def serial(data: bytes) -> int:
    value = BASIS
    for byte in data:
        value = (value ^ byte) * PRIME % MODULUS
    return value


def noise(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"", 0xCBF29CE484222325),
        (b"a", 0xAF63DC4C8601EC8C),
        (b"foobar", 0x85944171F73967E8),
    ],
)
def test_published_test_vectors(data: bytes, value: int) -> None:
    assert fnv1a(data) == value


@pytest.mark.parametrize(
    "size",
    [FEW - 1, FEW, FEW + 1, FEW + CHUNK - 1, BLOCK - 1, BLOCK, BLOCK + FEW + 7],
)
def test_chunks_give_the_serial_hash(size: int) -> None:
    data = noise(size)
    assert fnv1a(data) == serial(data)


@pytest.mark.parametrize("byte", [0, 1, 0x80, 0xFF])
def test_equal_bytes_give_the_serial_hash(byte: int) -> None:
    data = bytes([byte]) * (FEW + 1000)
    assert fnv1a(data) == serial(data)


def test_pieces_give_the_hash_of_the_whole() -> None:
    data = noise(200_000)
    cuts = np.sort(np.random.default_rng(1).integers(0, len(data), 20)).tolist()
    hasher = Hasher()
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        hasher.update(memoryview(data)[start:end])
    assert hasher.value == serial(data)


def test_each_flipped_bit_changes_the_hash() -> None:
    data = bytearray(noise(2 * FEW))
    whole = fnv1a(data)
    for at in (0, CHUNK, FEW, 2 * FEW - 1):
        data[at] ^= 0x80
        assert fnv1a(data) != whole
        data[at] ^= 0x80


def test_file_name_is_that_of_llama_cpp() -> None:
    assert hash_name(0xABC) == "0000000000000abc"
