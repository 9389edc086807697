"""Memory quotas of each client, within the quotas of all clients together.

A quota only counts. The caller allocates and frees.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

from ggrpc.devices.device import Device, Memory
from ggrpc.engine.server.fair_share import FairSemaphore
from ggrpc.engine.server.limits import (
    BUFFERS,
    CLIENT_BUFFERS,
    COMPILING,
    MESSAGES,
    Limits,
)
from ggrpc.errors import OutOfMemory
from ggrpc.units import format_size

_UNLIMITED = 1 << 64


class MemoryQuota:
    """A limit on the bytes and the number of buffers in use; thread-safe.

    Args:
        size: bytes in use at the same time, None for no limit.
        count: buffers in use at the same time.
        flag: the command-line flag that sets the limit, for messages.
        parent: the quota that this one is a part of.
    """

    def __init__(
        self, size: int | None, count: int, flag: str, parent: MemoryQuota | None = None
    ) -> None:
        self._size = _UNLIMITED if size is None else size
        self._count = count
        self._flag = flag
        self._parent = parent
        self._lock = Lock()  # guards _used and _buffers
        self._used = 0
        self._buffers = 0

    @contextmanager
    def reserved_unless_error(self, size: int) -> Iterator[None]:
        """Reserve a buffer of `size` bytes, and release it only if the context raises.

        Raises:
            OutOfMemory: a limit would be exceeded.
        """
        self.reserve(size)
        try:
            yield
        except BaseException:
            self.release(size)
            raise

    def reserve(self, size: int, buffers: int = 1) -> None:
        """Count buffers of `size` bytes together as in use.

        Raises:
            OutOfMemory: a limit would be exceeded; nothing was counted.
        """
        with self._lock:
            if self._used + size > self._size or self._buffers + buffers > self._count:
                raise self._exceeded(size)
            self._used += size
            self._buffers += buffers
        try:
            if self._parent:
                self._parent.reserve(size, buffers)
        except OutOfMemory:
            with self._lock:
                self._used -= size
                self._buffers -= buffers
            raise

    def release(self, size: int, buffers: int = 1) -> None:
        """Count buffers of `size` bytes together as free."""
        with self._lock:
            self._used -= size
            self._buffers -= buffers
        if self._parent:
            self._parent.release(size, buffers)

    def release_all(self) -> None:
        """Count everything as free."""
        self.release(self._used, self._buffers)

    def within(self, memory: Memory) -> Memory:
        """A device's memory, reduced to what is left of this quota."""
        if self._parent:
            memory = self._parent.within(memory)
        left = max(0, self._size - self._used)
        return Memory(min(memory.free, left), min(memory.total, self._size))

    def _exceeded(self, size: int) -> OutOfMemory:
        return OutOfMemory(
            f"{format_size(size)} more would exceed {self._flag}: {self._buffers} of "
            f"{self._count} buffers and {format_size(self._used)} of "
            f"{format_size(self._size)} are in use"
        )


class Reservation:
    """A part of a quota that grows and shrinks.

    Args:
        quota: the quota that counts the reservation.
    """

    def __init__(self, quota: MemoryQuota) -> None:
        self._quota = quota
        self._size = 0

    def resize(self, size: int) -> None:
        """Reserve `size` bytes instead of the previous size.

        Raises:
            OutOfMemory: a limit would be exceeded; the size stays as it was.
        """
        if size > self._size:
            self._quota.reserve(size - self._size, buffers=0)
        elif size < self._size:
            self._quota.release(self._size - size, buffers=0)
        self._size = size


@dataclass(frozen=True)
class ClientQuota:
    """The quotas of one client.

    Attributes:
        memory: the client's buffers.
        messages: the client's request while it arrives.
        nodes: the maximum number of nodes of a graph.
        compile_semaphore: limits the sessions that check and compile graphs.
        device_semaphores: limit the sessions that compute, for each device.
    """

    memory: MemoryQuota
    messages: Reservation
    nodes: int
    compile_semaphore: FairSemaphore
    device_semaphores: Mapping[Device, FairSemaphore]


class ServerQuota:
    """The quotas of all clients together.

    Args:
        limits: the limits.
        devices: the devices that the clients share.
    """

    def __init__(self, limits: Limits, devices: Sequence[Device]) -> None:
        self._limits = limits
        self._memory = MemoryQuota(limits.memory, BUFFERS, "--max-memory")
        message_bytes = max(MESSAGES, limits.message)
        what = "the limit of all arriving requests"
        self._messages = MemoryQuota(message_bytes, BUFFERS, what)
        self._compile_semaphore = FairSemaphore(COMPILING)
        self._device_semaphores = {device: FairSemaphore() for device in devices}

    def new_client(self) -> ClientQuota:
        """Make the quotas of a new client."""
        size = self._limits.client_memory
        flag = "--max-client-memory"
        memory = MemoryQuota(size, CLIENT_BUFFERS, flag, self._memory)
        messages = Reservation(self._messages)
        return ClientQuota(
            memory,
            messages,
            self._limits.nodes,
            self._compile_semaphore,
            self._device_semaphores,
        )

    @property
    def computes(self) -> bool:
        """Whether sessions compute now or did within IN_USE_SECONDS."""
        return any(s.is_in_use for s in self._device_semaphores.values())

    def stop(self) -> None:
        """Make every graph fail at its next checkpoint, or when it gets its slot."""
        for semaphore in (*self._device_semaphores.values(), self._compile_semaphore):
            semaphore.stop()
