"""Computes graphs of the builder on one device or several, local or remote.

Copies between devices of one server stay there; all others go through this process.
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

# Arrays of values, or a tensor's bytes as they are.
Values = Array | bytes | bytearray | memoryview
Data = Mapping[Tensor, Values | DeviceTensor]
Place = tuple[int, Device]  # a root, on a device
Step = Callable[[Callable[[], None]], None]  # of a run; calls its argument in between

SPACING = 1 << 44  # between the made-up addresses of a graph's buffers


class Computation(Closable):
    """A graph placed in memory and ready to run, often; a context manager.

    Threads may share it: each run, with the data that it was given, is whole.

    A tensor of data lies where the caller stored it, or in memory taken here; what
    reads it is computed there. One that a node writes into begins as zeros and keeps
    what it has from run to run, as a KV cache does.

    Args:
        g: the graph.
        data: by tensor of the graph, where it is stored already, or an array.
        outputs: the nodes to read after a run; None for those that no other node reads.
        devices: the devices to choose from; None for those of `data`, or else the cpu.
        placement: the devices that nodes must be computed on.

    Raises:
        ConfigError: a tensor is of another graph, or of another shape than its data.
        UnsupportedOp: no device computes a node.
        OutOfMemory: a device has not got the memory.
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
        self._runs = RLock()  # held from the first byte of its data to the last result
        self._cancelled = False
        stored = {t: d for t, d in (data or {}).items() if isinstance(d, DeviceTensor)}
        for tensor, there in stored.items():
            self._check(tensor)
            _check_ne(tensor, there.ne)
            if there.type is not tensor.type:
                raise ConfigError(
                    f"{tensor} is {tensor.type.name}, its data {there.type.name}"
                )
        self.outputs = list(_ends(self._graph) if outputs is None else outputs)
        with ExitStack() as stack:
            chosen = devices or [t.device for t in stored.values()] or _cpu(stack)
            plan = Scheduler(
                self._graph,
                list(dict.fromkeys(chosen)),
                {tensor.id: there.device for tensor, there in stored.items()},
                {tensor.id: device for tensor, device in (placement or {}).items()},
            ).plan()
            self._homes = plan.homes
            self._devices = {segment.device for segment in plan.segments}
            self._places: dict[Place, tuple[Buffer, int]] = {
                (tensor.id, there.device): (there.buffer, 0)
                for tensor, there in stored.items()
            }
            self._take_memory(plan, stack)
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
        """Give the memory back; what the caller stored stays."""
        self._closing.close()

    def cancel(self) -> None:
        """End a run, from any thread: it, and every later one, raises `Cancelled`.

        A server cannot be told to stop: the sessions with those that take part end.
        """
        self._cancelled = True
        for device in self._devices:
            if isinstance(device, RemoteDevice):
                device.client.cancel()

    def device_of(self, tensor: Tensor) -> Device:
        """The device on which a tensor is written.

        Raises:
            ConfigError: nothing of the graph uses it.
        """
        device = self._homes.get(root_of(tensor))
        if device is None:
            raise ConfigError(f"{tensor} is not used by the graph")
        return device

    def set(self, data: Mapping[Tensor, Values]) -> None:
        """Write tensors of data; each keeps its values until they are written again.

        Raises:
            ConfigError: a tensor is of another graph, or of another shape or size.
        """
        for tensor, values in data.items():
            self._check(tensor)
            buffer, at = self._places[tensor.id, self.device_of(tensor)]
            packed = _bytes(tensor, values)
            with self._runs:
                buffer.put(at, packed)
                self._missing.discard(tensor.id)

    def run(
        self,
        data: Mapping[Tensor, Values] | None = None,
        *,
        timeout: float | None = None,
    ) -> dict[Tensor, Array]:
        """Compute.

        Args:
            data: tensors to write first.
            timeout: seconds, looked at between nodes that are computed here; what waits
                for a server has the timeout of its session. None: no limit.

        Returns:
            The outputs: shape ne reversed without ones in front, float32 where numpy
            lacks the type.

        Raises:
            ConfigError: a tensor of data was never written.
            TransportTimeout: not in time.
            Cancelled: `cancel` was called.
            GgrpcError: a device or server failed.
        """
        deadline = Deadline(timeout)

        def checkpoint() -> None:
            if self._cancelled:
                raise Cancelled("the computation was ended here")
            deadline.timeout()

        with self._runs:
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

    def _check(self, tensor: Tensor) -> None:
        if self._graph.tensors.get(tensor.id) != tensor or tensor.op:
            raise ConfigError(f"{tensor} is no tensor of data of this graph")

    def _take_memory(self, plan: Plan, stack: ExitStack) -> None:
        """Give every root a place on each device that needs it."""
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
        """A segment's nodes and what they read, at addresses in buffers."""
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
            tensors.append(tensor if id in own else _as_data(tensor))
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

    Args, errors and result: those of `Computation` and its `run`.
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
            raise ConfigError(f"{len(view)} bytes are no {tensor}: {tensor.nbytes}")
        return view
    array = np.asarray(values)
    _check_ne(tensor, ne_of(array.shape))
    return pack(array, tensor.type)


def _check_ne(tensor: Tensor, ne: tuple[int, ...]) -> None:
    if tensor.ne != ne:
        raise ConfigError(
            f"{tensor} is {list(tensor.ne)}, its data {list(ne)}: numpy's shape is "
            "ne reversed"
        )


def _as_data(tensor: Tensor) -> Tensor:
    """A tensor that is there already, however it came about."""
    return tensor._replace(op=Op.NONE, src=(0,) * MAX_SRC)


def _ends(graph: Graph) -> Iterator[Tensor]:
    """The nodes that compute and that no node reads, not even through a view."""
    read = {id for tensor in graph.tensors.values() for id in tensor.src}
    for tensor in graph.tensors.values():
        if tensor.id not in read and contract_of(tensor.op).computes:
            yield tensor


def _inputs(graph: Graph, used: Mapping[int, Device]) -> Iterator[int]:
    """The tensors of data that are used, and that no node writes."""
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
    """Buffers for roots, no larger than the device allows, with the place of each."""
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
