from __future__ import annotations

import pytest

from ggrpc.bounds import MAX_OVERLAP, Region, check_no_overlap, check_place, extent_of
from ggrpc.errors import GraphError
from ggrpc.tensor import Dims, Tensor, contiguous_nb
from ggrpc.types import GGMLType

MIB = 1 << 20
F32, Q8_0 = GGMLType.F32, GGMLType.Q8_0


def tensor(ne: Dims, nb: Dims | None = None, type: GGMLType = F32) -> Tensor:
    return Tensor(1, type, 1, ne, nb or contiguous_nb(type, ne), data=1000)


def place(tensor: Tensor, size: int) -> None:
    check_place(tensor, {1: Region(1000, size)})


def test_tensor_that_fills_its_buffer_is_valid() -> None:
    place(tensor((4, 3, 2, 1)), 96)
    place(tensor((64, 2, 1, 1), type=Q8_0), 136)


@pytest.mark.parametrize("size", [0, 95])
def test_tensor_larger_than_its_buffer_is_refused(size: int) -> None:
    with pytest.raises(GraphError, match=f"inside its buffer of {size}$"):
        place(tensor((4, 3, 2, 1)), size)


@pytest.mark.parametrize(
    "ne",
    [
        ((1 << 32) - 1,) * 4,
        (1 << 31, 1 << 31, 1, 1),
        (0, (1 << 32) - 1, (1 << 32) - 1, 1 << 16),
    ],
)
def test_shape_beyond_63_bits_is_refused_even_if_empty(ne: Dims) -> None:
    with pytest.raises(GraphError, match="is too large"):
        extent_of(tensor(ne, (4, 4, 4, 4)))


def test_strides_beyond_63_bits_are_refused() -> None:
    with pytest.raises(GraphError, match="is too large"):
        extent_of(tensor(((1 << 32) - 1, 2, 1, 1), ((1 << 32) - 1, 0, 0, 0)))


def test_quantized_stride_other_than_a_block_is_refused() -> None:
    with pytest.raises(GraphError, match=r"nb\[0\] = 33 is not the size of a block"):
        extent_of(tensor((32, 1, 1, 1), (33, 34, 34, 34), Q8_0))


def test_overlapping_windows_are_valid() -> None:
    place(tensor((16, 100, 1, 1), (4, 8, 0, 0)), 4 * 16 + 99 * 8)


def test_overlap_is_limited() -> None:
    n = MAX_OVERLAP * MIB // 4
    place(tensor((n, 1, 1, 1), (0, 0, 0, 0)), MIB)
    with pytest.raises(GraphError, match="overlapping elements have"):
        place(tensor((n + 1, 1, 1, 1), (0, 0, 0, 0)), MIB)


def test_small_tensor_may_repeat_one_element() -> None:
    place(tensor((MIB // 4, 1, 1, 1), (0, 0, 0, 0)), 4)


@pytest.mark.parametrize(
    ("ne", "nb"),
    [
        ((4, 3, 2, 1), (4, 16, 48, 96)),
        ((4, 3, 2, 1), (24, 8, 4, 96)),  # permuted
        (
            (4, 3, 1, 1),
            (8, 40, 0, 0),
        ),  # with gaps; strides of single elements are ignored
        ((0, 3, 1, 1), (0, 0, 0, 0)),
    ],
)
def test_results_without_overlap_are_valid(ne: Dims, nb: Dims) -> None:
    check_no_overlap(tensor(ne, nb))


@pytest.mark.parametrize("nb", [(0, 16, 0, 0), (4, 12, 0, 0), (2, 16, 0, 0)])
def test_result_whose_elements_overlap_is_refused(nb: Dims) -> None:
    with pytest.raises(GraphError, match="elements of the result overlap"):
        check_no_overlap(tensor((4, 3, 1, 1), nb))


def test_quantized_result_whose_rows_overlap_is_refused() -> None:
    check_no_overlap(tensor((64, 2, 1, 1), (34, 68, 0, 0), Q8_0))
    with pytest.raises(GraphError, match="overlap"):
        check_no_overlap(tensor((64, 2, 1, 1), (34, 34, 0, 0), Q8_0))
