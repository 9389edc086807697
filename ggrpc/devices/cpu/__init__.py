"""The cpu device: one file a family of kernels, over numpy."""

from __future__ import annotations

from ggrpc.devices.cpu import (  # noqa: F401  they register their kernels
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
    windows,
)
from ggrpc.devices.cpu.buffer import CpuBuffer
from ggrpc.devices.cpu.device import CpuDevice

__all__ = ["CpuBuffer", "CpuDevice"]
