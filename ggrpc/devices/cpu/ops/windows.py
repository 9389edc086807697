"""WIN_PART, WIN_UNPART, GET_REL_POS, ADD_REL_POS in numpy."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ggrpc.devices.cpu.compiler import Compiler
from ggrpc.devices.cpu.kernel_table import kernel
from ggrpc.formats.codecs import Array, cast
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.ops.windows import PH, PW, A


@kernel(Op.WIN_PART)
def win_part(node: Node, c: Compiler) -> None:
    """Split an image into windows; outside of the image they are 0."""
    image, windows = c.view(node.source(A))[0], c.view(node.tensor)
    if any(n % node.params.w for n in image.shape[:2]):
        c.step(windows.fill, 0)
    for part, of_image in _parts(windows, image, node.params.w):
        c.convert(cast, of_image, part)


@kernel(Op.WIN_UNPART)
def win_unpart(node: Node, c: Compiler) -> None:
    windows, image = c.view(node.source(A)), c.view(node.tensor)[0]
    for part, of_image in _parts(windows, image, node.params.w):
        c.convert(cast, part, of_image)


def _parts(windows: Array, image: Array, w: int) -> Iterator[tuple[Array, Array]]:
    """Pair windows with their parts of the image; incomplete windows come separately.

    Args:
        windows: (windows, w, w, channels).
        image: (height, width, channels).
        w: the size of a window.

    Yields:
        Views of windows and image of the same shape, (rows of windows, height, windows
        in a row, width, channels).
    """
    height, width, channels = image.shape
    across, down = -(-width // w), -(-height // w)
    grid = windows[: down * across].reshape(down, across, w, w, channels)
    for rows, high in _runs(height, w):
        for columns, wide in _runs(width, w):
            part = grid[rows, columns, :high, :wide].swapaxes(1, 2)
            top, left = rows.start * w, columns.start * w
            of_image = image[top:, left:][: part.shape[0] * high]
            of_image = of_image[:, : part.shape[2] * wide]
            yield part, of_image.reshape(part.shape)


def _runs(size: int, w: int) -> Iterator[tuple[slice, int]]:
    """The complete windows along an axis with their size, then the incomplete one."""
    whole, rest = divmod(size, w)
    if whole:
        yield slice(0, whole), w
    if rest:
        yield slice(whole, whole + 1), rest


@kernel(Op.GET_REL_POS)
def get_rel_pos(node: Node, c: Compiler) -> None:
    """y[i2, i1] = a[i2 - i1 + n - 1]; like ggml, copies BF16 as F16 bit by bit."""
    y = c.view(node.tensor)[0].view(np.uint16)
    rows = c.view(node.source(A))[0, 0].view(np.uint16)
    windows = sliding_window_view(rows, len(y), axis=0)
    c.convert(cast, windows[:, :, ::-1].swapaxes(1, 2), y)


@kernel(Op.ADD_REL_POS)
def add_rel_pos(node: Node, c: Compiler) -> None:
    """y[.., h, w] = a[.., h, w] + ph[.., h] + pw[.., w]; a row of `a` is a matrix."""
    pw, ph = c.view(node.source(PW)), c.view(node.source(PH))
    shape = (*pw.shape, pw.shape[-1])
    a, y = (c.view(t)[0].reshape(shape) for t in (node.source(A), node.tensor))
    c.elementwise(np.add, (a, ph[..., np.newaxis]), y)
    c.elementwise(np.add, (y, pw[..., np.newaxis, :]), y)
