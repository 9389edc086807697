"""OPT_STEP_ADAMW and OPT_STEP_SGD in numpy; they update their sources in place."""

from __future__ import annotations

from functools import partial

import numpy as np

from ggrpc.devices.cpu.compiler import Compiler
from ggrpc.devices.cpu.kernel_table import kernel
from ggrpc.formats.codecs import Array
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.ops.optimizers import (
    ADAMW_PARAMS,
    GRAD,
    SGD_PARAMS,
    A,
    AdamWParam,
    M,
    SgdParam,
    V,
)


@kernel(Op.OPT_STEP_ADAMW)
def opt_step_adamw(node: Node, c: Compiler) -> None:
    """AdamW; m and v are the running means of the gradient and of its square.

    Source: "Decoupled Weight Decay Regularization", arXiv 1711.05101.
    """
    arrays = [c.f32(node.source(at)) for at in (A, GRAD, M, V)]
    numbers = c.f32(node.source(ADAMW_PARAMS))
    c.rows(partial(_adamw, numbers), arrays, [node.tensor.ne[0]] * 2)


def _adamw(
    numbers: Array, w: Array, g: Array, m: Array, v: Array, t: Array, u: Array
) -> None:
    p = numbers.ravel()
    alpha, beta1, beta2 = p[AdamWParam.ALPHA], p[AdamWParam.BETA1], p[AdamWParam.BETA2]
    np.multiply(g, 1 - beta1, t)
    np.multiply(m, beta1, m)
    np.add(m, t, m)
    np.multiply(g, g, t)
    np.multiply(t, 1 - beta2, t)
    np.multiply(v, beta2, v)
    np.add(v, t, v)
    np.multiply(v, p[AdamWParam.BETA2H], t)
    np.sqrt(t, t)
    np.add(t, p[AdamWParam.EPS], t)
    np.multiply(m, alpha * p[AdamWParam.BETA1H], u)
    np.divide(u, t, u)
    np.multiply(w, 1 - alpha * p[AdamWParam.WD], w)
    np.subtract(w, u, w)


@kernel(Op.OPT_STEP_SGD)
def opt_step_sgd(node: Node, c: Compiler) -> None:
    """Compute w = w * (1 - alpha * wd) - alpha * grad."""
    arrays = [c.f32(node.source(at)) for at in (A, GRAD)]
    numbers = c.f32(node.source(SGD_PARAMS))
    c.rows(partial(_sgd, numbers), arrays, [node.tensor.ne[0]])


def _sgd(numbers: Array, w: Array, g: Array, t: Array) -> None:
    p = numbers.ravel()
    alpha = p[SgdParam.ALPHA]
    np.multiply(g, alpha, t)
    np.multiply(w, 1 - alpha * p[SgdParam.WD], w)
    np.subtract(w, t, w)
