"""ROPE and ROPE_BACK in numpy.

The cosines and sines depend on the positions only, so all nodes that turn by the same
positions share one table. A pair of neighbours (NORMAL) is a complex number, which one
multiplication turns; the other modes pair elements half a row apart.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import numpy as np

from ggrpc.devices.cpu.compiler import Compiler
from ggrpc.devices.cpu.kernel_table import kernel
from ggrpc.devices.cpu.ops.broadcast import scalar
from ggrpc.formats.codecs import Array
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.ops.rope import (
    FREQ_FACTORS,
    POS,
    A,
    RopeMode,
    RopeParams,
    interpolation,
    magnitude,
    pairs,
    sections,
)

Made = TypeVar("Made")


@kernel(Op.ROPE, Op.ROPE_BACK)
def rope(node: Node, c: Compiler) -> None:
    p: RopeParams = node.params
    x, y = c.f32(node.source(A)), c.result(node.tensor)
    turned = slice(p.n_offs, p.n_offs + 2 * pairs(p))
    rotate = _rotate_neighbours if p.mode == RopeMode.NORMAL else _rotate_halves
    rotate(x[..., turned], y[..., turned], node, c)
    if not _same_memory(x, y):
        for rest in slice(turned.start), slice(turned.stop, None):
            if x[..., rest].size:
                c.elementwise(np.positive, (x[..., rest],), y[..., rest])


def _same_memory(x: Array, y: Array) -> bool:
    return x.ctypes.data == y.ctypes.data and x.strides == y.strides


def _rotate_neighbours(x: Array, y: Array, node: Node, c: Compiler) -> None:
    table = _shared_table(_neighbours_table, node, c)
    c.elementwise(np.multiply, (x.view(np.complex64), table), y.view(np.complex64))


def _rotate_halves(x: Array, y: Array, node: Node, c: Compiler) -> None:
    shape = (*x.shape[:-1], 2, x.shape[-1] // 2)
    x, y = x.reshape(shape), y.reshape(shape)
    cos, sin = _shared_table(_halves_table, node, c)
    arrays = (x, x[..., ::-1, :], *(np.broadcast_to(t, shape) for t in (cos, sin)), y)
    c.rows(_turn, arrays, temps=[shape[-1]] * 2)


def _turn(
    x: Array, other: Array, cos: Array, sin: Array, y: Array, t: Array, u: Array
) -> None:
    np.multiply(x, cos, t)
    np.multiply(other, sin, u)
    np.add(t, u, y)


def _shared_table(
    make: Callable[[Node, Compiler], Made], node: Node, c: Compiler
) -> Made:
    pos, factors = node.source(POS), node.src[FREQ_FACTORS]
    same = node.tensor.op, node.params._replace(n_offs=0)
    key = (make, pos.id, factors and factors.id, same)
    tensors = [t for t in (pos, factors) if t is not None]
    return c.shared(key, tensors, partial(make, node))


def _neighbours_table(node: Node, c: Compiler) -> Array:
    """Cos + i sin, of shape (tokens, 1, pairs)."""
    theta = _angles(node, c)
    table = c.persistent((len(theta), 1, theta.shape[-1]), np.complex64)
    _cos_and_sin(node, theta, table.real[:, 0], table.imag[:, 0], c)
    return table


def _halves_table(node: Node, c: Compiler) -> tuple[Array, Array]:
    """Cos (tokens, 1, 1, pairs), sin with each half's sign (tokens, 1, 2, pairs)."""
    theta = _angles(node, c)
    cos = c.persistent((len(theta), 1, 1, theta.shape[-1]))
    sin = c.persistent((len(theta), 1, 2, theta.shape[-1]))
    _cos_and_sin(node, theta, cos[:, 0, 0], sin[:, 0, 1], c)
    c.step(np.negative, sin[:, 0, 1], sin[:, 0, 0])
    return cos, sin


def _cos_and_sin(node: Node, theta: Array, cos: Array, sin: Array, c: Compiler) -> None:
    c.step(np.cos, theta, cos)
    c.step(np.sin, theta, sin)
    factor = magnitude(node.params)
    if factor != 1:
        c.step(np.multiply, cos, scalar(factor), cos)
        c.step(np.multiply, sin, scalar(factor), sin)
    if node.tensor.op == Op.ROPE_BACK:
        c.step(np.negative, sin, sin)


def _angles(node: Node, c: Compiler) -> Array:
    """Angles of shape (tokens, pairs), for the steps that follow."""
    p: RopeParams = node.params
    theta = _raw_angles(p, c.view(node.source(POS)), c)
    factors = node.src[FREQ_FACTORS]
    if factors is not None:
        c.step(np.divide, theta, c.view(factors)[0, 0, 0, : theta.shape[-1]], theta)
    if p.ext_factor or p.freq_scale != 1:
        c.step(np.multiply, theta, interpolation(p, theta.shape[-1]), theta)
    return theta


def _raw_angles(p: RopeParams, pos: Array, c: Compiler) -> Array:
    """Position * theta_scale ** pair, multiplied up pair by pair as ggml does.

    That way the angles of far positions are off by what ggml's are off by.
    """
    tokens = pos.size // p.positions
    base: Array = c.persistent((p.positions, tokens, pairs(p)))
    with np.errstate(all="ignore"):
        base[..., 1:] = np.power(np.float64(p.freq_base), -2 / p.n_dims)
    angles: Array = c.persistent(base.shape)
    c.step(np.copyto, base[..., 0], pos.reshape(p.positions, tokens), "unsafe")
    c.step(np.multiply.accumulate, base, 2, None, angles)
    theta: Array = angles[0]
    if p.positions > 1:
        theta = c.persistent(theta.shape)
        chosen = c.persistent(theta.shape, np.int64)
        _choose(p, chosen)
        c.step(partial(np.take, angles, chosen, out=theta, mode="clip"))
    return theta


def _choose(p: RopeParams, at: Array) -> None:
    """Where the angle of each token and pair lies among those of the four positions."""
    tokens, count = at.shape
    position, power = np.array(sections(p, count)).T
    np.add(position * tokens, np.arange(tokens)[:, None], at)
    np.multiply(at, count, at)
    np.add(at, power, at)
