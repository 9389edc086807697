"""The addresses of one session: made up, so that no peer learns or guesses a real one.

A buffer's handle is its base address. Addresses are never used twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ggrpc.devices.device import Buffer, Device, Placed
from ggrpc.errors import RefusedError
from ggrpc.graph import Region, check_place
from ggrpc.tensor import Tensor

FIRST = 1 << 36
GAP = 1 << 20  # between buffers, so that an address past one's end is in none
PAGE = 1 << 12


@dataclass
class AddressSpace:
    """The buffers of a session, by handle.

    Attributes:
        regions: the addresses of each.
        placed: the same buffers as devices want them.
        devices: the device of each.
    """

    regions: dict[int, Region] = field(default_factory=dict)
    placed: dict[int, Placed] = field(default_factory=dict)
    devices: dict[int, Device] = field(default_factory=dict)
    _next: int = FIRST

    @property
    def used(self) -> bool:
        """Whether there ever was a buffer."""
        return self._next > FIRST

    def add(self, buffer: Buffer, device: Device) -> int:
        """Give a buffer an address.

        Returns:
            Its handle.
        """
        handle = self._next
        self._next += (buffer.size + GAP + PAGE - 1) // PAGE * PAGE
        self.regions[handle] = Region(handle, buffer.size)
        self.placed[handle] = Placed(handle, buffer)
        self.devices[handle] = device
        return handle

    def buffer(self, handle: int) -> Buffer:
        """The buffer with a handle.

        Raises:
            RefusedError: this session has none such.
        """
        if handle not in self.placed:
            raise RefusedError(f"buffer {handle:#x} is not of this session")
        return self.placed[handle].buffer

    def remove(self, handle: int) -> None:
        """Free a buffer.

        Raises:
            RefusedError: this session has none such.
        """
        buffer = self.buffer(handle)
        del self.regions[handle], self.placed[handle], self.devices[handle]
        buffer.free()

    def clear(self) -> int:
        """Free all buffers.

        Returns:
            The bytes that they had.
        """
        freed = sum(region.size for region in self.regions.values())
        for handle in list(self.placed):
            self.remove(handle)
        return freed

    def on(self, device: Device) -> dict[int, Placed]:
        """The buffers of one device."""
        return {h: p for h, p in self.placed.items() if self.devices[h] is device}

    def whole(self, tensor: Tensor) -> tuple[Buffer, int]:
        """Where all of a tensor lies: its buffer, and its offset there.

        Raises:
            GraphError: it does not lie inside its buffer.
        """
        region = check_place(tensor, self.regions)
        return self.placed[tensor.buffer].buffer, tensor.data - region.base

    def part(self, tensor: Tensor, offset: int, size: int) -> tuple[Buffer, int]:
        """Where bytes of a tensor lie: its buffer, and their offset there.

        Raises:
            RefusedError: they do not lie inside the buffer.
        """
        buffer = self.buffer(tensor.buffer)
        start = tensor.data - self.regions[tensor.buffer].base + offset
        if start < 0 or start + size > buffer.size:
            raise RefusedError(
                f"{tensor}: bytes {start} to {start + size} do not lie inside its "
                f"buffer of {buffer.size}"
            )
        return buffer, start
