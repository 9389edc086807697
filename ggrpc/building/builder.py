"""Builds a graph node by node, with methods like ggml's constructors.

The tensors are descriptions without memory; memory is allocated when the graph is
computed. Each node is checked against its op's contract when it is added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ggrpc.bounds import extent_of
from ggrpc.building.methods import Ops
from ggrpc.errors import GraphError
from ggrpc.graph import Graph
from ggrpc.op import Op
from ggrpc.ops import Contract, Node, contract_of
from ggrpc.ops.generators import ArangeParams, steps
from ggrpc.ops.patches import PatchParams
from ggrpc.ops.views import PermuteParams
from ggrpc.ops.windows import WinPartParams, WinUnpartParams
from ggrpc.tensor import MAX_DIMS, MAX_SRC, OP_PARAMS_BYTES, Dims, Tensor, contiguous_nb
from ggrpc.types import GGMLType

UNKNOWN: Dims = (0, 0, 0, 0)
PLACE_ALIGNMENT = 256  # of tensors in bytes, enough for every device


class GraphBuilder(Ops):
    """A graph under construction.

    `tensor` adds a leaf. Each op has a method of its name, such as `mul_mat` or
    `rms_norm`, that adds a node and returns its result. UNARY and GLU have a method for
    each of their functions, such as `silu` and `swiglu`. Nodes are computed in the
    order in which they were added.

    Every method that adds a tensor raises `GraphError` if that would break a rule; the
    message names the node and the rule.
    """

    def __init__(self) -> None:
        self._tensors: dict[int, Tensor] = {}

    @classmethod
    def of(cls, graph: Graph) -> GraphBuilder:
        """A builder with the tensors of a graph, to compute it or to add nodes.

        The places of the tensors in buffers are dropped. Tensors that the graph does
        not compute become leaves.

        Raises:
            GraphError: the graph lacks a tensor that a node reads.
        """
        builder, computed = cls(), {tensor.id: None for tensor in graph.computed}
        leaves = [id for id in graph.tensors if id not in computed]
        ids = {0: 0, **{id: at for at, id in enumerate([*leaves, *computed], 1)}}
        try:
            for id in leaves:
                builder._import(graph.tensors[id]._replace(op=Op.NONE, src=()), ids)
            for id in computed:
                builder._import(graph.tensors[id], ids)
        except KeyError as missing:
            raise GraphError(f"the graph lacks tensor {missing.args[0]:#x}") from None
        return builder

    def _import(self, tensor: Tensor, ids: Mapping[int, int]) -> None:
        src = tuple(ids[id] for id in tensor.src)
        self._tensors[ids[tensor.id]] = tensor._replace(
            id=ids[tensor.id],
            buffer=0,
            data=0,
            flags=0,
            use_count=0,
            src=(*src, *[0] * (MAX_SRC - len(src))),
            view_src=ids[tensor.view_src],
        )

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All tensors that were added."""
        return tuple(self._tensors.values())

    def graph(self) -> Graph:
        """The graph of all nodes; its tensors have no buffers."""
        return Graph.of(self.tensors, [t.id for t in self.tensors if t.op])

    def placed(self, buffer: int, base: int) -> tuple[Graph, int]:
        """The graph of all nodes, with all tensors in one buffer.

        Args:
            buffer: the handle of the buffer.
            base: the address of the buffer's first byte.

        Returns:
            The graph, and the bytes that the buffer must have.
        """
        tensors: dict[int, Tensor] = {}
        end = base
        for tensor in self.tensors:
            if tensor.view_src:
                data = tensors[tensor.view_src].data + tensor.view_offs
            else:
                units = -(-tensor.nbytes // PLACE_ALIGNMENT)
                data, end = end, end + units * PLACE_ALIGNMENT
            tensors[tensor.id] = tensor._replace(buffer=buffer, data=data)
        return Graph.of(tensors.values(), self.graph().node_ids), end - base

    def tensor(self, type: GGMLType | str, *ne: int, name: str = "") -> Tensor:
        """Add a leaf: a contiguous tensor that no node computes.

        Args:
            type: the type, or its name in capitals.
            ne: 1 to 4 dimensions, the fastest first.
            name: the name; empty for a generated one.
        """
        kind = GGMLType[type] if isinstance(type, str) else type
        dims = _dims(ne)
        return self._add(self._new(kind, dims, contiguous_nb(kind, dims)), name)

    def view(
        self,
        a: Tensor,
        ne: Sequence[int],
        nb: Sequence[int] | None = None,
        *,
        offset: int = 0,
        name: str = "",
    ) -> Tensor:
        """A view of a part of a tensor, with other dimensions and strides.

        Args:
            a: the tensor.
            ne: 1 to 4 dimensions.
            nb: the strides of the second and later dimensions in bytes, as in
                ggml_view_4d; missing ones are contiguous.
            offset: the offset of the first byte.
            name: the name.
        """
        dims = _dims(ne)
        strides = [a.type.type_size, *(nb or [a.type.row_size(dims[0])])]
        while len(strides) < MAX_DIMS:
            strides.append(strides[-1] * dims[len(strides) - 1])
        return self._view(Op.VIEW, a, dims, _nb(strides), offset, name=name)

    def reshape(self, a: Tensor, *ne: int, name: str = "") -> Tensor:
        """A view of a contiguous tensor with other dimensions."""
        if not a.is_contiguous:
            raise GraphError(f"{a}: it is not contiguous: use cont instead of reshape")
        dims = _dims(ne)
        return self._view(Op.RESHAPE, a, dims, contiguous_nb(a.type, dims), name=name)

    def permute(
        self,
        a: Tensor,
        axis0: int,
        axis1: int,
        axis2: int = 2,
        axis3: int = 3,
        *,
        name: str = "",
    ) -> Tensor:
        """A view with permuted dimensions: dimension 0 becomes axis0, and so on."""
        axes = PermuteParams(axis0, axis1, axis2, axis3)
        if sorted(axes) != list(range(MAX_DIMS)):
            raise GraphError(f"{a}: {list(axes)} is not a permutation of 0, 1, 2, 3")
        ne, nb = [0] * MAX_DIMS, [0] * MAX_DIMS
        for at, axis in enumerate(axes):
            ne[axis], nb[axis] = a.ne[at], a.nb[at]
        return self._view(Op.PERMUTE, a, _dims(ne), _nb(nb), params=axes, name=name)

    def transpose(self, a: Tensor, *, name: str = "") -> Tensor:
        """A view with the first two dimensions exchanged."""
        ne, nb = a.ne, a.nb
        return self._view(
            *(Op.TRANSPOSE, a, (ne[1], ne[0], *ne[2:]), (nb[1], nb[0], *nb[2:])),
            name=name,
        )

    def cont(self, a: Tensor, *ne: int, name: str = "") -> Tensor:
        """Make a contiguous copy of a tensor, optionally with other dimensions."""
        return self.node(Op.CONT, [a], ne=ne or a.ne, name=name)

    def cpy(self, a: Tensor, b: Tensor, *, name: str = "") -> Tensor:
        """Copy `a` into `b`, converted to the type of `b`; the result is `b`."""
        return self.node(Op.CPY, [a, b], type=b.type, over=b, name=name)

    def cast(self, a: Tensor, type: GGMLType | str, *, name: str = "") -> Tensor:
        """Copy a tensor into a new one of another type."""
        return self.cpy(a, self.tensor(type, *a.ne), name=name)

    def set_rows(self, a: Tensor, b: Tensor, c: Tensor, *, name: str = "") -> Tensor:
        """Replace rows of `a` by the rows of `b`; the result is `a`.

        Args:
            a: the tensor that is written to.
            b: the new rows, F32.
            c: the index in `a` of each row of `b`, I32 or I64.
            name: the name.
        """
        sources = [b, c, a]
        return self.node(Op.SET_ROWS, sources, ne=a.ne, type=a.type, over=a, name=name)

    def arange(
        self, start: float, stop: float, step: float = 1.0, *, name: str = ""
    ) -> Tensor:
        """The numbers start, start + step and so on, below `stop`."""
        params = ArangeParams(start, stop, step)
        return self.node(Op.ARANGE, [], params, ne=(steps(params),), name=name)

    def top_k(self, a: Tensor, k: int, *, name: str = "") -> Tensor:
        """The indices of the `k` largest elements of each row, in any order."""
        return self.node(Op.TOP_K, [a], ne=(k, *a.ne[1:]), name=name)

    def win_part(self, a: Tensor, w: int, *, name: str = "") -> Tensor:
        """Split an image into windows of `w` x `w`."""
        npx, npy = (-(-n // w) if w > 0 else 0 for n in a.ne[1:3])
        return self.node(Op.WIN_PART, [a], WinPartParams(npx, npy, w), name=name)

    def win_unpart(
        self, a: Tensor, w0: int, h0: int, w: int, *, name: str = ""
    ) -> Tensor:
        """Join windows of `w` x `w` to an image of `w0` x `h0`."""
        ne = (a.ne[0], w0, h0)
        return self.node(Op.WIN_UNPART, [a], WinUnpartParams(w), ne=ne, name=name)

    def acc(
        self,
        a: Tensor,
        b: Tensor,
        offset: int,
        nb: Sequence[int] | None = None,
        *,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor:
        """Add `b` to a view of `a`.

        Args:
            a: the tensor; the result has its shape.
            b: the tensor to add.
            offset: the offset of the view in bytes.
            nb: the four strides of the view in bytes; None for those of `a`.
            inplace: whether the result overwrites `a`.
            name: the name.
        """
        return self._patch(Op.ACC, a, b, offset, nb, inplace, name)

    def set(
        self,
        a: Tensor,
        b: Tensor,
        offset: int,
        nb: Sequence[int] | None = None,
        *,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor:
        """Replace a view of `a` by `b`; the arguments are those of `acc`."""
        return self._patch(Op.SET, a, b, offset, nb, inplace, name)

    def opt_step_adamw(
        self,
        a: Tensor,
        grad: Tensor,
        m: Tensor,
        v: Tensor,
        adamw_params: Tensor,
        *,
        name: str = "",
    ) -> Tensor:
        """Update the weights `a` with AdamW; the result is `a`."""
        sources = [a, grad, m, v, adamw_params]
        return self.node(Op.OPT_STEP_ADAMW, sources, over=a, name=name)

    def opt_step_sgd(
        self, a: Tensor, grad: Tensor, sgd_params: Tensor, *, name: str = ""
    ) -> Tensor:
        """Update the weights `a` with SGD; the result is `a`."""
        return self.node(Op.OPT_STEP_SGD, [a, grad, sgd_params], over=a, name=name)

    def node(
        self,
        op: Op,
        sources: Sequence[Tensor | None],
        params: Any = None,
        *,
        ne: Sequence[int] | None = None,
        type: GGMLType | None = None,
        over: Tensor | None = None,
        name: str = "",
    ) -> Tensor:
        """Add a node of any op.

        Args:
            op: the op.
            sources: the sources in the contract's order; None for absent ones.
            params: the NamedTuple of the contract; None for zeros.
            ne: the dimensions of the result, if the sources do not determine them.
            type: the type of the result, if the sources do not determine it.
            over: the tensor that the result overwrites; None for new memory.
            name: the name.
        """
        contract = contract_of(op)
        src = self._owned(sources)
        if params is None:
            params = contract.unpack_params(bytes(OP_PARAMS_BYTES))
        kind = type or _type(contract, src)
        blank = self._new(kind, _dims(ne) if ne else UNKNOWN, UNKNOWN)
        blank = _named(blank._replace(op=op), name)
        dims = _shape(contract, Node(blank, src, params))
        tensor = blank._replace(
            ne=dims,
            nb=over.nb if over else contiguous_nb(kind, dims),
            op_params=contract.pack_params(params),
            src=tuple(t.id if t else 0 for t in src),
        )
        if over:
            if (over.ne, over.type) != (dims, kind):
                raise GraphError(
                    f"{op.name}: its result has another shape or type than {over}, "
                    "which it should overwrite"
                )
            tensor = _at(tensor, over)
        contract.check(Node(tensor, src, params))
        return self._add(tensor, name)

    def _patch(
        self,
        op: Op,
        a: Tensor,
        b: Tensor,
        offset: int,
        nb: Sequence[int] | None,
        inplace: bool,
        name: str,
    ) -> Tensor:
        if nb is not None and len(nb) != MAX_DIMS:
            raise GraphError(f"{op.name}: nb must have {MAX_DIMS} strides, not {nb}")
        _, nb1, nb2, nb3 = nb or a.nb
        params = PatchParams(nb1, nb2, nb3, offset, int(inplace))
        return self.node(op, [a, b], params, over=a if inplace else None, name=name)

    def _view(
        self,
        op: Op,
        a: Tensor,
        ne: Dims,
        nb: Dims,
        offset: int = 0,
        *,
        params: Any = None,
        name: str,
    ) -> Tensor:
        contract = contract_of(op)
        src = self._owned([a])
        tensor = self._new(a.type, ne, nb)._replace(
            op=op, src=tuple(t.id if t else 0 for t in src)
        )
        if params is not None:
            tensor = tensor._replace(op_params=contract.pack_params(params))
        tensor = _at(_named(tensor, name), a, offset)
        contract.check(Node(tensor, src, params))
        root = self._tensors[tensor.view_src]
        if offset < 0 or tensor.view_offs + tensor.nbytes > root.nbytes:
            raise GraphError(f"{tensor}: the view is not inside {root}")
        return self._add(tensor, name)

    def _owned(self, sources: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
        """Check that the sources belong to this graph, and extend them to ten."""
        for tensor in sources:
            if tensor is not None and self._tensors.get(tensor.id) != tensor:
                raise GraphError(f"{tensor} belongs to another graph")
        return (*sources, *[None] * (MAX_SRC - len(sources)))

    def _new(self, type: GGMLType, ne: Dims, nb: Dims) -> Tensor:
        return Tensor(len(self._tensors) + 1, type, 0, ne, nb)

    def _add(self, tensor: Tensor, name: str) -> Tensor:
        tensor = _named(tensor, name)
        extent_of(tensor)
        self._tensors[tensor.id] = tensor
        return tensor


def _type(contract: Contract, sources: Sequence[Tensor | None]) -> GGMLType:
    """The type of the result: that of the first source if possible, else F32."""
    first = sources[0]
    if first is not None and first.type in contract.result:
        return first.type
    return GGMLType.F32 if GGMLType.F32 in contract.result else min(contract.result)


def _shape(contract: Contract, node: Node) -> Dims:
    try:
        dims = contract.ne(node)
    except ZeroDivisionError:  # a parameter is 0; a rule of the contract reports it
        return node.tensor.ne
    if dims == UNKNOWN and any(t is not None and t.ne != UNKNOWN for t in node.src):
        raise GraphError(f"{contract.op.name}: give the dimensions of the result, ne")
    return dims


def _at(tensor: Tensor, source: Tensor, offset: int = 0) -> Tensor:
    """The tensor as a view of a source."""
    return tensor._replace(
        view_src=source.view_src or source.id, view_offs=source.view_offs + offset
    )


def _named(tensor: Tensor, name: str) -> Tensor:
    text = name or f"{tensor.op.name.lower() if tensor.op else 'leaf'}_{tensor.id}"
    return tensor._replace(raw_name=text.encode()[:63])


def _dims(ne: Sequence[int]) -> Dims:
    if not 1 <= len(ne) <= MAX_DIMS or min(ne) < 0:
        raise GraphError(
            f"{list(ne)} are not valid dimensions: give 1 to {MAX_DIMS} numbers, none "
            "of them negative"
        )
    a, b, c, d = (*map(int, ne), 1, 1, 1)[:MAX_DIMS]
    return a, b, c, d


def _nb(strides: Sequence[int]) -> Dims:
    a, b, c, d = strides
    return a, b, c, d
