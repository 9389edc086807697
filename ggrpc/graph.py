"""The graph that a client sends and a device computes, and its validation.

Devices rely on the checks of `Graph.validate`. It does not read data: indices in
tensors are checked by the kernels that read them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ggrpc.bounds import Extent, Region, check_inside, check_no_overlap, extent_of
from ggrpc.errors import GraphError
from ggrpc.ops import Contract, Node, contract_of
from ggrpc.tensor import FLAG_COMPUTE, Tensor


@dataclass(frozen=True)
class Graph:
    """Tensors, and the nodes in the order of execution.

    Attributes:
        tensors: the nodes and all tensors that they read, by id.
        node_ids: the ids of the nodes in order.
        kind_numbers: a number for each tensor, in the order of `tensors`, if the
            decoder computed them; tensors with equal numbers have the same type, ne,
            nb, op and parameters.
    """

    tensors: Mapping[int, Tensor]
    node_ids: tuple[int, ...]
    kind_numbers: Sequence[int] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        tensors: Iterable[Tensor],
        node_ids: Sequence[int],
        kind_numbers: Sequence[int] | None = None,
    ) -> Graph:
        """Create a graph.

        Raises:
            GraphError: two tensors have the same id, a node is not among the tensors or
                occurs twice, or an id is 0.
        """
        listed = tuple(tensors)
        by_id = {tensor.id: tensor for tensor in listed}
        if len(by_id) != len(listed):
            raise GraphError("two tensors of the graph have the same id")
        if 0 in by_id:
            raise GraphError(f"{by_id[0]}: its id is 0, which means no tensor")
        nodes = tuple(node_ids)
        if 0 in nodes:
            raise GraphError(
                f"node {nodes.index(0)} of {len(nodes)} has the id 0, which means no "
                "tensor"
            )
        missing = set(nodes) - by_id.keys()
        if missing:
            raise GraphError(f"node {min(missing):#x} is not among the graph's tensors")
        if len(set(nodes)) != len(nodes):
            raise GraphError("a node occurs twice in the graph")
        return cls(by_id, nodes, kind_numbers)

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes to compute, with their sources and parameters.

        Raises:
            GraphError: a source is missing.
        """
        return tuple(map(self._node, self.computed))

    @cached_property
    def computed(self) -> list[Tensor]:
        """The tensors to compute, in order.

        If any node has the flag COMPUTE, only nodes with that flag are computed. The
        others belong to another part of a split graph.
        """
        tensors = [self.tensors[i] for i in self.node_ids]
        flagged = [tensor for tensor in tensors if tensor.flags & FLAG_COMPUTE]
        return flagged or tensors

    @cached_property
    def kinds(self) -> dict[int, int]:
        """The number of each tensor's kind, by id; -1 for the id 0, no tensor.

        Tensors of one kind have the same type, ne, nb, op and parameters. The layers of
        a model repeat the same kinds, so checks need to be done only once for each.
        """
        numbers = self.kind_numbers
        if numbers is None:
            seen: dict[object, int] = {}
            numbers = [
                seen.setdefault((t.type, t.ne, t.nb, t.op, t.op_params), len(seen))
                for t in self.tensors.values()
            ]
        return {0: -1, **dict(zip(self.tensors, numbers, strict=True))}

    def validate(self, regions: Mapping[int, Region]) -> None:
        """Check every node, and all tensors that it reads or writes.

        Args:
            regions: the buffers of the session by handle.

        Raises:
            GraphError: a rule is broken; the message names the node, op and rule.
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
        """Check each node against its contract, and the order of execution.

        Returns:
            The ids of all tensors whose bytes are read or written. Views are included
            only if a node reads them, because llama.cpp sends unused views of tensors
            that it did not allocate.
        """
        kind_of = self.kinds.__getitem__
        places = dict.fromkeys(self.kinds, -1)
        places.update({tensor.id: at for at, tensor in enumerate(self.computed)})
        place_of = places.__getitem__
        checked: set[tuple[int, ...]] = set()
        touched: set[int] = set()
        for at, tensor in enumerate(self.computed):
            contract = self._contract(tensor)
            sources = contract.used(tensor.src)
            try:
                kinds = kind_of(tensor.id), *map(kind_of, sources)
            except KeyError:
                raise self._missing(tensor) from None
            if kinds not in checked:
                self._check(tensor, contract)
                checked.add(kinds)
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
        """Do the checks that depend only on the kinds of a node and its sources."""
        contract.check(self._node(tensor))
        if contract.computes:
            check_no_overlap(tensor)

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
        return GraphError(f"{tensor}: computed before its source {source}")
