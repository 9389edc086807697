"""Computes graphs of the builder on one or more devices, local or remote.

Copies between devices of one server stay on the server; all others pass through this
process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from threading import RLock

import numpy as np

from ggrpc.building import GraphBuilder
from ggrpc.closable import Closable
from ggrpc.devices.device import Buffer, Device, Placed
from ggrpc.engine.client.remote_device import RemoteDevice
from ggrpc.engine.compute.device_tensor import DeviceTensor
from ggrpc.engine.compute.scheduler import Plan, Scheduler, Segment, root_of
from ggrpc.engine.net.deadline import Deadline
from ggrpc.errors import Cancelled, ConfigError
from ggrpc.formats.codecs import Array
from ggrpc.formats.numpy_values import ne_of, pack, unpack
from ggrpc.graph import Graph
from ggrpc.op import Op
from ggrpc.ops import contract_of
from ggrpc.tensor import MAX_SRC, Tensor

# An array, which is converted to the type of the tensor, or the bytes of the tensor.
Values = Array | bytes | bytearray | memoryview
Data = Mapping[Tensor, Values | DeviceTensor]
Copy = tuple[int, Device]  # the copy of a root on a device
Step = Callable[[Callable[[], None]], None]  # takes the checkpoint: see `Program.run`

SPACING = 1 << 44  # bytes between the base addresses of the buffers in a graph


class Computation(Closable):
    """A compiled graph with its memory, to be run many times; a context manager.

    Threads may share it. A run and the data given to it are not mixed with others.

    A leaf is a tensor that no node computes. Its data is in a `DeviceTensor` of the
    caller, or in memory that this class allocates; nodes that read it are computed on
    the same device if possible. A leaf that nodes write to, such as a KV cache, is all
    zeros at first and keeps its contents between runs.

    Args:
        g: the graph.
        data: the data of leaves: arrays, bytes, or tensors that a device already has.
        outputs: the nodes that `run` returns; None for those that no node reads.
        devices: the devices to choose from, in order of preference; None for those of
            the device tensors in `data`, or for the cpu if there are none.
        placement: the device for each node that must run on a certain one.

    Attributes:
        outputs: the nodes whose values `run` returns.

    Raises:
        ConfigError: a tensor belongs to another graph, or its data has another shape.
        UnsupportedOp: no device supports a node.
        OutOfMemory: a device does not have enough free memory.
        GgrpcError: a server failed.
    """

    def __init__(
        self,
        g: GraphBuilder,
        data: Data | None = None,
        *,
        outputs: Sequence[Tensor] | None = None,
        devices: Sequence[Device] | None = None,
        placement: Mapping[Tensor, Device] | None = None,
    ) -> None:
        self._graph = g.graph()
        # Held for a whole run, from writing its data to reading its result.
        self._lock = RLock()
        self._cancelled = False
        stored = {t: d for t, d in (data or {}).items() if isinstance(d, DeviceTensor)}
        for tensor, data_tensor in stored.items():
            self._check_leaf(tensor)
            _check_ne(tensor, data_tensor.ne)
            if data_tensor.type is not tensor.type:
                raise ConfigError(
                    f"the type of {tensor} is {tensor.type.name}, but that of its data "
                    f"is {data_tensor.type.name}"
                )
        self.outputs = list(_unread(self._graph) if outputs is None else outputs)
        with ExitStack() as stack:
            chosen = devices or [t.device for t in stored.values()] or _cpu(stack)
            plan = Scheduler(
                self._graph,
                list(dict.fromkeys(chosen)),
                {
                    tensor.id: data_tensor.device
                    for tensor, data_tensor in stored.items()
                },
                {tensor.id: device for tensor, device in (placement or {}).items()},
            ).plan()
            self._homes = plan.homes
            self._devices = {segment.device for segment in plan.segments}
            self._places: dict[Copy, tuple[Buffer, int]] = {  # the buffer and offset
                (tensor.id, data_tensor.device): (data_tensor.buffer, 0)
                for tensor, data_tensor in stored.items()
            }
            self._allocate(plan, stack)
            self._steps = [step for s in plan.segments for step in self._steps_of(s)]
            self._missing = set(_inputs(self._graph, self._homes)) - {
                tensor.id for tensor in stored
            }
            self.set(
                {
                    tensor: values
                    for tensor, values in (data or {}).items()
                    if not isinstance(values, DeviceTensor)
                }
            )
            self._closing = stack.pop_all()

    def close(self) -> None:
        """Free the memory, except the device tensors of the caller."""
        self._closing.close()

    def cancel(self) -> None:
        """Make the current run, and every later one, raise `Cancelled`.

        May be called from any thread. The protocol has no message to stop a server, so
        the sessions with all servers that take part are closed.
        """
        self._cancelled = True
        for device in self._devices:
            if isinstance(device, RemoteDevice):
                device.client.cancel()

    def device_of(self, tensor: Tensor) -> Device:
        """The device that computes a node, or on which the data of a leaf is written.

        Raises:
            ConfigError: no node uses the tensor.
        """
        device = self._homes.get(root_of(tensor))
        if device is None:
            raise ConfigError(f"{tensor} is not used by the graph")
        return device

    def set(self, data: Mapping[Tensor, Values]) -> None:
        """Write the data of leaves. It stays until it is written again.

        Raises:
            ConfigError: a tensor is not a leaf of the graph that a node uses, or its
                data has another shape or size.
        """
        for tensor, values in data.items():
            self._check_leaf(tensor)
            buffer, at = self._places[tensor.id, self.device_of(tensor)]
            packed = _bytes(tensor, values)
            with self._lock:
                buffer.put(at, packed)
                self._missing.discard(tensor.id)

    def run(
        self,
        data: Mapping[Tensor, Values] | None = None,
        *,
        timeout: float | None = None,
    ) -> dict[Tensor, Array]:
        """Compute the graph.

        Args:
            data: the data of leaves to write first, as for `set`.
            timeout: the maximum time in seconds; None for no limit. It is checked
                between the nodes on local devices. For servers, the timeout of the
                session applies.

        Returns:
            The values of the outputs. The shape is ne reversed, without leading ones;
            the dtype is that of the type, or float32 if numpy does not have it.

        Raises:
            ConfigError: a leaf has no data.
            TransportTimeout: the timeout expired.
            Cancelled: `cancel` was called.
            GgrpcError: a device or server failed.
        """
        deadline = Deadline(timeout)

        def checkpoint() -> None:
            if self._cancelled:
                raise Cancelled("the computation was cancelled")
            deadline.timeout()

        with self._lock:
            checkpoint()
            self.set(data or {})
            if self._missing:
                missing = [self._graph.tensors[id].name for id in sorted(self._missing)]
                raise ConfigError(f"no data was given for {', '.join(missing)}")
            for step in self._steps:
                step(checkpoint)
            return {tensor: self._value(tensor) for tensor in self.outputs}

    def _value(self, tensor: Tensor) -> Array:
        device = self.device_of(tensor)
        buffer, at = self._places[root_of(tensor), device]
        data = memoryview(bytearray(tensor.nbytes))
        buffer.get(at + tensor.view_offs, data)
        return unpack(tensor, data)

    def _check_leaf(self, tensor: Tensor) -> None:
        if self._graph.tensors.get(tensor.id) != tensor or tensor.op:
            raise ConfigError(f"{tensor} is not a leaf of this graph")

    def _allocate(self, plan: Plan, stack: ExitStack) -> None:
        """Allocate memory for every root, on each device that needs it."""
        by_device: dict[Device, list[int]] = {}
        for root, device in plan.places():
            if (root, device) not in self._places:
                by_device.setdefault(device, []).append(root)
        for device, roots in by_device.items():
            for buffer, places in _allocated(device, self._graph, roots):
                stack.callback(buffer.free)
                for root, at in places.items():
                    self._places[root, device] = (buffer, at)

    def _steps_of(self, segment: Segment) -> Iterator[Step]:
        for root in segment.copies:
            yield self._copy(root, segment.device)
        graph, buffers = self._placed(segment)
        graph.validate({handle: placed.region for handle, placed in buffers.items()})
        yield segment.device.compile(graph, buffers).run

    def _copy(self, root: int, device: Device) -> Step:
        source, source_at = self._places[root, self._homes[root]]
        target, at = self._places[root, device]
        size = self._graph.tensors[root].nbytes
        return lambda checkpoint: target.copy(at, source, source_at, size)

    def _placed(self, segment: Segment) -> tuple[Graph, dict[int, Placed]]:
        """The graph of a segment, with addresses, and its buffers by handle."""
        handles: dict[Buffer, int] = {}
        ids = [node.tensor.id for node in segment.nodes]
        own = set(ids)
        wanted: dict[int, None] = {}
        for node in segment.nodes:
            for tensor in (node.tensor, *filter(None, node.src)):
                wanted.update(dict.fromkeys((root_of(tensor), tensor.id)))
        tensors = []
        for id in wanted:
            tensor = self._graph.tensors[id]
            buffer, at = self._places[root_of(tensor), segment.device]
            handle = handles.setdefault(buffer, len(handles) + 1)
            data = handle * SPACING + at + tensor.view_offs
            tensor = tensor._replace(buffer=handle, data=data)
            tensors.append(tensor if id in own else _as_leaf(tensor))
        buffers = {h: Placed(h * SPACING, buffer) for buffer, h in handles.items()}
        return Graph.of(tensors, ids), buffers


def compute(
    g: GraphBuilder,
    data: Data | None = None,
    *,
    outputs: Sequence[Tensor] | None = None,
    devices: Sequence[Device] | None = None,
    placement: Mapping[Tensor, Device] | None = None,
) -> dict[Tensor, Array]:
    """Compute a graph once.

    The arguments are those of `Computation`. The result is that of `Computation.run`,
    and the errors are those of both.
    """
    with Computation(
        g, data, outputs=outputs, devices=devices, placement=placement
    ) as computation:
        return computation.run()


def _cpu(stack: ExitStack) -> list[Device]:
    from ggrpc.devices.cpu import CpuDevice

    return [stack.enter_context(closing(CpuDevice()))]


def _bytes(tensor: Tensor, values: Values) -> memoryview:
    if isinstance(values, (bytes, bytearray, memoryview)):
        view = memoryview(values).cast("B")
        if len(view) != tensor.nbytes:
            raise ConfigError(
                f"{tensor} has {tensor.nbytes} bytes, but its data has {len(view)}"
            )
        return view
    array = np.asarray(values)
    _check_ne(tensor, ne_of(array.shape))
    return pack(array, tensor.type)


def _check_ne(tensor: Tensor, ne: tuple[int, ...]) -> None:
    if tensor.ne != ne:
        raise ConfigError(
            f"the ne of {tensor} is {list(tensor.ne)}, but that of its data is "
            f"{list(ne)}; ne is numpy's shape reversed"
        )


def _as_leaf(tensor: Tensor) -> Tensor:
    """The tensor without its op, because another segment computes it."""
    return tensor._replace(op=Op.NONE, src=(0,) * MAX_SRC)


def _unread(graph: Graph) -> Iterator[Tensor]:
    """The nodes that no other node reads, directly or through a view."""
    read = {id for tensor in graph.tensors.values() for id in tensor.src}
    for tensor in graph.tensors.values():
        if tensor.id not in read and contract_of(tensor.op).computes:
            yield tensor


def _inputs(graph: Graph, used: Mapping[int, Device]) -> Iterator[int]:
    """The ids of the leaves that nodes use but do not write to."""
    written = {
        tensor.view_src
        for tensor in graph.tensors.values()
        if contract_of(tensor.op).computes
    }
    for tensor in graph.tensors.values():
        if tensor.op is Op.NONE and tensor.id in used and tensor.id not in written:
            yield tensor.id


def _allocated(
    device: Device, graph: Graph, roots: Sequence[int]
) -> Iterator[tuple[Buffer, dict[int, int]]]:
    """Allocate roots in as few buffers as the maximum size of a buffer permits.

    Yields:
        Each buffer, and the offsets of the roots in it by id.
    """
    places: dict[int, int] = {}
    size = 0
    for root in roots:
        tensor = graph.tensors[root]
        need = max(device.alloc_size(tensor), tensor.nbytes)
        if places and size + need > device.max_size:
            yield device.allocate(size), places
            places, size = {}, 0
        places[root] = size
        size = -(-(size + need) // device.alignment) * device.alignment
    if places:
        yield device.allocate(size), places
