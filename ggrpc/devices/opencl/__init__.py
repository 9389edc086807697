"""OpenCL devices, through pyopencl; importing this package registers the kernels."""

from __future__ import annotations

from ggrpc.devices.opencl.device import OpenClDevice
from ggrpc.devices.opencl.ops import (  # noqa: F401
    activations,
    arithmetic,
    attention,
    copies,
    experts,
    gpu_attention,
    gpu_matmul,
    linear_attention,
    matmul,
    norms,
    padding,
    recurrent,
    reductions,
    rope,
    triangles,
)

__all__ = ["OpenClDevice"]
