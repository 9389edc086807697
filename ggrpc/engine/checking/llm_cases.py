"""Test cases of the ops of language models, which every backend supports."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ggrpc.engine.checking.case import ROUNDED, TABLED, Case, CaseBuilder, Compare
from ggrpc.op import GluOp, UnaryOp
from ggrpc.ops.rope import RopeMode
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType

F32, F16 = GGMLType.F32, GGMLType.F16
WEIGHTS = (  # the types of most models
    *(GGMLType.F32, GGMLType.F16, GGMLType.BF16, GGMLType.Q4_0, GGMLType.Q5_0),
    *(GGMLType.Q8_0, GGMLType.Q4_K, GGMLType.Q5_K, GGMLType.Q6_K),
)
UNARY = (UnaryOp.SILU, UnaryOp.GELU, UnaryOp.RELU, UnaryOp.SIGMOID, UnaryOp.TANH)
GLU = (GluOp.SWIGLU, GluOp.GEGLU, GluOp.REGLU)

N, TOKENS = 256, 7


def cases() -> Iterator[Case]:
    """All cases: a few dozen, each with a few thousand numbers."""
    yield from _arithmetic()
    yield from _products()
    yield from _attention()
    yield from _copies()
    yield Case("LAYER", _layer, ROUNDED, since="2025-07-01b")


def _arithmetic() -> Iterator[Case]:
    yield Case("ADD", lambda t: t.g.add(t.normal(N, TOKENS), t.normal(N)))
    yield Case("SUB", lambda t: t.g.sub(t.normal(N, TOKENS), t.normal(N, TOKENS)))
    yield Case("MUL", lambda t: t.g.mul(t.normal(N, TOKENS), t.normal(1, TOKENS)))
    yield Case("DIV", lambda t: t.g.div(t.normal(N, TOKENS), t.uniform(1, 2, N)))
    yield Case("SCALE", lambda t: t.g.scale(t.normal(N, TOKENS), scale=-0.25))
    yield Case("RMS_NORM", lambda t: t.g.rms_norm(t.normal(N, TOKENS), eps=1e-5))
    yield Case("NORM", lambda t: t.g.norm(t.normal(N, TOKENS), eps=1e-5))
    yield Case("SUM_ROWS", lambda t: t.g.sum_rows(t.normal(N, TOKENS)))
    yield Case("ARGSORT", lambda t: t.g.argsort(t.normal(64, TOKENS), order=1))
    for unary in UNARY:
        yield function_of(unary)
    for glu in GLU:
        yield function_of(glu, since="2025-07-01b")


def function_of(function: UnaryOp | GluOp, since: str = "", **params: float) -> Case:
    """A case that applies a function of UNARY or GLU to a matrix."""
    op = "UNARY" if isinstance(function, UnaryOp) else "GLU"

    def build(t: CaseBuilder) -> Tensor:
        method = getattr(t.g, function.name.lower())
        result: Tensor = method(t.normal(N, TOKENS), **params)
        return result

    return Case(f"{op}-{function.name}", build, TABLED, since=since)


def _products() -> Iterator[Case]:
    for type in WEIGHTS:
        yield product(type)
        yield Case(f"GET_ROWS-{type.name}", rows_of(type))
    for type in (F16, GGMLType.Q4_0, GGMLType.Q8_0):
        yield experts(type)
    yield Case(
        "ADD_ID",
        lambda t: t.g.add_id(
            t.normal(N, 2, TOKENS), t.normal(N, 8), t.indices(8, 2, TOKENS)
        ),
        since="2025-08-14a",
    )


def product(type: GGMLType) -> Case:
    """A case that multiplies weights of a type with the activations of a prompt."""
    return Case(
        f"MUL_MAT-{type.name}",
        lambda t: t.g.mul_mat(t.normal(N, 48, type=type), t.normal(N, TOKENS)),
        ROUNDED,
    )


def rows_of(type: GGMLType) -> Callable[[CaseBuilder], Tensor]:
    """Builds GET_ROWS from a matrix of a type, such as a table of embeddings."""
    return lambda t: t.g.get_rows(t.normal(N, 19, type=type), t.indices(19, 5))


def experts(type: GGMLType) -> Case:
    """A case that multiplies with two of four experts for each token."""
    return Case(
        f"MUL_MAT_ID-{type.name}",
        lambda t: t.g.mul_mat_id(
            t.normal(N, 32, 4, type=type),
            t.normal(N, 2, TOKENS),
            t.indices(4, 2, TOKENS),
        ),
        ROUNDED,
    )


def _attention() -> Iterator[Case]:
    yield Case(
        "SOFT_MAX",
        lambda t: t.g.soft_max(
            t.normal(64, TOKENS, 4), t.normal(64, TOKENS), scale=0.125
        ),
    )
    for mode in (RopeMode.NORMAL, RopeMode.NEOX):
        yield Case(f"ROPE-{mode.name}", _rope(mode))
    yield Case("FLASH_ATTN_EXT", _flash, ROUNDED)
    yield Case("ARGMAX", lambda t: t.g.argmax(t.normal(N, TOKENS)))
    yield Case(
        "TOP_K",
        lambda t: t.g.top_k(t.normal(N, TOKENS), 8),
        compare=Compare.SETS,
        since="2025-12-11",
    )


def _rope(mode: RopeMode) -> Callable[[CaseBuilder], Tensor]:
    def build(t: CaseBuilder) -> Tensor:
        x, positions = t.normal(64, 4, TOKENS), t.indices(1000, TOKENS)
        return t.g.rope(x, positions, n_dims=64, mode=mode)

    return build


def _flash(t: CaseBuilder) -> Tensor:
    q = t.normal(64, TOKENS, 4)
    k, v = t.normal(64, 96, 2, type=F16), t.normal(64, 96, 2, type=F16)
    # ggml before 2025-10 needs a multiple of 64 rows in the mask.
    mask = t.normal(96, 64, type=F16)
    return t.g.flash_attn_ext(q, k, v, mask, scale=0.125)


def _copies() -> Iterator[Case]:
    yield Case("CONT", lambda t: t.g.cont(t.g.permute(t.normal(32, 5, 6), 0, 2, 1)))
    yield Case("CPY-F16", lambda t: t.g.cast(t.normal(N, TOKENS), F16))
    yield Case(
        "CONCAT", lambda t: t.g.concat(t.normal(8, 4, 3), t.normal(8, 4, 2), dim=2)
    )
    yield Case("REPEAT", lambda t: t.g.repeat(t.normal(8, 1, 3), ne=[8, 4, 6]))
    yield Case(
        "SET_ROWS",
        lambda t: t.g.set_rows(
            t.normal(N, 20, type=F16),
            t.normal(N, TOKENS),
            t.indices(20, TOKENS, type="I64"),
        ),
        since="2025-07-01a",
    )


def _layer(t: CaseBuilder) -> Tensor:
    """A layer of a model: attention and a feed-forward network."""
    g, heads, size = t.g, 4, 32
    x = t.normal(heads * size, TOKENS)
    normed = g.mul(g.rms_norm(x, eps=1e-5), t.normal(heads * size))
    q, k, v = (
        g.reshape(
            g.mul_mat(t.weights(heads * size, heads * size, type="Q8_0"), normed),
            *(size, heads, TOKENS),
        )
        for _ in range(3)
    )
    positions = t.indices(100, TOKENS)
    q, k = (g.rope(each, positions, n_dims=size) for each in (q, k))
    scores = g.mul_mat(g.permute(k, 0, 2, 1), g.permute(q, 0, 2, 1))
    weights = g.soft_max(g.scale(scores, scale=0.02), t.normal(TOKENS, TOKENS))
    values = g.cont(g.permute(v, 1, 2, 0))
    mixed = g.cont(g.permute(g.mul_mat(values, weights), 0, 2, 1))
    x = g.add(x, g.reshape(mixed, heads * size, TOKENS))
    gate, up = (g.mul_mat(t.weights(heads * size, 64, type="F16"), x) for _ in range(2))
    return g.mul_mat(t.weights(64, heads * size, type="F16"), g.swiglu(gate, up))
