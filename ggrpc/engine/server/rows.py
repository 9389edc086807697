"""Receives and sends rows of a tensor, for SET_TENSOR_2D and GET_TENSOR_2D.

Long rows are received and sent in place, several hundred with one system call. For
short rows that would take longer than a copy, so they go through a small block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ggrpc.engine.wire import messages as m
from ggrpc.errors import RefusedError

# Rows from this many bytes on are moved in place.
MIN_IN_PLACE = 512
# Rows of one system call, which takes at most 1024 (IOV_MAX).
BATCH = 512
# Bytes of the block for short rows, which stays in the processor's cache.
BLOCK = 256 << 10
U64_MAX = (1 << 64) - 1


def span_of(request: m.SetTensor2D | m.GetTensor2D) -> int:
    """The bytes from the start of the first row to the end of the last one.

    Raises:
        RefusedError: there is no row, or the rows do not lie inside the tensor.
    """
    rows = f"{request.n_copies} rows of {request.size} bytes"
    if not request.size or not request.n_copies:
        raise RefusedError(f"{request.tensor}: {rows} contain no data")
    if request.size * request.n_copies > U64_MAX:
        raise RefusedError(f"{request.tensor}: {rows} are more than 2^64 bytes")
    if isinstance(request, m.SetTensor2D):
        _check_size(request, rows)
    span = (request.n_copies - 1) * request.stride + request.size
    if request.offset + span > request.tensor.nbytes:
        raise RefusedError(
            f"{request.tensor}: {rows}, {request.stride} bytes apart, from byte "
            f"{request.offset} on do not lie inside it"
        )
    return span


def _check_size(request: m.SetTensor2D, rows: str) -> None:
    if request.size * request.n_copies != request.data_size:
        raise RefusedError(
            f"{request.tensor}: {rows} are not {request.data_size} bytes of data"
        )


class Rows:
    """Rows inside a window of bytes.

    Args:
        window: the bytes from the start of the first row to the end of the last one.
        size: the bytes of a row.
        count: the number of rows.
        stride: the bytes from the start of one row to the next.
    """

    def __init__(self, window: memoryview, size: int, count: int, stride: int) -> None:
        self._window = window
        self._size = size
        self._count = count
        self._stride = stride

    def fill(self, receive: Callable[[Sequence[memoryview]], None]) -> None:
        """Receive all rows, one after the other.

        Args:
            receive: fills a list of views with the next bytes from the client.
        """
        if self._stride == self._size or self._count == 1:
            receive([self._window])
        elif self._size >= MIN_IN_PLACE:
            for batch in self._in_place():
                receive(batch)
        else:
            for first, block in self._blocks():
                receive([block.data.cast("B")])
                self._scatter(first, block)

    def batches(self) -> Iterator[Sequence[memoryview]]:
        """The rows to send, as one list of views for each system call.

        The views of a list are valid until the next list is requested.
        """
        if self._stride == self._size or self._count == 1:
            yield [self._window]
        elif self._size >= MIN_IN_PLACE:
            yield from self._in_place()
        else:
            rows = self._strided()
            for first, block in self._blocks():
                block[:] = rows[first : first + len(block)]
                yield [block.data.cast("B")]

    def _in_place(self) -> Iterator[list[memoryview]]:
        window, size, stride = self._window, self._size, self._stride
        for first in range(0, self._count, BATCH):
            last = min(first + BATCH, self._count)
            starts = range(first * stride, last * stride, stride) if stride else ()
            yield [window[s : s + size] for s in starts] or [window] * (last - first)

    def _blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """The number of each block's first row, and memory for the block's rows."""
        rows = max(1, BLOCK // self._size)
        block = np.empty((min(rows, self._count), self._size), np.uint8)
        for first in range(0, self._count, rows):
            yield first, block[: self._count - first]

    def _scatter(self, first: int, block: np.ndarray) -> None:
        rows = self._strided()[first : first + len(block)]
        if self._stride >= self._size:
            rows[:] = block
        else:
            for row, data in zip(rows, block, strict=True):
                row[:] = data  # in order, because rows overlap and the last one wins

    def _strided(self) -> np.ndarray:
        whole = np.frombuffer(self._window, np.uint8)
        return as_strided(whole, (self._count, self._size), (self._stride, 1))
