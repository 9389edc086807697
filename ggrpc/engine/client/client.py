"""The client: one connection to a ggml RPC server, with a method for each command.

Threads may share a client. Only one of them is in a request at a time.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from itertools import count
from ssl import SSLContext
from threading import RLock

from ggrpc.devices.device import Memory
from ggrpc.endpoint import Endpoint
from ggrpc.engine.client import failures
from ggrpc.engine.client.channel import LINE_PROBE_SECONDS, Channel
from ggrpc.engine.client.options import ClientOptions
from ggrpc.engine.net.deadline import NEVER, Deadline
from ggrpc.engine.net.tls import answer_to_tls, connect_stream
from ggrpc.engine.net.transport import Stream
from ggrpc.engine.wire import messages as m
from ggrpc.engine.wire.commands import Command
from ggrpc.engine.wire.connection import ClientConnection
from ggrpc.engine.wire.dialects import (
    DIALECTS,
    NEWEST,
    Dialect,
    Version,
    narrowed_to,
)
from ggrpc.engine.wire.graphs import MAX_GRAPHS, write_graph
from ggrpc.engine.wire.identity import Identity, identify
from ggrpc.engine.wire.introduction import Maker, introduction
from ggrpc.engine.wire.op_tables import OpTable
from ggrpc.engine.wire.other_protocols import TLS, protocol_of
from ggrpc.errors import (
    ConnectionLost,
    GgrpcError,
    LocalProtocolError,
    OutOfMemory,
    RefusedError,
    VersionMismatch,
)
from ggrpc.graph import Graph
from ggrpc.tensor import Tensor

_uids = count(1)


def new_uid() -> int:
    """A number for a graph, unique in this process."""
    return next(_uids)


class Client(Channel):
    """A session on a server; a context manager. Use `connect` to get one.

    Attributes:
        version: the version that the server announced.
        maker: the project that the server comes from.
        identity: what the server is, according to its answer to HELLO.
        timeout: the maximum time in seconds for an answer; None for no limit.
    """

    def __init__(
        self, stream: Stream, dialect: Dialect, timeout: float | None = None
    ) -> None:
        super().__init__(stream, dialect, timeout)
        self.version = dialect.version
        self.maker = Maker.LLAMA_CPP
        self.identity = Identity(dialect.version, dialect)
        # By device: the uids of the graphs that the server keeps, and the last one. The
        # lock is held while a request changes them, so that they match the server's
        # state whichever thread sends first.
        self._kept: dict[int, set[int]] = {}
        self._last: dict[int, int] = {}
        self._graph_lock = RLock()

    def hello(self, purpose: str = "") -> Identity:
        """Send HELLO, a second time to ggrpc's own server, and identify the server.

        Args:
            purpose: what the session is for, if it is a test; the server logs it.

        Raises:
            GgrpcError: the server did not answer, or its answer is invalid.
        """
        deadline, self.deadline = (
            self.deadline,
            self.deadline.before(LINE_PROBE_SECONDS),
        )
        welcome = self._ask(m.Hello(caps=bytes(self.dialect.hello_size)), m.Welcome)
        self.deadline = deadline
        if welcome.padding in (Maker.GGRPC, Maker.GGRPC_ADAPTIVE):
            self.maker = Maker(welcome.padding)
            caps = introduction(self.dialect.version, purpose)
            welcome = self._ask(m.Hello(caps=caps), m.Welcome)
        self.version = Version(welcome.major, welcome.minor, welcome.patch)
        self.identity = identify(self.version, welcome.size)
        return self.identity

    def speak(self, dialect: Dialect) -> Client:
        """Continue in the server's dialect; several dialects have the same HELLO."""
        self.dialect = dialect
        self._connection = ClientConnection(dialect)
        return self

    def device_count(self) -> int:
        """The number of devices; always 1 before protocol 3.0."""
        if Command.DEVICE_COUNT not in self.dialect.commands:
            return 1
        return self._ask(m.DeviceCount(), m.Count).device_count

    def alignment(self, device: int = 0) -> int:
        """The alignment that a device needs for the addresses of tensors, in bytes."""
        return self._ask(m.GetAlignment(device=device), m.Alignment).alignment

    def max_size(self, device: int = 0) -> int:
        """The size of a device's largest buffer, in bytes."""
        return self._ask(m.GetMaxSize(device=device), m.MaxSize).max_size

    def memory(self, device: int = 0) -> Memory:
        """A device's free and total memory, in bytes."""
        reply = self._ask(m.GetDeviceMemory(device=device), m.DeviceMemory)
        return Memory(reply.free, reply.total)

    def allocate(self, size: int, device: int = 0) -> int:
        """Allocate a buffer of `size` bytes.

        Returns:
            Its handle.

        Raises:
            OutOfMemory: the server cannot allocate that much.
        """
        reply = self._ask(m.AllocBuffer(device=device, size=size), m.Allocated)
        if not reply.remote_ptr:
            raise OutOfMemory(
                f"{self.endpoint} cannot allocate {size} bytes on device {device}: "
                "'ggrpc mem' shows how much is free",
                endpoint=str(self.endpoint),
                command="ALLOC_BUFFER",
            )
        return reply.remote_ptr

    def base(self, buffer: int) -> int:
        """The address of a buffer's first byte."""
        return self._ask(m.BufferGetBase(remote_ptr=buffer), m.Base).base_ptr

    def free(self, buffer: int) -> None:
        """Free a buffer."""
        with self._graph_lock:
            self._kept.clear()  # servers from 7.0 on drop the graphs that use it
            self._send(m.FreeBuffer(remote_ptr=buffer))

    def clear(self, buffer: int, value: int = 0) -> None:
        """Set all bytes of a buffer to `value`."""
        self._send(m.BufferClear(remote_ptr=buffer, value=value))

    def alloc_size(
        self, tensor: Tensor, srcs: tuple[Tensor | None, ...] = (), device: int = 0
    ) -> int:
        """The bytes to allocate for a tensor, including the device's padding."""
        request = m.GetAllocSize(device=device, tensor=tensor, srcs=srcs)
        return self._ask(request, m.AllocSize).alloc_size

    def init_tensor(self, tensor: Tensor) -> None:
        """Let the device prepare a tensor, which quantized types may need."""
        self._send(m.InitTensor(tensor=tensor))

    def set_tensor(
        self, tensor: Tensor, data: m.Bytes, offset: int = 0, keep: bool = False
    ) -> None:
        """Write bytes into a tensor. They are sent without a copy.

        Args:
            tensor: the tensor.
            data: the bytes.
            offset: the offset of the first byte in the tensor.
            keep: ask the server to store them in its cache; before protocol 7.0 the
                server alone decides that.
        """
        view = memoryview(data).cast("B")
        self._send(
            m.SetTensor(
                tensor=tensor,
                cache=int(keep),
                offset=offset,
                size=len(view),
                data=view,
            )
        )

    def set_tensor_in_pieces(
        self, tensor: Tensor, size: int, pieces: Iterable[m.Bytes], keep: bool = False
    ) -> None:
        """Write all bytes of a tensor with one request.

        Args:
            tensor: the tensor.
            size: the number of bytes.
            pieces: the bytes in order; an error that it raises ends the session.
            keep: see `set_tensor`.
        """
        request = m.SetTensor(tensor=tensor, cache=int(keep), offset=0, size=size)
        with self._round_trip(request) as limit:
            for piece in pieces:
                self._stream.send([piece], limit)
            if self.dialect.replies[request.command] is None:
                self._last_silent = request.command
            else:
                self._receive(m.Done, request, limit)

    def set_tensor_hash(self, tensor: Tensor, value: int, offset: int = 0) -> bool:
        """Write the data that the server's cache has for a hash.

        Returns:
            False if the cache has none; the tensor is unchanged then.
        """
        request = m.SetTensorHash(tensor=tensor, offset=offset, hash=value)
        return bool(self._ask(request, m.Result).result)

    def memset_tensor(
        self, tensor: Tensor, value: int, size: int, offset: int = 0
    ) -> None:
        """Set `size` bytes of a tensor to one value (from protocol 5.0 on)."""
        self._send(m.MemsetTensor(tensor=tensor, offset=offset, size=size, value=value))

    def get_tensor(self, tensor: Tensor, into: memoryview, offset: int = 0) -> None:
        """Read `len(into)` bytes of a tensor directly into `into`."""
        self._get(m.GetTensor(tensor=tensor, offset=offset, size=len(into)), into)

    def _get(self, request: m.GetTensor | m.GetTensor2D, into: memoryview) -> None:
        with self._round_trip(request) as limit:
            self._receive(m.TensorData, request, limit)
            done = self._connection.take(into)
            self._stream.receive_exactly(into[done:], limit)

    def set_tensor_2d(
        self, tensor: Tensor, data: m.Bytes, size: int, stride: int, offset: int = 0
    ) -> None:
        """Write rows into a tensor (from protocol 8.0 on).

        Args:
            tensor: the tensor.
            data: the rows, packed.
            size: the bytes of one row.
            stride: the bytes from the start of one row in the tensor to the next.
            offset: the offset of the first row in the tensor, in bytes.
        """
        view = memoryview(data).cast("B")
        self._send(
            m.SetTensor2D(
                tensor=tensor,
                offset=offset,
                size=size,
                n_copies=len(view) // size,
                stride=stride,
                data_size=len(view),
                data=view,
            )
        )

    def get_tensor_2d(
        self, tensor: Tensor, into: memoryview, size: int, stride: int, offset: int = 0
    ) -> None:
        """Read rows of a tensor, packed, until `into` is full; see `set_tensor_2d`."""
        rows = len(into) // size
        self._get(
            m.GetTensor2D(
                tensor=tensor, offset=offset, size=size, n_copies=rows, stride=stride
            ),
            into,
        )

    def comm_init(
        self, rank: int, port: int, host: str = "", device: int = 0, world: int = 2
    ) -> bool:
        """Link a device with one of another server.

        Both servers need the request at the same time: see `messages.CommInit`.

        Returns:
            False if the server could not link them.
        """
        request = m.CommInit(
            device=device, rank=rank, world=world, port=port, host=host.encode()
        )
        return bool(self._ask(request, m.Result).result)

    def comm_allreduce(self, tensor: Tensor, device: int = 0) -> None:
        """Replace a tensor, here and on the linked device, by the sum of both."""
        self._send(m.CommAllreduce(device=device, tensor=tensor))

    def comm_free(self, device: int = 0) -> None:
        """Close the link of a device."""
        self._send(m.CommFree(device=device))

    def copy_tensor(self, src: Tensor, dst: Tensor) -> bool:
        """Copy a tensor on the server; returns False if the server cannot."""
        return bool(self._ask(m.CopyTensor(src=src, dst=dst), m.Result).result)

    def supports(
        self, tensor: Tensor, srcs: tuple[Tensor | None, ...], device: int = 0
    ) -> bool:
        """Whether a device computes a node (from protocol 7.0.1 on).

        Args:
            tensor: the node.
            srcs: its sources, in ggml's order; None for one that is absent.
            device: the device.
        """
        request = m.GetDeviceSupportsOp(device=device, tensor=tensor, srcs=srcs)
        return bool(self._ask(request, m.Result).result)

    def compute(self, graph: Graph, device: int = 0) -> None:
        """Run a graph.

        From protocol 3.5 on, the next request that has a reply raises the error.

        Raises:
            RefusedError: an older server reports that it failed.
        """
        self.compute_encoded(self.encode(graph), device)

    def encode(self, graph: Graph) -> bytes:
        """Encode a graph for this server.

        Raises:
            LocalProtocolError: the server's version lacks one of the ops, or its number
                is ambiguous; a wrong number would crash llama.cpp's server.
        """
        for node in graph.nodes if len(self.dialect.tables) > 1 else ():
            for operation in node.operations:
                if not self.dialect.has_one_number(operation):
                    raise LocalProtocolError(
                        f"{self.endpoint}: {operation.name} has several numbers in "
                        f"protocol {self.version}: choose one with --op-table"
                    )
        return write_graph(graph, self.dialect.table, self.dialect.optional)

    def compute_encoded(
        self, payload: bytes, device: int = 0, uid: int | None = None
    ) -> None:
        """Run an encoded graph, see `compute`.

        Args:
            payload: the graph, from `encode`.
            device: the device.
            uid: the number that identifies it in `run`; None takes a new one.
        """
        uid = uid or new_uid()
        with self._graph_lock:
            kept = self._kept.setdefault(device, set())
            if not self.dialect.has_uids or len(kept) >= MAX_GRAPHS:
                kept.clear()
            on_wire = uid if self.dialect.has_uids else None
            self._compute(m.GraphCompute(device=device, uid=on_wire, graph=payload))
            if Command.GRAPH_RECOMPUTE in self.dialect.commands:
                kept.add(uid)
                self._last[device] = uid

    def run(self, payload: bytes, uid: int, device: int = 0) -> None:
        """Run an encoded graph; send GRAPH_RECOMPUTE instead if the server keeps it.

        Args:
            payload: the graph, from `encode`.
            uid: a number from `new_uid`, the same each time that this graph runs.
            device: the device.
        """
        with self._graph_lock:
            if uid in self._kept.get(device, ()):
                self._recompute(device, uid)
            else:
                self.compute_encoded(payload, device, uid)

    def recompute(self, device: int = 0) -> None:
        """Run the last graph of a device again."""
        self._recompute(device, self._last.get(device, 0))

    def _recompute(self, device: int, uid: int) -> None:
        self._last[device] = uid
        on_wire = uid if self.dialect.has_uids else None
        self._send(m.GraphRecompute(device=device, uid=on_wire))

    def _compute(self, request: m.GraphCompute) -> None:
        if self.dialect.replies[Command.GRAPH_COMPUTE] is None:
            self._send(request)
        elif status := self._ask(request, m.Status).status:
            raise RefusedError(
                f"{self.endpoint} could not compute the graph (status {status}): its "
                "log says why",
                endpoint=str(self.endpoint),
                command="GRAPH_COMPUTE",
            )


