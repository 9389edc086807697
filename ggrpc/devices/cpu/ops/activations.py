"""UNARY and GLU in numpy.

An activation is a function (x, y, t, u, w) that writes f(x) to y, with t, u and w as
scratch. All have the same shape. It reads x and t before it writes y, so y may be the
same array as x or t.

ggml computes GELU and GELU_QUICK of float32 with a float16 table; this file computes
them exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from ggrpc.devices.cpu.compiler import Compiler
from ggrpc.devices.cpu.kernel_table import kernel
from ggrpc.devices.cpu.ops.broadcast import scalar
from ggrpc.formats.codecs import Array
from ggrpc.op import GluOp, Op, UnaryOp
from ggrpc.ops import Node
from ggrpc.ops.activations import A, B, UnaryParams, clamps

Activation = Callable[[Array, Array, Array, Array, Array], object]

ZERO, HALF, ONE, THREE, SIXTH = map(scalar, (0, 0.5, 1, 3, 1 / 6))

# GELU(x) = x / (1 + exp(-2 u)), u = sqrt(2 / pi) * (x + 0.044715 x^3). This is equal to
# the usual form with tanh(u), but takes fewer steps.
GELU_LINEAR = scalar(-2 * math.sqrt(2 / math.pi))
GELU_CUBIC = scalar(-2 * math.sqrt(2 / math.pi) * 0.044715)
GELU_QUICK = scalar(1.702)

# erfc(z) = (a1 t + ... + a5 t^5) exp(-z^2), t = 1 / (1 + p z), z >= 0, within 1.5e-7.
# Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26.
ERFC_P = scalar(0.3275911 / math.sqrt(2))  # of x, where z is x / sqrt(2)
ERFC_A1, *ERFC_A2_TO_A5 = map(
    scalar, (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)
)
MINUS_HALF = scalar(-0.5)

# The largest float32 below 0.5. Adding 0.5 itself would round 0.49999997 up.
BELOW_HALF = np.nextafter(HALF, ZERO)


def sigmoid(x: Array, y: Array, t: Array, *_: Array) -> None:
    np.negative(x, t)
    np.exp(t, t)
    np.add(t, ONE, t)
    np.reciprocal(t, y)


def swish(slope: Array, x: Array, y: Array, t: Array, *_: Array) -> None:
    """Compute y = x / (1 + exp(-slope x)): SILU has slope 1, GELU_QUICK 1.702."""
    np.multiply(x, -slope, t)
    np.exp(t, t)
    np.add(t, ONE, t)
    np.divide(x, t, y)


def gelu(x: Array, y: Array, t: Array, *_: Array) -> None:
    np.multiply(x, x, t)
    np.multiply(t, GELU_CUBIC, t)
    np.add(t, GELU_LINEAR, t)
    np.multiply(t, x, t)
    np.exp(t, t)
    np.add(t, ONE, t)
    np.divide(x, t, y)


def gelu_erf(x: Array, y: Array, t: Array, u: Array, w: Array) -> None:
    """Compute y = x (1 + erf(x / sqrt(2))) / 2.

    This is equal to max(x, 0) - |x erfc(|x| / sqrt(2)) / 2|.
    """
    _erfc(x, t, u, w)
    np.multiply(w, x, w)
    np.multiply(w, HALF, w)
    np.abs(w, w)
    np.maximum(x, ZERO, out=y)
    np.subtract(y, w, y)


def _erfc(x: Array, t: Array, u: Array, w: Array) -> None:
    """Write erfc(|x| / sqrt(2)) to w."""
    np.abs(x, t)
    np.multiply(t, ERFC_P, t)
    np.add(t, ONE, t)
    np.reciprocal(t, t)
    np.multiply(t, ERFC_A2_TO_A5[-1], w)
    for a in ERFC_A2_TO_A5[-2::-1]:
        np.add(w, a, w)
        np.multiply(w, t, w)
    np.add(w, ERFC_A1, w)
    np.multiply(w, t, w)
    np.multiply(x, x, u)
    np.multiply(u, MINUS_HALF, u)
    np.exp(u, u)
    np.multiply(w, u, w)


def relu(x: Array, y: Array, *_: Array) -> None:
    np.maximum(x, ZERO, out=y)


def elu(x: Array, y: Array, t: Array, u: Array, *_: Array) -> None:
    np.minimum(x, ZERO, out=u)
    np.expm1(u, u)
    np.maximum(x, ZERO, out=y)
    np.add(y, u, y)


def hard_sigmoid(x: Array, y: Array, t: Array, *_: Array) -> None:
    np.add(x, THREE, t)
    np.multiply(t, SIXTH, t)
    np.maximum(t, ZERO, out=t)
    np.minimum(t, ONE, out=y)


def hard_swish(x: Array, y: Array, t: Array, *_: Array) -> None:
    hard_sigmoid(x, t, t)
    np.multiply(x, t, y)


def round_half_away(x: Array, y: Array, t: Array, *_: Array) -> None:
    """Round halves away from 0 like C's roundf; numpy rounds halves to even."""
    np.abs(x, t)
    np.add(t, BELOW_HALF, t)
    np.floor(t, t)
    np.copysign(t, x, y)


