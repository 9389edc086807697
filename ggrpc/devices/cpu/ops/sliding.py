"""Sliding windows over an image, for convolution and pooling.

Images are not padded. For one element of the kernel (a tap), the positions inside the
image are a strided slice of the image, and belong to a slice of the windows. One copy
or sum for each tap is therefore enough, whatever the padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ggrpc.devices.cpu.compiler import MIN_PARALLEL, Compiler
from ggrpc.devices.cpu.workers import Step
from ggrpc.formats.codecs import Array, cast

BLOCK = 1 << 20  # elements of unfolded windows in a block of a thread

Index = tuple[Any, ...]  # starts with an ellipsis for the leading axes
Part = TypeVar("Part")


class Tap(NamedTuple):
    """One element of the kernel, and the part of the image that it covers.

    Attributes:
        element: the index of the element in the kernel.
        windows: the index of the windows whose element is inside the image.
        image: the index of the corresponding elements of the image.
    """

    element: tuple[int, ...]
    windows: Index
    image: Index

    @property
    def unfolded(self) -> Index:
        """The index in an array of shape (..., kernel axes, window axes)."""
        return ..., *self.element, *self.windows[1:]


class Slide(NamedTuple):
    """The windows along one axis.

    Attributes:
        image: the length of the image.
        windows: the number of windows.
        kernel: the number of elements in a window.
        stride: the distance from one window to the next.
        padding: the distance of the first window's start before the image.
        dilation: the distance from one element of a window to the next.
    """

    image: int
    windows: int
    kernel: int
    stride: int
    padding: int = 0
    dilation: int = 1

    def of(self, windows: slice) -> Slide:
        """The slide for a range of the windows."""
        start = self.padding - windows.start * self.stride
        return self._replace(windows=windows.stop - windows.start, padding=start)

    def taps(self) -> Iterator[tuple[int, slice, slice]]:
        """The element, windows and image of each tap that touches the image."""
        for at in range(self.kernel):
            start = at * self.dilation - self.padding
            first = max(0, -(start // self.stride))
            last = min(self.windows, (self.image - 1 - start) // self.stride + 1)
            if first < last:
                begin = start + first * self.stride
                end = begin + (last - first - 1) * self.stride + 1
                yield at, slice(first, last), slice(begin, end, self.stride)

    def spans(self) -> Iterator[tuple[int, int]]:
        """The start and end of each window inside the image; the dilation must be 1."""
        for window in range(self.windows):
            start = window * self.stride - self.padding
            first = min(max(start, 0), self.image)
            yield first, max(first, min(start + self.kernel, self.image))


def iter_taps(slides: Sequence[Slide]) -> Iterator[Tap]:
    """The taps over several axes, which are the last ones of an array."""
    for each in product(*(tuple(slide.taps()) for slide in slides)):
        element, windows, image = zip(*each, strict=True)
        yield Tap(element, (..., *windows), (..., *image))


def unfold(slides: Sequence[Slide], image: Array, windows: Array) -> Step:
    """A step that copies windows from an image (im2col); outside of it they are 0.

    Args:
        slides: the windows along each axis of the image.
        image: (..., image axes).
        windows: (..., kernel axes, window axes).
    """
    pairs = [(windows[tap.unfolded], image[tap.image]) for tap in iter_taps(slides)]
    inside = sum(x.size for x, _ in pairs) == windows.size
    return partial(_unfold, None if inside else windows, pairs)


def _unfold(with_border: Array | None, pairs: Sequence[tuple[Array, Array]]) -> None:
    if with_border is not None:
        with_border.fill(0)
    for target, source in pairs:
        cast(source, target)


def fold(slides: Sequence[Slide], image: Array, windows: Array) -> Step:
    """A step that adds windows to an image (col2im); see `unfold` for the arguments."""
    pairs = [(image[tap.image], windows[tap.unfolded]) for tap in iter_taps(slides)]
    return partial(_fold, image, pairs)


def _fold(image: Array, pairs: Sequence[tuple[Array, Array]]) -> None:
    image.fill(0)
    for target, source in pairs:
        np.add(target, source, target)


def block_size(c: Compiler, windows: int, kernel: int, taps: int) -> int:
    """The number of windows in a block.

    Args:
        c: the compiler.
        windows: the number of all windows.
        kernel: the number of elements in a window.
        taps: the number of calls for each block.

    Raises:
        DeviceError: there would be too many calls; see `Compiler.check_parts`.
    """
    large = windows * kernel >= MIN_PARALLEL
    share = -(-windows // c.workers.threads) if large else windows
    size = max(1, min(share, BLOCK // max(1, kernel)))
    c.check_parts(-(-windows // size) * taps)
    return size


def distribute(
    c: Compiler,
    parts: Sequence[Part],
    scratch: int,
    make: Callable[[Part, Array], Step],
) -> None:
    """Append the work on independent parts, distributed over the workers.

    Args:
        c: the compiler.
        parts: the parts.
        scratch: the number of float32 scratch elements that a part needs.
        make: returns the step for a part and its scratch.
    """
    threads = min(c.workers.threads, len(parts))
    tasks = []
    for at in range(threads):
        own = c.scratch((scratch,))
        tasks.append(partial(run_all, [make(part, own) for part in parts[at::threads]]))
    c.parallel(tasks)


def run_all(steps: Sequence[Step]) -> None:
    """Run steps one after the other."""
    for step in steps:
        step()
