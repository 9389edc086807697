"""The graph that a client sends and a device runs, and the check at the gate.

A `Graph` is a value: tensors, and which of them are to be computed in which order.
`validate` proves what every device relies on. It reads no data: what an op reads as an
index is checked by the kernel that reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ggrpc.bounds import Extent, Region, check_apart, check_inside, extent_of
from ggrpc.errors import GraphError
from ggrpc.ops import Contract, Node, contract_of
from ggrpc.tensor import FLAG_COMPUTE, Tensor


@dataclass(frozen=True)
class Graph:
    """Tensors by id, and the ids of the nodes in the order of execution.

    Attributes:
        tensors: all that the nodes are and read.
        node_ids: the nodes.
        numbers: of the tensors' kinds, in their order, where a decoder has them: equal
            ones have the same type, ne, nb, op and parameters.
    """

    tensors: Mapping[int, Tensor]
    node_ids: tuple[int, ...]
    numbers: Sequence[int] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        tensors: Iterable[Tensor],
        node_ids: Sequence[int],
        numbers: Sequence[int] | None = None,
    ) -> Graph:
        """Put a graph together.

        Raises:
            GraphError: two tensors share an id, or an id has no tensor, or a node is
                to be computed twice.
        """
        listed = tuple(tensors)
        by_id = {tensor.id: tensor for tensor in listed}
        if len(by_id) != len(listed):
            raise GraphError("two tensors of the graph have the same id")
        if 0 in by_id:
            raise GraphError(f"{by_id[0]}: its id is 0, which stands for none")
        nodes = tuple(filter(None, node_ids))
        missing = set(nodes) - by_id.keys()
        if missing:
            raise GraphError(f"node {min(missing):#x} is not among the graph's tensors")
        if len(set(nodes)) != len(nodes):
            raise GraphError("a node of the graph is there twice")
        return cls(by_id, nodes, numbers)

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes to compute, with their sources and parameters.

        Raises:
            GraphError: a source is missing.
        """
        return tuple(map(self._node, self.computed))

    @cached_property
    def computed(self) -> list[Tensor]:
        """The tensors to compute.

        Where any node is flagged COMPUTE, only those that are get computed: the rest
        are there because another part of a split graph needs them.
        """
        tensors = [self.tensors[i] for i in self.node_ids]
        flagged = [tensor for tensor in tensors if tensor.flags & FLAG_COMPUTE]
        return flagged or tensors

    @cached_property
    def kinds(self) -> dict[int, int]:
        """The number of each tensor's kind, by id; that of no tensor, the id 0, is -1.

        The parts of a model's layers are of few kinds, and what holds of one tensor's
        shape and parameters holds of all of its kind.
        """
        numbers = self.numbers
        if numbers is None:
            seen: dict[object, int] = {}
            numbers = [
                seen.setdefault((t.type, t.ne, t.nb, t.op, t.op_params), len(seen))
                for t in self.tensors.values()
            ]
        return {0: -1, **dict(zip(self.tensors, numbers, strict=True))}

    def validate(self, regions: Mapping[int, Region]) -> None:
        """Check every node, and everything it reads or writes, before anything runs.

        Args:
            regions: the session's buffers by handle.

        Raises:
            GraphError: a rule is broken; the message names node, op and rule.
        """
        touched, tensors, kinds = self._check_nodes(), self.tensors, self.kinds
        extents: dict[int, Extent] = {}
        for i in touched:
            tensor, kind = tensors[i], kinds[i]
            extent = extents.get(kind)
            try:
                if extent is None:
                    extent = extents[kind] = extent_of(tensor)
                check_inside(tensor, extent, regions)
            except GraphError as error:
                raise GraphError(f"{self._reader_of(tensor)}{error}") from None

    def _reader_of(self, tensor: Tensor) -> str:
        """The node that reads a tensor, for an error; empty for a node's own result."""
        for node in self.computed:
            contract = contract_of(node.op)
            if contract.computes and node.id == tensor.id:
                return ""
            if contract.computes and tensor.id in contract.used(node.src):
                return f"{node} reads "
        return ""

    def _check_nodes(self) -> set[int]:
        """Hold each node against its contract and the order of execution.

        Returns:
            The ids of all tensors whose bytes are read or written. What a view shows is
            checked where it is read: llama.cpp sends views that nothing reads, of
            tensors that it gave no memory.
        """
        kind_of = self.kinds.__getitem__
        places = dict.fromkeys(self.kinds, -1)
        places.update({tensor.id: at for at, tensor in enumerate(self.computed)})
        place_of = places.__getitem__
        sound: set[tuple[int, ...]] = set()
        touched: set[int] = set()
        for at, tensor in enumerate(self.computed):
            contract = self._contract(tensor)
            sources = contract.used(tensor.src)
            try:
                kinds = kind_of(tensor.id), *map(kind_of, sources)
            except KeyError:
                raise self._missing(tensor) from None
            if kinds not in sound:
                self._check(tensor, contract)
                sound.add(kinds)
            # A cast is a CPY to itself, so a node may be its own source.
            if sources and max(map(place_of, sources)) > at:
                raise self._too_early(tensor, places)
            if contract.computes:
                touched.add(tensor.id)
                touched.update(sources)
            if contract.placed is not None:
                contract.check_placed(self._node(tensor))
        return touched - {0}

    def _contract(self, tensor: Tensor) -> Contract:
        try:
            return contract_of(tensor.op)
        except GraphError as error:
            raise GraphError(f"{tensor}: {error}") from None

    def _check(self, tensor: Tensor, contract: Contract) -> None:
        """Hold a node against its contract, as far as its kind and its sources' go."""
        contract.check(self._node(tensor))
        if contract.computes:
            check_apart(tensor)

    def _node(self, tensor: Tensor) -> Node:
        try:
            sources = tuple(self.tensors[i] if i else None for i in tensor.src)
        except KeyError:
            raise self._missing(tensor) from None
        return Node.of(tensor, sources)

    def _missing(self, tensor: Tensor) -> GraphError:
        missing = next(i for i in tensor.src if i and i not in self.tensors)
        return GraphError(f"{tensor}: source {missing:#x} is not among the tensors")

    def _too_early(self, tensor: Tensor, places: Mapping[int, int]) -> GraphError:
        source = self.tensors[max(tensor.src, key=places.__getitem__)]
        return GraphError(f"{tensor}: computed before its {source}")
