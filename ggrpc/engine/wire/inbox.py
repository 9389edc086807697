"""The bytes that have arrived and are not read yet.

The owner of the socket receives into `space()`, so that a small message costs one
receive and no copy.
"""

from __future__ import annotations

import struct
from typing import Any

ROOM = 64 * 1024  # a client's queue of small requests fits in one receive


class Inbox:
    """A receive buffer that grows for one large message and shrinks again."""

    def __init__(self) -> None:
        self._view = memoryview(bytearray(ROOM))
        self._start = 0
        self._end = 0

    def __len__(self) -> int:
        return self._end - self._start

    @property
    def room(self) -> int:
        """Bytes that it takes."""
        return len(self._view)

    def space(self) -> memoryview:
        """Where the next bytes go; never empty after `reserve`."""
        return self._view[self._end :]

    def filled(self, count: int) -> None:
        """Say that `count` bytes were put into `space()`."""
        self._end += count

    def peek(self, start: int, stop: int) -> memoryview:
        """The bytes from `start` to `stop`, counted from the first unread one.

        Valid until the next call of any other method.
        """
        return self._view[self._start + start : self._start + stop]

    def unpack(self, head: struct.Struct) -> tuple[Any, ...]:
        """The first unread bytes, decoded."""
        return head.unpack_from(self._view, self._start)

    def skip(self, count: int) -> None:
        """Take `count` bytes as read."""
        self._start += count
        if self._start == self._end:
            self._start = self._end = 0
            if len(self._view) > ROOM:
                self._view = memoryview(bytearray(ROOM))

    def reserve(self, size: int) -> None:
        """Make room for more of a message of `size` bytes.

        It grows with what has come, not with what was announced: memory is taken only
        for a peer that has sent half as much.
        """
        if self._start + size <= len(self._view) and self._end < len(self._view):
            return
        unread = self._view[self._start : self._end]
        if len(unread) < len(self._view) and self._start == 0:
            return
        room = memoryview(bytearray(max(ROOM, min(size, 2 * len(unread)))))
        room[: len(unread)] = unread
        self._view, self._start, self._end = room, 0, len(unread)

    def take(self, view: memoryview) -> int:
        """Move what is unread into `view`, as far as it goes.

        Returns:
            The number of bytes moved.
        """
        count = min(len(view), len(self))
        view[:count] = self.peek(0, count)
        self.skip(count)
        return count
