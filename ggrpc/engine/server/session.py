"""A client's session: its buffers and programs, and a method for each request.

A session has no socket. The data of SET_TENSOR and GET_TENSOR moves between the
connection and the buffer through a `DataLink`, without a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Protocol

from ggrpc.devices.device import Device, Placed, Program
from ggrpc.devices.profile import Profile
from ggrpc.engine.cache.loading import Loader
from ggrpc.engine.server.address_space import AddressSpace
from ggrpc.engine.server.comm import Links
from ggrpc.engine.server.fair_share import Slice
from ggrpc.engine.server.graph_reader import GraphReader
from ggrpc.engine.server.graph_store import GraphStore
from ggrpc.engine.server.quotas import ClientQuota, Reservation
from ggrpc.engine.server.rows import Rows, span_of
from ggrpc.engine.wire import messages as m
from ggrpc.engine.wire.graphs import buffers_of, count_nodes
from ggrpc.engine.wire.op_tables import OpTable
from ggrpc.errors import GraphError, OutOfMemory, RefusedError
from ggrpc.graph import Graph
from ggrpc.ops import Node, contract_of
from ggrpc.types import GGMLType

DONE = m.Done()


class DataLink(Protocol):
    """The part of a connection that a session uses."""

    def receive_data(self, view: memoryview) -> None:
        """Fill `view` with the data that follows the request."""

    def receive_pieces(self, views: Sequence[memoryview]) -> None:
        """Fill one view after the other with the data that follows the request."""
        for view in views:
            self.receive_data(view)

    def note(self, what: object) -> None:
        """Log why a request gets a negative reply."""

    def send(self, request: m.Request, reply: m.Reply) -> None:
        """Send a reply immediately, while its data is valid."""

    def send_pieces(self, size: int, batches: Iterable[Sequence[memoryview]]) -> None:
        """Send a reply of `size` bytes of data, in pieces."""


class Session:
    """One client's buffers and programs.

    Args:
        devices: the server's devices, in the order of their numbers on the wire.
        tables: the op tables that the client may use, the most likely first.
        quota: the client's quotas.
        loader: receives tensors and loads them from the server's cache; None for a
            server without a cache.
        profile: collects the times of programs; None for no profile.
        links: the links with other servers; None for no links.
    """

    def __init__(
        self,
        devices: Sequence[Device],
        tables: Sequence[OpTable],
        quota: ClientQuota,
        loader: Loader | None = None,
        profile: Profile | None = None,
        links: Links | None = None,
    ) -> None:
        self._devices = devices
        self._quota = quota
        self._loader = loader or Loader()
        self._profile = profile
        self._links = links
        self._reader = GraphReader(tables)
        self._space = AddressSpace()
        self._graphs = GraphStore(self._compile, Reservation(quota.memory))

    @property
    def used(self) -> bool:
        """Whether the client has ever allocated a buffer; a probe does not."""
        return self._space.used

    @property
    def holds_memory(self) -> bool:
        """Whether the client has buffers."""
        return bool(self._space.placed)

    def handle(self, request: m.Request, link: DataLink) -> m.Reply | None:
        """Execute a request.

        Returns:
            The reply, None if `link` has already sent it.

        Raises:
            GgrpcError: the request failed; the caller ends the session.
        """
        return _HANDLERS[type(request)](self, request, link)

    def close(self) -> int:
        """Free all buffers and programs.

        Returns:
            The bytes of buffers that the client had not freed.
        """
        if self._links:
            self._links.close()
        self._graphs.clear()
        self._quota.memory.release_all()
        return self._space.clear()

    def _device(self, number: int) -> Device:
        if number >= len(self._devices):
            raise RefusedError(
                f"there is no device {number}: this server has {len(self._devices)}"
            )
        return self._devices[number]

    def _device_count(self, request: m.DeviceCount, link: DataLink) -> m.Count:
        return m.Count(device_count=len(self._devices))

    def _get_alignment(self, request: m.GetAlignment, link: DataLink) -> m.Alignment:
        return m.Alignment(alignment=self._device(request.device).alignment)

    def _get_max_size(self, request: m.GetMaxSize, link: DataLink) -> m.MaxSize:
        return m.MaxSize(max_size=self._device(request.device).max_size)

    def _get_device_memory(
        self, request: m.GetDeviceMemory, link: DataLink
    ) -> m.DeviceMemory:
        memory = self._device(request.device).memory()
        memory = self._quota.memory.within(memory)
        return m.DeviceMemory(free=memory.free, total=memory.total)

    def _alloc_buffer(self, request: m.AllocBuffer, link: DataLink) -> m.Allocated:
        device = self._device(request.device)
        try:
            with self._quota.memory.reserved_unless_error(request.size):
                buffer = device.allocate(request.size)
        except OutOfMemory as error:
            link.note(error)
            return m.Allocated(remote_ptr=0, remote_size=0)
        handle = self._space.add(buffer, device)
        return m.Allocated(remote_ptr=handle, remote_size=buffer.size)

    def _buffer_get_base(self, request: m.BufferGetBase, link: DataLink) -> m.Base:
        return m.Base(base_ptr=self._space.find(request.remote_ptr).base)

    def _free_buffer(self, request: m.FreeBuffer, link: DataLink) -> m.Done:
        # Programs hold references to buffers, so they must go first.
        self._graphs.forget(request.remote_ptr)
        self._quota.memory.release(self._space.remove(request.remote_ptr))
        return DONE

    def _buffer_clear(self, request: m.BufferClear, link: DataLink) -> m.Done:
        buffer = self._space.find(request.remote_ptr).buffer
        buffer.fill(0, buffer.size, request.value)
        return DONE

    def _init_tensor(self, request: m.InitTensor, link: DataLink) -> m.Done:
        self._space.whole(request.tensor)
        return DONE

    def _get_alloc_size(self, request: m.GetAllocSize, link: DataLink) -> m.AllocSize:
        device = self._device(request.device)
        return m.AllocSize(alloc_size=device.alloc_size(request.tensor))

    def _set_tensor(self, request: m.SetTensor, link: DataLink) -> m.Done:
        buffer, at = self._space.part(request.tensor, request.offset, request.size)
        with buffer.write(at, request.size) as view:
            self._loader.receive(request, view, link.receive_data)
        return DONE

    def _set_tensor_2d(self, request: m.SetTensor2D, link: DataLink) -> m.Done:
        span = span_of(request)
        buffer, at = self._space.part(request.tensor, request.offset, span)
        with buffer.update(at, span) as view:
            Rows(view, request.size, request.n_copies, request.stride).fill(
                link.receive_pieces
            )
        return DONE

    def _set_tensor_hash(self, request: m.SetTensorHash, link: DataLink) -> m.Result:
        buffer, at = self._space.part(request.tensor, request.offset, 0)
        return m.Result(result=int(self._loader.load(request, buffer, at)))

    def _memset_tensor(self, request: m.MemsetTensor, link: DataLink) -> m.Done:
        buffer, at = self._space.part(request.tensor, request.offset, request.size)
        buffer.fill(at, request.size, request.value)
        return DONE

    def _get_tensor(self, request: m.GetTensor, link: DataLink) -> None:
        buffer, at = self._space.part(request.tensor, request.offset, request.size)
        with buffer.read(at, request.size) as view:
            link.send(request, m.TensorData(size=request.size, data=view))

    def _get_tensor_2d(self, request: m.GetTensor2D, link: DataLink) -> None:
        span = span_of(request)
        buffer, at = self._space.part(request.tensor, request.offset, span)
        with buffer.read(at, span) as view:
            rows = Rows(view, request.size, request.n_copies, request.stride)
            link.send_pieces(request.size * request.n_copies, rows.batches())

    def _copy_tensor(self, request: m.CopyTensor, link: DataLink) -> m.Result:
        source, source_at = self._space.whole(request.src)
        size = request.src.nbytes
        target, at = self._space.part(request.dst, 0, size)
        target.copy(at, source, source_at, size)
        return m.Result(result=1)

    def _graph_compute(self, request: m.GraphCompute, link: DataLink) -> m.Status:
        device = self._device(request.device)
        program = self._graphs.keep(device, request.uid, request.graph)
        self._run(program, device)
        return m.Status()

    def _run(self, program: Program, device: Device) -> None:
        with Slice(self._quota.device_semaphores[device]) as time_slice:
            if self._profile is None:
                program.run(time_slice.checkpoint)
            else:
                program.run_timed(self._profile, time_slice.checkpoint)

    def _compile(self, device: Device, payload: bytes) -> Program:
        nodes, limit = count_nodes(payload), self._quota.nodes
        if nodes > limit:
            raise RefusedError(
                f"a graph of {nodes} nodes exceeds --max-nodes ({limit})"
            )
        placed = self._space.on(device)
        buffers = {h: placed[h] for h in buffers_of(payload) & placed.keys()}
        regions = {handle: placed.region for handle, placed in buffers.items()}
        timed = self._profile.compile() if self._profile else nullcontext()
        with Slice(self._quota.compile_semaphore), timed:
            graph = self._reader.read(payload, regions)
            return self._build(device, graph, buffers)

    def _build(
        self, device: Device, graph: Graph, buffers: Mapping[int, Placed]
    ) -> Program:
        """Make a program of a validated graph; a subclass may wrap it."""
        return device.compile(graph, buffers)

    def _graph_recompute(self, request: m.GraphRecompute, link: DataLink) -> m.Done:
        device = self._device(request.device)
        program = self._graphs.recall(device, request.uid)
        if program is None:
            which = "graph" if request.uid is None else f"graph with uid {request.uid}"
            raise RefusedError(
                f"device {request.device} has no {which} to compute again"
            )
        self._run(program, device)
        return DONE

    def _comm_init(self, request: m.CommInit, link: DataLink) -> m.Result:
        if self._links is None or request.device >= len(self._devices):
            return m.Result(result=0)
        device = self._devices[request.device]
        return m.Result(result=int(self._links.init(device, request)))

    def _comm_allreduce(self, request: m.CommAllreduce, link: DataLink) -> m.Done:
        device, tensor = self._device(request.device), request.tensor
        if self._links is None:
            raise RefusedError(f"{device.name} has no link: COMM_INIT comes first")
        if tensor.type is not GGMLType.F32 or not tensor.is_contiguous:
            raise RefusedError(f"{tensor}: only contiguous F32 is reduced")
        buffer, at = self._space.whole(tensor)
        self._links.allreduce(device, buffer, at, tensor.nbytes // 4)
        return DONE

    def _comm_free(self, request: m.CommFree, link: DataLink) -> m.Done:
        device = self._device(request.device)
        if self._links:
            self._links.free(device)
        return DONE

    def _get_device_supports_op(
        self, request: m.GetDeviceSupportsOp, link: DataLink
    ) -> m.Result:
        device = self._device(request.device)
        try:
            node = Node.of(request.tensor, request.srcs)
            contract_of(node.tensor.op).check(node)
            return m.Result(result=int(device.supports(node)))
        except GraphError:
            return m.Result(result=0)


_HANDLERS: dict[type[m.Request], Callable[[Any, Any, DataLink], m.Reply | None]] = {
    m.AllocBuffer: Session._alloc_buffer,
    m.GetAlignment: Session._get_alignment,
    m.GetMaxSize: Session._get_max_size,
    m.BufferGetBase: Session._buffer_get_base,
    m.FreeBuffer: Session._free_buffer,
    m.BufferClear: Session._buffer_clear,
    m.SetTensor: Session._set_tensor,
    m.SetTensor2D: Session._set_tensor_2d,
    m.GetTensor2D: Session._get_tensor_2d,
    m.SetTensorHash: Session._set_tensor_hash,
    m.GetTensor: Session._get_tensor,
    m.CopyTensor: Session._copy_tensor,
    m.GraphCompute: Session._graph_compute,
    m.GetDeviceMemory: Session._get_device_memory,
    m.InitTensor: Session._init_tensor,
    m.GetAllocSize: Session._get_alloc_size,
    m.DeviceCount: Session._device_count,
    m.GraphRecompute: Session._graph_recompute,
    m.MemsetTensor: Session._memset_tensor,
    m.CommInit: Session._comm_init,
    m.CommAllreduce: Session._comm_allreduce,
    m.CommFree: Session._comm_free,
    m.GetDeviceSupportsOp: Session._get_device_supports_op,
}
