"""Launches for RWKV_WKV6, RWKV_WKV7, GATED_LINEAR_ATTN and GATED_DELTA_NET."""

from __future__ import annotations

from ggrpc.devices.opencl.compiler import Compiler
from ggrpc.devices.opencl.kernel_table import kernel
from ggrpc.devices.opencl.predicates import all_dense_f32
from ggrpc.ops import Node, Op
from ggrpc.ops.linear_attention import DeltaNet, Gla, Wkv6, Wkv7
from ggrpc.tensor import Dims, Tensor

MAX_WIDTH = 256  # elements of the longest row of a state that fits a work-item


def _accepts(node: Node) -> bool:
    size = node.source(0).ne[0]
    return (
        size % 16 == 0
        and 0 < size <= MAX_WIDTH
        and all_dense_f32(node)
        and node.source(0).nelements > 0
    )


def _by_sequence(k: Tensor, state: Tensor) -> Dims:
    """The ne of k with its tokens split by sequence."""
    seqs = state.ne[1]
    return k.ne[0], k.ne[1], k.ne[2] // seqs, seqs


@kernel(Op.RWKV_WKV7, accepts=_accepts)
def rwkv_wkv7(node: Node, c: Compiler) -> None:
    """Append the recurrence, one work-item per row of the states."""
    src = [node.source(at) for at in Wkv7]
    ne = _by_sequence(src[Wkv7.K], src[Wkv7.STATE])
    kernel = c.kernel("linear_attention", "wkv7", SIZE=ne[0], READS_FIRST=0)
    groups = c.traits.groups(ne[0] * ne[1] * ne[3])
    strides = [tensor.nb for tensor in src[: Wkv7.STATE]]
    c.launch(kernel, (groups,), *src, node.tensor, ne, *strides)


@kernel(Op.GATED_DELTA_NET, accepts=_accepts)
def gated_delta_net(node: Node, c: Compiler) -> None:
    """Append the recurrence, one work-item per row of the states."""
    src = [node.source(at) for at in DeltaNet]
    q, k, v, g, beta, _ = src
    size, heads, _, seqs = v.ne
    kernel = c.kernel("linear_attention", "delta_net", SIZE=size, READS_FIRST=0)
    c.launch(
        kernel,
        (c.traits.groups(size * heads * seqs),),
        *src,
        node.tensor,
        *(v.ne, q.ne, q.nb, k.ne, k.nb, v.nb, g.nb, beta.nb),
        *(g.ne[0], node.params.slots, size**-0.5),
    )


@kernel(Op.RWKV_WKV6, accepts=_accepts)
def rwkv_wkv6(node: Node, c: Compiler) -> None:
    """Append the recurrence, one work-item per 16 columns of the states."""
    k, v, r, u, w, state = (node.source(at) for at in Wkv6)
    _by_columns(c, (k, v, r, u, w, state, node.tensor), 1.0, reads_first=True)


@kernel(Op.GATED_LINEAR_ATTN, accepts=_accepts)
def gated_linear_attn(node: Node, c: Compiler) -> None:
    """Append the recurrence, one work-item per 16 columns of the states."""
    k, v, q, g, state = (node.source(at) for at in Gla)
    tensors = k, v, q, k, g, state, node.tensor
    _by_columns(c, tensors, node.params.scale, reads_first=False)


def _by_columns(
    c: Compiler, tensors: tuple[Tensor, ...], scale: float, reads_first: bool
) -> None:
    k, v, r, _, w, state, _ = tensors
    ne = _by_sequence(k, state)
    kernel = c.kernel(
        "linear_attention", "by_columns", SIZE=ne[0], READS_FIRST=int(reads_first)
    )
    groups = c.traits.groups(ne[0] // 16 * ne[1] * ne[3])
    c.launch(kernel, (groups,), *tensors, ne, k.nb, v.nb, r.nb, w.nb, scale)
