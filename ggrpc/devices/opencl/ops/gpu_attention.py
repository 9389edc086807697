"""Launches for FLASH_ATTN_EXT on GPUs.

Each work-group computes the attention over a range of keys; a second launch merges the
results.
"""

from __future__ import annotations

from ggrpc.devices.opencl.compiler import Compiler
from ggrpc.devices.opencl.kernel_table import GPU, kernel
from ggrpc.devices.opencl.ops import attention
from ggrpc.devices.opencl.runtime.build import Define
from ggrpc.devices.opencl.runtime.work_group import WorkGroup
from ggrpc.ops import Node, Op
from ggrpc.ops.attention import MASK, SINKS, K, Q, V

ITEMS = 64  # work-items of a work-group
MAX_QUERIES = 8  # per work-group, because a work-item keeps each query in registers
WIDE = 256  # the longest row for which MAX_QUERIES fit; longer rows allow half of them
GROUPS_PER_UNIT = 4  # work-groups that each compute unit should get


def _accepts(node: Node) -> bool:
    """The kernel reads rows of keys and values in steps of 16 elements."""
    return attention.accepts(node) and all(
        node.source(at).ne[0] % 16 == 0 for at in (K, V)
    )


@kernel(Op.FLASH_ATTN_EXT, accepts=_accepts, on=GPU)
def flash_attn(node: Node, c: Compiler) -> None:
    """Append the attention over ranges of keys, and the merging of their results."""
    q, k, v, y = node.source(Q), node.source(K), node.source(V), node.tensor
    mask, sinks = node.src[MASK] or q, node.src[SINKS] or q
    # The queries that share a head of k and v.
    alike = q.ne[1] * (q.ne[2] // k.ne[2])
    most = MAX_QUERIES if max(k.ne[0], v.ne[0]) <= WIDE else MAX_QUERIES // 2
    queries = min(most, 1 << (alike - 1).bit_length())
    queries, items = _group(node, c, queries)
    defines = _defines(node, queries, items)
    groups = -(-alike // queries), k.ne[2] * q.ne[3]
    span = _keys_per_group(c, groups[0] * groups[1], k.ne[1], items)
    count = -(-k.ne[1] // span)
    size = 4 * q.nrows * count * (v.ne[0] + 2)
    parts = c.shared(("attention", size), [], lambda: c.memory(size))
    slopes = attention.alibi_slopes_buffer(q.ne[2], node.params.max_bias, c)
    c.launch(
        c.kernel("gpu_attention", "attend", **defines),
        (*groups, count),
        *(q, k, v, mask, parts, q.ne, q.nb, k.ne, k.nb, v.ne, v.nb),
        *(mask.ne, mask.nb, slopes, span),
        *(node.params.scale, node.params.logit_softcap),
        local=items,
    )
    c.launch(
        c.kernel("gpu_attention", "merge", **defines),
        (q.nrows,),
        *(parts, count, sinks, y, q.ne, y.nb),
        local=items,
    )


def _group(node: Node, c: Compiler, queries: int) -> tuple[int, int]:
    """The queries and the work-items of a work-group that the device allows.

    Args:
        node: the attention.
        c: the compiler.
        queries: the most queries, a power of two.
    """
    items = ITEMS
    while not c.fits(
        c.kernel("gpu_attention", "attend", **_defines(node, queries, items)),
        _needs(node.source(K).ne[0], node.source(V).ne[0], queries, items),
    ):
        if queries > 1:
            queries //= 2
        elif items > 1:
            items //= 2
        else:
            break
    return queries, items


def _needs(width_k: int, width_v: int, queries: int, items: int) -> WorkGroup:
    """The work-group of gpu_attention.cl."""
    staged = 16 if width_v <= 128 else 8 if width_v <= 256 else 2
    floats = queries * (width_k + items) + items + staged * width_v
    return WorkGroup(items, 4 * floats)


def _defines(node: Node, queries: int, items: int) -> dict[str, Define]:
    k, v = node.source(K), node.source(V)
    return {
        "WIDTH_K": k.ne[0],
        "WIDTH_V": v.ne[0],
        "KEYS": k.type.name,
        "VALUES": v.type.name,
        "QUERIES": queries,
        "LOCAL": items,
        **attention.optional_defines(node.src[MASK], node.src[SINKS]),
    }


def _keys_per_group(c: Compiler, groups: int, keys: int, items: int) -> int:
    """The number of keys of a work-group.

    Args:
        c: the compiler.
        groups: the number of work-groups if the keys were not split.
        keys: the number of all keys.
        items: the work-items of a work-group.

    Returns:
        A multiple of `items`, so small that all compute units have work.
    """
    parts = max(1, GROUPS_PER_UNIT * c.traits.units // groups)
    return -(-max(keys // parts, 1) // items) * items
