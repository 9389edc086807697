"""SSM_CONV and SSM_SCAN in numpy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ggrpc.devices.cpu.arrays import Array
from ggrpc.devices.cpu.indices import index_check
from ggrpc.devices.cpu.program import Compiler, kernel
from ggrpc.devices.cpu.scan import Scan, run_scan
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.ops.recurrent import DT, IDS, SCAN_A, SCAN_B, SCAN_C, SX, C, S, X

ZERO = np.array(0, np.float32)


@kernel(Op.SSM_CONV)
def ssm_conv(node: Node, c: Compiler) -> None:
    """y[s, t, i] = sum_j sx[s, i, t + j] c[i, j]."""
    x, y = c.f32(node.source(SX))[0], c.result(node.tensor)[0].swapaxes(1, 2)
    kernel = c.f32(node.source(C))[0]
    kernel = np.broadcast_to(kernel, (*x.shape[:2], kernel.shape[-1]))
    c.rows(_convolve, (x, kernel, y), temps=[y.shape[-1]] * 2)


def _convolve(x: Array, kernel: Array, y: Array, sums: Array, t: Array) -> None:
    tokens = y.shape[-1]
    np.multiply(x[..., :tokens], kernel[..., :1], sums)
    for j in range(1, kernel.shape[-1]):
        np.multiply(x[..., j : j + tokens], kernel[..., j : j + 1], t)
        np.add(sums, t, sums)
    np.copyto(y, sums)


@kernel(Op.SSM_SCAN)
def ssm_scan(node: Node, c: Compiler) -> None:
    """state = state * exp(dt A) + dt x B^T; y = state C; dt goes through softplus.

    Mamba 2 has one A a head, Mamba 1 one for each element of the state.
    """
    s, x = node.source(S), c.f32(node.source(X)).swapaxes(0, 1)
    (tokens, seqs, heads, dim), columns = x.shape, s.ne[0]
    groups = node.source(SCAN_B).ne[1]
    lead = tokens, seqs, groups
    split = groups, heads // groups, dim
    out = c.result(node.tensor)[0, 0, 0]
    y, slots = out[: x.size], out[x.size :]
    slots = slots.reshape(node.params.slots, seqs, *split, columns)
    dt, decay, rate = _steps(node, c)
    rows = c.scratch((*lead, 2, *split[1:]))
    both = c.scratch((*lead, 2, columns))
    x = x.reshape(*lead, *split[1:])
    c.elementwise(np.multiply, (x, dt.reshape(*lead, -1, 1)), rows[:, :, :, 0])
    b = c.f32(node.source(SCAN_B)).swapaxes(0, 1)
    c.elementwise(np.positive, (b,), both[..., 0, :])
    c.step(rows[:, :, :, 1].fill, 0)
    c.step(both[..., 1, :].fill, 0)
    _gather(node, slots[0].reshape(seqs, *s.ne[2::-1]), c)
    run_scan(
        Scan(
            start=slots[0],
            slots=slots,
            y=y.reshape(seqs, tokens, *split).swapaxes(0, 1),
            decay=decay.reshape(*lead, -1, 1, 1),
            update_rows=rows,
            update_columns=both,
            r=c.f32(node.source(SCAN_C)).swapaxes(0, 1),
            rate=None if rate is None else rate.reshape(groups, -1, 1, columns),
        ),
        c,
    )


def _steps(node: Node, c: Compiler) -> tuple[Array, Array, Array | None]:
    """dt and the decay, of (tokens, seqs, heads), and its rate: see `Scan`."""
    raw = c.f32(node.source(DT))[0].swapaxes(0, 1)
    dt, a = c.scratch(raw.shape), c.f32(node.source(SCAN_A))[0, 0]
    c.elementwise(np.logaddexp, (raw, ZERO), dt)
    if a.shape[-1] > 1:
        return dt, dt, a
    decay = c.scratch(raw.shape)
    c.elementwise(np.multiply, (dt, a[:, 0]), decay)
    c.elementwise(np.exp, (decay,), decay)
    return dt, decay, None


def _gather(node: Node, states: Array, c: Compiler) -> None:
    """Append what copies the states of the sequences that take part."""
    ids, s = node.source(IDS), node.source(S)
    check = index_check(node, ids, s.ne[3], "state")
    c.step(_take, check, c.view(s), c.view(ids)[0, 0, 0], states)


def _take(
    check: Callable[[Array], None], states: Array, ids: Array, out: Array
) -> None:
    check(ids)
    np.take(states, ids, axis=0, out=out, mode="clip")
