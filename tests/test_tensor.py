from __future__ import annotations

from ggrpc.op import Op
from ggrpc.tensor import Tensor, contiguous_nb
from ggrpc.types import GGMLType


def tensor(type: GGMLType, ne, nb=None) -> Tensor:  # type: ignore[no-untyped-def]
    return Tensor(
        id=1,
        type=type,
        buffer=0,
        ne=ne,
        nb=nb or contiguous_nb(type, ne),
        raw_name=b"x\0junk",
    )


def test_contiguous_strides_are_those_of_ggml() -> None:
    assert contiguous_nb(GGMLType.Q8_0, (64, 3, 2, 1)) == (34, 68, 204, 408)


def test_nbytes_of_plain_quantized_and_empty_tensors() -> None:
    assert tensor(GGMLType.F32, (3, 2, 1, 1)).nbytes == 24
    assert tensor(GGMLType.Q4_0, (64, 3, 1, 1)).nbytes == 108
    assert tensor(GGMLType.F32, (3, 0, 1, 1)).nbytes == 0


def test_nbytes_of_a_strided_view_ends_with_its_last_element() -> None:
    assert tensor(GGMLType.F32, (3, 2, 1, 1), (4, 100, 200, 200)).nbytes == 112
    assert tensor(GGMLType.F16, (4, 2, 1, 1), (20, 2, 80, 80)).nbytes == 64


def test_contiguity_ignores_strides_of_single_rows() -> None:
    assert tensor(GGMLType.F32, (3, 1, 2, 1), (4, 999, 12, 24)).is_contiguous
    assert not tensor(GGMLType.F32, (3, 2, 1, 1), (8, 24, 48, 48)).is_contiguous


def test_name_ends_at_the_first_nul() -> None:
    assert tensor(GGMLType.F32, (1, 1, 1, 1)).name == "x"
    assert str(tensor(GGMLType.F32, (1, 1, 1, 1))) == "tensor 'x'"
    node = tensor(GGMLType.F32, (1, 1, 1, 1))._replace(op=Op.MUL_MAT)
    assert str(node) == "MUL_MAT 'x'"