def connect(
    endpoint: Endpoint,
    dialect: Dialect | None = None,
    timeout: float | None = None,
    op_table: OpTable | None = None,
    tls: SSLContext | None = None,
) -> Client:
    """Connect to a server and send HELLO; the options are arguments.

    Raises:
        GgrpcError: see `open_client`.
    """
    return open_client(endpoint, ClientOptions(timeout, dialect, op_table, tls))


def open_client(
    endpoint: Endpoint,
    options: ClientOptions,
    queries_only: bool = False,
    deadline: Deadline | None = None,
) -> Client:
    """Connect to a server and send HELLO.

    Without a dialect in the options, the first HELLO is that of protocol 4.0 and later.
    If the server closes the connection, a second connection sends that of 3.x.

    Args:
        endpoint: the server.
        options: how to connect.
        queries_only: also accept a newer server or a fork, to which only the commands
            in `QUERIES` are sent.
        deadline: the limit for this call and all requests of the client together; None
            applies the timeout of the options to this call and to each request.

    Raises:
        ConnectError: the server cannot be reached or is not trusted.
        TransportTimeout: the server did not answer in time.
        ConnectionLost: the server dropped every HELLO.
        RemoteProtocolError: the server speaks another protocol, such as TLS or HTTP.
        VersionMismatch: ggrpc does not support the server's version.
    """
    limit = deadline or Deadline(options.timeout)
    client = _first_accepted(endpoint, options, queries_only, limit)
    if deadline is None:
        client.deadline = NEVER
    if client.identity.refusal:
        return client
    table = options.op_table.date if options.op_table else ""
    return client.speak(narrowed_to(client.version, client.dialect, table))


