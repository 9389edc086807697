"""The graph that a client sends and a device runs, and the check at the gate.

A `Graph` is a value: tensors, and which of them are to be computed in which order.
`validate` proves what every device relies on. It reads no data: what an op reads as an
index is checked by the kernel that reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from ggrpc.errors import GraphError
from ggrpc.ops import Node, contract_of
from ggrpc.tensor import FLAG_COMPUTE, Tensor


class Region(NamedTuple):
    """The addresses of one buffer.

    Attributes:
        base: its first address.
        size: its bytes.
    """

    base: int
    size: int


@dataclass(frozen=True)
class Graph:
    """Tensors by id, and the ids of the nodes in the order of execution."""

    tensors: Mapping[int, Tensor]
    node_ids: tuple[int, ...]

    @classmethod
    def of(cls, tensors: Iterable[Tensor], node_ids: Sequence[int]) -> Graph:
        """Put a graph together.

        Raises:
            GraphError: two tensors share an id, or an id has no tensor.
        """
        listed = tuple(tensors)
        by_id = {tensor.id: tensor for tensor in listed}
        if len(by_id) != len(listed):
            raise GraphError("two tensors of the graph have the same id")
        for node_id in node_ids:
            if node_id and node_id not in by_id:
                raise GraphError(f"node {node_id:#x} is not among the graph's tensors")
        return cls(by_id, tuple(filter(None, node_ids)))

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes to compute, with their sources and parameters.

        Where any node is flagged COMPUTE, only those that are get computed: the rest
        are there because another part of a split graph needs them.

        Raises:
            GraphError: a source is missing.
        """
        tensors = [self.tensors[i] for i in self.node_ids]
        if any(tensor.flags & FLAG_COMPUTE for tensor in tensors):
            tensors = [t for t in tensors if t.flags & FLAG_COMPUTE]
        return tuple(self._node(tensor) for tensor in tensors)

    def _node(self, tensor: Tensor) -> Node:
        try:
            sources = tuple(self.tensors[i] if i else None for i in tensor.src)
        except KeyError as missing:
            raise GraphError(
                f"{tensor}: source {missing.args[0]:#x} is not among the tensors"
            ) from None
        return Node.of(tensor, sources)

    def validate(self, regions: Mapping[int, Region]) -> None:
        """Check every node, and everything it reads or writes, before anything runs.

        Args:
            regions: the session's buffers by handle.

        Raises:
            GraphError: a rule is broken; the message names node, op and rule.
        """
        computed_at = {node.tensor.id: at for at, node in enumerate(self.nodes)}
        placed: set[int] = set()
        for at, node in enumerate(self.nodes):
            contract = contract_of(node.tensor.op)
            contract.check(node)
            for tensor in (node.tensor, *filter(None, node.src)):
                if computed_at.get(tensor.id, -1) > at:
                    raise GraphError(f"{node.tensor}: computed before its {tensor}")
                # What a view shows is checked where it is read: llama.cpp sends views
                # that nothing reads, of tensors that it gave no memory.
                if contract.computes and tensor.id not in placed:
                    check_place(tensor, regions)
                    placed.add(tensor.id)


def check_place(tensor: Tensor, regions: Mapping[int, Region]) -> None:
    """Prove that a tensor's shape is sound and its bytes lie inside its buffer.

    An empty tensor may have no buffer, which is then 0.

    Raises:
        GraphError: they don't.
    """
    check_shape(tensor)
    if not tensor.buffer and 0 in tensor.ne:
        return  # llama.cpp gives an empty tensor no memory
    region = regions.get(tensor.buffer)
    if region is None:
        raise GraphError(f"{tensor}: buffer {tensor.buffer:#x} is not of this session")
    start = tensor.data - region.base
    if start < 0 or start + tensor.nbytes > region.size:
        raise GraphError(
            f"{tensor}: bytes {start} to {start + tensor.nbytes} do not lie inside its "
            f"buffer of {region.size}"
        )


def check_shape(tensor: Tensor) -> None:
    """Prove that ne and nb suit the type.

    Raises:
        GraphError: rows cut through blocks, or elements of a row overlap.
    """
    blck_size, type_size = tensor.type.blck_size, tensor.type.type_size
    if tensor.ne[0] % blck_size:
        raise GraphError(
            f"{tensor}: ne[0] = {tensor.ne[0]} is no multiple of "
            f"{tensor.type.name}'s block of {blck_size}"
        )
    if blck_size > 1 and tensor.nb[0] != type_size:
        raise GraphError(f"{tensor}: nb[0] = {tensor.nb[0]} cuts through blocks")
