"""FLASH_ATTN_EXT over caches of floats or of blocks of 32 elements, and SOFT_MAX."""

from __future__ import annotations

import numpy as np
import pyopencl as cl

from ggrpc.devices.opencl.compiler import Compiler
from ggrpc.devices.opencl.kernel_table import CPU, kernel
from ggrpc.devices.opencl.predicates import CACHE_TYPES, dense_f32
from ggrpc.devices.opencl.runtime.build import Define
from ggrpc.ops import Node, Op
from ggrpc.ops.attention import (
    MASK,
    SINKS,
    SOFT_MAX_MASK,
    SOFT_MAX_SINKS,
    A,
    K,
    Q,
    V,
    alibi_slopes,
)
from ggrpc.tensor import Tensor

MAX_WIDTH = 576  # elements of the longest row that fits a work-item's private memory


def accepts(node: Node) -> bool:
    """Whether the kernels for CPUs and for GPUs can compute a FLASH_ATTN_EXT."""
    q, k, v, mask = (node.src[at] for at in (Q, K, V, MASK))
    assert q and k and v
    return (
        dense_f32(q)
        and dense_f32(node.tensor)
        and all(_is_cache(tensor) for tensor in (k, v))
        and (mask is None or mask.nb[0] == mask.type.type_size)
        and k.ne[1] > 0
        and k.ne[2] % v.ne[2] == 0
    )


def _is_cache(tensor: Tensor) -> bool:
    return (
        tensor.type in CACHE_TYPES
        and tensor.nb[0] == tensor.type.type_size
        and 0 < tensor.ne[0] <= MAX_WIDTH
    )


@kernel(Op.FLASH_ATTN_EXT, accepts=accepts, on=CPU)
def flash_attn(node: Node, c: Compiler) -> None:
    """Append the attention, one work-item per query and head."""
    q, k, v, y = node.source(Q), node.source(K), node.source(V), node.tensor
    mask, sinks = node.src[MASK] or q, node.src[SINKS] or q
    slopes = alibi_slopes_buffer(q.ne[2], node.params.max_bias, c)
    kernel = c.kernel(
        "attention",
        "attend",
        WIDTH_K=k.ne[0],
        WIDTH_V=v.ne[0],
        KEYS=k.type.name,
        VALUES=v.type.name,
        **optional_defines(node.src[MASK], node.src[SINKS]),
    )
    c.launch(
        kernel,
        (q.nrows,),
        *(q, k, v, mask, sinks, y, q.ne, q.nb, k.ne, k.nb, v.ne, v.nb),
        *(mask.ne, mask.nb, y.nb, slopes),
        *(node.params.scale, node.params.logit_softcap),
        local=1,
    )


def accepts_soft_max(node: Node) -> bool:
    """Whether the kernel can compute a SOFT_MAX."""
    mask = node.src[SOFT_MAX_MASK]
    return (
        dense_f32(node.source(A))
        and dense_f32(node.tensor)
        and (mask is None or mask.nb[0] == mask.type.type_size)
    )


@kernel(Op.SOFT_MAX, accepts=accepts_soft_max)
def soft_max(node: Node, c: Compiler) -> None:
    """Append the softmax, one work-group per row."""
    x, y = node.source(A), node.tensor
    mask, sinks = node.src[SOFT_MAX_MASK], node.src[SOFT_MAX_SINKS]
    kernel = c.kernel("soft_max", "soft_max", **optional_defines(mask, sinks))
    mask = mask or x
    c.launch(
        kernel,
        (y.nrows,),
        *(x, mask, sinks or x, y, y.ne, x.nb, mask.ne, mask.nb, y.nb),
        *(alibi_slopes_buffer(x.ne[2], node.params.max_bias, c), node.params.scale),
    )


def optional_defines(mask: Tensor | None, sinks: Tensor | None) -> dict[str, Define]:
    """The defines MASK (its type) and SINKS, for those of the two that are present."""
    defines: dict[str, Define] = {}
    if mask is not None:
        defines["MASK"] = mask.type.name
    if sinks is not None:
        defines["SINKS"] = 1
    return defines


def alibi_slopes_buffer(heads: int, max_bias: float, c: Compiler) -> cl.Buffer:
    """The factor of the mask for each head: float32 (heads,), all 1 without ALiBi."""

    def make() -> cl.Buffer:
        if max_bias <= 0:
            return c.constant(np.ones(heads, np.float32))
        return c.constant(np.ascontiguousarray(alibi_slopes(heads, max_bias)))

    return c.shared(("slopes", heads, max_bias), [], make)
