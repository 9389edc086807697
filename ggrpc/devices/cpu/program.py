"""How a graph becomes a flat list of calls without arguments.

A kernel is compiled once and runs often, so everything that can be decided before the
numbers are there is decided here: views, scratch memory, conversions, how work is cut.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple, TypeVar, cast

import numpy as np
import numpy.typing as npt

from ggrpc.devices.cpu.buffer import CpuBuffer
from ggrpc.devices.cpu.memory import mapped
from ggrpc.devices.cpu.scratch import Scratch, TakeMemory
from ggrpc.devices.cpu.weights import WeightCache
from ggrpc.devices.cpu.workers import Step, Workers
from ggrpc.devices.device import Placed, Program, no_checkpoint, place_of
from ggrpc.devices.profile import Profile
from ggrpc.devices.sharing import Shared, overlap
from ggrpc.errors import DeviceError, OutOfMemory, UnsupportedOp
from ggrpc.formats.codecs import (
    CODECS,
    DTYPES,
    GROUP,
    Array,
    Convert,
    Pieces,
    pieces,
    view_of,
)
from ggrpc.graph import Graph
from ggrpc.ops import Node, Op, contract_of
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType

Kernel = Callable[[Node, "Compiler"], None]
Accepts = Callable[[Node], bool]
Made = TypeVar("Made")

# Elements for which waking another thread costs less than it saves.
WORTH_SHARING = 1 << 17

# Elements of which a copy is worth counting.
LARGE = 1 << 22

# Parts of a node's work; the largest models' largest images take some 100,000.
MAX_PARTS = 1 << 20
PART = 256  # bytes of Python that each takes, about
# Steps between two pauses: asking whether anybody waits costs a tenth of a small step.
BATCH = 8

PACKS = {t: codec.pack for t, codec in CODECS.items() if codec.pack is not None}
WRITABLE = DTYPES.keys() | PACKS.keys()


# Where empty tensors are that have no buffer.
NOWHERE = CpuBuffer(0, changed=lambda *_: None, freed=lambda *_: None)


class KernelEntry(NamedTuple):
    """A row of the kernel table.

    Attributes:
        compile: appends the steps that compute a node.
        accepts: whether it can, for types that the contract allows.
    """

    compile: Kernel
    accepts: Accepts


KERNELS: dict[Op, KernelEntry] = {}


def can_write(node: Node) -> bool:
    """Whether something packs values into the node's type."""
    return node.tensor.type in WRITABLE


def kernel(*ops: Op, accepts: Accepts = can_write) -> Callable[[Kernel], Kernel]:
    """Register a function as what compiles nodes of some ops.

    Args:
        ops: which.
        accepts: whether it can compile a node.
    """

    def register(function: Kernel) -> Kernel:
        KERNELS.update(dict.fromkeys(ops, KernelEntry(function, accepts)))
        return function

    return register


def is_supported(node: Node) -> bool:
    """Whether there is a kernel for a node, and for its types."""
    op = node.tensor.op
    if not contract_of(op).computes:
        return True
    return op in KERNELS and KERNELS[op].accepts(node)


class CpuProgram(Program):
    """Steps, one after the other; run by one thread at a time.

    Args:
        steps: what to call.
        ops: the name of the op that each of them is for.
        memory: what they work in, which is the program's as long as it is there.
    """

    def __init__(
        self, steps: Sequence[Step], ops: Sequence[str], memory: Sequence[Scratch]
    ) -> None:
        self.steps = tuple(steps)
        self._memory = memory
        self._ops = ops
        self._batches = [
            self.steps[at : at + BATCH] for at in range(0, len(steps), BATCH)
        ]

    @property
    def ops(self) -> list[str]:
        """The ops that are computed here, each once."""
        return list(dict.fromkeys(self._ops))

    def run(self, checkpoint: Callable[[], None] = no_checkpoint) -> None:
        with _arithmetic():
            for batch in self._batches:
                for step in batch:
                    step()
                checkpoint()

    def run_timed(
        self, profile: Profile, checkpoint: Callable[[], None] = no_checkpoint
    ) -> None:
        with profile.run(), _arithmetic():
            for op, step in zip(self._ops, self.steps, strict=True):
                with profile.timing(op):
                    step()
                checkpoint()


