"""Windows that slide over an image: where each of their elements meets it.

No image is ever padded. For one element of all windows at once, what lies inside the
image is a slice of it, and the windows that it belongs to are a slice of them; so one
copy (or sum) for each element of a window does it all, whatever the padding.
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

BLOCK = 1 << 20  # elements of unfolded windows that a thread works on at once

Index = tuple[Any, ...]  # begins with whatever axes there are
Part = TypeVar("Part")


class Meeting(NamedTuple):
    """One element of the windows, and the part of the image that it meets.

    Attributes:
        element: its place in a window.
        windows: an index of those whose element it is lies inside the image.
        image: an index of where in the image it does.
    """

    element: tuple[int, ...]
    windows: Index
    image: Index

    @property
    def unfolded(self) -> Index:
        """Its index where the kernel's axes come before those of the windows."""
        return ..., *self.element, *self.windows[1:]


class Slide(NamedTuple):
    """How windows lie along one dimension.

    Attributes:
        image: its elements.
        windows: how many windows there are.
        kernel: elements of a window.
        stride: from one window to the next.
        padding: how far the first window starts in front of the image.
        dilation: from one element of a window to the next.
    """

    image: int
    windows: int
    kernel: int
    stride: int
    padding: int = 0
    dilation: int = 1

    def of(self, windows: slice) -> Slide:
        """The same for some of the windows."""
        start = self.padding - windows.start * self.stride
        return self._replace(windows=windows.stop - windows.start, padding=start)

    def meetings(self) -> Iterator[tuple[int, slice, slice]]:
        """Each element of the windows that meets anything: itself, where, and what."""
        for at in range(self.kernel):
            start = at * self.dilation - self.padding
            first = max(0, -(start // self.stride))
            last = min(self.windows, (self.image - 1 - start) // self.stride + 1)
            if first < last:
                begin = start + first * self.stride
                end = begin + (last - first - 1) * self.stride + 1
                yield at, slice(first, last), slice(begin, end, self.stride)

    def spans(self) -> Iterator[tuple[int, int]]:
        """Where in the image each window begins and ends; its dilation is 1."""
        for window in range(self.windows):
            start = window * self.stride - self.padding
            first = min(max(start, 0), self.image)
            yield first, max(first, min(start + self.kernel, self.image))


def meetings(slides: Sequence[Slide]) -> Iterator[Meeting]:
    """The same over several dimensions, which are the last ones of an array."""
    for each in product(*(tuple(slide.meetings()) for slide in slides)):
        element, windows, image = zip(*each, strict=True)
        yield Meeting(element, (..., *windows), (..., *image))


def unfold(slides: Sequence[Slide], image: Array, windows: Array) -> Step:
    """A step that copies windows out of an image; zeros where they leave it.

    Args:
        slides: how they lie, in the order of the axes.
        image: (..., image axes).
        windows: (..., kernel axes, window axes).
    """
    pairs = [(windows[met.unfolded], image[met.image]) for met in meetings(slides)]
    inside = sum(x.size for x, _ in pairs) == windows.size
    return partial(_unfold, None if inside else windows, pairs)


def _unfold(with_border: Array | None, pairs: Sequence[tuple[Array, Array]]) -> None:
    if with_border is not None:
        with_border.fill(0)
    for target, source in pairs:
        cast(source, target)


def fold(slides: Sequence[Slide], image: Array, windows: Array) -> Step:
    """A step that sums windows up where they lie in an image; see `unfold`."""
    pairs = [(image[met.image], windows[met.unfolded]) for met in meetings(slides)]
    return partial(_fold, image, pairs)


def _fold(image: Array, pairs: Sequence[tuple[Array, Array]]) -> None:
    image.fill(0)
    for target, source in pairs:
        np.add(target, source, target)


def block_size(c: Compiler, windows: int, kernel: int, taps: int) -> int:
    """How many windows a thread takes at once.

    Args:
        c: the compiler.
        windows: how many there are.
        kernel: elements of a window.
        taps: parts that the work on each block has.

    Raises:
        DeviceError: they would be too many blocks.
    """
    large = windows * kernel >= MIN_PARALLEL
    share = -(-windows // c.workers.threads) if large else windows
    size = max(1, min(share, BLOCK // max(1, kernel)))
    c.check_parts(-(-windows // size) * taps)
    return size


def share_out(
    c: Compiler,
    parts: Sequence[Part],
    scratch: int,
    make: Callable[[Part, Array], Step],
) -> None:
    """Append the work on some parts, spread over the workers.

    Args:
        c: the compiler.
        parts: independent of each other.
        scratch: float32 elements that the work on a part wants.
        make: the step for a part, given that scratch.
    """
    threads = min(c.workers.threads, len(parts))
    tasks = []
    for at in range(threads):
        own = c.scratch((scratch,))
        tasks.append(partial(run_all, [make(part, own) for part in parts[at::threads]]))
    c.parallel(tasks)


def run_all(steps: Sequence[Step]) -> None:
    """One step after the other."""
    for step in steps:
        step()
