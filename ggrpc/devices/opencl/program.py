"""How a graph becomes a flat list of kernel launches, with steps of the cpu in between.

Arguments are set when a graph is compiled: each launch has a kernel object of its own.
Nodes without an OpenCL kernel are computed by the cpu device's numpy kernels, over the
same memory or over a shadow of it; then the queue is drained first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast
from weakref import finalize

import numpy as np
import pyopencl as cl

from ggrpc.devices.device import Placed, Program, no_checkpoint, place_of
from ggrpc.devices.opencl.ops.predicates import disjoint, is_aligned
from ggrpc.devices.opencl.runtime.buffer import OpenClBuffer
from ggrpc.devices.opencl.runtime.build import Define, Owned, failures_named
from ggrpc.devices.opencl.runtime.program_memory import ProgramMemory
from ggrpc.devices.profile import Profile
from ggrpc.devices.sharing import Shared
from ggrpc.errors import GraphError
from ggrpc.formats.codecs import Array
from ggrpc.graph import Graph
from ggrpc.ops import Node, Op, contract_of
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType

if TYPE_CHECKING:
    from ggrpc.devices.opencl.device import OpenClDevice

Step = Callable[[], object]
Memory = cl.Buffer | cl.LocalMemory
Argument = Tensor | Memory | int | float | tuple[int, int, int, int] | np.generic
Launcher = Callable[[Node, "Compiler"], None]
Accepts = Callable[[Node], bool]
Fuser = Callable[[Sequence[Node], "Compiler"], int]
Made = TypeVar("Made")


class KernelEntry(NamedTuple):
    """A row of the kernel table.

    Attributes:
        launch: appends the launches that compute a node.
        accepts: whether it can.
        gpu_accepts: what devices that are no processors ask beside that.
    """

    launch: Launcher
    accepts: Accepts
    gpu_accepts: Accepts


# Launches after which another program may have the device: until then they only wait in
# the queue. Waiting for them costs as much as ten launches.
BATCH = 128

LOOKAHEAD = 12  # nodes in which others are looked for that a launch computes too
FUSION_WINDOW = 64  # nodes that a fuser is shown

# What the host does beside computing, in a profile.
QUEUE, WAIT, MOVE = "queue kernels", "wait for the device", "move tensors"

KERNELS: dict[Op, KernelEntry] = {}
FUSERS: dict[Op, list[Fuser]] = {}


def kernel(
    *ops: Op,
    accepts: Accepts = lambda node: True,
    gpu_accepts: Accepts = lambda node: True,
) -> Callable[[Launcher], Launcher]:
    """Register a function as what launches the kernels of some ops.

    Args:
        ops: which.
        accepts: whether there is a kernel for a node; the cpu computes all others.
        gpu_accepts: what devices that are no processors ask beside that.
    """

    def register(function: Launcher) -> Launcher:
        KERNELS.update(dict.fromkeys(ops, KernelEntry(function, accepts, gpu_accepts)))
        return function

    return register


def fuser(op: Op) -> Callable[[Fuser], Fuser]:
    """Register a function that may compute a node of `op` and some after it at once.

    It is given that node and those after it that have kernels too, and returns how many
    it took: 0 for none. Every node that it takes must get its result, which the client
    may ask for.
    """

    def register(function: Fuser) -> Fuser:
        FUSERS.setdefault(op, []).append(function)
        return function

    return register


def is_supported(node: Node, is_cpu: bool = True) -> bool:
    """Whether there is an OpenCL kernel for a node."""
    op = node.tensor.op
    if not contract_of(op).computes:
        return True
    if op not in KERNELS or not KERNELS[op].accepts(node):
        return False
    return is_cpu or KERNELS[op].gpu_accepts(node)


class OpenClProgram(Program):
    """Launches and steps of the cpu, one after the other.

    Args:
        name: of the device.
        queue: drained at the end.
        steps: what to call.
        nodes: those of the graph, of which a kernel names one by its number.
        fault: two int32 where a kernel leaves the number of a node, counted from 1, and
            the index that it found out of range.
        room: the program's own memory, and what kernels' arguments point to.
        labels: what each step is, for a profile.
    """

    def __init__(
        self,
        name: str,
        queue: cl.CommandQueue,
        steps: Sequence[Step],
        nodes: Sequence[Node],
        fault: cl.Buffer,
        room: ProgramMemory | None = None,
        labels: Sequence[str] = (),
    ) -> None:
        self.steps = tuple(steps)
        self._name = name
        self._queue = queue
        self._nodes = nodes
        self._fault_buffer = fault
        self._room = room
        self._labels = labels
        self._fault = np.zeros(2, np.int32)

    def run(self, checkpoint: Callable[[], None] = no_checkpoint) -> None:
        self._run(self._stretch, checkpoint)

    def run_timed(
        self, profile: Profile, checkpoint: Callable[[], None] = no_checkpoint
    ) -> None:
        """See `Program`: kernels by the device's own clock, which its queue keeps."""
        with profile.run():
            self._run(partial(self._timed_stretch, profile), checkpoint)

    def _stretch(self, at: int) -> None:
        """Some steps, from one on."""
        for step in self.steps[at : at + BATCH]:
            step()
        self._queue.finish()

    def _timed_stretch(self, profile: Profile, at: int) -> None:
        launched = []
        some = slice(at, at + BATCH)
        for label, step in zip(self._labels[some], self.steps[some], strict=True):
            start = time.perf_counter()
            event = step()
            seconds = time.perf_counter() - start
            if isinstance(event, cl.Event):
                launched.append((label, event))
                label = QUEUE
            profile.add(label, seconds)
        with profile.timing(WAIT):
            self._queue.finish()
        for label, event in launched:
            nanoseconds = event.profile.end - event.profile.start
            profile.add(label, nanoseconds * 1e-9, on_device=True)

    def _run(
        self, stretch: Callable[[int], None], checkpoint: Callable[[], None]
    ) -> None:
        with failures_named(self._name):
            try:
                for at in range(0, len(self.steps), BATCH):
                    stretch(at)
                    checkpoint()
                cl.enqueue_copy(self._queue, self._fault, self._fault_buffer)
            finally:
                self._queue.finish()  # nothing may run when the buffers are freed
        if self._fault[0]:
            self._raise_fault()

    def _raise_fault(self) -> None:
        number, index = map(int, self._fault)
        none = np.zeros_like(self._fault)
        cl.enqueue_copy(self._queue, self._fault_buffer, none)
        raise GraphError(
            f"{self._nodes[number - 1].tensor}: index {index} is out of range"
        )


