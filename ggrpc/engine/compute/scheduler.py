"""Decides which device computes which node, and what has to be copied in between.

A plan moves nothing and takes no memory. What it calls a root is a tensor that has
bytes of its own: everything else is a view of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ggrpc.devices.device import Device
from ggrpc.errors import ConfigError, UnsupportedOp
from ggrpc.graph import Graph
from ggrpc.ops import Node, contract_of
from ggrpc.tensor import Tensor


@dataclass
class Segment:
    """Nodes that one device computes one after the other.

    Attributes:
        device: which.
        nodes: what.
        copies: the roots to bring there first, each from its home.
    """

    device: Device
    nodes: list[Node] = field(default_factory=list)
    copies: list[int] = field(default_factory=list)


@dataclass
class Plan:
    """A schedule.

    Attributes:
        homes: by root, the device on which it is written, and valid at any time.
        segments: what is computed, in order.
    """

    homes: dict[int, Device]
    segments: list[Segment] = field(default_factory=list)

    def places(self) -> dict[tuple[int, Device], None]:
        """Every root with each of the devices on which it is needed."""
        needed = dict.fromkeys(self.homes.items())
        for segment in self.segments:
            needed.update(((root, segment.device), None) for root in segment.copies)
        return needed


def root_of(tensor: Tensor) -> int:
    """The tensor that has the bytes."""
    return tensor.view_src or tensor.id


class Scheduler:
    """Makes a plan.

    Args:
        graph: what to compute.
        devices: the devices to choose from, the first where nothing speaks for another.
        stored: where data lies already, by id.
        wanted: the devices that the caller has chosen for nodes, by id.
    """

    def __init__(
        self,
        graph: Graph,
        devices: Sequence[Device],
        stored: Mapping[int, Device],
        wanted: Mapping[int, Device],
    ) -> None:
        self._graph = graph
        self._devices = devices
        self._stored = stored
        self._wanted = wanted
        self._valid: dict[int, set[Device]] = {}

    def plan(self) -> Plan:
        """Give each node a device.

        Raises:
            UnsupportedOp: no device computes a node.
            ConfigError: a node is wanted where it cannot be.
        """
        plan = Plan(dict(self._stored))
        for id, device in self._wanted.items():
            if written := self._graph.tensors[id].view_src:
                plan.homes.setdefault(written, device)
        for node in self._graph.nodes:
            if contract_of(node.tensor.op).computes:
                self._place(node, plan)
        return plan

    def _place(self, node: Node, plan: Plan) -> None:
        device = self._device_for(node, plan.homes)
        roots = [root_of(tensor) for tensor in _sources(node)]
        for root in (root_of(node.tensor), *roots):
            plan.homes.setdefault(root, device)
        if not plan.segments or plan.segments[-1].device is not device:
            plan.segments.append(Segment(device))
        segment = plan.segments[-1]
        segment.nodes.append(node)
        for root in roots:
            valid = self._valid.setdefault(root, {plan.homes[root]})
            if device not in valid:
                valid.add(device)
                segment.copies.append(root)
        self._valid[root_of(node.tensor)] = {device}

    def _device_for(self, node: Node, homes: Mapping[int, Device]) -> Device:
        fixed = homes.get(node.tensor.view_src)
        wanted = self._wanted.get(node.tensor.id)
        if fixed and wanted not in (None, fixed):
            raise ConfigError(f"{node.tensor} is written into a tensor of {fixed.name}")
        first = fixed or wanted or self._natural(node, homes)
        chosen = (first,) if fixed or wanted else (first, *self._devices)
        for device in chosen:
            if device.supports(node):
                return device
        raise UnsupportedOp(
            f"{node.tensor}: {', '.join(dict.fromkeys(d.name for d in chosen))} "
            "cannot compute it with these types"
        )

    def _natural(self, node: Node, homes: Mapping[int, Device]) -> Device:
        """Where the largest stored tensor that it reads lies, or else its sources."""
        sources = [t for t in _sources(node) if root_of(t) in homes]
        stored = [t for t in sources if root_of(t) in self._stored]
        if stored:
            return homes[root_of(max(stored, key=lambda t: t.nbytes))]
        return homes[root_of(sources[0])] if sources else self._devices[0]


def _sources(node: Node) -> Iterator[Tensor]:
    return (tensor for tensor in node.src if tensor is not None)
