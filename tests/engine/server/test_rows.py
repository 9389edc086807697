"""Rows of a tensor, transferred between a connection and a buffer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ggrpc.engine.server.rows import BATCH, BLOCK, MIN_IN_PLACE, Rows, span_of
from ggrpc.engine.wire import messages as m
from ggrpc.errors import RefusedError
from ggrpc.tensor import Tensor, contiguous_nb
from ggrpc.types import GGMLType

NE = (1000, 1, 1, 1)
TENSOR = Tensor(1, GGMLType.I8, 5, NE, contiguous_nb(GGMLType.I8, NE))
U64_MAX = (1 << 64) - 1

SHAPES = [  # size, count, stride
    (1, 1, 0),
    (3, 5, 3),
    (3, 5, 7),
    (3, 5, 2),  # rows overlap
    (3, 5, 0),
    (MIN_IN_PLACE, BATCH + 3, MIN_IN_PLACE + 1),
    (MIN_IN_PLACE, BATCH + 3, 1),
    (MIN_IN_PLACE, BATCH + 3, 0),
    (100, BLOCK // 100 + 7, 101),
    (100, BLOCK // 100 + 7, 99),
]


def data_of(size: int) -> bytes:
    return bytes(at * 7 % 251 for at in range(size))


def check(size: int, count: int, stride: int) -> None:
    """Check both directions against transfers of single rows."""
    span = (count - 1) * stride + size
    data, before = data_of(size * count), bytes([255]) * span
    expected = bytearray(before)
    for row in range(count):
        at = row * stride
        expected[at : at + size] = data[row * size : (row + 1) * size]
    window = bytearray(before)
    left = memoryview(data)

    def receive(views: Sequence[memoryview]) -> None:
        nonlocal left
        assert len(views) <= BATCH
        for view in views:
            view[:], left = left[: len(view)], left[len(view) :]

    Rows(memoryview(window), size, count, stride).fill(receive)
    assert not left and window == expected

    batches = Rows(memoryview(window), size, count, stride).batches()
    sent = b"".join(bytes(view) for batch in batches for view in batch)
    starts = range(0, count * stride, stride) if stride else [0] * count
    assert sent == b"".join(bytes(window[at : at + size]) for at in starts)


@pytest.mark.parametrize(("size", "count", "stride"), SHAPES)
def test_rows_go_where_they_belong(size: int, count: int, stride: int) -> None:
    check(size, count, stride)


@given(st.integers(1, 2 * MIN_IN_PLACE), st.integers(1, 60), st.integers(0, 1500))
def test_any_rows_go_where_they_belong(size: int, count: int, stride: int) -> None:
    check(size, count, stride)


def write(offset: int, size: int, n_copies: int, stride: int, **changed: Any) -> int:
    data_size = changed.get("data_size", size * n_copies & U64_MAX)
    return span_of(
        m.SetTensor2D(
            tensor=TENSOR,
            offset=offset,
            size=size,
            n_copies=n_copies,
            stride=stride,
            data_size=data_size,
        )
    )


def test_span_reaches_to_the_end_of_the_last_row() -> None:
    assert write(10, 90, 10, 100) == 990
    assert write(0, 1000, 1, U64_MAX) == 1000


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ((0, 0, 1, 8), "1 rows of 0 bytes contain no data"),
        ((0, 8, 0, 8), "0 rows of 8 bytes contain no data"),
        ((0, 1 << 33, 1 << 32, 8), "are more than 2\\^64 bytes"),
        ((11, 90, 10, 100), "from byte 11 on do not lie inside it"),
        ((0, 8, 2, U64_MAX), "do not lie inside it"),
        ((U64_MAX, 8, 2, 8), "do not lie inside it"),
    ],
)
def test_rows_outside_are_refused(place: tuple[int, ...], message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        write(*place)


def test_rows_that_do_not_match_their_data_are_refused() -> None:
    with pytest.raises(RefusedError, match="are not 17 bytes of data"):
        write(0, 8, 2, 8, data_size=17)


def test_rows_to_read_have_no_size_of_data() -> None:
    asked = m.GetTensor2D(tensor=TENSOR, offset=0, size=8, n_copies=2, stride=16)
    assert span_of(asked) == 24
