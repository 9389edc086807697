"""What a server grants each of its clients, out of what it has for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ggrpc.devices.device import Device
from ggrpc.engine.server.fair_share import Turns
from ggrpc.engine.server.limits import (
    BUFFERS,
    CLIENT_BUFFERS,
    COMPILING,
    MESSAGES,
    Limits,
)
from ggrpc.engine.server.reservations import Budget, Holding


@dataclass(frozen=True)
class Allowance:
    """What one client may use.

    Attributes:
        budget: its memory.
        messages: what its requests take while they arrive.
        nodes: that a graph may have.
        compiling: its turns at checking and compiling graphs, which is Python's work.
        turns: on each device.
    """

    budget: Budget
    messages: Holding
    nodes: int
    compiling: Turns
    turns: Mapping[Device, Turns]


class Allowances:
    """What there is for all clients.

    Args:
        limits: how much.
        devices: what they share.
    """

    def __init__(self, limits: Limits, devices: Sequence[Device]) -> None:
        self._limits = limits
        self._budget = Budget(limits.memory, BUFFERS, "--max-memory")
        most = max(MESSAGES, limits.message)
        self._messages = Budget(most, BUFFERS, "what arriving requests may take")
        self._compiling = Turns(COMPILING)
        self._turns = {device: Turns() for device in devices}

    def one(self) -> Allowance:
        """What a new client gets."""
        size = self._limits.client_memory
        flag = "--max-client-memory"
        budget = Budget(size, CLIENT_BUFFERS, flag, self._budget)
        messages = Holding(self._messages)
        return Allowance(
            budget, messages, self._limits.nodes, self._compiling, self._turns
        )

    def stop(self) -> None:
        """Make every graph that runs give up at its next node."""
        for turns in self._turns.values():
            turns.stop()