@contextmanager
def _arithmetic() -> Iterator[None]:
    """Steps run in here: ggml's have inf and NaN where numpy would warn."""
    try:
        with np.errstate(all="ignore"):
            yield
    except MemoryError as error:
        raise OutOfMemory(f"no memory left to run a graph: {error}") from error


class Compiler:
    """What kernels use to turn one graph into one program.

    Args:
        buffers: where tensors lie, by handle.
        workers: the device's threads.
        weights: the device's cache of unpacked weights.
        take_memory: where scratch memory comes from.
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
        self._lasting = Scratch(take_memory, size)  # never reset
        self._shared = Shared()

    def program(self, graph: Graph) -> CpuProgram:
        """Compile every node.

        Raises:
            UnsupportedOp: there is no kernel for one; the message names it.
        """
        computed = [n for n in graph.nodes if contract_of(n.tensor.op).computes]
        self.expect(computed)
        return self.program_of(computed)

    def expect(self, nodes: Iterable[Node]) -> None:
        """Hear of all nodes that write anywhere, before any of them is compiled."""
        for node in nodes:
            self.weights.computed(self.place(node.tensor)[0])

    def program_of(self, nodes: Iterable[Node]) -> CpuProgram:
        """Compile some nodes.

        Raises:
            UnsupportedOp: there is no kernel for one; the message names it.
        """
        self._steps = []
        ops: list[str] = []
        with np.errstate(all="ignore"):  # parameters may be anything
            for node in nodes:
                self._node(node)
                ops += [node.tensor.op.name] * (len(self._steps) - len(ops))
        return CpuProgram(self._steps, ops, (self._scratch, self._lasting))

    def place(self, tensor: Tensor) -> tuple[CpuBuffer, int]:
        """The buffer that holds a tensor, and the offset of its first byte there."""
        if not tensor.buffer:
            return NOWHERE, 0
        buffer, offset = place_of(tensor, self._buffers)
        return cast(CpuBuffer, buffer), offset

    def view(self, tensor: Tensor) -> Array:
        """A tensor's bytes as they are: see `arrays.view_of`."""
        buffer, offset = self.place(tensor)
        return view_of(tensor, buffer.memory, offset)

    def f32(self, tensor: Tensor) -> Array:
        """A tensor's values for the steps that follow.

        Returns:
            Shape ne reversed, float32: the view itself where the tensor is F32, else
            scratch into which a step put in front unpacks it.
        """
        view = self.view(tensor)
        if tensor.type is GGMLType.F32:
            return view
        values = self.scratch(tensor.ne[::-1])
        self.convert(CODECS[tensor.type].unpack, view, values)
        return values

    def result(self, tensor: Tensor) -> Array:
        """Where the steps that follow write a node's values.

        Returns:
            Shape ne reversed, float32: the view itself where the tensor is F32, else
            scratch that is packed into it after the node's last step.
        """
        view = self.view(tensor)
        if tensor.type is GGMLType.F32:
            return view
        values = self.scratch(tensor.ne[::-1])
        self._results.append((tensor, values, view))
        return values

    def scratch(self, shape: Sequence[int], dtype: npt.DTypeLike = np.float32) -> Array:
        """Memory that is this node's until its last step; contents undefined."""
        return self._scratch.take(tuple(shape), np.dtype(dtype))

    def lasting(self, shape: Sequence[int], dtype: npt.DTypeLike = np.float32) -> Array:
        """Memory that is the program's as long as it is there; contents undefined.

        However little a node takes, a graph may have 100,000 of it.
        """
        return self._lasting.take(tuple(shape), np.dtype(dtype))

    def reserve(self, nbytes: int) -> None:
        """Count memory that numpy takes for a step of the node, and gives back."""
        self._scratch.reserve(nbytes)

    def retain(self, nbytes: int) -> None:
        """Count memory that the program takes by itself, as long as it is there."""
        self._lasting.reserve(nbytes)

    def step(self, function: Callable[..., object], *args: object) -> None:
        """Append a call."""
        self._steps.append(partial(function, *args) if args else function)

    def demand_few(self, parts: int) -> None:
        """Say into how many parts a node's work is about to be cut.

        Raises:
            DeviceError: they would fill the memory by themselves.
            OutOfMemory: they would, together with those of other nodes.
        """
        if parts > MAX_PARTS:
            raise DeviceError(
                f"a node would be computed in {parts} parts, {MAX_PARTS} are the most:"
                " its shape is one that no model has"
            )
        self.retain(parts * PART)

    def parallel(self, tasks: Iterable[Step]) -> None:
        """Append tasks that are independent of each other, to run on the workers."""
        tasks = tuple(tasks)
        if tasks:
            self._steps.append(self.spread(tasks))

    def spread(self, tasks: Sequence[Step]) -> Step:
        """One step out of independent tasks, which runs them on the workers."""
        return tasks[0] if len(tasks) == 1 else partial(self.workers.run, tasks)

    def elementwise(
        self,
        ufunc: Callable[..., object],
        inputs: Sequence[Array | np.generic | float],
        out: Array,
    ) -> None:
        """Append `ufunc(*inputs, out)`, spread over the workers where it is large.

        Args:
            ufunc: a function of each element.
            inputs: scalars, or arrays that broadcast to the shape of `out`.
            out: where the result goes; may be one of the inputs.
        """
        if out.size < WORTH_SHARING or self.workers.threads == 1:
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
        """Append `function(*arrays, *temps)`, on the workers where it is large.

        There it is called for blocks of rows that stay in a processor's cache.

        Args:
            function: treats each row, an array's last axis, by itself.
            arrays: alike in all other axes.
            temps: lengths of the rows of float32 that it wants for its work.
        """
        lead = arrays[0].shape[:-1]
        size = max(array.size for array in arrays)
        if size < WORTH_SHARING:
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
        """Append a conversion row by row, spread over the workers where it is large.

        Args:
            function: one of `arrays.CODECS`.
            source: what it reads.
            target: what it writes; of the same shape but for the last axis.
        """
        large = max(source.size, target.size) >= WORTH_SHARING
        rows = pieces((*target.shape[:-1], 1), self.workers.threads if large else 1)
        self.parallel(partial(function, source[at], target[at]) for at in rows)

    def shared(
        self, key: object, tensors: Sequence[Tensor], make: Callable[[Compiler], Made]
    ) -> Made:
        """What several nodes of a graph have in common, made for the first of them.

        Args:
            key: equal for equal work.
            tensors: what it is made from; it is made anew once a node in between wrote
                over any of their bytes.
            make: appends the steps, and returns what they fill. Its arrays outlive the
                node, so they are `lasting`, not scratch.
        """
        return self._shared.get(key, tensors, lambda: make(self))

    def overwritten(self, tensor: Tensor) -> None:
        """A node wrote here: what was shared of it is stale."""
        self._shared.overwritten(tensor)

    def _node(self, node: Node) -> None:
        if not is_supported(node):
            raise UnsupportedOp(_refusal(node))
        if 0 in node.tensor.ne:
            return
        self._scratch.reset()
        for source in node.src:
            if source is not None and source.nelements > LARGE:
                self._reserve_copy(source, node.tensor)
        KERNELS[node.tensor.op].compile(node, self)
        for tensor, values, view in self._results:
            self.convert(PACKS[tensor.type], values, view)
        self._results.clear()
        self.overwritten(node.tensor)

    def _reserve_copy(self, source: Tensor, result: Tensor) -> None:
        """Count the copy that numpy makes of what would be overwritten unread."""
        in_place = (source.data, source.nb) == (result.data, result.nb)
        if not in_place and overlap(source, result):
            self.reserve(source.type.row_size(source.ne[0]) * source.nrows)


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


def _refusal(node: Node) -> str:
    sources = ", ".join(t.type.name for t in node.src if t is not None)
    return (
        f"{node.tensor}: the cpu device has no kernel for {node.tensor.op.name} of "
        f"({sources}) to {node.tensor.type.name}"
    )
