"""FILL, ARANGE, TIMESTEP_EMBEDDING in numpy."""

from __future__ import annotations

import numpy as np

from ggrpc.devices.cpu.compiler import Compiler
from ggrpc.devices.cpu.kernel_table import kernel
from ggrpc.formats.codecs import GROUP, Array, boxes
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.ops.generators import TIMESTEPS

TEMPORARIES = 16  # bytes per frequency for intermediate arrays


@kernel(Op.FILL)
def fill(node: Node, c: Compiler) -> None:
    y = c.view(node.tensor)
    with np.errstate(over="ignore"):  # the largest F16 is 65504
        c.step(np.copyto, y, y.dtype.type(node.params.c))


@kernel(Op.ARANGE)
def arange(node: Node, c: Compiler) -> None:
    p, y = node.params, c.view(node.tensor)
    values = c.persistent(y.shape[-1:])
    for (some,) in boxes(values.shape, GROUP):
        steps = np.arange(some.start, some.stop, dtype=np.float32)
        values[some] = np.float32(p.start) + np.float32(p.step) * steps
    c.step(np.copyto, y, values)


@kernel(Op.TIMESTEP_EMBEDDING)
def timestep_embedding(node: Node, c: Compiler) -> None:
    """Cosines, then sines, of t max_period^(-j / half); the last of an odd dim is 0."""
    p, x, y = node.params, c.view(node.source(TIMESTEPS)), c.view(node.tensor)[0, 0]
    half = p.dim // 2
    c.retain(TEMPORARIES * half)
    powers = -np.log(np.float32(p.max_period)) * np.arange(half, dtype=np.float32)
    frequencies = np.exp(powers / np.float32(max(1, half)))
    cosines, sines, rest = np.split(y, [half, 2 * half], axis=1)
    angles = c.scratch(cosines.shape)
    c.step(_embed, x[0, 0, 0, :, np.newaxis], frequencies, angles, cosines, sines)
    c.step(rest.fill, 0)


def _embed(
    timesteps: Array, frequencies: Array, angles: Array, cosines: Array, sines: Array
) -> None:
    np.multiply(timesteps, frequencies, angles)
    np.cos(angles, cosines)
    np.sin(angles, sines)
