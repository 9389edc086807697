"""ROPE and ROPE_BACK in numpy.

Nodes with the same positions and parameters share one table of cosines and sines. In
the mode NORMAL a pair is two adjacent elements, which are handled as one complex
number. The other modes (NEOX, MROPE, VISION) pair elements that are half a row apart.
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
    rotated = slice(p.n_offs, p.n_offs + 2 * pairs(p))
    rotate = _rotate_normal if p.mode == RopeMode.NORMAL else _rotate_neox
    rotate(x[..., rotated], y[..., rotated], node, c)
    if not _same_memory(x, y):
        for rest in slice(rotated.start), slice(rotated.stop, None):
            if x[..., rest].size:
                c.elementwise(np.positive, (x[..., rest],), y[..., rest])


def _same_memory(x: Array, y: Array) -> bool:
    return x.ctypes.data == y.ctypes.data and x.strides == y.strides


def _rotate_normal(x: Array, y: Array, node: Node, c: Compiler) -> None:
    table = _shared_table(_normal_table, node, c)
    c.elementwise(np.multiply, (x.view(np.complex64), table), y.view(np.complex64))


def _rotate_neox(x: Array, y: Array, node: Node, c: Compiler) -> None:
    shape = (*x.shape[:-1], 2, x.shape[-1] // 2)
    x, y = x.reshape(shape), y.reshape(shape)
    cos, sin = _shared_table(_neox_table, node, c)
    arrays = (x, x[..., ::-1, :], *(np.broadcast_to(t, shape) for t in (cos, sin)), y)
    c.rows(_rotate, arrays, temps=[shape[-1]] * 2)


def _rotate(
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


def _normal_table(node: Node, c: Compiler) -> Array:
    """The complex numbers cos + i sin, (tokens, 1, pairs)."""
    theta = _angles(node, c)
    table = c.persistent((len(theta), 1, theta.shape[-1]), np.complex64)
    _cos_and_sin(node, theta, table.real[:, 0], table.imag[:, 0], c)
    return table


def _neox_table(node: Node, c: Compiler) -> tuple[Array, Array]:
    """The cosines, (tokens, 1, 1, pairs), and (-sine, sine), (tokens, 1, 2, pairs)."""
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
    """Append the computation of the angles, (tokens, pairs)."""
    p: RopeParams = node.params
    theta = _raw_angles(p, c.view(node.source(POS)), c)
    factors = node.src[FREQ_FACTORS]
    if factors is not None:
        c.step(np.divide, theta, c.view(factors)[0, 0, 0, : theta.shape[-1]], theta)
    if p.ext_factor or p.freq_scale != 1:
        c.step(np.multiply, theta, interpolation(p, theta.shape[-1]), theta)
    return theta


def _raw_angles(p: RopeParams, pos: Array, c: Compiler) -> Array:
    """The angles position * theta_scale ** pair, before scaling.

    The powers are computed by repeated multiplication, as in ggml, so that rounding
    errors at large positions are the same.
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
    """Write the flat index in `angles` of the angle for each token and pair."""
    tokens, count = at.shape
    position, power = np.array(sections(p, count)).T
    np.add(position * tokens, np.arange(tokens)[:, None], at)
    np.multiply(at, count, at)
    np.add(at, power, at)