def _first_accepted(
    endpoint: Endpoint, options: ClientOptions, queries_only: bool, deadline: Deadline
) -> Client:
    candidates = (options.dialect,) if options.dialect else _one_for_each_hello()
    for candidate in candidates:
        try:
            return _greet(endpoint, candidate, options, queries_only, deadline)
        except ConnectionLost:
            if candidate is not candidates[-1]:
                continue
            # If only one of the two uses TLS, the server closes without a message.
            if options.tls and _answers_without_tls(endpoint, options, deadline):
                raise failures.without_tls(endpoint) from None
            if not options.tls and _answers_tls(endpoint, deadline):
                raise failures.other_protocol(endpoint, TLS) from None
            raise
    raise AssertionError("there is at least one dialect")


def _answers_without_tls(
    endpoint: Endpoint, options: ClientOptions, deadline: Deadline
) -> bool:
    plain = replace(options, tls=None)
    with suppress(GgrpcError):
        _greet(endpoint, options.dialect or NEWEST, plain, True, deadline).close()
        return True
    return False


def _answers_tls(endpoint: Endpoint, deadline: Deadline) -> bool:
    return protocol_of(answer_to_tls(endpoint, deadline)) == TLS


def _one_for_each_hello() -> tuple[Dialect, ...]:
    """The newest dialect for each size of HELLO, the newest first."""
    newest = {d.hello_size: d for d in sorted(DIALECTS, key=lambda d: d.version)}
    return tuple(sorted(newest.values(), key=lambda d: d.version, reverse=True))


def _greet(
    endpoint: Endpoint,
    dialect: Dialect,
    options: ClientOptions,
    queries_only: bool,
    deadline: Deadline,
) -> Client:
    stream = connect_stream(endpoint, deadline, options.tls)
    client = Client(stream, dialect, options.timeout)
    client.deadline = deadline
    try:
        identity = client.hello(options.purpose)
        if identity.dialect is None or (identity.refusal and not queries_only):
            raise _mismatch(endpoint, identity.refusal)
        if identity.refusal or options.dialect is None:
            return client.speak(identity.dialect)
        if identity.version[:2] != dialect.version[:2]:
            raise _mismatch(
                endpoint,
                f"speaks protocol {identity.version}, not {dialect.version}: leave out "
                "--protocol to detect it",
            )
        return client
    except BaseException:
        client.abort()  # a close after one HELLO would reject the version
        raise


def _mismatch(endpoint: Endpoint, refusal: str) -> VersionMismatch:
    return VersionMismatch(f"{endpoint} {refusal}", endpoint=str(endpoint))
