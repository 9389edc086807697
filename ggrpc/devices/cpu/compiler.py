"""The compiler of the cpu device, which turns a graph into a flat list of calls.

A graph is compiled once and run often. Everything that does not depend on the values
is therefore decided here: views, scratch memory, conversions, the split into tasks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TypeVar, cast

import numpy as np
import numpy.typing as npt

from ggrpc.devices.cpu.buffer import CpuBuffer
from ggrpc.devices.cpu.kernel_table import KERNELS, PACKS, is_supported
from ggrpc.devices.cpu.mapped_memory import mapped
from ggrpc.devices.cpu.program import CpuProgram
from ggrpc.devices.cpu.scratch import Scratch, TakeMemory
from ggrpc.devices.cpu.weights import WeightCache
from ggrpc.devices.cpu.workers import Step, Workers
from ggrpc.devices.device import Placed, place_of
from ggrpc.devices.shared_results import SharedResults, disjoint
from ggrpc.errors import DeviceError, UnsupportedOp
from ggrpc.formats.codecs import CODECS, GROUP, Array, Convert, Pieces, pieces, view_of
from ggrpc.graph import Graph
from ggrpc.ops import Node, contract_of
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType

Made = TypeVar("Made")

# The number of elements from which several threads are faster than one.
MIN_PARALLEL = 1 << 17

# The number of elements from which a copy by numpy is counted as scratch memory.
MIN_COUNTED_COPY = 1 << 22

# The maximum number of parts of a node. The largest images of real models need about
# 100,000.
MAX_PARTS = 1 << 20
PART_BYTES = 256  # the approximate size of a part's Python objects

# The place of empty tensors that have no buffer.
EMPTY_BUFFER = CpuBuffer(0, changed=lambda *_: None, freed=lambda *_: None)


class Compiler:
    """The interface that kernels use to turn one graph into one program.

    Args:
        buffers: the buffers that hold the tensors, by handle.
        workers: the device's threads.
        weights: the device's cache of unpacked weights.
        take_memory: allocates scratch memory.
    """

    def __init__(
        self,
        buffers: Mapping[int, Placed],
        workers: Workers,
        weights: WeightCache,
        take_memory: TakeMemory = mapped,
    ) -> None:
        self.workers = workers
        self.weights = weights
        self._buffers = buffers
        self._steps: list[Step] = []
        self._results: list[tuple[Tensor, Array, Array]] = []
        size = sum(placed.buffer.size for placed in buffers.values())
        self._scratch = Scratch(take_memory, size)
        self._persistent = Scratch(take_memory, size)  # never reset
        self._shared = SharedResults()

    def program(self, graph: Graph) -> CpuProgram:
        """Compile every node.

        Raises:
            UnsupportedOp: a node has no kernel; the message names it.
        """
        computed = [n for n in graph.nodes if contract_of(n.tensor.op).computes]
        self.expect(computed)
        return self.program_of(computed)

    def expect(self, nodes: Iterable[Node]) -> None:
        """Announce all nodes that will be compiled, before the first one is compiled.

        The weight cache does not cache tensors in the buffers that they write to.
        """
        for node in nodes:
            self.weights.computed(self.place(node.tensor)[0])

    def program_of(self, nodes: Iterable[Node]) -> CpuProgram:
        """Compile some nodes.

        Raises:
            UnsupportedOp: a node has no kernel; the message names it.
        """
        self._steps = []
        ops: list[str] = []
        with np.errstate(all="ignore"):  # kernels compute with unchecked parameters
            for node in nodes:
                self._node(node)
                ops += [node.tensor.op.name] * (len(self._steps) - len(ops))
        return CpuProgram(self._steps, ops, (self._scratch, self._persistent))

    def place(self, tensor: Tensor) -> tuple[CpuBuffer, int]:
        """The buffer that holds a tensor, and the offset of the tensor in it."""
        if not tensor.buffer:
            return EMPTY_BUFFER, 0
        buffer, offset = place_of(tensor, self._buffers)
        return cast(CpuBuffer, buffer), offset

    def view(self, tensor: Tensor) -> Array:
        """A view of a tensor's bytes: see `codecs.view_of`."""
        buffer, offset = self.place(tensor)
        return view_of(tensor, buffer.memory, offset)

    def f32(self, tensor: Tensor) -> Array:
        """A tensor's values as input of the steps that follow.

        Returns:
            Shape ne reversed, float32. An F32 tensor is returned as a view; other types
            are unpacked into scratch memory by a step that this method appends.
        """
        view = self.view(tensor)
        if tensor.type is GGMLType.F32:
            return view
        values = self.scratch(tensor.ne[::-1])
        self.convert(CODECS[tensor.type].unpack, view, values)
        return values

    def result(self, tensor: Tensor) -> Array:
        """The array that the steps that follow write a node's values to.

        Returns:
            Shape ne reversed, float32. An F32 tensor is returned as a view; other types
            get scratch memory, which is packed into the tensor after the node's last
            step.
        """
        view = self.view(tensor)
        if tensor.type is GGMLType.F32:
            return view
        values = self.scratch(tensor.ne[::-1])
        self._results.append((tensor, values, view))
        return values

    def scratch(self, shape: Sequence[int], dtype: npt.DTypeLike = np.float32) -> Array:
        """Memory that belongs to the node until its last step; contents undefined."""
        return self._scratch.take(tuple(shape), np.dtype(dtype))

    def persistent(
        self, shape: Sequence[int], dtype: npt.DTypeLike = np.float32
    ) -> Array:
        """Memory that lives as long as the program; contents undefined.

        The sizes of all nodes add up, and a graph may have 100,000 nodes.
        """
        return self._persistent.take(tuple(shape), np.dtype(dtype))

    def reserve(self, nbytes: int) -> None:
        """Count memory that numpy allocates and frees again within a step."""
        self._scratch.reserve(nbytes)

    def retain(self, nbytes: int) -> None:
        """Count memory that the program itself allocates and keeps."""
        self._persistent.reserve(nbytes)

    def step(self, function: Callable[..., object], *args: object) -> None:
        """Append the call of a function to the program."""
        self._steps.append(partial(function, *args) if args else function)

    def check_parts(self, parts: int) -> None:
        """Check the number of parts of a node's work, and count their memory.

        Raises:
            DeviceError: there are more than MAX_PARTS.
            OutOfMemory: the parts of all nodes together need too much memory.
        """
        if parts > MAX_PARTS:
            raise DeviceError(
                f"a node would be computed in {parts} parts; the limit is {MAX_PARTS}, "
                "which the shapes of real models do not reach"
            )
        self.retain(parts * PART_BYTES)

    def parallel(self, tasks: Iterable[Step]) -> None:
        """Append independent tasks, to run on the workers."""
        tasks = tuple(tasks)
        if tasks:
            self._steps.append(self.spread(tasks))

    def spread(self, tasks: Sequence[Step]) -> Step:
        """One step that runs independent tasks on the workers."""
        return tasks[0] if len(tasks) == 1 else partial(self.workers.run, tasks)

    def elementwise(
        self,
        ufunc: Callable[..., object],
        inputs: Sequence[Array | np.generic | float],
        out: Array,
    ) -> None:
        """Append `ufunc(*inputs, out)`; large arrays are split over the workers.

        Args:
            ufunc: a function of each element.
            inputs: scalars, or arrays that broadcast to the shape of `out`.
            out: the array for the result; it may be one of the inputs.
        """
        if out.size < MIN_PARALLEL or self.workers.threads == 1:
            self.step(ufunc, *inputs, out)
            return
        full = [
            np.broadcast_to(x, out.shape) if isinstance(x, np.ndarray) else x
            for x in inputs
        ]
        self.parallel(
            partial(
                ufunc,
                *(x[at] if isinstance(x, np.ndarray) else x for x in full),
                out[at],
            )
            for at in pieces(out.shape, self.workers.threads)
        )

    def rows(
        self,
        function: Callable[..., object],
        arrays: Sequence[Array],
        temps: Sequence[int] = (),
    ) -> None:
        """Append `function(*arrays, *temps)`; large arrays are split over the workers.

        Large arrays are passed in blocks of rows that fit a processor's cache.

        Args:
            function: computes each row (the last axis) independently.
            arrays: equal in all axes but the last.
            temps: the lengths of the rows of the float32 scratch arrays.
        """
        lead = arrays[0].shape[:-1]
        size = max(array.size for array in arrays)
        if size < MIN_PARALLEL:
            self.step(function, *arrays, *(self.scratch((*lead, n)) for n in temps))
            return
        threads = self.workers.threads
        blocks = pieces((*lead, 1), max(threads, size // GROUP))
        largest = max((arrays[0][at].shape[:-1] for at in blocks), key=math.prod)
        tasks = []
        for i in range(threads):
            scratch = [self.scratch((*largest, n)) for n in temps]
            share = blocks[
                len(blocks) * i // threads : len(blocks) * (i + 1) // threads
            ]
            tasks.append(partial(_run_blocks, function, share, arrays, scratch))
        self.parallel(tasks)

    def convert(self, function: Convert, source: Array, target: Array) -> None:
        """Append a conversion of rows; large arrays are split over the workers.

        Args:
            function: converts an array, such as a function of `codecs.CODECS`.
            source: the array to read.
            target: the array to write; equal in all axes but the last.
        """
        large = max(source.size, target.size) >= MIN_PARALLEL
        rows = pieces((*target.shape[:-1], 1), self.workers.threads if large else 1)
        self.parallel(partial(function, source[at], target[at]) for at in rows)

    def shared(
        self, key: object, tensors: Sequence[Tensor], make: Callable[[Compiler], Made]
    ) -> Made:
        """An intermediate result that several nodes need, computed for the first one.

        Args:
            key: equal keys mean equal results.
            tensors: the inputs. If a node overwrites any of their bytes, the result is
                computed again for the nodes after it.
            make: appends the steps and returns the arrays that they fill. The arrays
                outlive the node, so they must be `persistent`, not scratch.
        """
        return self._shared.get(key, tensors, lambda: make(self))

    def overwritten(self, tensor: Tensor) -> None:
        """Drop shared results whose inputs overlap `tensor`, a node's result."""
        self._shared.overwritten(tensor)

    def _node(self, node: Node) -> None:
        if not is_supported(node):
            raise UnsupportedOp(_unsupported(node))
        if 0 in node.tensor.ne:
            return
        self._scratch.reset()
        for source in node.src:
            if source is not None and source.nelements > MIN_COUNTED_COPY:
                self._reserve_copy(source, node.tensor)
        KERNELS[node.tensor.op].compile(node, self)
        for tensor, values, view in self._results:
            self.convert(PACKS[tensor.type], values, view)
        self._results.clear()
        self.overwritten(node.tensor)

    def _reserve_copy(self, source: Tensor, result: Tensor) -> None:
        """Count the copy that numpy makes of a source that overlaps the result."""
        in_place = (source.data, source.nb) == (result.data, result.nb)
        if not in_place and not disjoint(source, result):
            self.reserve(source.packed_bytes)


def _run_blocks(
    function: Callable[..., object],
    blocks: Pieces,
    arrays: Sequence[Array],
    temps: Sequence[Array],
) -> None:
    for at in blocks:
        parts = [array[at] for array in arrays]
        fitting = tuple(map(slice, parts[0].shape[:-1]))
        function(*parts, *(temp[fitting] for temp in temps))


def _unsupported(node: Node) -> str:
    sources = ", ".join(t.type.name for t in node.src if t is not None)
    return (
        f"{node.tensor}: the cpu device has no kernel for {node.tensor.op.name} of "
        f"({sources}) to {node.tensor.type.name}"
    )
