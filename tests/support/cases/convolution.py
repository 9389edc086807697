"""Cases of CONV_2D, CONV_2D_DW, CONV_3D, CONV_TRANSPOSE_1D, CONV_TRANSPOSE_2D."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

from ggrpc.op import Op
from ggrpc.ops.convolution import (
    Conv2dParams,
    Conv3dParams,
    ConvTranspose1dParams,
    ConvTranspose2dParams,
)
from ggrpc.ops.unfolding import outputs
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType
from tests.support.case import Case

F32, F16 = GGMLType.F32, GGMLType.F16
KERNELS = (F32, F16)
ROUNDED = 1e-6  # for a kernel of F16, ggml rounds the image to F16

# Image, kernel, parameters.
PLANES = {
    "same": ((19, 17, 8, 2), (3, 3, 8, 33), Conv2dParams(1, 1, 1, 1, 1, 1)),
    "mixed": ((19, 17, 6, 3), (3, 2, 6, 5), Conv2dParams(2, 3, 4, 2, 2, 1)),
    "one": ((13, 11, 16, 3), (1, 1, 16, 33), Conv2dParams(1, 1, 0, 0, 1, 1)),
    "overhanging": ((2, 2, 1, 1), (3, 3, 1, 1), Conv2dParams(2, 2, 0, 0, 1, 1)),
    "large": ((100, 90, 24, 2), (3, 3, 24, 7), Conv2dParams(1, 1, 1, 1, 1, 1)),
    "huge": ((300, 200, 12, 1), (3, 3, 12, 9), Conv2dParams(1, 1, 1, 1, 1, 1)),
}
DEPTHWISE = {
    "plain": ((17, 34, 9, 2), (3, 3, 1, 9), Conv2dParams(1, 1, 0, 0, 1, 1)),
    "strides": ((32, 8, 64, 1), (3, 3, 1, 64), Conv2dParams(2, 2, 1, 1, 1, 1)),
    "mixed": ((21, 18, 5, 2), (5, 2, 1, 5), Conv2dParams(1, 3, 4, 2, 2, 1)),
    "large": ((80, 70, 33, 2), (3, 3, 1, 33), Conv2dParams(1, 1, 1, 1, 1, 1)),
}
# Images, channels, image, channels of the result, kernel, parameters before c.
SPACES = {
    "same": (2, 3, (9, 8, 7), 5, (3, 3, 3), (1, 1, 1, 1, 1, 1, 1, 1, 1)),
    "mixed": (2, 5, (13, 9, 7), 17, (4, 3, 2), (2, 1, 3, 3, 2, 2, 2, 1, 2)),
    "one": (3, 16, (9, 7, 3), 33, (1, 1, 1), (1, 1, 1, 0, 0, 0, 1, 1, 1)),
    "in_the_padding": (2, 3, (1, 2, 1), 7, (1, 1, 1), (1, 1, 1, 3, 4, 2, 1, 1, 1)),
    "of_nothing": (1, 1, (2, 2, 2), 1, (0, 1, 1), (1, 1, 1, 0, 0, 0, 1, 1, 1)),
    "large": (1, 4, (40, 30, 20), 6, (3, 3, 3), (1, 1, 1, 1, 1, 1, 1, 1, 1)),
}
# Length, channels, size, channels of the result, stride.
SEQUENCES = {
    "plain": (197, 32, 16, 32, 1),
    "overlapping": (13, 7, 3, 9, 2),
    "gaps": (13, 7, 1, 9, 3),
    "long": (2, 7, 1337, 9, 3),
    "large": (500, 24, 16, 40, 8),
}
# Image, kernel, stride.
SPREAD = {
    "plain": ((3, 2, 3, 1), (2, 2, 1, 3), 1),
    "overlapping": ((10, 11, 9, 2), (3, 4, 5, 9), 2),
    "gaps": ((10, 10, 9, 2), (2, 2, 4, 9), 3),
    "large": ((65, 63, 35, 1), (3, 3, 24, 35), 1),
}


def cases() -> Iterator[tuple[str, Case]]:
    for type in KERNELS:
        for name, (image, kernel, params) in PLANES.items():
            case = conv_2d(image, kernel, params, type)
            yield f"CONV_2D-{name}-{type.name}", case
        for name, space in SPACES.items():
            yield f"CONV_3D-{name}-{type.name}", conv_3d(*space, type)
        for name, sequence in SEQUENCES.items():
            case = conv_transpose_1d(*sequence, type)
            yield f"CONV_TRANSPOSE_1D-{name}-{type.name}", case
        for name, (image, kernel, stride) in SPREAD.items():
            case = conv_transpose_2d(image, kernel, stride, type)
            yield f"CONV_TRANSPOSE_2D-{name}-{type.name}", case
    yield "CONV_2D-channels_first", of_channels_first()
    yield "CONV_2D-into_gaps", into_gaps()
    for (name, sizes), type, first in product(DEPTHWISE.items(), KERNELS, (0, 1)):
        label = "cwhn" if first else "whcn"
        yield f"CONV_2D_DW-{label}-{name}-{type.name}", depthwise(*sizes, type, first)


def rounded(type: GGMLType) -> Case:
    return Case(limit=ROUNDED if type == F16 else None)


def plane(a: Tensor, b: Tensor, p: Conv2dParams) -> tuple[int, int]:
    return (
        outputs(b.ne[0], a.ne[0], p.s0, p.p0, p.d0),
        outputs(b.ne[1], a.ne[1], p.s1, p.p1, p.d1),
    )


def conv_2d(
    image: Sequence[int], kernel: Sequence[int], params: Conv2dParams, type: GGMLType
) -> Case:
    case = rounded(type)
    a, b = case.leaf(kernel, type), case.leaf(image)
    ne = (*plane(a, b, params), a.ne[3], b.ne[3])
    case.node(Op.CONV_2D, [a, b], ne, params=params)
    return case


def channels_first(case: Case, ne: Sequence[int], type: GGMLType = F32) -> Tensor:
    """A tensor of dimensions (w, h, c, n) that lies in memory as (c, w, h, n)."""
    w, h, c, n = ne
    return case.permute(case.leaf((c, w, h, n), type), 2, 0, 1, 3)


def of_channels_first() -> Case:
    case = Case()
    a, b = case.leaf((3, 3, 6, 5)), channels_first(case, (12, 10, 6, 2))
    params = Conv2dParams(1, 2, 1, 1, 1, 1)
    case.node(Op.CONV_2D, [a, b], (*plane(a, b, params), 5, 2), params=params)
    return case


def into_gaps() -> Case:
    case = Case()
    a, b = case.leaf((3, 3, 6, 5)), case.leaf((12, 10, 6, 2))
    wide = case.leaf((16, 12, 5, 2))
    y = case.view(wide, (12, 10, 5, 2), wide.nb)
    params = Conv2dParams(1, 1, 1, 1, 1, 1)
    case.node(Op.CONV_2D, [a, b], y.ne, params=params, inplace_over=y)
    return case


def depthwise(
    image: Sequence[int],
    kernel: Sequence[int],
    params: Conv2dParams,
    type: GGMLType,
    first: int,
) -> Case:
    case = Case()
    if not first:
        a, b = case.leaf(kernel, type), case.leaf(image)
        case.node(
            Op.CONV_2D_DW, [a, b], (*plane(a, b, params), *b.ne[2:]), params=params
        )
        return case
    k0, k1, _, channels = kernel
    a = case.permute(case.leaf((channels, 1, k0, k1), type), 3, 2, 0, 1)
    b = channels_first(case, image)
    y = channels_first(case, (*plane(a, b, params), *b.ne[2:]))
    case.node(Op.CONV_2D_DW, [a, b], y.ne, params=params, inplace_over=y)
    return case


def conv_3d(
    n: int,
    c: int,
    image: Sequence[int],
    oc: int,
    kernel: Sequence[int],
    numbers: Sequence[int],
    type: GGMLType,
) -> Case:
    case = rounded(type)
    a, b = case.leaf((*kernel, c * oc), type), case.leaf((*image, c * n))
    s, p, d = numbers[:3], numbers[3:6], numbers[6:]
    ne = [outputs(b.ne[i], a.ne[i], s[i], p[i], d[i]) for i in range(3)]
    params = Conv3dParams(*numbers, c, n, oc)
    case.node(Op.CONV_3D, [a, b], (*ne, oc * n), params=params)
    return case


def conv_transpose_1d(
    length: int, c: int, size: int, oc: int, stride: int, type: GGMLType
) -> Case:
    case = rounded(type)
    a, b = case.leaf((size, oc, c), type), case.leaf((length, c))
    ne = ((length - 1) * stride + size, oc)
    params = ConvTranspose1dParams(stride, 0, 1)
    case.node(Op.CONV_TRANSPOSE_1D, [a, b], ne, params=params)
    return case


def conv_transpose_2d(
    image: Sequence[int], kernel: Sequence[int], stride: int, type: GGMLType
) -> Case:
    case = rounded(type)
    a, b = case.leaf(kernel, type), case.leaf(image)
    width, height = ((b.ne[i] - 1) * stride + a.ne[i] for i in (0, 1))
    ne = (width, height, a.ne[2], b.ne[3])
    params = ConvTranspose2dParams(stride)
    case.node(Op.CONV_TRANSPOSE_2D, [a, b], ne, params=params)
    return case
