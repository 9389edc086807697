"""OpenCL devices, by pyopencl: one file a family of kernels, over `kernels/*.cl`."""

from __future__ import annotations

from ggrpc.devices.opencl import (  # noqa: F401  they register their kernels
    activations,
    arithmetic,
    attention,
    attention_row,
    copies,
    experts,
    linear_attention,
    matmul,
    norms,
    padding,
    projections,
    recurrent,
    reductions,
    rope,
    triangles,
)
from ggrpc.devices.opencl.device import OpenClDevice

__all__ = ["OpenClDevice"]
