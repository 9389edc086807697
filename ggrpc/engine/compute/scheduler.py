"""Assigns the nodes of a graph to devices, and plans the copies between them.

The plan is made without copies or allocations. A root is a tensor that has its own
memory; every other tensor is a view of a root.
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
    """Consecutive nodes that the same device computes.

    Attributes:
        device: the device.
        nodes: the nodes, in order.
        copies: the ids of the roots to copy from their homes to the device first.
    """

    device: Device
    nodes: list[Node] = field(default_factory=list)
    copies: list[int] = field(default_factory=list)


@dataclass
class Plan:
    """The segments to compute, in order.

    Attributes:
        homes: for each root, the only device that writes to it. Its contents are always
            valid there; copies on other devices may be out of date.
        segments: the segments.
    """

    homes: dict[int, Device]
    segments: list[Segment] = field(default_factory=list)

    def places(self) -> dict[tuple[int, Device], None]:
        """Each root with each device that uses it, in order (a dict without values)."""
        needed = dict.fromkeys(self.homes.items())
        for segment in self.segments:
            needed.update(((root, segment.device), None) for root in segment.copies)
        return needed


def root_of(tensor: Tensor) -> int:
    """The id of the root whose memory a tensor uses."""
    return tensor.view_src or tensor.id


class Scheduler:
    """Plans the computation of a graph.

    Args:
        graph: the graph.
        devices: the devices to choose from, in order of preference.
        stored: the device of each leaf whose data is on a device already, by id.
        wanted: the device of each node that must run on a certain one, by id.
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
        # By root: the devices that have its current contents.
        self._valid: dict[int, set[Device]] = {}

    def plan(self) -> Plan:
        """Assign a device to each node.

        Raises:
            UnsupportedOp: no device supports a node.
            ConfigError: a node must run on a certain device, but it writes to a tensor
                on another one.
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
            raise ConfigError(
                f"{node.tensor} must be computed on {fixed.name}, which has the tensor "
                "that it writes to"
            )
        first = fixed or wanted or self._preferred(node, homes)
        chosen = (first,) if fixed or wanted else (first, *self._devices)
        for device in chosen:
            if device.supports(node):
                return device
        raise UnsupportedOp(
            f"{node.tensor}: no kernel for these types on "
            f"{', '.join(dict.fromkeys(d.name for d in chosen))}"
        )

    def _preferred(self, node: Node, homes: Mapping[int, Device]) -> Device:
        """The device of the largest stored source, or else of the first source."""
        sources = [t for t in _sources(node) if root_of(t) in homes]
        stored = [t for t in sources if root_of(t) in self._stored]
        if stored:
            return homes[root_of(max(stored, key=lambda t: t.nbytes))]
        return homes[root_of(sources[0])] if sources else self._devices[0]


def _sources(node: Node) -> Iterator[Tensor]:
    return (tensor for tensor in node.src if tensor is not None)
