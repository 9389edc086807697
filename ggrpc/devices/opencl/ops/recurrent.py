"""Launches for SSM_CONV and SSM_SCAN, the state space models."""

from __future__ import annotations

from ggrpc.devices.opencl.compiler import Compiler
from ggrpc.devices.opencl.kernel_table import kernel
from ggrpc.devices.opencl.predicates import all_dense_f32, dense_f32
from ggrpc.ops import Node, Op
from ggrpc.ops.recurrent import (
    DT,
    IDS,
    SCAN_A,
    SCAN_B,
    SCAN_C,
    SX,
    C,
    S,
    X,
    with_heads,
)

MAX_WIDTH = 256  # elements of the longest row of a state that fits a work-item


@kernel(Op.SSM_CONV, accepts=all_dense_f32)
def ssm_conv(node: Node, c: Compiler) -> None:
    """Append the convolution of each channel, with its own weights."""
    x, w, y = node.source(SX), node.source(C), node.tensor
    kernel = c.kernel("recurrent", "ssm_conv", COLUMNS=w.ne[0])
    groups = c.traits.groups(y.ne[0]), y.ne[2]
    c.launch(kernel, groups, x, w, y, y.ne, x.nb, w.nb, y.nb)


def _accepts_scan(node: Node) -> bool:
    width = node.source(S).ne[0]
    return (
        width % 16 == 0
        and width <= MAX_WIDTH
        and node.source(X).nelements > 0
        and all(dense_f32(node.source(at)) for at in (SCAN_A, SCAN_B, SCAN_C))
    )


@kernel(Op.SSM_SCAN, accepts=_accepts_scan)
def ssm_scan(node: Node, c: Compiler) -> None:
    """Append the step sizes of all tokens, and the scan, one work-item per row."""
    node = with_heads(node)
    s, x, dt, a = (node.source(at) for at in (S, X, DT, SCAN_A))
    b, r, ids, y = node.source(SCAN_B), node.source(SCAN_C), node.src[IDS], node.tensor
    steps = c.memory(8 * dt.nelements)
    kernel = c.kernel("recurrent", "ssm_steps")
    groups = c.traits.groups(dt.nelements)
    c.launch(kernel, (groups,), dt, a, steps, dt.ne, dt.nb, a.nb)
    kernel = c.kernel(
        "recurrent",
        "ssm_scan",
        STATE=s.ne[0],
        ONE_RATE=int(a.ne[0] == 1),
        HAS_IDS=int(ids is not None),
    )
    heads, slots = x.ne[1] // b.ne[1], node.params.slots
    c.launch(
        kernel,
        (c.traits.groups(x.ne[0] * x.ne[1] * x.ne[3]),),
        *(s, x, steps, a, b, r, ids or s, y, x.ne, x.nb, a.nb, b.nb, r.nb),
        *((ids or s).nb[0], heads, s.ne[3], slots, *c.fault),
    )
