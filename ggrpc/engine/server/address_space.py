"""The addresses of one session: made up, so that no peer learns or guesses a real one.

A buffer's handle is its base address. Addresses are never used twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from secrets import randbelow

from ggrpc.bounds import check_place
from ggrpc.devices.device import Buffer, Device, Placed
from ggrpc.errors import RefusedError
from ggrpc.tensor import Tensor

# A session's addresses begin at a random place from LOWEST on, so that those of another
# session or server, which clients may mention, name no buffer of this one.
LOWEST = 1 << 36
RANDOM_PAGES = 1 << 34
GAP = 1 << 20  # between buffers, so that an address past one's end is in none
PAGE = 1 << 12


@dataclass
class AddressSpace:
    """The buffers of a session, by handle.

    Attributes:
        placed: each with its address.
        devices: the device of each.
    """

    placed: dict[int, Placed] = field(default_factory=dict)
    devices: dict[int, Device] = field(default_factory=dict)
    used: bool = False
    _next: int = field(default_factory=lambda: LOWEST + PAGE * randbelow(RANDOM_PAGES))

    def add(self, buffer: Buffer, device: Device) -> int:
        """Give a buffer an address.

        Returns:
            Its handle.
        """
        handle, self.used = self._next, True
        self._next += (buffer.size + GAP + PAGE - 1) // PAGE * PAGE
        self.placed[handle] = Placed(handle, buffer)
        self.devices[handle] = device
        return handle

    def find(self, handle: int) -> Placed:
        """The buffer with a handle.

        Raises:
            RefusedError: this session has none such.
        """
        placed = self.placed.get(handle)
        if placed is None:
            raise RefusedError(f"buffer {handle:#x} is not of this session")
        return placed

    def remove(self, handle: int) -> int:
        """Free a buffer.

        Returns:
            The bytes that it had.

        Raises:
            RefusedError: this session has none such.
        """
        buffer = self.find(handle).buffer
        del self.placed[handle], self.devices[handle]
        size = buffer.size
        buffer.free()
        return size

    def clear(self) -> int:
        """Free all buffers, also where a device fails to free some.

        Returns:
            The bytes that they had.

        Raises:
            Exception: the first failure, when all was tried.
        """
        freed, errors = 0, []
        for handle in list(self.placed):
            try:
                freed += self.remove(handle)
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return freed

    def on(self, device: Device) -> dict[int, Placed]:
        """The buffers of one device."""
        return {h: p for h, p in self.placed.items() if self.devices[h] is device}

    def whole(self, tensor: Tensor) -> tuple[Buffer, int]:
        """Where all of a tensor lies: its buffer, and its offset there.

        Raises:
            RefusedError: this session has no such buffer.
            GraphError: it does not lie inside its buffer.
        """
        placed = self.find(tensor.buffer)
        check_place(tensor, {tensor.buffer: placed.region})
        return placed.buffer, tensor.data - placed.base

    def part(self, tensor: Tensor, offset: int, size: int) -> tuple[Buffer, int]:
        """Where bytes of a tensor lie: its buffer, and their offset there.

        Raises:
            RefusedError: they do not lie inside the buffer.
        """
        base, buffer = self.find(tensor.buffer)
        start = tensor.data - base + offset
        if start < 0 or start + size > buffer.size:
            raise RefusedError(
                f"{tensor}: bytes {start} to {start + size} do not lie inside its "
                f"buffer of {buffer.size}"
            )
        return buffer, start
