"""The elements of windows over an image, and the division into boxes."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ggrpc.devices.cpu.ops.sliding import Slide, fold, unfold
from ggrpc.formats.codecs import boxes

SLIDES = st.builds(
    Slide,
    image=st.integers(1, 12),
    windows=st.integers(1, 8),
    kernel=st.integers(0, 5),
    stride=st.integers(1, 4),
    padding=st.integers(-3, 9),
    dilation=st.integers(0, 3),
)


@given(SLIDES)
def test_unfold_copies_the_elements_inside_the_image(slide: Slide) -> None:
    image = np.arange(1, slide.image + 1, dtype=np.float32)
    windows = np.full((slide.kernel, slide.windows), np.nan, np.float32)
    unfold([slide], image, windows)()
    for k, w in product(range(slide.kernel), range(slide.windows)):
        at = w * slide.stride + k * slide.dilation - slide.padding
        assert windows[k, w] == (image[at] if 0 <= at < slide.image else 0)


@given(SLIDES, st.integers(0, 99))
def test_fold_is_the_transpose_of_unfold(slide: Slide, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(-9, 9, slide.image).astype(np.float32)
    windows = rng.integers(-9, 9, (slide.kernel, slide.windows)).astype(np.float32)
    unfolded, folded = np.empty_like(windows), np.empty_like(image)
    unfold([slide], image, unfolded)()
    fold([slide], folded, windows)()
    assert (unfolded * windows).sum() == (image * folded).sum()


@given(SLIDES, st.data())
def test_slide_of_some_windows_has_the_same_taps(
    slide: Slide, data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, slide.windows - 1))
    some = slice(first, data.draw(st.integers(first + 1, slide.windows)))
    image = np.arange(1, slide.image + 1, dtype=np.float32)
    whole = np.empty((slide.kernel, slide.windows), np.float32)
    part = np.empty((slide.kernel, some.stop - some.start), np.float32)
    unfold([slide], image, whole)()
    unfold([slide.of(some)], image, part)()
    np.testing.assert_array_equal(part, whole[:, some])


@given(SLIDES)
def test_spans_cover_the_taps_of_each_window(slide: Slide) -> None:
    slide = slide._replace(dilation=1)
    for window, (first, last) in enumerate(slide.spans()):
        start = window * slide.stride - slide.padding
        inside = [i for i in range(start, start + slide.kernel) if 0 <= i < slide.image]
        assert list(range(first, last)) == inside


@pytest.mark.parametrize("size", [1, 5, 7, 20, 35, 100, 10_000])
@pytest.mark.parametrize("shape", [(3, 4, 5, 7), (1, 1, 9), (11,)])
def test_boxes_cover_an_array_once(shape: tuple[int, ...], size: int) -> None:
    covered = np.zeros(shape, int)
    for box in boxes(shape, size):
        assert covered[box].size <= size
        covered[box] += 1
    assert (covered == 1).all()
