"""Test cases of the ops and types that a backend may lack, for `ggrpc check --full`.

llama.cpp's server exits when its backend lacks an op. Run these cases only on servers
that may be restarted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ggrpc.engine.checking import llm_cases
from ggrpc.engine.checking.case import ROUNDED, Case, CaseBuilder
from ggrpc.engine.checking.llm_cases import TOKENS, N
from ggrpc.engine.wire.op_tables import TYPES_SINCE
from ggrpc.formats.codecs import CODECS
from ggrpc.op import GluOp, UnaryOp
from ggrpc.ops.pooling import PoolOp
from ggrpc.ops.rope import RopeMode
from ggrpc.ops.triangles import Triangle
from ggrpc.ops.upscaling import ScaleMode
from ggrpc.tensor import Tensor
from ggrpc.types import QUANTIZED, GGMLType

# Types that backends use internally for activations; weights do not have them.
INTERNAL = {GGMLType.Q8_1, GGMLType.Q8_K}

UNARY_SINCE = {
    UnaryOp.GELU_ERF: "2025-05-25a",
    UnaryOp.XIELU: "2025-10-12",
    **dict.fromkeys(
        (UnaryOp.FLOOR, UnaryOp.CEIL, UnaryOp.ROUND, UnaryOp.TRUNC), "2025-10-21"
    ),
    **dict.fromkeys((UnaryOp.EXPM1, UnaryOp.SOFTPLUS), "2025-11-17"),
}
GLU_SINCE = {
    GluOp.GEGLU_ERF: "2025-07-12",
    GluOp.GEGLU_QUICK: "2025-07-12",
    GluOp.SWIGLU_OAI: "2025-08-14a",
    GluOp.SWIGLU_CLAMP: "2026-09-11",
}
XIELU = {"alpha_n": 0.8, "alpha_p": 0.7, "beta": 0.5, "eps": -1e-6}

# ggml's cpu backend of 2025 hangs if it has more threads than there are heads.
SIZE, MANY_HEADS = 64, 64
HEADS = (SIZE, MANY_HEADS, TOKENS)


def cases() -> Iterator[Case]:
    """All cases that are not in `llm_cases`."""
    yield from _types()
    yield from _functions()
    yield from _arithmetic()
    yield from _rows()
    yield from _images()
    yield from _sequences()
    yield from _deepseek()
    yield from _training()


def _types() -> Iterator[Case]:
    for type in sorted(QUANTIZED - INTERNAL - set(llm_cases.WEIGHTS)):
        since = TYPES_SINCE.get(type, "")
        yield llm_cases.product(type)._replace(since=since)
        yield Case(f"GET_ROWS-{type.name}", llm_cases.rows_of(type), since=since)
    for type in (GGMLType.BF16, GGMLType.Q4_0, GGMLType.Q4_1, GGMLType.Q8_0):
        assert CODECS[type].pack
        # A value halfway between two quantized values may be rounded to either one.
        yield Case(f"CPY-{type.name}", _cast(type), 1e-4)


def _cast(type: GGMLType) -> Callable[[CaseBuilder], Tensor]:
    return lambda t: t.g.cast(t.normal(N, TOKENS), type)


def _functions() -> Iterator[Case]:
    for unary in UnaryOp:
        if unary not in llm_cases.UNARY:
            params = XIELU if unary is UnaryOp.XIELU else {}
            since = UNARY_SINCE.get(unary, "")
            yield llm_cases.function_of(unary, since, **params)
    for glu in GluOp:
        if glu not in llm_cases.GLU:
            params = dict.fromkeys(glu_params(glu), 1.5)
            yield llm_cases.function_of(glu, GLU_SINCE[glu], **params)


def glu_params(glu: GluOp) -> tuple[str, ...]:
    """The names of the parameters of a GLU function."""
    return {
        GluOp.SWIGLU_OAI: ("alpha", "limit"),
        GluOp.SWIGLU_CLAMP: ("limit",),
    }.get(glu, ())


def _arithmetic() -> Iterator[Case]:
    yield Case("ADD1", lambda t: t.g.add1(t.normal(N, TOKENS), t.normal(1)))
    yield Case("CLAMP", lambda t: t.g.clamp(t.normal(N, TOKENS), min=-0.5, max=0.7))
    yield Case("LEAKY_RELU", lambda t: t.g.leaky_relu(t.normal(N), negative_slope=0.1))
    yield Case("SQR", lambda t: t.g.sqr(t.normal(N, TOKENS)))
    yield Case("SQRT", lambda t: t.g.sqrt(t.uniform(0, 4, N)))
    yield Case("LOG", lambda t: t.g.log(t.uniform(0.1, 4, N)))
    yield Case("SIN", lambda t: t.g.sin(t.normal(N)))
    yield Case("COS", lambda t: t.g.cos(t.normal(N)))
    yield Case("L2_NORM", lambda t: t.g.l2_norm(t.normal(N, TOKENS), eps=1e-5))
    yield Case(
        "GROUP_NORM",
        lambda t: t.g.group_norm(t.normal(8, 6, 12), n_groups=4, eps=1e-5),
    )
    yield Case(
        "ACC", lambda t: t.g.acc(t.normal(8, 6), t.normal(4, 3), 8), since="2025-07-12"
    )
    yield Case("SET", lambda t: t.g.set(t.normal(8, 6), t.normal(4, 3), 8))
    yield Case("OUT_PROD", lambda t: t.g.out_prod(t.normal(8, 7), t.normal(9, 7)))
    yield Case("FILL", lambda t: t.g.fill(t.normal(N), c=3.5), since="2025-11-17")
    yield Case("ARANGE", lambda t: t.g.arange(1, 20, 0.5))
    yield Case(
        "TIMESTEP_EMBEDDING",
        lambda t: t.g.timestep_embedding(t.uniform(0, 100, 5), dim=32),
    )


def _rows() -> Iterator[Case]:
    yield Case("SUM", lambda t: t.g.sum(t.normal(N, TOKENS)))
    yield Case("MEAN", lambda t: t.g.mean(t.normal(N, TOKENS)))
    yield Case("CUMSUM", lambda t: t.g.cumsum(t.normal(64, TOKENS)), since="2025-11-17")
    yield Case("COUNT_EQUAL", _count_equal)
    yield Case("REPEAT_BACK", lambda t: t.g.repeat_back(t.normal(8, 6), ne=[4, 2]))
    yield Case("DUP", lambda t: t.g.dup(t.normal(8, 6)))
    yield Case("ROLL", lambda t: t.g.roll(t.normal(8, 6), shift0=3), since="2025-06-18")
    yield Case("DIAG", lambda t: t.g.diag(t.normal(16)))
    yield Case("DIAG_MASK_INF", lambda t: t.g.diag_mask_inf(t.normal(9, 7), n_past=2))
    yield Case("DIAG_MASK_ZERO", lambda t: t.g.diag_mask_zero(t.normal(9, 7), n_past=2))
    yield Case(
        "TRI",
        lambda t: t.g.tri(t.normal(9, 9), type=Triangle.LOWER),
        since="2025-11-17",
    )
    yield Case("SOLVE_TRI", _solve_tri, 1e-6, since="2025-11-17")
    yield Case("ROPE-MROPE", _mrope)


def _count_equal(t: CaseBuilder) -> Tensor:
    rows = t.rng.integers(0, 4, (5, 64))
    other = t.rng.integers(0, 4, (5, 64))
    return t.g.count_equal(t.given(rows, "I32"), t.given(other, "I32"))


def _solve_tri(t: CaseBuilder) -> Tensor:
    matrix = t.rng.uniform(-0.5, 0.5, (16, 16))
    for at in range(16):
        matrix[at, at] = 2
        matrix[at, at + 1 :] = 0
    return t.g.solve_tri(t.given(matrix), t.normal(5, 16))


def _mrope(t: CaseBuilder) -> Tensor:
    x, positions = t.normal(64, 4, TOKENS), t.indices(100, 4 * TOKENS)
    return t.g.rope(
        *(x, positions),
        n_dims=64,
        mode=RopeMode.MROPE,
        section_t=8,
        section_h=12,
        section_w=12,
    )


def _images() -> Iterator[Case]:
    yield Case(
        "IM2COL",
        lambda t: t.g.im2col(
            t.normal(3, 3, 4, type="F16"), t.normal(10, 9, 4), p0=1, p1=1
        ),
        ROUNDED,
    )
    yield Case(
        "CONV_2D",
        lambda t: t.g.conv_2d(t.normal(3, 3, 4, 5), t.normal(10, 9, 4, 2)),
        ROUNDED,
        since="2025-07-01c",
    )
    yield Case(
        "CONV_2D_DW",
        lambda t: t.g.conv_2d_dw(t.normal(3, 3, 1, 4), t.normal(10, 9, 4)),
        ROUNDED,
    )
    yield Case(
        "CONV_3D",
        lambda t: t.g.conv_3d(
            t.normal(3, 3, 2, 6), t.normal(8, 7, 5, 3), c=3, n=1, oc=2
        ),
        ROUNDED,
        since="2025-09-05a",
    )
    yield Case(
        "IM2COL_3D",
        lambda t: t.g.im2col_3d(
            t.normal(3, 3, 2, 6, type="F16"), t.normal(8, 7, 5, 3), ic=3
        ),
        ROUNDED,
        since="2025-09-05b",
    )
    yield Case(
        "CONV_TRANSPOSE_1D",
        lambda t: t.g.conv_transpose_1d(t.normal(3, 4, 5), t.normal(8, 5), s0=2),
        ROUNDED,
    )
    yield Case(
        "CONV_TRANSPOSE_2D",
        lambda t: t.g.conv_transpose_2d(
            t.normal(3, 3, 4, 5, type="F16"), t.normal(8, 6, 5), s0=2
        ),
        ROUNDED,
    )
    yield Case(
        "COL2IM_1D",
        lambda t: t.g.col2im_1d(t.normal(12, 9), s0=2, oc=3),
        since="2026-06-11",
    )
    yield Case(
        "POOL_1D", lambda t: t.g.pool_1d(t.normal(12, 5), op=PoolOp.AVG, k0=2, s0=2)
    )
    yield Case("POOL_2D", lambda t: _pool_2d(t, t.normal(12, 8, 3)))
    yield Case("UPSCALE", lambda t: t.g.upscale(t.normal(6, 5, 3), ne=[12, 10, 3]))
    yield Case(
        "UPSCALE-BILINEAR",
        lambda t: t.g.upscale(
            t.normal(6, 5, 3), mode=ScaleMode.BILINEAR, ne=[12, 10, 3]
        ),
        since="2025-07-12",
    )
    yield Case(
        "PAD", lambda t: t.g.pad(t.normal(6, 5), rp0=2, rp1=1), since="2025-10-12"
    )
    yield Case(
        "PAD_REFLECT_1D", lambda t: t.g.pad_reflect_1d(t.normal(9, 4), p0=2, p1=3)
    )
    yield Case("WIN_PART", lambda t: t.g.win_part(t.normal(6, 10, 7), 4))
    yield Case("WIN_UNPART", lambda t: t.g.win_unpart(t.normal(6, 4, 4, 6), 10, 7, 4))
    yield Case("GET_REL_POS", lambda t: t.g.get_rel_pos(t.normal(8, 9, type="F16")))


def _pool_2d(t: CaseBuilder, image: Tensor) -> Tensor:
    return t.g.pool_2d(image, op=PoolOp.MAX, k0=2, k1=2, s0=2, s1=2)


def _sequences() -> Iterator[Case]:
    yield Case("SSM_CONV", lambda t: t.g.ssm_conv(t.normal(10, 32, 2), t.normal(4, 32)))
    yield Case("SSM_SCAN", _ssm_scan, 1e-6, since="2025-07-12")
    yield Case("RWKV_WKV6", _wkv6, 1e-6)
    yield Case("RWKV_WKV7", _wkv7, 1e-6)
    yield Case("GATED_LINEAR_ATTN", _gla, 1e-6)
    yield Case("GATED_DELTA_NET", _delta_net, 1e-6, since="2026-07-17a")


def _ssm_scan(t: CaseBuilder) -> Tensor:
    size, dim, heads, seqs = 16, 8, MANY_HEADS, 2
    state, x = t.normal(size, dim, heads, seqs), t.normal(dim, heads, TOKENS, seqs)
    dt, decay = t.normal(heads, TOKENS, seqs), t.uniform(-1, -0.1, 1, heads)
    b, c = (t.normal(size, 1, TOKENS, seqs) for _ in range(2))
    return t.g.ssm_scan(state, x, dt, decay, b, c, t.indices(seqs, seqs))


def _wkv6(t: CaseBuilder) -> Tensor:
    k, v, r = (t.weights(*HEADS) for _ in range(3))
    decay, state = t.uniform(0.5, 1, *HEADS), t.normal(SIZE * SIZE * MANY_HEADS, 1)
    return t.g.rwkv_wkv6(k, v, r, t.normal(SIZE, MANY_HEADS), decay, state)


def _wkv7(t: CaseBuilder) -> Tensor:
    r, k, v, a, b = (t.weights(*HEADS) for _ in range(5))
    decay, state = t.uniform(0.5, 1, *HEADS), t.normal(SIZE * SIZE * MANY_HEADS, 1)
    return t.g.rwkv_wkv7(r, decay, k, v, a, b, state)


def _gla(t: CaseBuilder) -> Tensor:
    k, v, q = (t.weights(*HEADS) for _ in range(3))
    gate, state = t.uniform(0.5, 1, *HEADS), t.normal(SIZE * SIZE * MANY_HEADS, 1)
    return t.g.gated_linear_attn(k, v, q, gate, state, scale=0.125)


def _delta_net(t: CaseBuilder) -> Tensor:
    size, heads, tokens = HEADS
    q, k, v = (t.weights(*HEADS) for _ in range(3))
    gate, beta = t.uniform(-3, 0, 1, heads, tokens), t.uniform(0, 1, 1, heads, tokens)
    state = t.normal(size, size, heads)
    return t.g.gated_delta_net(q, k, v, gate, beta, state)


def _deepseek() -> Iterator[Case]:
    since = "2026-07-17b"
    yield Case("LIGHTNING_INDEXER", _indexer, 1e-6, since=since)
    yield Case(
        "DSV4_HC_COMB",
        lambda t: t.g.dsv4_hc_comb(
            t.normal(24, TOKENS), t.normal(3), t.normal(24), eps=1e-6, n_iter=3
        ),
        1e-6,
        since=since,
    )
    yield Case(
        "DSV4_HC_PRE",
        lambda t: t.g.dsv4_hc_pre(t.normal(32, 4, TOKENS), t.normal(4, TOKENS)),
        since=since,
    )
    yield Case(
        "DSV4_HC_POST",
        lambda t: t.g.dsv4_hc_post(
            t.normal(32, TOKENS), t.normal(32, 4, TOKENS), t.normal(4, TOKENS)
        ),
        since="2026-09-11",
    )


def _indexer(t: CaseBuilder) -> Tensor:
    q, k = t.normal(32, 4, TOKENS), t.normal(32, 1, 20)
    return t.g.lightning_indexer(
        q, k, t.normal(4, TOKENS), t.normal(20, TOKENS, type="F16")
    )


def _training() -> Iterator[Case]:
    yield Case(
        "SILU_BACK", lambda t: t.g.silu_back(t.normal(N, 3), t.normal(N, 3)), 1e-6
    )
    yield Case(
        "RMS_NORM_BACK",
        lambda t: t.g.rms_norm_back(t.normal(N, 3), t.normal(N, 3), eps=1e-5),
        1e-6,
    )
    yield Case("SOFT_MAX_BACK", _soft_max_back, 1e-6)
    yield Case("ROPE_BACK", _rope_back)
    yield Case(
        "GET_ROWS_BACK",
        lambda t: t.g.get_rows_back(t.normal(N, 5), t.indices(19, 5), ne=[N, 19]),
    )
    yield Case(
        "CROSS_ENTROPY_LOSS",
        lambda t: t.g.cross_entropy_loss(t.normal(32, 5), t.uniform(0, 1, 32, 5)),
        1e-6,
    )
    yield Case(
        "CROSS_ENTROPY_LOSS_BACK",
        lambda t: t.g.cross_entropy_loss_back(
            t.normal(1), t.normal(32, 5), t.uniform(0, 1, 32, 5)
        ),
        1e-6,
    )
    yield Case(
        "OPT_STEP_SGD",
        lambda t: t.g.opt_step_sgd(t.normal(N), t.normal(N), t.uniform(0, 0.1, 2)),
        since="2025-08-14b",
    )
    yield Case("OPT_STEP_ADAMW", _adamw, 1e-6)
    yield Case(
        "IM2COL_BACK",
        lambda t: t.g.im2col_back(t.normal(36, 8, 7), t.normal(3, 3, 4), ne=[10, 9, 4]),
    )
    yield Case("POOL_2D_BACK", _pool_2d_back)


def _soft_max_back(t: CaseBuilder) -> Tensor:
    return t.g.soft_max_back(t.normal(64, 5), t.uniform(0, 0.1, 64, 5))


def _rope_back(t: CaseBuilder) -> Tensor:
    return t.g.rope_back(t.normal(64, 4, TOKENS), t.indices(100, TOKENS), n_dims=64)


def _adamw(t: CaseBuilder) -> Tensor:
    weights, grad, m = t.normal(N), t.normal(N), t.normal(N)
    v, params = t.uniform(0, 1, N), t.uniform(0.1, 0.9, 7)
    return t.g.opt_step_adamw(weights, grad, m, v, params)


def _pool_2d_back(t: CaseBuilder) -> Tensor:
    grad, image = t.normal(6, 4, 3), t.normal(12, 8, 3)
    return t.g.pool_2d_back(grad, image, op=PoolOp.AVG, k0=2, k1=2, s0=2, s1=2)
