"""The receive buffer of a connection: bytes that have arrived but were not read.

The owner of the socket receives straight into `space()`, so that a small message needs
one system call and no copy.
"""

from __future__ import annotations

import struct
from typing import Any

CAPACITY = 64 * 1024  # a client's queue of small requests fits in one receive


class Inbox:
    """A receive buffer that grows for one large message and shrinks again.

    Args:
        capacity: the initial capacity in bytes.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._view = memoryview(bytearray(capacity))
        self._start = 0
        self._end = 0

    def __len__(self) -> int:
        return self._end - self._start

    @property
    def capacity(self) -> int:
        """The size of the buffer's memory in bytes, used or not."""
        return len(self._view)

    def space(self) -> memoryview:
        """The part to receive the next bytes into; never empty after `reserve`."""
        return self._view[self._end :]

    def filled(self, count: int) -> None:
        """Record that `count` bytes were put into `space()`."""
        self._end += count

    def peek(self, start: int, stop: int) -> memoryview:
        """The bytes from `start` to `stop`, counted from the first unread one.

        Valid until the next call of any other method.
        """
        return self._view[self._start + start : self._start + stop]

    def unpack(self, head: struct.Struct) -> tuple[Any, ...]:
        """Decode the first unread bytes, and leave them unread."""
        return head.unpack_from(self._view, self._start)

    def skip(self, count: int) -> None:
        """Mark `count` bytes as read."""
        self._start += count
        if self._start == self._end:
            self._start = self._end = 0
            if len(self._view) > CAPACITY:
                self._view = memoryview(bytearray(CAPACITY))

    def reserve(self, size: int) -> None:
        """Make room for more of a message of `size` bytes.

        The buffer grows with the bytes received, not with the announced size: it is
        never more than twice as large as what the peer has sent.
        """
        if self._start + size <= len(self._view) and self._end < len(self._view):
            return
        unread = self._view[self._start : self._end]
        if len(unread) < len(self._view) and self._start == 0:
            return
        grown = memoryview(bytearray(max(CAPACITY, min(size, 2 * len(unread)))))
        grown[: len(unread)] = unread
        self._view, self._start, self._end = grown, 0, len(unread)

    def take(self, view: memoryview) -> int:
        """Move unread bytes into `view`, until it is full or none are left.

        Returns:
            The number of bytes moved.
        """
        count = min(len(view), len(self))
        view[:count] = self.peek(0, count)
        self.skip(count)
        return count
