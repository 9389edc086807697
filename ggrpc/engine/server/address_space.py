"""The address space of one session.

The addresses are made up, so that clients cannot learn or guess a real one. A buffer's
handle is its base address. No address is used twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from secrets import randbelow

from ggrpc.bounds import check_place
from ggrpc.devices.device import Buffer, Device, Placed
from ggrpc.errors import RefusedError
from ggrpc.tensor import Tensor

# A session's addresses start at a random place from LOWEST on. A client may send an
# address of another session or server, and it must not hit a buffer of this one.
LOWEST = 1 << 36
RANDOM_PAGES = 1 << 34
GAP = 1 << 20  # between buffers: an address past the end of one does not hit the next
PAGE = 1 << 12


@dataclass
class AddressSpace:
    """The buffers of a session, by handle.

    Attributes:
        placed: the buffers and their addresses.
        devices: the device of each buffer.
        used: whether the session has ever had a buffer.
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
            RefusedError: the session has no buffer with this handle.
        """
        placed = self.placed.get(handle)
        if placed is None:
            raise RefusedError(f"buffer {handle:#x} does not belong to this session")
        return placed

    def remove(self, handle: int) -> int:
        """Free a buffer.

        Returns:
            Its size in bytes.

        Raises:
            RefusedError: the session has no buffer with this handle.
        """
        buffer = self.find(handle).buffer
        del self.placed[handle], self.devices[handle]
        size = buffer.size
        buffer.free()
        return size

    def clear(self) -> int:
        """Free all buffers, even if a device fails to free one of them.

        Returns:
            The size of all buffers in bytes.

        Raises:
            Exception: the first failure, after all buffers were tried.
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
        """The buffers of one device, by handle."""
        return {h: p for h, p in self.placed.items() if self.devices[h] is device}

    def whole(self, tensor: Tensor) -> tuple[Buffer, int]:
        """The buffer that contains a tensor, and the tensor's offset in it.

        Raises:
            RefusedError: the session does not have the buffer.
            GraphError: the tensor does not lie inside the buffer.
        """
        placed = self.find(tensor.buffer)
        check_place(tensor, {tensor.buffer: placed.region})
        return placed.buffer, tensor.data - placed.base

    def part(self, tensor: Tensor, offset: int, size: int) -> tuple[Buffer, int]:
        """The buffer that contains some bytes of a tensor, and their offset in it.

        Args:
            tensor: the tensor.
            offset: the offset of the first byte in the tensor.
            size: the number of bytes.

        Raises:
            RefusedError: the bytes do not lie inside the buffer.
        """
        base, buffer = self.find(tensor.buffer)
        start = tensor.data - base + offset
        if start < 0 or start + size > buffer.size:
            raise RefusedError(
                f"{tensor}: bytes {start} to {start + size} do not lie inside its "
                f"buffer of {buffer.size} bytes"
            )
        return buffer, start
