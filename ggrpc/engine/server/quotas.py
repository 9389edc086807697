"""Quotas: what each client may have, out of what the server has for all of them.

A quota counts what it is told about; it allocates nothing itself.
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
    """Bytes and pieces of memory; thread-safe.

    Args:
        size: bytes that may be out at once, None for no limit.
        count: pieces that may be out at once.
        flag: what raises the limit, for messages.
        whole: the budget that this one is a part of.
    """

    def __init__(
        self, size: int | None, count: int, flag: str, whole: MemoryQuota | None = None
    ) -> None:
        self._size = _UNLIMITED if size is None else size
        self._count = count
        self._flag = flag
        self._whole = whole
        self._lock = Lock()
        self._used = 0
        self._pieces = 0

    @contextmanager
    def taking(self, size: int) -> Iterator[None]:
        """Count a piece of so many bytes, unless the context fails.

        Raises:
            OutOfMemory: that would pass a limit.
        """
        self.take(size)
        try:
            yield
        except BaseException:
            self.give(size)
            raise

    def take(self, size: int, pieces: int = 1) -> None:
        """Count pieces of so many bytes together.

        Raises:
            OutOfMemory: that would pass a limit.
        """
        with self._lock:
            if self._used + size > self._size or self._pieces + pieces > self._count:
                raise self._exceeded(size)
            self._used += size
            self._pieces += pieces
        try:
            if self._whole:
                self._whole.take(size, pieces)
        except OutOfMemory:
            with self._lock:
                self._used -= size
                self._pieces -= pieces
            raise

    def give(self, size: int, pieces: int = 1) -> None:
        """Count pieces as given back, which had so many bytes together."""
        with self._lock:
            self._used -= size
            self._pieces -= pieces
        if self._whole:
            self._whole.give(size, pieces)

    def give_all(self) -> None:
        """Count everything as given back."""
        self.give(self._used, self._pieces)

    def within(self, memory: Memory) -> Memory:
        """As much of a device's memory as may be handed out."""
        if self._whole:
            memory = self._whole.within(memory)
        left = max(0, self._size - self._used)
        return Memory(min(memory.free, left), min(memory.total, self._size))

    def _exceeded(self, size: int) -> OutOfMemory:
        return OutOfMemory(
            f"{format_size(size)} more would pass {self._flag}: {self._pieces} of "
            f"{self._count} buffers and {format_size(self._used)} of "
            f"{format_size(self._size)} are in use"
        )


class Reservation:
    """One piece of a budget, which grows and shrinks.

    Args:
        budget: what it counts in.
    """

    def __init__(self, budget: MemoryQuota) -> None:
        self._budget = budget
        self._size = 0

    def resize(self, size: int) -> None:
        """Count so many bytes from now on.

        Raises:
            OutOfMemory: that would pass a limit.
        """
        if size > self._size:
            self._budget.take(size - self._size, pieces=0)
        elif size < self._size:
            self._budget.give(self._size - size, pieces=0)
        self._size = size


@dataclass(frozen=True)
class ClientQuota:
    """What one client may use.

    Attributes:
        memory: its memory.
        messages: what its requests take while they arrive.
        nodes: that a graph may have.
        compiling: its turns at checking and compiling graphs, which is Python's work.
        turns: on each device.
    """

    memory: MemoryQuota
    messages: Reservation
    nodes: int
    compiling: FairSemaphore
    turns: Mapping[Device, FairSemaphore]


class ServerQuota:
    """What there is for all clients.

    Args:
        limits: how much.
        devices: what they share.
    """

    def __init__(self, limits: Limits, devices: Sequence[Device]) -> None:
        self._limits = limits
        self._memory = MemoryQuota(limits.memory, BUFFERS, "--max-memory")
        most = max(MESSAGES, limits.message)
        self._messages = MemoryQuota(most, BUFFERS, "what arriving requests may take")
        self._compiling = FairSemaphore(COMPILING)
        self._turns = {device: FairSemaphore() for device in devices}

    def one(self) -> ClientQuota:
        """What a new client gets."""
        size = self._limits.client_memory
        flag = "--max-client-memory"
        memory = MemoryQuota(size, CLIENT_BUFFERS, flag, self._memory)
        messages = Reservation(self._messages)
        return ClientQuota(
            memory, messages, self._limits.nodes, self._compiling, self._turns
        )

    def stop(self) -> None:
        """Make every graph that runs give up at its next node."""
        for turns in self._turns.values():
            turns.stop()
