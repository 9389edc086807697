"""FLASH_ATTN_EXT on GPUs: work-groups share queries and keys, then merge parts."""

from __future__ import annotations

import pyopencl as cl

from ggrpc.devices.opencl.ops.predicates import rows_of
from ggrpc.devices.opencl.program import Compiler
from ggrpc.devices.opencl.runtime.build import Define
from ggrpc.ops import Node
from ggrpc.ops.attention import MASK, SINKS, K, Q, V

ITEMS = 64  # of a work-group
MAX_QUERIES = 8  # of one: what a work-item keeps of each is in registers
WIDE = 256  # elements of a row, of which it keeps half as many
GROUPS_EACH = 4  # work-groups that each unit should have


def accepts(node: Node) -> bool:
    """Whether rows of keys and values are of whole sixteens."""
    return all(node.source(at).ne[0] % 16 == 0 for at in (K, V))


def flash_attn(
    node: Node, c: Compiler, slopes: cl.Buffer, extras: dict[str, Define]
) -> None:
    """Append the attention.

    Args:
        node: as `attention.py` accepts it.
        c: the compiler.
        slopes: what each head multiplies the mask by.
        extras: defines for the mask and the sinks.
    """
    q, k, v, y = node.source(Q), node.source(K), node.source(V), node.tensor
    mask, sinks = node.src[MASK] or q, node.src[SINKS] or q
    alike = q.ne[1] * (q.ne[2] // k.ne[2])
    most = MAX_QUERIES if max(k.ne[0], v.ne[0]) <= WIDE else MAX_QUERIES // 2
    queries = min(most, 1 << (alike - 1).bit_length())
    groups = -(-alike // queries), k.ne[2] * q.ne[3]
    span = _span(c, groups[0] * groups[1], k.ne[1])
    count = -(-k.ne[1] // span)
    defines: dict[str, Define] = {
        "WIDTH_K": k.ne[0],
        "WIDTH_V": v.ne[0],
        "KEYS": k.type.name,
        "VALUES": v.type.name,
        "QUERIES": queries,
        "LOCAL": ITEMS,
    }
    size = 4 * rows_of(q) * count * (v.ne[0] + 2)
    parts = c.shared(("attention", size), [], lambda: c.memory(size))
    c.launch(
        c.kernel("gpu_attention", "attend", **defines | extras),
        (*groups, count),
        *(q, k, v, mask, parts, q.ne, q.nb, k.ne, k.nb, v.ne, v.nb),
        *(mask.ne, mask.nb, slopes, span),
        *(node.params.scale, node.params.logit_softcap),
        local=ITEMS,
    )
    c.launch(
        c.kernel("gpu_attention", "merge", **defines | extras),
        (rows_of(q),),
        *(parts, count, sinks, y, q.ne, y.nb),
        local=ITEMS,
    )


def _span(c: Compiler, groups: int, keys: int) -> int:
    """How many keys a work-group has: fewer where there would be too few groups."""
    parts = max(1, GROUPS_EACH * c.traits.units // groups)
    return -(-max(keys // parts, 1) // ITEMS) * ITEMS
