"""Cases of RWKV_WKV6, RWKV_WKV7, GATED_LINEAR_ATTN, GATED_DELTA_NET."""

from __future__ import annotations

from collections.abc import Iterator

from ggrpc.op import Op
from ggrpc.ops.linear_attention import DeltaNetParams, GlaParams
from ggrpc.tensor import Tensor
from tests.support.case import Case

SHAPES = {  # size of a head, heads, tokens, sequences
    "one_token": (64, 4, 1, 1),
    "odd": (24, 3, 7, 1),
    "sequences": (32, 2, 5, 3),
    "one_token_each": (16, 5, 1, 4),
    "large": (64, 32, 12, 2),
    "long": (16, 2, 300, 1),
}
DELTA_SHAPES = {**SHAPES, "wide": (128, 16, 3, 1)}


def cases() -> Iterator[tuple[str, Case]]:
    for name, shape in SHAPES.items():
        yield f"RWKV_WKV6-{name}", wkv6(*shape)
        # ggml runs over the end of the rows where 64 does not divide them.
        yield f"RWKV_WKV7-{name}", wkv7(64, *shape[1:])
        yield f"GATED_LINEAR_ATTN-{name}", gla(*shape)
    for name, shape in DELTA_SHAPES.items():
        yield f"GATED_DELTA_NET-{name}", delta_net(*shape)
        yield f"GATED_DELTA_NET-gate_of_each_{name}", delta_net(*shape, gates=shape[0])
    yield "GATED_DELTA_NET-permuted", delta_net(16, 4, 5, 2, permuted=True)
    yield "GATED_DELTA_NET-shared_keys", delta_net(16, 6, 4, 2, keys=(3, 2))
    yield "GATED_DELTA_NET-shared_sequences", delta_net(16, 6, 4, 4, keys=(2, 2))
    yield (
        "GATED_DELTA_NET-gate_of_each_shared",
        delta_net(16, 6, 4, 4, keys=(3, 1), gates=16),
    )
    yield "GATED_DELTA_NET-slots", delta_net(16, 4, 4, 2, k=4)
    yield "GATED_DELTA_NET-fewer_slots", delta_net(32, 2, 8, 1, gates=32, k=3)


def vectors(case: Case, *ne: int) -> Tensor:
    """As short as if they were normalized, so that states don't grow."""
    return case.leaf(case.rng.standard_normal(ne[::-1]) / ne[0] ** 0.5)


def gates(case: Case, *ne: int) -> Tensor:
    return case.leaf(case.rng.uniform(0.5, 1, ne[::-1]))


def wkv6(size: int, heads: int, tokens: int, seqs: int) -> Case:
    case = Case()
    ne = size, heads, tokens * seqs
    k, v, r = (vectors(case, *ne) for _ in range(3))
    tf, td = case.leaf((size, heads)), gates(case, *ne)
    state = case.leaf((size * size * heads, seqs))
    case.node(Op.RWKV_WKV6, [k, v, r, tf, td, state], rows_ne(ne, seqs))
    return case


def wkv7(size: int, heads: int, tokens: int, seqs: int) -> Case:
    case = Case()
    ne = size, heads, tokens * seqs
    r, k, v, a, b = (vectors(case, *ne) for _ in range(5))
    w, state = gates(case, *ne), case.leaf((size * size * heads, seqs))
    case.node(Op.RWKV_WKV7, [r, w, k, v, a, b, state], rows_ne(ne, seqs))
    return case


def gla(size: int, heads: int, tokens: int, seqs: int) -> Case:
    case = Case()
    ne = size, heads, tokens * seqs
    k, v, q = (vectors(case, *ne) for _ in range(3))
    g, state = gates(case, *ne), case.leaf((size * size * heads, seqs))
    sources, params = [k, v, q, g, state], GlaParams(size**-0.5)
    case.node(Op.GATED_LINEAR_ATTN, sources, rows_ne(ne, seqs), params=params)
    return case


def rows_ne(ne: tuple[int, int, int], seqs: int) -> tuple[int, int]:
    size, heads, tokens = ne
    return size * heads, tokens + size * seqs


def delta_net(
    size: int,
    heads: int,
    tokens: int,
    seqs: int,
    gates: int = 1,
    k: int = 1,
    keys: tuple[int, int] | None = None,
    permuted: bool = False,
) -> Case:
    """`keys` are the heads and sequences of q and k, where they have fewer than v."""
    case = Case()
    key_heads, key_seqs = keys or (heads, seqs)

    def by_token(heads: int, seqs: int) -> Tensor:
        if permuted:
            return case.permute(vectors(case, size, tokens, heads, seqs), 0, 2, 1, 3)
        return vectors(case, size, heads, tokens, seqs)

    q, key = (by_token(key_heads, key_seqs) for _ in range(2))
    v = by_token(heads, seqs)
    g = case.leaf(case.rng.uniform(-3, 0, (seqs, tokens, heads, gates)))
    beta = case.leaf(case.rng.uniform(0, 1, (seqs, tokens, heads, 1)))
    state = case.leaf((size, size, heads, seqs))
    ne = size * heads, tokens * seqs + k * size * seqs
    sources, params = [q, key, v, g, beta, state], DeltaNetParams(k)
    case.node(Op.GATED_DELTA_NET, sources, ne, params=params)
    return case
