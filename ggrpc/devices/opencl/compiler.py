"""The compiler of an OpenCL device, which turns a graph into a flat list of launches.

A graph is compiled once and run often, so the arguments of kernels are packed here.
Nodes without an OpenCL kernel are compiled by the cpu device's compiler. Its steps use
the same memory, or a copy of it on the host; the queue is drained before they run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar, cast
from weakref import finalize

import numpy as np
import pyopencl as cl

from ggrpc.devices.cpu.compiler import Compiler as CpuCompiler
from ggrpc.devices.device import Placed, no_checkpoint, place_of
from ggrpc.devices.opencl.kernel_table import CPU, GPU, KERNELS, is_supported
from ggrpc.devices.opencl.predicates import is_aligned
from ggrpc.devices.opencl.program import MOVE, WAIT, Fault, OpenClProgram, Step
from ggrpc.devices.opencl.runtime.buffer import OpenClBuffer
from ggrpc.devices.opencl.runtime.build import (
    Builder,
    Define,
    KernelKey,
    Owned,
    failures_named,
)
from ggrpc.devices.opencl.runtime.launch import Arguments, Scalar, launch
from ggrpc.devices.opencl.runtime.program_memory import ProgramMemory
from ggrpc.devices.opencl.runtime.traits import Traits
from ggrpc.devices.opencl.runtime.work_group import WorkGroup
from ggrpc.devices.shared_results import SharedResults, disjoint
from ggrpc.errors import DeviceError
from ggrpc.formats.codecs import Array
from ggrpc.graph import Graph
from ggrpc.ops import Node, Op, contract_of
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType

Argument = Tensor | cl.Buffer | cl.LocalMemory | Scalar
# Computes the first of some nodes and any number of the nodes after it in one launch.
# Returns how many it computed, or 0 if the nodes do not match its pattern. Nodes that
# it hoists are not counted: see `Compiler.can_hoist`.
Fusion = Callable[[Sequence[Node], "Compiler"], int]
Made = TypeVar("Made")

FUSION_WINDOW = 64  # the number of nodes that a fusion receives
LOOKAHEAD = 12  # the number of nodes among which a fusion looks for nodes to hoist


@dataclass(frozen=True)
class Target:
    """The parts of a device that a compiler uses.

    Attributes:
        name: the name of the device.
        traits: the properties of the device.
        queue: the queue that programs use.
        builder: builds the kernels.
        fusions: the fusions to try for each op, in order.
        program_memory: creates the memory of a program, given the total size of the
            buffers of the session in bytes.
        exact: whether a work-group that the device does not allow is an error, which
            is for comparing sizes; otherwise kernels use a smaller one.
        cpu_compiler: creates a compiler of the cpu device, for nodes without an OpenCL
            kernel, given the buffers on the host by handle.
        checkpoint: called before each launch is compiled; it may raise to cancel.
    """

    name: str
    traits: Traits
    queue: cl.CommandQueue
    builder: Builder
    fusions: Mapping[Op, Sequence[Fusion]]
    program_memory: Callable[[int], ProgramMemory]
    cpu_compiler: Callable[[Mapping[int, Placed]], CpuCompiler]
    exact: bool = False
    checkpoint: Callable[[], None] = no_checkpoint


class Compiler:
    """The interface that kernels and fusions use to turn one graph into one program.

    Args:
        target: the device to compile for.
        buffers: the buffers that hold the tensors, by handle.

    Attributes:
        traits: the properties of the device.
    """

    def __init__(self, target: Target, buffers: Mapping[int, Placed]) -> None:
        self.traits = target.traits
        self._target = target
        self._queue = target.queue
        self._kind = CPU if target.traits.is_cpu else GPU
        self._buffers = buffers
        self._steps: list[Step] = []
        self._labels: list[str] = []
        self._shared = SharedResults()
        self._kernels: dict[tuple[KernelKey, object], Owned] = {}
        size = sum(placed.buffer.size for placed in buffers.values())
        self._memory = target.program_memory(size)
        self._fault: Fault | None = None  # made when a kernel needs it
        self._number = 0  # of the current node, counted from 1
        self._label = ""
        self._supported: set[int] = set()  # ids of nodes with an OpenCL kernel
        self._unsupported_at = 0  # the index of the next node without one
        self._hoisted: set[int] = set()  # ids of nodes that were compiled early
        self._deferred: list[Callable[[], object]] = []
        self._cpu_nodes: list[Node] = []  # to be compiled as one program of the cpu
        self._cpu = target.cpu_compiler(
            {
                handle: Placed(base, cast(OpenClBuffer, buffer).host)
                for handle, (base, buffer) in buffers.items()
            }
        )

    def program(self, graph: Graph) -> OpenClProgram:
        """Compile every node.

        Raises:
            UnsupportedOp: neither OpenCL nor the cpu device has a kernel for a node.
            DeviceError: the driver cannot build a kernel.
            OutOfMemory: the program needs too much memory.
        """
        nodes = [n for n in graph.nodes if contract_of(n.tensor.op).computes]
        self._supported = {n.tensor.id for n in nodes if self._has_kernel(n)}
        self._cpu.expect(nodes)
        with failures_named(self._target.name):
            at = 0
            while at < len(nodes):
                at += self._compile(nodes, at)
            self._flush_cpu_nodes()
        program = OpenClProgram(
            self._target.name,
            self._queue,
            self._steps,
            nodes,
            self._fault,
            self._memory,
            self._labels,
        )
        finalize(program, self._target.builder.give_back, self._kernels.values())
        return program

    def kernel(self, family: str, name: str, **defines: Define) -> KernelKey:
        """A kernel of `kernels/*/<family>.cl`, to launch.

        Args:
            family: the name of the source file, without folder and suffix.
            name: the name of the kernel function.
            defines: macros to define when the source is compiled.
        """
        return KernelKey(family, tuple(sorted(defines.items())), name)

    def fits(self, kernel: KernelKey, group: WorkGroup) -> bool:
        """Whether to launch a kernel with work-groups of a size.

        Args:
            kernel: the kernel. It is built if the device's limits allow the size.
            group: the size that it is compiled for.

        Returns:
            Whether the device allows it; or True, to let `launch` fail, if the target's
            sizes are `exact`.

        Raises:
            DeviceError: the driver cannot build the source.
        """
        return self._target.exact or (
            group.fits(self.traits.max_group)
            and group.items <= self._target.builder.group(kernel).items
        )

    def launch(
        self,
        kernel: KernelKey,
        groups: Sequence[int],
        *arguments: Argument,
        local: int | None = None,
    ) -> None:
        """Append a launch.

        Args:
            kernel: the kernel.
            groups: the number of work-groups in each dimension.
            *arguments: a tensor becomes two kernel arguments, its buffer and a ulong
                offset in bytes; an int becomes a long, a float a float, and four ints
                a long4.
            local: the number of work-items of a group, in the first dimension; None
                for the device's default, or as many as the kernel allows.

        Raises:
            DeviceError: the driver cannot build the source, or the device does not
                allow work-groups of this size.
        """
        self._target.checkpoint()
        args = self._arguments(arguments)
        local = local or self._default_items(kernel)
        global_size = (groups[0] * local, *groups[1:])
        local_size = (local, *(1 for _ in groups[1:]))
        owned = self._kernel_object(kernel, args, local)
        step = launch(self._queue, owned, args, global_size, local_size)
        self._step(f"{self._label} {kernel.name}", step)

    def memory(self, size: int) -> cl.Buffer:
        """Memory that lives as long as the program; contents undefined.

        Args:
            size: the size in bytes.

        Raises:
            OutOfMemory: the device does not have enough free memory, or the program
                exceeds the limit of `check_scratch_size`.
        """
        return self._memory.take(size)

    def constant(self, values: Array) -> cl.Buffer:
        """A read-only buffer with a copy of an array."""
        flags = cl.mem_flags.READ_ONLY | cl.mem_flags.COPY_HOST_PTR
        return cl.Buffer(self._queue.context, flags, hostbuf=values)

    @property
    def fault(self) -> tuple[cl.Buffer, np.int32]:
        """Arguments for kernels that check indices: the fault buffer, and the node.

        The node is a number. `OpenClProgram` describes what a kernel writes.
        """
        return self._fault_buffer, self.number_of(0)

    @property
    def _fault_buffer(self) -> cl.Buffer:
        if self._fault is None:
            self._fault = Fault(self._queue, self.traits.shares_memory)
        return self._fault.buffer

    def number_of(self, at: int) -> np.int32:
        """The number, for the fault buffer, of the node `at` places after this one."""
        return np.int32(self._number + at)

    def defer(self, call: Callable[[], object]) -> None:
        """Call a function after the current node's result is marked as overwritten."""
        self._deferred.append(call)

    def shared(
        self, key: object, tensors: Sequence[Tensor], make: Callable[[], Made]
    ) -> Made:
        """An intermediate result that several nodes need; see `SharedResults.get`."""
        return self._shared.get(key, tensors, make)

    def can_hoist(self, others: Sequence[Node], node: Node) -> bool:
        """Whether a node can be computed before some nodes that precede it.

        No result may change: the node must not write what the others read or write,
        and they must not write what the node reads. Nodes that were hoisted before are
        ignored among the others. A node cannot be hoisted twice.
        """
        if node.tensor.id in self._hoisted:
            return False
        used = [node.tensor, *filter(None, node.src)]
        return all(
            all(disjoint(node.tensor, t) for t in filter(None, other.src))
            and all(disjoint(t, y) for t in used for y in _written(other))
            for other in others
            if other.tensor.id not in self._hoisted
        )

    def mark_hoisted(self, node: Node) -> None:
        """Record that a later node has been compiled already; see `can_hoist`."""
        self._hoisted.add(node.tensor.id)
        self._overwritten(node)

    def _compile(self, nodes: Sequence[Node], at: int) -> int:
        """Compile a node, and any that a fusion computes with it; returns how many."""
        node = nodes[at]
        if 0 in node.tensor.ne or node.tensor.id in self._hoisted:
            return 1
        if node.tensor.id not in self._supported:
            self._cpu_nodes.append(node)
            self._shared.overwritten(node.tensor)
            return 1
        self._flush_cpu_nodes()
        self._number = at + 1
        self._label = _label(node)
        count = self._fuse(nodes, at)
        if not count:
            KERNELS[node.tensor.op, self._kind].compile(node, self)
            count = 1
        for compiled in nodes[at : at + count]:
            self._overwritten(compiled)
        while self._deferred:
            self._deferred.pop()()
        return count

    def _fuse(self, nodes: Sequence[Node], at: int) -> int:
        """Try the fusions of a node's op; returns how many nodes one computed, or 0."""
        fusions = self._target.fusions.get(nodes[at].tensor.op)
        if not fusions:
            return 0
        ahead = nodes[at : min(at + FUSION_WINDOW, self._first_unsupported(nodes, at))]
        return next(filter(None, (fuse(ahead, self) for fuse in fusions)), 0)

    def _first_unsupported(self, nodes: Sequence[Node], at: int) -> int:
        """The index of the first node from `at` on that has no OpenCL kernel."""
        while self._unsupported_at < len(nodes) and (
            self._unsupported_at < at
            or nodes[self._unsupported_at].tensor.id in self._supported
        ):
            self._unsupported_at += 1
        return self._unsupported_at

    def _overwritten(self, node: Node) -> None:
        self._shared.overwritten(node.tensor)
        self._cpu.overwritten(node.tensor)

    def _has_kernel(self, node: Node) -> bool:
        """Whether there is a kernel, and all elements are aligned.

        A GPU can lose its context on an unaligned access, and all sessions would lose
        their memory with it.
        """
        if not is_supported(node, self._kind):
            return False
        tensors = (node.tensor, *filter(None, node.src))
        return all(is_aligned(t, self._memory_of(t)[1]) for t in tensors)

    def _arguments(self, arguments: Sequence[Argument]) -> Arguments:
        args = Arguments()
        for argument in arguments:
            if isinstance(argument, Tensor):
                args.add_part(*self._memory_of(argument))
            elif isinstance(argument, cl.Buffer):
                args.add_buffer(argument)
            elif isinstance(argument, cl.LocalMemory):
                args.add_local(argument)
            else:
                args.add(argument)
        return args

    def _default_items(self, kernel: KernelKey) -> int:
        items = self.traits.local_size
        return min(items, self._target.builder.group(kernel).items) if items > 1 else 1

    def _kernel_object(self, key: KernelKey, args: Arguments, items: int) -> cl.Kernel:
        """The program's kernel object for a kernel and a size of work-groups."""
        size = items, args.local_sizes
        owned = self._kernels.get((key, size))
        if owned is None:
            self._check_group(key, items, sum(size for _, size in args.local_sizes))
            owned = self._target.builder.kernel(key)
            self._kernels[key, size] = owned
            for number, memory in args.local:
                owned.kernel.set_arg(number, memory)  # type: ignore[arg-type]
        return owned.kernel

    def _check_group(self, key: KernelKey, items: int, local_memory: int) -> None:
        """Refuse a launch that the driver might only refuse when the program runs.

        Args:
            key: the kernel.
            items: the number of work-items of a work-group.
            local_memory: the bytes of local memory among the kernel's arguments.
        """
        most, own = self.traits.max_group, self._target.builder.group(key)
        most = most._replace(items=min(most.items, own.items))
        group = WorkGroup(items, own.local_memory + local_memory)
        if not group.fits(most):
            raise DeviceError(
                f"{self._target.name}: the kernel {key.name} needs work-groups of "
                f"{group} of local memory, but the device allows {most}; use "
                "'--device cpu'"
            )

    def _memory_of(self, tensor: Tensor) -> tuple[cl.Buffer, int]:
        """The OpenCL buffer that holds a tensor, and the tensor's offset in bytes."""
        if not tensor.buffer:
            return self._fault_buffer, 0  # an empty tensor; no kernel reads it
        buffer, offset = place_of(tensor, self._buffers)
        return cast(OpenClBuffer, buffer).memory, offset

    def _flush_cpu_nodes(self) -> None:
        """Append a program of the cpu device that computes the collected nodes."""
        if not self._cpu_nodes:
            return
        program = self._cpu.program_of(self._cpu_nodes)
        sources: list[Tensor] = []
        results: list[Tensor] = []
        if self.traits.shares_memory:
            self._step(WAIT, self._queue.finish)
        else:
            used = [t for n in self._cpu_nodes for t in (*n.src, n.tensor) if t]
            sources = [tensor for tensor in used if tensor.nbytes]
            results = [t for n in self._cpu_nodes for t in _written(n)]
        for tensor in sources:
            self._step(MOVE, partial(self._to_host, *self._span(tensor)))
        self._step(f"cpu: {', '.join(program.ops)}", program.run)
        for tensor in results:
            self._step(MOVE, partial(self._from_host, *self._span(tensor)))
        self._cpu_nodes = []

    def _step(self, label: str, step: Step) -> None:
        self._labels.append(label)
        self._steps.append(step)

    def _span(self, tensor: Tensor) -> tuple[OpenClBuffer, int, int]:
        """The buffer that holds a tensor, and its offset and size in bytes."""
        buffer, offset = place_of(tensor, self._buffers)
        return cast(OpenClBuffer, buffer), offset, tensor.nbytes

    def _to_host(self, buffer: OpenClBuffer, offset: int, size: int) -> None:
        target = np.frombuffer(buffer.host.memory, np.uint8, size, offset)
        cl.enqueue_copy(self._queue, target, buffer.memory, src_offset=offset)

    def _from_host(self, buffer: OpenClBuffer, offset: int, size: int) -> None:
        source = np.frombuffer(buffer.host.memory, np.uint8, size, offset)
        cl.enqueue_copy(self._queue, buffer.memory, source, dst_offset=offset)


def _label(node: Node) -> str:
    """A node's op, and the type of its first source if that is not F32."""
    first = node.src[0]
    if first is None or first.type is GGMLType.F32:
        return node.tensor.op.name
    return f"{node.tensor.op.name} {first.type.name}"


def _written(node: Node) -> Sequence[Tensor]:
    """The tensors that a node changes: OPT_STEP_ADAMW updates its sources too."""
    if node.tensor.op is Op.OPT_STEP_ADAMW:
        return [node.tensor, *filter(None, node.src)]
    return [node.tensor]
