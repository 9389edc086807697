"""Cases of IM2COL, IM2COL_3D, IM2COL_BACK, COL2IM_1D."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

from ggrpc.op import Op
from ggrpc.ops.unfolding import Col2im1dParams, Im2col3dParams, Im2colParams, outputs
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType
from tests.support.case import Case

F32, F16, BF16 = GGMLType.F32, GGMLType.F16, GGMLType.BF16

# Kernel, image, result.
TYPES = ((F32, F32, F32), (F32, F32, F16), (F16, F32, F32), (F16, F16, F16))
PLANES = {
    "same": Im2colParams(1, 1, 1, 1, 1, 1, 1),
    "strides": Im2colParams(3, 2, 0, 1, 1, 1, 1),
    "dilated": Im2colParams(1, 2, 3, 0, 3, 2, 1),
    "in_the_padding": Im2colParams(1, 1, 5, 6, 1, 1, 1),
    "patches": Im2colParams(3, 4, 0, 0, 1, 1, 1),
    "cut": Im2colParams(2, 2, -1, -2, 1, 1, 1),
}
ROWS = {
    "same": Im2colParams(1, 0, 1, 0, 1, 0, 0),
    "strides": Im2colParams(3, 0, 3, 0, 1, 0, 0),
    "dilated": Im2colParams(2, 0, 0, 0, 3, 0, 0),
}
SPACES = {
    "same": Im2col3dParams(1, 1, 1, 1, 1, 1, 1, 1, 1, 3),
    "mixed": Im2col3dParams(3, 1, 2, 0, 3, 1, 2, 1, 3, 3),
    "one_channel": Im2col3dParams(1, 3, 1, 3, 0, 2, 1, 2, 1, 1),
}
# Size, channels, length, stride, cut off.
COLUMNS = {
    "overlapping": (16, 32, 197, 8, 0),
    "odd": (5, 4, 11, 2, 0),
    "cut": (6, 4, 11, 3, 1),
    "gaps": (2, 3, 9, 3, 0),
    "mostly_cut": (8, 2, 3, 2, 5),
    "mono": (16, 1, 197, 8, 0),
    "one": (4, 3, 1, 2, 0),
    "large": (16, 64, 300, 8, 3),
}


def cases() -> Iterator[tuple[str, Case]]:
    for types in TYPES:
        label = "_".join(type.name for type in types)
        yield f"IM2COL-2D-{label}", im2col(PLANES["same"], types=types)
        yield f"IM2COL-1D-{label}", im2col(ROWS["same"], types=types)
    for name, params in (PLANES | ROWS).items():
        dims = 2 if params.is_2d else 1
        yield f"IM2COL-{dims}D-{name}", im2col(params)
        yield f"IM2COL_BACK-{dims}D-{name}", im2col_back(params)
    yield "IM2COL-2D-large", im2col(PLANES["same"], (96, 80, 12, 2), (3, 3, 12, 5))
    yield "IM2COL-1D-large", im2col(ROWS["same"], (3000, 40), (3, 40, 8))
    yield "IM2COL-2D-gaps", of_some_channels()
    for (name, params), type in product(SPACES.items(), (F32, F16)):
        yield f"IM2COL_3D-{name}-{type.name}", im2col_3d(params, type)
    yield "IM2COL_3D-gaps", im2col_3d_with_gaps()
    yield "IM2COL_3D-of_too_few", im2col_3d(SPACES["same"], F32, (9, 8, 7, 2))
    for name, columns in COLUMNS.items():
        yield f"COL2IM_1D-{name}", col2im_1d(columns)
    for type in (F16, BF16):
        yield f"COL2IM_1D-{type.name}", col2im_1d(COLUMNS["odd"], type)


def columns_ne(kernel: Sequence[int], image: Sequence[int], p: Im2colParams) -> list:
    width = outputs(image[0], kernel[0], p.s0, p.p0, p.d0)
    if not p.is_2d:
        return [kernel[0] * kernel[1], width, image[2], 1]
    height = outputs(image[1], kernel[1], p.s1, p.p1, p.d1)
    return [kernel[0] * kernel[1] * kernel[2], width, height, image[3]]


def im2col(
    params: Im2colParams,
    image: Sequence[int] | None = None,
    kernel: Sequence[int] | None = None,
    types: tuple[GGMLType, GGMLType, GGMLType] = (F16, F32, F32),
) -> Case:
    case = Case()
    a = case.leaf(kernel or ((3, 4, 2, 5) if params.is_2d else (3, 4, 5)), types[0])
    b = case.leaf(image or ((13, 12, 2, 3) if params.is_2d else (20, 4, 3)), types[1])
    add(case, a, b, params, types[2])
    return case


def add(
    case: Case, a: Tensor, b: Tensor, params: Im2colParams, type: GGMLType = F32
) -> None:
    case.node(Op.IM2COL, [a, b], columns_ne(a.ne, b.ne, params), type, params)


def of_some_channels() -> Case:
    """Planes that lie apart, as ggml allows them to."""
    case = Case()
    a, many = case.leaf((3, 3, 2, 5)), case.leaf((10, 9, 6, 2))
    b = case.view(many, (10, 9, 2, 2), (4, 40, 720, 2160), offset=360)
    add(case, a, b, PLANES["same"])
    return case


def im2col_back(params: Im2colParams) -> Case:
    case = Case()
    kernel = case.leaf((3, 4, 2, 5) if params.is_2d else (3, 4, 5), F16)
    ne = (13, 12, 2, 3) if params.is_2d else (20, 4, 3, 1)
    columns = case.leaf(columns_ne(kernel.ne, ne, params))
    case.node(Op.IM2COL_BACK, [columns, kernel], ne, params=params)
    return case


def im2col_3d(
    params: Im2col3dParams, type: GGMLType, ne: Sequence[int] = (9, 8, 7, 6)
) -> Case:
    case = Case()
    a = case.leaf((3, 2, 3, 2 * params.ic), F16)
    add_3d(case, a, case.leaf(ne), params, type)
    return case


def add_3d(
    case: Case, a: Tensor, b: Tensor, p: Im2col3dParams, type: GGMLType = F32
) -> None:
    ne = (
        a.ne[0] * a.ne[1] * a.ne[2] * p.ic,
        outputs(b.ne[0], a.ne[0], p.s0, p.p0, p.d0),
        outputs(b.ne[1], a.ne[1], p.s1, p.p1, p.d1),
        outputs(b.ne[2], a.ne[2], p.s2, p.p2, p.d2) * (b.ne[3] // p.ic),
    )
    case.node(Op.IM2COL_3D, [a, b], ne, type, p)


def im2col_3d_with_gaps() -> Case:
    case = Case()
    a, wide = case.leaf((3, 2, 3, 6)), case.leaf((12, 10, 8, 7))
    b = case.view(wide, (9, 8, 7, 6), (4, 48, 480, 3840), offset=8)
    add_3d(case, a, b, SPACES["mixed"])
    return case


def col2im_1d(columns: Sequence[int], type: GGMLType = F32) -> Case:
    size, oc, length, s0, p0 = columns
    case = Case()
    x = case.leaf((size * oc, length), type)
    ne = ((length - 1) * s0 + size - 2 * p0, oc)
    case.node(Op.COL2IM_1D, [x], ne, type, Col2im1dParams(s0, oc, p0))
    return case