def xielu(p: UnaryParams, x: Array, y: Array, t: Array, u: Array, *_: Array) -> None:
    """Compute y = beta x + alpha_p x^2 if x > 0.

    Otherwise, y = beta x + alpha_n (expm1(min(x, eps)) - x).
    """
    np.minimum(x, scalar(p.eps), out=t)
    np.expm1(t, t)
    np.subtract(t, x, t)
    np.multiply(t, scalar(p.alpha_n), t)
    np.multiply(x, x, u)
    np.multiply(u, scalar(p.alpha_p), u)
    np.copyto(t, u, where=x > ZERO)
    np.multiply(x, scalar(p.beta), y)
    np.add(y, t, y)


UFUNCS = {
    UnaryOp.ABS: np.abs,
    UnaryOp.SGN: np.sign,
    UnaryOp.NEG: np.negative,
    UnaryOp.TANH: np.tanh,
    UnaryOp.EXP: np.exp,
    UnaryOp.EXPM1: np.expm1,
    UnaryOp.FLOOR: np.floor,
    UnaryOp.CEIL: np.ceil,
    UnaryOp.TRUNC: np.trunc,
}
# Ufuncs of x and 0: log(exp(x) + exp(0)), and x > 0.
UFUNCS_WITH_ZERO = {UnaryOp.SOFTPLUS: np.logaddexp, UnaryOp.STEP: np.heaviside}

ACTIVATIONS: dict[UnaryOp, Activation] = {
    UnaryOp.ELU: elu,
    UnaryOp.RELU: relu,
    UnaryOp.SIGMOID: sigmoid,
    UnaryOp.GELU: gelu,
    UnaryOp.GELU_QUICK: partial(swish, GELU_QUICK),
    UnaryOp.SILU: partial(swish, ONE),
    UnaryOp.HARDSWISH: hard_swish,
    UnaryOp.HARDSIGMOID: hard_sigmoid,
    UnaryOp.GELU_ERF: gelu_erf,
    UnaryOp.ROUND: round_half_away,
}

GATES: dict[GluOp, Activation] = {
    GluOp.REGLU: relu,
    GluOp.GEGLU: gelu,
    GluOp.SWIGLU: partial(swish, ONE),
    GluOp.GEGLU_ERF: gelu_erf,
    GluOp.GEGLU_QUICK: partial(swish, GELU_QUICK),
}


@kernel(Op.UNARY)
def unary(node: Node, c: Compiler) -> None:
    x, y, op = c.f32(node.source(A)), c.result(node.tensor), UnaryOp(node.params.op)
    if op in UFUNCS:
        c.elementwise(UFUNCS[op], (x,), y)
    elif op in UFUNCS_WITH_ZERO:
        c.elementwise(UFUNCS_WITH_ZERO[op], (x, ZERO), y)
    elif op == UnaryOp.XIELU:
        c.rows(partial(xielu, node.params), (x, y), [x.shape[-1]] * 3)
    else:
        c.rows(ACTIVATIONS[op], (x, y), [x.shape[-1]] * 3)


@kernel(Op.GLU)
def glu(node: Node, c: Compiler) -> None:
    """Compute y = f(gate) * up, from two sources or the two halves of each row."""
    gate, up = _gate_and_up(node, c)
    y, op = c.result(node.tensor), GluOp(node.params.op)
    if op in GATES:
        function = partial(_gated, GATES[op])
    else:
        function = partial(_clamped_swiglu, *map(scalar, clamps(node.params)))
    c.rows(function, (gate, up, y), [y.shape[-1]] * 3)


def _gate_and_up(node: Node, c: Compiler) -> tuple[Array, Array]:
    x, b = c.f32(node.source(A)), node.src[B]
    if b is not None:
        return x, c.f32(b)
    half = node.tensor.ne[0]
    first, second = x[..., :half], x[..., half : 2 * half]
    return (second, first) if node.params.swapped else (first, second)


def _gated(
    f: Activation, gate: Array, up: Array, y: Array, t: Array, u: Array, w: Array
) -> None:
    f(gate, t, t, u, w)
    np.multiply(t, up, y)


def _clamped_swiglu(
    slope: Array,
    limit: Array,
    shift: Array,
    gate: Array,
    up: Array,
    y: Array,
    t: Array,
    u: Array,
    w: Array,
) -> None:
    np.minimum(gate, limit, out=u)
    swish(slope, u, t, t)
    np.maximum(up, -limit, out=u)
    np.minimum(u, limit, out=u)
    np.add(u, shift, u)
    np.multiply(t, u, y)
