"""The contracts of ggml's ops, one file for each family."""

from __future__ import annotations

from ggrpc.op import GluOp, Op, UnaryOp
from ggrpc.ops import (  # noqa: F401  the import registers the contracts
    activations,
    arithmetic,
    attention,
    backward,
    convolution,
    copies,
    deepseek,
    experts,
    generators,
    linear_attention,
    matmul,
    norms,
    optimizers,
    padding,
    patches,
    pooling,
    recurrent,
    reductions,
    rope,
    triangles,
    unfolding,
    upscaling,
    views,
    windows,
)
from ggrpc.ops.contract import CONTRACTS, Contract, Node, contract_of

__all__ = ["CONTRACTS", "Contract", "GluOp", "Node", "Op", "UnaryOp", "contract_of"]
