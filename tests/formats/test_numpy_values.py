from __future__ import annotations

import numpy as np
import pytest

from ggrpc.errors import ConfigError
from ggrpc.formats.codecs import CODECS
from ggrpc.formats.nmse import nmse
from ggrpc.formats.numpy_values import (
    NUMPY,
    contiguous_tensor,
    dequantize,
    ne_of,
    pack,
    parse_type,
    quantize,
    shape_of,
    type_of,
    unpack,
)
from ggrpc.types import GGMLType

PACKABLE = [t for t in GGMLType if t in NUMPY or (t in CODECS and CODECS[t].pack)]


@pytest.mark.parametrize("type", PACKABLE, ids=lambda t: t.name)
def test_values_are_packed_and_unpacked(type: GGMLType) -> None:
    array = np.random.default_rng(0).normal(0, 20, (3, 256)).round().astype("f4")
    ne = ne_of(array.shape)
    packed = pack(array, type)
    tensor = contiguous_tensor(type, ne)
    assert len(packed) == tensor.nbytes
    back = unpack(tensor, packed)
    assert back.shape == (3, 256)
    assert nmse(back.astype("f4"), array) < (0.7 if type.is_quantized else 1e-4)


@pytest.mark.parametrize("type", NUMPY, ids=lambda t: t.name)
def test_numpy_types_keep_their_dtype(type: GGMLType) -> None:
    array = np.arange(6).reshape(2, 3).astype(NUMPY[type])
    assert type_of(array) is type
    back = unpack(contiguous_tensor(type, (3, 2, 1, 1)), pack(array, type))
    assert back.dtype == array.dtype
    assert np.array_equal(back, array)


def test_noncontiguous_arrays_are_packed_by_value() -> None:
    array = np.arange(6, dtype=">f4").reshape(2, 3).T
    back = unpack(
        contiguous_tensor(GGMLType.F32, (2, 3, 1, 1)), pack(array, GGMLType.F32)
    )
    assert np.array_equal(back, array)
    assert type_of(array) is GGMLType.F32


def test_scalars_and_empty_arrays_have_shapes() -> None:
    assert ne_of(()) == (1, 1, 1, 1)
    assert bytes(pack(np.float32(2), GGMLType.F32)) == b"\0\0\0\x40"
    assert shape_of((5, 1, 1, 1)) == (5,)
    assert shape_of((1, 1, 3, 1)) == (3, 1, 1)
    empty = unpack(contiguous_tensor(GGMLType.Q8_0, (32, 0, 1, 1)), memoryview(b""))
    assert (empty.shape, empty.dtype) == ((0, 32), np.float32)
    assert len(pack(np.empty((0, 32)), GGMLType.Q8_0)) == 0


def test_quantize_and_dequantize() -> None:
    array = np.random.default_rng(0).standard_normal((2, 1, 64), np.float32)
    data = quantize(array, "q8_0")
    assert len(data) == 2 * 68
    back = dequantize(data, "q8_0", (2, 1, 64))
    assert back.shape == (2, 1, 64)
    assert nmse(back, array) < 1e-4
    with pytest.raises(ConfigError, match="has 68 bytes, but its data has 136"):
        dequantize(data, "q8_0", (64,))


def test_invalid_arguments_are_errors() -> None:
    with pytest.raises(ConfigError, match="no type 'Q9_9': use one of F32, F16"):
        parse_type("Q9_9")
    with pytest.raises(ConfigError, match="ggml has no type for complex64"):
        type_of(np.zeros(1, np.complex64))
    with pytest.raises(ConfigError, match="at most 4 dimensions"):
        ne_of((1, 1, 1, 1, 1))
    with pytest.raises(ConfigError, match="not a multiple of Q8_0's block size, 32"):
        pack(np.zeros((2, 33)), GGMLType.Q8_0)
    with pytest.raises(ConfigError, match="cannot convert values to IQ1_S"):
        pack(np.zeros(256), GGMLType.IQ1_S)


def test_values_out_of_range_raise_no_warnings() -> None:
    assert dequantize(quantize(np.array([1e30, -5]), "F16"), "F16", (2,))[0] == np.inf
    assert dequantize(quantize(np.array([1e30, -5]), "I8"), "I8", (2,))[1] == -5