def _label(node: Node) -> str:
    """A node's op, and the type of what it is given first where that is not F32."""
    given = node.src[0]
    if given is None or given.type is GGMLType.F32:
        return node.tensor.op.name
    return f"{node.tensor.op.name} {given.type.name}"


def _written(node: Node) -> Sequence[Tensor]:
    """The tensors that computing a node changes: for one op its sources too."""
    if node.tensor.op is Op.OPT_STEP_ADAMW:
        return [node.tensor, *filter(None, node.src)]
    return [node.tensor]


class Compiler:
    """What launch functions use to turn one graph into one program.

    Args:
        device: what it is for.
        buffers: where tensors lie, by handle.

    Attributes:
        traits: what the device is like.
    """

    def __init__(self, device: OpenClDevice, buffers: Mapping[int, Placed]) -> None:
        self.traits = device.traits
        self._device = device
        self._queue = device.queue
        self._buffers = buffers
        self._steps: list[Step] = []
        self._labels: list[str] = []
        self._shared = Shared()
        self._kernels: list[Owned] = []
        size = sum(placed.buffer.size for placed in buffers.values())
        self._room = device.room(size)
        self._fault = self.memory(8)
        self._number = 0
        self._label = ""
        self._waiting: list[Node] = []
        self._ours: set[int] = set()
        self._early: set[int] = set()
        self._afterwards: list[Callable[[], object]] = []
        hosts = {
            handle: Placed(base, cast(OpenClBuffer, buffer).host)
            for handle, (base, buffer) in buffers.items()
        }
        self._cpu = device.cpu.compiler(hosts)

    def program(self, graph: Graph) -> OpenClProgram:
        """Compile every node.

        Raises:
            UnsupportedOp: neither this device nor the cpu has a kernel for one.
            DeviceError: the driver cannot build one.
        """
        nodes = [n for n in graph.nodes if contract_of(n.tensor.op).computes]
        self._ours = {node.tensor.id for node in nodes if self._has_kernel(node)}
        self._cpu.expect(nodes)
        with failures_named(self._device.name):
            cl.enqueue_copy(self._queue, self._fault, np.zeros(2, np.int32))
            at = 0
            while at < len(nodes):
                at += self._take(nodes, at)
            self._run_on_cpu()
        program = OpenClProgram(
            self._device.name,
            self._queue,
            self._steps,
            nodes,
            self._fault,
            self._room,
            self._labels,
        )
        finalize(program, self._device.builder.give_back, self._kernels)
        return program

    def kernel(self, family: str, name: str, **defines: Define) -> cl.Kernel:
        """A kernel object of its own, out of `kernels/<family>.cl`."""
        owned = self._device.builder.kernel(family, name, **defines)
        self._kernels.append(owned)
        return owned.kernel

    def launch(
        self,
        kernel: cl.Kernel,
        groups: Sequence[int],
        *arguments: Argument,
        local: int | None = None,
    ) -> None:
        """Append a launch.

        Args:
            kernel: what to run; no other launch may use the same object.
            groups: work-groups in each dimension.
            *arguments: a tensor gives two, its memory and a ulong offset in bytes; an
                int is a long, a float a float, four ints a long4.
            local: work-items of a group, in the first dimension; None for the device's
                usual number.
        """
        parts = [part for argument in arguments for part in self._parts(argument)]
        kernel.set_args(*parts)
        self._room.kept += [part for part in parts if isinstance(part, cl.Buffer)]
        local = local or self.traits.local_size
        sizes = (groups[0] * local, *groups[1:])
        locals_ = (local, *(1 for _ in groups[1:]))
        self._step(
            f"{self._label} {kernel.function_name}",
            partial(cl.enqueue_nd_range_kernel, self._queue, kernel, sizes, locals_),
        )

    def memory(self, size: int) -> cl.Buffer:
        """Memory of the program; contents undefined.

        Raises:
            OutOfMemory: there is not that much, or it is out of proportion.
        """
        return self._room.take(size)

    def constant(self, values: Array) -> cl.Buffer:
        """Memory of the program that holds an array."""
        flags = cl.mem_flags.READ_ONLY | cl.mem_flags.COPY_HOST_PTR
        return cl.Buffer(self._queue.context, flags, hostbuf=values)

    @property
    def fault(self) -> tuple[cl.Buffer, np.int32]:
        """What a kernel that checks indices is given: see `OpenClProgram`."""
        return self._fault, np.int32(self._number)

    def number_of(self, at: int) -> np.int32:
        """How a kernel names a node some places on, where it checks indices for it."""
        return np.int32(self._number + at)

    def defer(self, do: Callable[[], object]) -> None:
        """Do something once the results of the node at hand count as written."""
        self._afterwards.append(do)

    def shared(
        self, key: object, tensors: Sequence[Tensor], make: Callable[[], Made]
    ) -> Made:
        """What several nodes have in common: see `Shared.get`."""
        return self._shared.get(key, tensors, make)

    def can_hoist(self, others: Sequence[Node], node: Node) -> bool:
        """Whether a node is the same before others as behind them, and they are too.

        Those of them do not matter that came early themselves; if it did, it may not.
        """
        if node.tensor.id in self._early:
            return False
        read = list(filter(None, node.src))
        late = [other for other in others if other.tensor.id not in self._early]
        return all(
            all(disjoint(node.tensor, t) for t in filter(None, other.src))
            and all(
                disjoint(t, y) for t in (*read, node.tensor) for y in _written(other)
            )
            for other in late
        )

    def mark_hoisted(self, node: Node) -> None:
        """A node further on was computed too: see `can_hoist`."""
        self._early.add(node.tensor.id)
        self._overwritten(node)

    def _take(self, nodes: Sequence[Node], at: int) -> int:
        """Compile the node at a place, and maybe some after it; how many."""
        node = nodes[at]
        if 0 in node.tensor.ne or node.tensor.id in self._early:
            return 1
        if node.tensor.id not in self._ours:
            self._waiting.append(node)
            self._shared.overwritten(node.tensor)
            return 1
        self._run_on_cpu()
        self._number = at + 1
        self._label = _label(node)
        taken = self._fused(nodes, at)
        if not taken:
            KERNELS[node.tensor.op].launch(node, self)
            taken = 1
        for one in nodes[at : at + taken]:
            self._overwritten(one)
        while self._afterwards:
            self._afterwards.pop()()
        return taken

    def _overwritten(self, node: Node) -> None:
        self._shared.overwritten(node.tensor)
        self._cpu.overwritten(node.tensor)

    def _has_kernel(self, node: Node) -> bool:
        """Whether there is a kernel, and all numbers lie where a device can read them.

        Over others a card may lose its context, and with it all sessions their memory.
        """
        if not is_supported(node, self.traits.is_cpu):
            return False
        tensors = (node.tensor, *filter(None, node.src))
        return all(is_aligned(t, self._parts(t)[1]) for t in tensors)

    def _fused(self, nodes: Sequence[Node], at: int) -> int:
        fusers = FUSERS.get(nodes[at].tensor.op, ())
        near = nodes[at : at + FUSION_WINDOW] if fusers else ()
        ahead = list(takewhile(lambda node: node.tensor.id in self._ours, near))
        for fuse in fusers:
            taken = fuse(ahead, self)
            if taken:
                return taken
        return 0

    def _parts(self, argument: Argument) -> tuple[Any, ...]:
        if isinstance(argument, Tensor):
            if not argument.buffer:
                return self._fault, np.uint64(0)  # an empty tensor; never read
            buffer, offset = place_of(argument, self._buffers)
            return cast(OpenClBuffer, buffer).memory, np.uint64(offset)
        if isinstance(argument, tuple):
            return (np.array(argument, np.int64),)
        if isinstance(argument, int):
            return (np.int64(argument),)
        if isinstance(argument, float):
            return (np.float32(argument),)
        return (argument,)

    def _run_on_cpu(self) -> None:
        """Let the cpu compute the nodes that wait for it."""
        if not self._waiting:
            return
        program = self._cpu.program_of(self._waiting)
        sources: list[Tensor] = []
        results: list[Tensor] = []
        if self.traits.shares_memory:
            self._step(WAIT, self._queue.finish)
        else:
            read = [t for n in self._waiting for t in (*n.src, n.tensor) if t]
            sources = [tensor for tensor in read if tensor.nbytes]
            results = [t for n in self._waiting for t in _written(n)]
        for tensor in sources:
            self._step(MOVE, partial(self._to_host, *self._span(tensor)))
        self._step(f"cpu: {', '.join(program.ops)}", program.run)
        for tensor in results:
            self._step(MOVE, partial(self._from_host, *self._span(tensor)))
        self._waiting = []

    def _step(self, label: str, step: Step) -> None:
        self._labels.append(label)
        self._steps.append(step)

    def _span(self, tensor: Tensor) -> tuple[OpenClBuffer, int, int]:
        buffer, offset = place_of(tensor, self._buffers)
        return cast(OpenClBuffer, buffer), offset, tensor.nbytes

    def _to_host(self, buffer: OpenClBuffer, offset: int, size: int) -> None:
        target = np.frombuffer(buffer.host.memory, np.uint8, size, offset)
        cl.enqueue_copy(self._queue, target, buffer.memory, src_offset=offset)

    def _from_host(self, buffer: OpenClBuffer, offset: int, size: int) -> None:
        source = np.frombuffer(buffer.host.memory, np.uint8, size, offset)
        cl.enqueue_copy(self._queue, buffer.memory, source, dst_offset=offset)
