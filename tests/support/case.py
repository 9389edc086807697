"""A small graph with its data, to run on any device or server and compare the results.

A `Case` is pure data: tensors at made-up addresses of a single buffer, and the bytes of
this buffer before the graph runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ggrpc.bounds import Region
from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.device import Device, Placed
from ggrpc.engine.compute.random_data import random_blocks
from ggrpc.formats.codecs import CODECS, DTYPES, Array, view_of
from ggrpc.graph import Graph
from ggrpc.op import Op
from ggrpc.ops.contract import contract_of, params_layout
from ggrpc.tensor import (
    FLAG_COMPUTE,
    MAX_SRC,
    OP_PARAMS_BYTES,
    Dims,
    Tensor,
    contiguous_nb,
)
from ggrpc.types import GGMLType

ALIGNMENT = 64
BASE = 0x7000_0000_0000
HANDLE = 0x11


class Case:
    """Builds a graph tensor by tensor; addresses are offsets into the buffer.

    Args:
        seed: the seed of all random contents.
        limit: how far ggml's rounding may take its result from the exact one, as a
            normalised mean squared error; None if ggml rounds no more than ggrpc does.

    Attributes:
        tensors: every tensor so far.
        size: the size of the buffer in bytes.
        rng: the generator for contents that a test makes itself.
    """

    def __init__(self, seed: int = 0, limit: float | None = None) -> None:
        self.limit = limit
        self.tensors: list[Tensor] = []
        self.size = 0
        self.rng = np.random.default_rng(seed)
        self._contents: list[tuple[Tensor, Array]] = []

    def leaf(
        self,
        contents: Array | Sequence[int],
        type: GGMLType = GGMLType.F32,
        name: str = "",
    ) -> Tensor:
        """Add a contiguous tensor that no node computes.

        Args:
            contents: values in numpy's order (of shape ne reversed), or ne for random
                values (normally distributed floats, or valid quantized blocks).
            type: its type, into which the values are packed.
            name: its name.
        """
        if isinstance(contents, np.ndarray):
            ne = _dims(contents.shape[::-1])
            stored = packed(contents.reshape(ne[::-1]), type)
        else:
            ne = _dims(contents)
            stored = self._random(ne, type)
        tensor = self._add(type, ne, self._take(type, ne), name=name)
        self._contents.append((tensor, stored))
        return tensor

    def view(
        self,
        source: Tensor,
        ne: Sequence[int],
        nb: Sequence[int] | None = None,
        offset: int = 0,
        name: str = "",
    ) -> Tensor:
        """Add a VIEW: other ne and nb over the bytes of `source`, from `offset` on.

        Args:
            source: the tensor to view.
            ne: its dimensions, 1 to 4 of them.
            nb: its strides, as many as ne; None for contiguous ones.
            offset: the offset in bytes.
            name: its name.
        """
        dims = _dims(ne)
        return self._add(
            source.type,
            dims,
            source.data + offset,
            nb=_strides(nb, source.type, dims) if nb else None,
            op=Op.VIEW,
            src=_ids([source]),
            view_src=source.view_src or source.id,
            view_offs=offset,
            name=name,
        )

    def permute(self, source: Tensor, *axes: int, name: str = "") -> Tensor:
        """Add a PERMUTE: dimension i of `source` becomes dimension axes[i]."""
        ne, nb = [0] * 4, [0] * 4
        for at, axis in enumerate(axes):
            ne[axis], nb[axis] = source.ne[at], source.nb[at]
        return self._add(
            source.type,
            _dims(ne),
            source.data,
            nb=_dims(nb),
            op=Op.PERMUTE,
            op_params=_op_params(contract_of(Op.PERMUTE).params(*axes)),
            src=_ids([source]),
            view_src=source.view_src or source.id,
            name=name,
        )

    def node(
        self,
        op: Op,
        sources: Sequence[Tensor | None],
        ne: Sequence[int],
        type: GGMLType = GGMLType.F32,
        params: Any = None,
        inplace_over: Tensor | None = None,
        name: str = "",
    ) -> Tensor:
        """Add a tensor to compute.

        Args:
            op: the op that computes it.
            sources: in ggml's order, None for absent ones.
            ne: its dimensions, 1 to 4 of them.
            type: its type.
            params: the NamedTuple of the op's contract.
            inplace_over: the tensor that it overwrites, with the same strides; None to
                allocate new space.
            name: its name.
        """
        dims = _dims(ne)
        over = inplace_over
        return self._add(
            type,
            dims,
            over.data if over else self._take(type, dims),
            nb=over.nb if over else None,
            op=op,
            op_params=_op_params(params),
            flags=FLAG_COMPUTE,  # newer versions of ggml skip nodes without it
            src=_ids(sources),
            view_src=over.view_src or over.id if over else 0,
            name=name,
        )

    def graph(self, base: int = BASE, handle: int = HANDLE) -> Graph:
        """The graph of all tensors, in a buffer with this handle and base address."""
        placed = [t._replace(buffer=handle, data=base + t.data) for t in self.tensors]
        return Graph.of(placed, [t.id for t in placed if t.op])

    def rearranged(self, tensors: Sequence[Tensor], size: int) -> Case:
        """The same graph and data, with the tensors at other places.

        Args:
            tensors: all tensors, with other nb and data.
            size: the size of the buffer in bytes.
        """
        case = Case(limit=self.limit)
        case.tensors, case.size = list(tensors), size
        by_id = {tensor.id: tensor for tensor in tensors}
        case._contents = [(by_id[leaf.id], data) for leaf, data in self._contents]
        return case

    @property
    def image(self) -> bytes:
        """The buffer before the graph runs, with random bytes where nodes write."""
        image = bytearray(np.random.default_rng(1).bytes(self.size))
        self.fill(memoryview(image))
        return bytes(image)

    def fill(self, memory: memoryview) -> None:
        """Write the contents of the leaves to their places in the buffer."""
        for tensor, stored in self._contents:
            view = view_of(tensor, memory, tensor.data)
            view[...] = stored.reshape(view.shape)

    def results(self, image: bytes | bytearray) -> dict[str, Array]:
        """The value of each node that computes, by name (or by id if it has no name).

        Args:
            image: the buffer after the graph ran.

        Returns:
            Arrays of shape ne reversed: float32 for float and quantized types, and
            others as stored.
        """
        return {
            tensor.name or str(tensor.id): values(tensor, image)
            for tensor in self.tensors
            if tensor.op and contract_of(tensor.op).computes
        }

    def _take(self, type: GGMLType, ne: Dims) -> int:
        """Allocate space for a tensor; returns its address."""
        start = self.size
        nbytes = type.row_size(ne[0]) * ne[1] * ne[2] * ne[3]
        self.size = -(-(start + nbytes) // ALIGNMENT) * ALIGNMENT
        return start

    def _add(
        self, type: GGMLType, ne: Dims, data: int, *, name: str, **fields: Any
    ) -> Tensor:
        fields["nb"] = fields.get("nb") or contiguous_nb(type, ne)
        tensor = Tensor(
            id=len(self.tensors) + 1,
            type=type,
            buffer=0,
            ne=ne,
            data=data,
            raw_name=name.encode(),
            **fields,
        )
        self.tensors.append(tensor)
        return tensor

    def _random(self, ne: Dims, type: GGMLType) -> Array:
        if type not in CODECS:
            raise ValueError(f"a {type.name} leaf needs given values")
        if type.is_quantized:
            count = ne[0] // type.blck_size * ne[1] * ne[2] * ne[3]
            return random_blocks(type, count, self.rng)
        return packed(self.rng.standard_normal(ne[::-1], np.float32), type)


def run_case(device: Device, case: Case) -> dict[str, Array]:
    """Validate, compile and run a case on a device.

    It runs twice, because a run must not change the result of the next one.

    Returns:
        The value of each node that computes, as `Case.results` gives them.
    """
    buffer = device.allocate(case.size)
    graph = case.graph()
    graph.validate({HANDLE: Region(BASE, case.size)})
    assert all(device.supports(node) for node in graph.nodes)
    program = device.compile(graph, {HANDLE: Placed(BASE, buffer)})
    images = []
    for _ in range(2):
        with buffer.write(0, case.size) as window:
            window[:] = case.image
        program.run()
        with buffer.read(0, case.size) as window:
            images.append(bytes(window))
    buffer.free()
    assert images[0] == images[1]
    return case.results(images[0])


def count_steps(device: CpuDevice, case: Case) -> int:
    """The number of steps in the program of a case."""
    buffer = device.allocate(case.size)
    program = device.compile(case.graph(), {HANDLE: Placed(BASE, buffer)})
    buffer.free()
    return len(program.steps)


def values(tensor: Tensor, image: bytes | bytearray) -> Array:
    """The values of a tensor in the bytes of a buffer, as in `Case.results`."""
    view = view_of(tensor, memoryview(image), tensor.data)
    if tensor.type not in CODECS:
        return view.copy()
    out = np.empty(tensor.ne[::-1], np.float32)
    CODECS[tensor.type].unpack(view, out)
    return out


def packed(array: Array, type: GGMLType) -> Array:
    if type not in CODECS:
        return array.astype(DTYPES[type])
    pack = CODECS[type].pack
    if pack is None:
        raise ValueError(f"no values can be packed into {type.name}")
    row = type.row_size(array.shape[-1]) if type.is_quantized else array.shape[-1]
    out = np.empty((*array.shape[:-1], row), DTYPES.get(type, np.dtype(np.uint8)))
    pack(array.astype(np.float32), out)
    return out


def _dims(ne: Sequence[int]) -> Dims:
    a, b, c, d = (*ne, 1, 1, 1, 1)[:4]
    return a, b, c, d


def _strides(nb: Sequence[int], type: GGMLType, ne: Dims) -> Dims:
    full = list(nb)
    for at in range(len(nb), 4):
        full.append(full[-1] * ne[at - 1])
    return _dims(full)


def _ids(sources: Sequence[Tensor | None]) -> tuple[int, ...]:
    ids = [source.id if source else 0 for source in sources]
    return (*ids, *[0] * (MAX_SRC - len(ids)))


def _op_params(params: Any) -> bytes:
    if params is None:
        return bytes(OP_PARAMS_BYTES)
    return params_layout(type(params)).pack(*params).ljust(OP_PARAMS_BYTES, b"\0")
