"""SSM_CONV and SSM_SCAN in numpy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ggrpc.devices.cpu.compiler import Compiler
from ggrpc.devices.cpu.kernel_table import kernel
from ggrpc.devices.cpu.ops.indices import index_check
from ggrpc.devices.cpu.ops.scan import Scan, run_scan
from ggrpc.formats.codecs import Array, cast
from ggrpc.op import Op
from ggrpc.ops import Node
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

ZERO = np.array(0, np.float32)


@kernel(Op.SSM_CONV)
def ssm_conv(node: Node, c: Compiler) -> None:
    """y[s, t, i] = sum_j sx[s, i, t + j] c[i, j]."""
    x, y = c.f32(node.source(SX))[0], c.result(node.tensor)[0].swapaxes(1, 2)
    weights = c.f32(node.source(C))[0]
    weights = np.broadcast_to(weights, (*x.shape[:2], weights.shape[-1]))
    c.rows(_convolve, (x, weights, y), temps=[y.shape[-1]] * 2)


def _convolve(x: Array, weights: Array, y: Array, sums: Array, t: Array) -> None:
    tokens = y.shape[-1]
    np.multiply(x[..., :tokens], weights[..., :1], sums)
    for j in range(1, weights.shape[-1]):
        np.multiply(x[..., j : j + tokens], weights[..., j : j + 1], t)
        np.add(sums, t, sums)
    np.copyto(y, sums)


@kernel(Op.SSM_SCAN)
def ssm_scan(node: Node, c: Compiler) -> None:
    """Compute state = state * exp(dt A) + dt x B^T; y = state C.

    dt is softplus of its source. A has one number per head in Mamba 2, and one per
    element of the state in Mamba 1.
    """
    node = with_heads(node)
    s, x = node.source(S).ne, node.source(X)
    dim, heads, tokens, seqs = x.ne
    groups = node.source(SCAN_B).ne[1]
    split = groups, heads // groups, dim
    y, slots = np.split(c.result(node.tensor)[0, 0, 0], [x.nelements])
    slots = slots.reshape(node.params.slots, seqs, *split, s[0])
    _gather(node, slots[0].reshape(seqs, *s[2::-1]), c)
    dt, decay, rate = _steps(node, c)
    rows, columns = _updates(node, dt, c)
    scan = Scan(
        start=slots[0],
        slots=slots,
        y=y.reshape(seqs, tokens, *split).swapaxes(0, 1),
        decay=decay.reshape(tokens, seqs, *split[:2], 1, 1),
        update_rows=rows,
        update_columns=columns,
        r=c.f32(node.source(SCAN_C)).swapaxes(0, 1),
        rate=None if rate is None else rate.reshape(*split[:2], 1, s[0]),
    )
    run_scan(scan, c)


def _steps(node: Node, c: Compiler) -> tuple[Array, Array, Array | None]:
    """The dt and decay, (tokens, seqs, heads), and the rate of `Scan`."""
    raw = c.f32(node.source(DT))[0].swapaxes(0, 1)
    dt, a = c.scratch(raw.shape), c.f32(node.source(SCAN_A))[0, 0]
    c.elementwise(np.logaddexp, (raw, ZERO), dt)
    if a.shape[-1] != 1:
        return dt, dt, a
    decay = c.scratch(raw.shape)
    c.elementwise(np.multiply, (dt, a[:, 0]), decay)
    c.elementwise(np.exp, (decay,), decay)
    return dt, decay, None


def _updates(node: Node, dt: Array, c: Compiler) -> tuple[Array, Array]:
    """The `update_rows` (dt x) and `update_columns` (B) of `Scan`."""
    x, b = (c.f32(node.source(at)).swapaxes(0, 1) for at in (X, SCAN_B))
    *lead, columns = b.shape
    split = *lead, x.shape[2] // b.shape[2], x.shape[3]
    rows, both = c.scratch((*lead, 2, *split[3:])), c.scratch((*lead, 2, columns))
    factor = dt.reshape(*split[:4], 1)
    c.elementwise(np.multiply, (x.reshape(split), factor), rows[:, :, :, 0])
    c.elementwise(np.positive, (b,), both[:, :, :, 0])
    c.step(rows[:, :, :, 1].fill, 0)
    c.step(both[:, :, :, 1].fill, 0)
    return rows, both


def _gather(node: Node, states: Array, c: Compiler) -> None:
    """Append a copy of the initial states of the sequences."""
    ids, s = node.src[IDS], node.source(S)
    if ids is None:
        c.convert(cast, c.view(s), states)
        return
    check = index_check(node, ids, s.ne[3], "state")
    c.step(_take, check, c.view(s), c.view(ids)[0, 0, 0], states)


def _take(
    check: Callable[[Array], None], states: Array, ids: Array, out: Array
) -> None:
    check(ids)
    np.take(states, ids, axis=0, out=out, mode="clip")
