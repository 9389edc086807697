"""Random data for tensors of any type, from a numpy generator."""

from __future__ import annotations

import numpy as np

from ggrpc.formats.codecs import CODECS, Array
from ggrpc.formats.numpy_values import pack
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType


def normal_bytes(tensor: Tensor, rng: np.random.Generator) -> memoryview:
    """The bytes of a tensor with normally distributed values.

    If ggrpc cannot pack the type, the values come from `random_blocks` instead.

    Args:
        tensor: a contiguous tensor.
        rng: the generator.

    Returns:
        `tensor.nbytes` bytes.
    """
    if tensor.type not in CODECS or CODECS[tensor.type].pack:
        values = rng.standard_normal(tensor.ne[::-1], np.float32)
        return pack(values, tensor.type)
    count = tensor.nelements // tensor.type.blck_size
    return random_blocks(tensor.type, count, rng).reshape(-1).data


def random_blocks(type: GGMLType, count: int, rng: np.random.Generator) -> Array:
    """Random blocks, in each of which the largest absolute value is from 0.1 to 10.

    Returns:
        uint8 of shape (count, type_size).
    """
    blocks = np.zeros((count, type.type_size), np.uint8)
    values = np.empty((count, type.blck_size), np.float32)
    bad = np.ones(count, bool)
    while bad.any():
        blocks[bad] = rng.integers(0, 256, (bad.sum(), type.type_size), np.uint8)
        with np.errstate(all="ignore"):
            CODECS[type].unpack(blocks, values)
            largest = np.abs(values).max(axis=1)
        bad = ~((largest > 0.1) & (largest < 10))
    return blocks
