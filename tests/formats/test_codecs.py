"""Views of tensors, and codecs."""

from __future__ import annotations

import tracemalloc

import gguf.quants
import numpy as np
import pytest
from gguf import GGMLQuantizationType

from ggrpc.formats.codecs import CODECS, DTYPES, Array, pieces, view_of
from ggrpc.tensor import Tensor, contiguous_nb
from ggrpc.types import QUANTIZED, GGMLType
from tests.support.case import Case, values

PACKABLE = [type for type, codec in CODECS.items() if codec.pack]
OF_GGUF = [type for type in QUANTIZED if hasattr(gguf.quants, type.name)]


def unpacked(type: GGMLType, packed: Array, *shape: int) -> Array:
    out = np.empty(shape, np.float32)
    CODECS[type].unpack(packed, out)
    return out


def tensor(type: GGMLType, ne: tuple[int, int, int, int], **fields: object) -> Tensor:
    fields.setdefault("nb", contiguous_nb(type, ne))
    return Tensor(id=1, type=type, buffer=1, ne=ne, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("type", DTYPES, ids=lambda type: type.name)
def test_view_of_plain_type_has_reversed_shape(type: GGMLType) -> None:
    memory = memoryview(bytearray(range(256)) * 4)
    view = view_of(tensor(type, (5, 4, 3, 2)), memory, 8)
    assert view.shape == (2, 3, 4, 5)
    assert view.tobytes() == bytes(memory[8 : 8 + view.nbytes])


def test_view_of_quantized_type_is_bytes_of_rows() -> None:
    view = view_of(tensor(GGMLType.Q8_0, (64, 3, 1, 1)), memoryview(bytes(300)), 0)
    assert (view.shape, view.dtype) == ((1, 1, 3, 68), np.uint8)


def test_view_of_permuted_tensor_follows_nb() -> None:
    numbers = np.arange(24, dtype=np.float32)
    permuted = tensor(GGMLType.F32, (3, 4, 2, 1), nb=(16, 4, 48, 96))
    view = view_of(permuted, memoryview(numbers).cast("B"), 0)
    np.testing.assert_array_equal(view[0], numbers.reshape(2, 3, 4).swapaxes(1, 2))


def test_view_of_empty_tensor_at_the_end_of_memory_is_empty() -> None:
    assert (
        view_of(tensor(GGMLType.F32, (0, 4, 1, 1)), memoryview(bytes(8)), 8).size == 0
    )


@pytest.mark.parametrize(
    "shape", [(10,), (1, 7, 5), (3, 2, 4), (1, 1, 1, 9), (4, 0, 3)]
)
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_pieces_cover_everything_once(shape: tuple[int, ...], count: int) -> None:
    counted = np.zeros(shape, int)
    parts = pieces(shape, count)
    for at in parts:
        counted[at] += 1
    assert (counted == 1).all()
    assert len(parts) <= count


def test_pieces_split_the_outermost_axis_that_is_long_enough() -> None:
    assert pieces((2, 8, 16, 4), 4)[1] == (slice(None), slice(2, 4))


@pytest.mark.parametrize("type", OF_GGUF, ids=lambda type: type.name)
def test_unpacked_blocks_equal_gguf(type: GGMLType) -> None:
    case = Case(seed=type)
    leaf = case.leaf((512, 33, 2), type)
    packed = np.frombuffer(case.image, np.uint8)[: leaf.nbytes]
    right = gguf.quants.dequantize(packed, GGMLQuantizationType(type))
    np.testing.assert_array_equal(values(leaf, case.image).ravel(), right)


def test_unpacked_large_tensor_equals_gguf() -> None:
    case = Case()
    leaf = case.leaf((2048, 100), GGMLType.Q4_0)
    packed = np.frombuffer(case.image, np.uint8)[: leaf.nbytes]
    right = gguf.quants.dequantize(packed, GGMLQuantizationType.Q4_0)
    np.testing.assert_array_equal(values(leaf, case.image).ravel(), right)


def test_unpacked_strided_rows_equal_contiguous_ones() -> None:
    packed = np.random.default_rng(1).integers(0, 100, (4, 6, 68), np.uint8)
    whole = unpacked(GGMLType.Q8_0, packed, 4, 6, 64)
    strided = unpacked(GGMLType.Q8_0, packed[:, ::2], 4, 3, 64)
    np.testing.assert_array_equal(strided, whole[:, ::2])


def test_unpacked_q1_0_is_plus_or_minus_its_scale() -> None:
    block = np.frombuffer(np.float16(0.5).tobytes() + b"\x05" + bytes(15), np.uint8)
    out = unpacked(GGMLType.Q1_0, block[np.newaxis], 1, 128)[0]
    np.testing.assert_array_equal(out[:4], [0.5, -0.5, 0.5, -0.5])
    assert (out[3:] == -0.5).all()


def test_unpacked_q2_0_is_minus_one_to_two_times_its_scale() -> None:
    block = np.frombuffer(np.float16(0.5).tobytes() + b"\xe4" + bytes(15), np.uint8)
    out = unpacked(GGMLType.Q2_0, block[np.newaxis], 1, 64)[0]
    np.testing.assert_array_equal(out[:4], [-0.5, 0, 0.5, 1])
    assert (out[4:] == -0.5).all()


@pytest.mark.parametrize("type", PACKABLE, ids=lambda type: type.name)
def test_packed_values_are_close_to_the_originals(type: GGMLType) -> None:
    numbers = np.random.default_rng(2).standard_normal((5, 512)).astype(np.float32)
    case = Case()
    leaf = case.leaf(numbers, type)
    error = values(leaf, case.image)[0, 0] - numbers
    bits = 8 * type.type_size / type.blck_size
    assert np.sqrt(np.mean(error**2)) < 3 * 2 ** -min(bits - 1, 8)


@pytest.mark.parametrize(
    ("bits", "packed"),
    [
        (0x3F808000, 0x3F80),  # halfway: to even, down
        (0x3F818000, 0x3F82),  # halfway: to even, up
        (0x3F808001, 0x3F81),
        (0x7F7FFFFF, 0x7F80),  # overflows to infinity
        (0xFF800000, 0xFF80),
        (0x7F800001, 0x7FC0),  # NaN stays NaN
        (0x80000000, 0x8000),
    ],
)
def test_packed_bf16_rounds_as_ggml(bits: int, packed: int) -> None:
    pack = CODECS[GGMLType.BF16].pack
    assert pack is not None
    out = np.zeros(1, np.uint16)
    pack(np.array([bits], np.uint32).view(np.float32), out)
    assert out[0] == packed


def test_unpacked_bf16_is_the_upper_half_of_float32() -> None:
    out = unpacked(GGMLType.BF16, np.array([0x3F80, 0xC040, 0x7F80], np.uint16), 3)
    np.testing.assert_array_equal(out, [1, -3, np.inf])


@pytest.mark.parametrize("shape", [(1, 1, 1, 1 << 22), (1, 1, 1 << 15, 128)])
@pytest.mark.parametrize("type", [GGMLType.BF16, GGMLType.Q4_0, GGMLType.Q8_0])
def test_codecs_use_little_memory(type: GGMLType, shape: tuple[int, ...]) -> None:
    """The memory that numpy allocates to convert a tensor is not counted."""
    blocks = shape[-1] // type.blck_size
    dtype, row = np.dtype(np.uint8), blocks * type.type_size
    if type is GGMLType.BF16:
        dtype, row = DTYPES[type], shape[-1]
    values = np.ones(shape, np.float32)[..., ::-1]
    packed = np.ones((*shape[:-1], row + 2), dtype)[..., :row]  # with gaps
    codec = CODECS[type]
    assert codec.pack is not None
    tracemalloc.start()
    codec.pack(values, packed)
    codec.unpack(packed, values)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 4 << 20
    np.testing.assert_allclose(values, 1, rtol=0.1)


@pytest.mark.parametrize("type", CODECS, ids=lambda type: type.name)
def test_codecs_accept_empty_tensors(type: GGMLType) -> None:
    row = np.empty((2, 0), DTYPES.get(type, np.dtype(np.uint8)))
    assert unpacked(type, row, 2, 0).size == 0


def test_every_f16_is_unpacked_as_by_numpy() -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = every[~np.isnan(every)]
    for halves in (every, finite):
        out = np.empty(halves.size, np.float32)
        with np.errstate(all="ignore"):
            CODECS[GGMLType.F16].unpack(halves, out)
        assert np.array_equal(out, halves.astype(np.float32), equal_nan=True)
