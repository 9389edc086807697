"""Fuses the gate and up products of a token's experts, and their GLU."""

from __future__ import annotations

from collections.abc import Sequence

from ggrpc.devices.opencl.compiler import Argument, Compiler
from ggrpc.devices.opencl.fusions.projections import gate_and_up_of
from ggrpc.devices.opencl.ops import quantized
from ggrpc.devices.opencl.ops.activations import GATED
from ggrpc.devices.opencl.ops.experts import accepts, is_grouped
from ggrpc.ops import Node, Op
from ggrpc.ops.activations import clamps
from ggrpc.ops.experts import AS, IDS, B


def gate_and_up(nodes: Sequence[Node], c: Compiler) -> int:
    """MUL_MAT_ID, MUL_MAT_ID of the same rows and ids, and the GLU of both."""
    pair = gate_and_up_of(nodes, _same_rows, c)
    if pair is None:
        return 0
    (gate, up), glu = pair, nodes[2]
    a, other, b, ids = (
        gate.source(AS),
        up.source(AS),
        gate.source(B),
        gate.source(IDS),
    )
    x = quantized.quantize_rows(b, c, tile=1)
    band = quantized.band_of(c, a, a.ne[1] * ids.nelements)
    kernel = c.kernel(
        "experts_gated",
        "experts_gated",
        **quantized.matvec_defines(c, a),
        GATED=GATED[glu.params.op],
    )
    inputs: tuple[Argument, ...] = a, other, a.ne, a.nb, other.nb, *x.inputs(a)
    inputs += x.padded, b.ne[1], ids, ids.ne, ids.nb
    results = gate.tensor, up.tensor, glu.tensor
    strides = [y.nb for y in results]
    parameters = band, *clamps(glu.params)
    groups = -(-a.ne[1] // band), ids.nelements
    c.launch(
        kernel, groups, *inputs, *results, *strides, *parameters, *c.fault, local=1
    )
    return 3


def _same_rows(first: Node, other: Node, c: Compiler) -> bool:
    """Whether two products are of quantized matrices with the same few rows and ids."""
    if other.tensor.op is not Op.MUL_MAT_ID or not c.traits.is_cpu:
        return False
    a, b, ids = first.source(AS), first.source(B), first.source(IDS)
    return (
        a.type in quantized.TYPES
        and other.source(AS).type is a.type
        and other.source(AS).ne == a.ne
        and other.source(B).id == b.id
        and other.source(IDS).id == ids.id
        and not is_grouped(a, ids)
        and accepts(other)
    )
