"""Rearranges the tensors of a case in memory; the results must not change.

Tensors that a view shows stay where they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ggrpc.op import Op
from ggrpc.ops import contract_of
from ggrpc.tensor import Dims, Tensor
from tests.support.case import ALIGNMENT, Case

# Ops whose result ggml's allocator may place over a source (ggml_op_can_inplace).
IN_PLACE = frozenset(
    {
        *(Op.SCALE, Op.DIAG_MASK_ZERO, Op.DIAG_MASK_INF, Op.ADD, Op.ADD_ID, Op.ADD1),
        *(Op.SUB, Op.MUL, Op.DIV, Op.SQR, Op.SQRT, Op.LOG, Op.UNARY, Op.ROPE),
        *(Op.ROPE_BACK, Op.SILU_BACK, Op.RMS_NORM, Op.RMS_NORM_BACK, Op.SOFT_MAX),
        Op.SOFT_MAX_BACK,
    }
)

Strides = Callable[[Tensor], Dims]


def shifted(case: Case, by: int) -> Case:
    """The case with all tensors moved by some bytes."""
    moved = [t._replace(data=t.data + by) for t in case.tensors]
    return case.rearranged(moved, case.size + by)


def with_gaps(tensor: Tensor) -> Dims:
    """Strides with gaps between rows, matrices and higher dimensions."""
    size = tensor.type.type_size
    nb1 = tensor.nb[1] + size
    nb2 = nb1 * tensor.ne[1] + 3 * size
    return tensor.nb[0], nb1, nb2, nb2 * tensor.ne[2] + size


def transposed(tensor: Tensor) -> Dims:
    """Strides of a transposed tensor: the elements of a column are adjacent."""
    if tensor.type.is_quantized:
        return tensor.nb
    size, (ne0, ne1, ne2, _) = tensor.type.type_size, tensor.ne
    return size * ne1, size, size * ne0 * ne1, size * ne0 * ne1 * ne2


def with_strided_sources(case: Case, strides: Strides) -> Case:
    """The case with other places and strides for all leaves that no view shows."""
    return _moved(case, strides, lambda tensor: not tensor.op)


def with_strided_results(case: Case, strides: Strides) -> Case:
    """The case with other places and strides for all results."""
    return _moved(case, strides, lambda tensor: contract_of(tensor.op).computes)


def in_place(case: Case) -> Iterator[Case]:
    """Cases whose last node overwrites a leaf, as ggml's allocator may decide."""
    *before, last = case.tensors
    for leaf in before:
        fits = leaf.id in last.src and not leaf.op and not last.view_src
        same = (leaf.type, leaf.ne, leaf.nb) == (last.type, last.ne, last.nb)
        if last.op in IN_PLACE and fits and same:
            over = last._replace(data=leaf.data)
            yield case.rearranged([*before, over], case.size)


def _moved(case: Case, strides: Strides, which: Callable[[Tensor], bool]) -> Case:
    seen = {tensor.view_src for tensor in case.tensors}
    tensors, size = [], case.size
    for tensor in case.tensors:
        if which(tensor) and not tensor.view_src and tensor.id not in seen:
            element = tensor.type.type_size
            tensor = tensor._replace(data=size + element, nb=strides(tensor))
            size += element + tensor.nb[3] * tensor.ne[3] + ALIGNMENT
        tensors.append(tensor)
    return case.rearranged(tensors, size)
